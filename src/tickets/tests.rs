//! The service on both back ends, with a kind that does what its body says.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::cache::Cache;
use crate::model::{ManualClock, Millis, ProjectId, ReplicaId, SeededRandom, SystemRandom, TicketId};
use crate::storage::Db;
use crate::storage::conformance::{fresh_sqlite, on_both};
use crate::storage::control::tickets::{LeaseRequest, TicketStore};
use crate::telemetry::Metrics;

const NOW: Millis = 1_700_000_000_000;
const PROJECT: ProjectId = ProjectId(1);

/// What a run saw, told to the test.
#[derive(Debug, PartialEq)]
enum Saw {
    Started { attempt: u32, fence: u64 },
    Stopped(StopReason),
}

/// Does what the body says: `answer`, `fail`, `retry`, `panic`, `wait` (for a permit of `gate`), or
/// `deaf` (waits and ignores the stop signal until it is dropped).
struct Puppet {
    runs: AtomicU32,
    prepared: AtomicU32,
    gate: Semaphore,
    saw: mpsc::UnboundedSender<Saw>,
    version: Mutex<Option<[u8; 32]>>,
    steps: Mutex<VecDeque<&'static str>>,
}

impl TicketKind for Puppet {
    fn name(&self) -> &'static str {
        "puppet"
    }

    fn prepare<'a>(
        &'a self,
        _project: ProjectId,
        body: &'a Value,
    ) -> BoxFuture<'a, Result<Prepared, PrepareError>> {
        Box::pin(async move {
            if !body.is_object() {
                let errors = vec![(String::new(), "an object is expected".to_owned())];
                return Err(InvalidBody { detail: "not an object".to_owned(), errors }.into());
            }
            let mut body = body.clone();
            if body["at"] == "now" {
                // As a relative date is resolved when it is asked.
                body["at"] = json!(self.prepared.fetch_add(1, Ordering::SeqCst));
            }
            Ok(Prepared {
                body: body.to_string().into_bytes(),
                data_version: *self.version.lock().unwrap(),
                estimate: Duration::from_secs(1),
            })
        })
    }

    fn run<'a>(&'a self, run: &'a TicketRun) -> BoxFuture<'a, Result<TicketOutput, RunError>> {
        Box::pin(async move {
            self.runs.fetch_add(1, Ordering::SeqCst);
            let _ = self.saw.send(Saw::Started { attempt: run.attempt, fence: run.fence });
            let body: Value = serde_json::from_slice(&run.body).unwrap();
            let step = self.steps.lock().unwrap().pop_front();
            let mut stop = run.stop.clone();
            match step.or(body["do"].as_str()).unwrap_or("answer") {
                "fail" => return Err(fail("no_such_property", "there is no property \"x\"")),
                "retry" => return Err(retry("the server is away")),
                "panic" => panic!("a kind with a bug"),
                "wait" => {
                    run.progress.set_totals(4, 100);
                    run.progress.add_shard();
                    run.progress.add_rows(25);
                    tokio::select! {
                        permit = self.gate.acquire() => permit.unwrap().forget(),
                        reason = stop.stopped() => {
                            let _ = self.saw.send(Saw::Stopped(reason));
                            return Err(RunError::Stopped);
                        }
                    }
                }
                "deaf" => std::future::pending().await,
                _ => {}
            }
            Ok(TicketOutput {
                body: format!("{{\"answer\":{}}}", self.runs.load(Ordering::SeqCst)).into(),
                as_of: Some(NOW - 7),
                partial: false,
                data_version: *self.version.lock().unwrap(),
            })
        })
    }
}

struct Stage {
    tickets: Tickets,
    store: TicketStore,
    clock: Arc<ManualClock>,
    puppet: Arc<Puppet>,
    saw: mpsc::UnboundedReceiver<Saw>,
    db: Db,
}

fn settings(slots: usize) -> TicketSettings {
    TicketSettings {
        slots,
        lease: Duration::from_secs(20),
        poll: Duration::from_millis(20),
        attempts_max: 3,
        kept: Duration::from_secs(86_400),
        queued_max: 3,
        run_max: Duration::from_secs(60),
    }
}

impl Stage {
    fn new(db: Db, settings: TicketSettings) -> Self {
        Self::with_clock(db, settings, Arc::new(ManualClock::new(NOW)))
    }

    fn with_clock(db: Db, settings: TicketSettings, clock: Arc<ManualClock>) -> Self {
        let (sender, saw) = mpsc::unbounded_channel();
        let puppet = Arc::new(Puppet {
            runs: AtomicU32::new(0),
            prepared: AtomicU32::new(0),
            gate: Semaphore::new(0),
            saw: sender,
            version: Mutex::new(None),
            steps: Mutex::default(),
        });
        let tickets = Tickets::new(TicketsParts {
            control: db.clone(),
            cache: Cache::off(),
            clock: clock.clone(),
            random: Arc::new(SystemRandom),
            settings,
            metrics: Metrics::default(),
            kinds: vec![puppet.clone()],
        });
        Self { tickets, store: TicketStore::new(db.clone()), clock, puppet, saw, db }
    }

    /// Another process on the same database.
    fn replica(&self, settings: TicketSettings) -> Self {
        Self::with_clock(self.db.clone(), settings, self.clock.clone())
    }

    async fn submit(&self, body: Value) -> Ticket {
        self.tickets.submit(submission(body)).await.unwrap().ticket
    }

    async fn end(&self, ticket: TicketId) -> Ticket {
        let ticket = self.tickets.wait(PROJECT, ticket, WaitFor::End, WAIT_MAX).await.unwrap();
        assert!(ticket.state.is_final(), "{ticket:?}");
        ticket
    }

    async fn started(&mut self) -> (u32, u64) {
        match self.saw.recv().await.unwrap() {
            Saw::Started { attempt, fence } => (attempt, fence),
            other => panic!("{other:?}"),
        }
    }
}

fn submission(body: Value) -> Submit {
    Submit {
        project_id: PROJECT,
        kind: "puppet".to_owned(),
        body,
        idempotency_key: None,
        created_by: "key:1".to_owned(),
    }
}

on_both! {
    async fn a_free_slot_runs_a_ticket_at_once(db: Db) {
        let stage = Stage::new(db, settings(1));
        let ticket = stage.submit(json!({})).await;
        let ticket = stage.end(ticket.ticket_id).await;
        assert_eq!((ticket.state, ticket.attempt), (TicketState::Succeeded, 1));
        assert_eq!((ticket.as_of, ticket.partial, ticket.error.clone()), (Some(NOW - 7), false, None));
        assert_eq!(ticket.expires_at, NOW + 86_400_000);
        assert_eq!(stage.tickets.result(&ticket).await.unwrap(), "{\"answer\":1}");
        assert_eq!(ticket.result_bytes, Some(12));
    }
}

on_both! {
    async fn without_a_slot_it_waits_for_a_worker(db: Db) {
        let stage = Stage::new(db.clone(), settings(0));
        let first = stage.submit(json!({"n": 1})).await;
        // Ids of the same millisecond are in no order.
        stage.clock.advance(1);
        let second = stage.submit(json!({"n": 2})).await;
        assert_eq!((first.state, first.queue_position), (TicketState::Queued, Some(1)));
        assert_eq!(second.queue_position, Some(2));
        let worker = stage.replica(settings(1));
        assert!(worker.tickets.run_next().await.unwrap());
        assert_eq!(stage.end(first.ticket_id).await.state, TicketState::Succeeded);
        let second = stage.tickets.get(PROJECT, second.ticket_id).await.unwrap();
        assert_eq!(second.queue_position, Some(1));
        assert!(worker.tickets.run_next().await.unwrap());
        assert!(!worker.tickets.run_next().await.unwrap());
    }
}

on_both! {
    async fn a_worker_that_nobody_wakes_finds_it_by_polling(db: Db) {
        let stage = Stage::new(db, settings(0));
        let worker = stage.replica(settings(2));
        worker.tickets.start();
        let ticket = stage.submit(json!({})).await;
        assert_eq!(stage.end(ticket.ticket_id).await.state, TicketState::Succeeded);
        worker.tickets.stop(WAIT_MAX).await;
    }
}

on_both! {
    async fn equal_submissions_with_one_key_are_one_ticket(db: Db) {
        let stage = Stage::new(db, settings(1));
        let keyed = |body| Submit { idempotency_key: Some("k".to_owned()), ..submission(body) };
        let (one, two) = tokio::join!(
            stage.tickets.submit(keyed(json!({"n": 1, "at": "now"}))),
            stage.tickets.submit(keyed(json!({"at": "now", "n": 1})))
        );
        let (one, two) = (one.unwrap().ticket, two.unwrap().ticket);
        assert_eq!(one.ticket_id, two.ticket_id);
        // The one that lost may have held the only slot while the other was written.
        while stage.tickets.run_next().await.unwrap() {}
        stage.end(one.ticket_id).await;
        let again = stage.tickets.submit(keyed(json!({"n": 1, "at": "now"}))).await.unwrap().ticket;
        assert_eq!((again.ticket_id, again.state), (one.ticket_id, TicketState::Succeeded));
        let other = stage.tickets.submit(keyed(json!({"n": 2}))).await;
        assert!(matches!(other, Err(SubmitError::IdempotencyKeyReused)), "{other:?}");
        assert_eq!(stage.puppet.runs.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn bad_submissions_are_refused_and_not_stored() {
    let database = fresh_sqlite();
    let stage = Stage::new(database.open_with_schemas().await, settings(1));
    let unknown = stage.tickets.submit(Submit { kind: "x".to_owned(), ..submission(json!({})) }).await;
    assert!(matches!(unknown, Err(SubmitError::UnknownKind(kind)) if kind == "x"));
    let invalid = stage.tickets.submit(submission(json!([]))).await;
    assert!(matches!(invalid, Err(SubmitError::Invalid(_))));
    let large = stage.tickets.submit(submission(json!({"x": "x".repeat(BODY_BYTES_MAX)}))).await;
    assert!(matches!(large, Err(SubmitError::Invalid(_))));
    assert_eq!(stage.tickets.list(PROJECT, None, 10).await.unwrap().tickets, vec![]);
}

#[tokio::test]
async fn a_project_can_only_fill_its_own_share_of_the_queue() {
    let database = fresh_sqlite();
    let stage = Stage::new(database.open_with_schemas().await, settings(0));
    for n in 0..3 {
        stage.submit(json!({"n": n})).await;
    }
    let fourth = stage.tickets.submit(submission(json!({}))).await;
    assert!(matches!(fourth, Err(SubmitError::TooManyQueued { queued_max: 3 })));
    let other = Submit { project_id: ProjectId(2), ..submission(json!({})) };
    assert!(stage.tickets.submit(other).await.is_ok());
}

on_both! {
    async fn a_ticket_of_another_project_is_not_found(db: Db) {
        let stage = Stage::new(db, settings(1));
        let ticket = stage.submit(json!({})).await.ticket_id;
        stage.end(ticket).await;
        let other = ProjectId(2);
        assert!(matches!(stage.tickets.get(other, ticket).await, Err(TicketError::NotFound)));
        assert!(matches!(stage.tickets.cancel(other, ticket).await, Err(TicketError::NotFound)));
        let waited = stage.tickets.wait(other, ticket, WaitFor::End, WAIT_MAX).await;
        assert!(matches!(waited, Err(TicketError::NotFound)));
        assert_eq!(stage.tickets.list(other, None, 10).await.unwrap().tickets, vec![]);
    }
}

on_both! {
    async fn a_failure_says_what_was_wrong(db: Db) {
        let stage = Stage::new(db, settings(1));
        let ticket = stage.submit(json!({"do": "fail"})).await;
        let ticket = stage.end(ticket.ticket_id).await;
        assert_eq!((ticket.state, ticket.attempt), (TicketState::Failed, 1));
        assert_eq!(ticket.error.clone().unwrap().code, "no_such_property");
        assert!(matches!(stage.tickets.result(&ticket).await, Err(TicketError::NoResult)));
    }
}

on_both! {
    async fn a_run_that_may_go_better_is_tried_again_after_a_pause(db: Db) {
        let stage = Stage::new(db, settings(1));
        stage.puppet.steps.lock().unwrap().extend(["retry", "panic", "answer"]);
        let ticket = stage.submit(json!({})).await.ticket_id;
        for (run, pause) in [(1, 1_250), (2, 5_000)] {
            // The slot is free again when the run is written down.
            drop(stage.tickets.inner.slots.acquire().await.unwrap());
            let now = stage.tickets.get(PROJECT, ticket).await.unwrap();
            assert_eq!((now.state, now.attempt, now.error), (TicketState::Queued, run, None));
            assert!(!stage.tickets.run_next().await.unwrap());
            stage.clock.advance(pause);
            assert!(stage.tickets.run_next().await.unwrap());
        }
        let ticket = stage.tickets.get(PROJECT, ticket).await.unwrap();
        assert_eq!((ticket.state, ticket.attempt), (TicketState::Succeeded, 3));
    }
}

on_both! {
    async fn attempts_end(db: Db) {
        let stage = Stage::new(db, settings(1));
        let ticket = stage.submit(json!({"do": "retry"})).await.ticket_id;
        for _ in 0..2 {
            drop(stage.tickets.inner.slots.acquire().await.unwrap());
            stage.clock.advance(100_000);
            assert!(stage.tickets.run_next().await.unwrap());
        }
        let ticket = stage.tickets.get(PROJECT, ticket).await.unwrap();
        assert_eq!((ticket.state, ticket.attempt), (TicketState::Failed, 3));
        let error = ticket.error.unwrap();
        assert_eq!(error.code, "attempts_exhausted");
        assert!(!error.detail.contains("the server is away"), "causes stay in the log: {}", error.detail);
    }
}

on_both! {
    async fn cancel_reaches_the_run(db: Db) {
        let mut stage = Stage::new(db, settings(1));
        let ticket = stage.submit(json!({"do": "wait"})).await.ticket_id;
        stage.started().await;
        let cancelling = stage.tickets.cancel(PROJECT, ticket).await.unwrap();
        assert!(matches!(cancelling.state, TicketState::Cancelling | TicketState::Cancelled));
        assert_eq!(stage.saw.recv().await.unwrap(), Saw::Stopped(StopReason::Cancelled));
        assert_eq!(stage.end(ticket).await.state, TicketState::Cancelled);
        assert_eq!(stage.tickets.cancel(PROJECT, ticket).await.unwrap().state, TicketState::Cancelled);
    }
}

on_both! {
    async fn cancel_on_another_replica_is_seen_by_the_heartbeat(db: Db) {
        let short = TicketSettings { lease: Duration::from_millis(1_200), ..settings(1) };
        let mut stage = Stage::new(db, short);
        let ticket = stage.submit(json!({"do": "wait"})).await.ticket_id;
        stage.started().await;
        let other = stage.replica(settings(0));
        assert_eq!(other.tickets.cancel(PROJECT, ticket).await.unwrap().state, TicketState::Cancelling);
        assert_eq!(stage.saw.recv().await.unwrap(), Saw::Stopped(StopReason::Cancelled));
        assert_eq!(other.end(ticket).await.state, TicketState::Cancelled);
    }
}

on_both! {
    async fn a_run_that_does_not_listen_is_dropped(db: Db) {
        let limited = TicketSettings { run_max: Duration::from_millis(1), ..settings(1) };
        let stage = Stage::new(db, limited);
        let ticket = stage.submit(json!({"do": "deaf"})).await.ticket_id;
        let ticket = stage.end(ticket).await;
        assert_eq!((ticket.state, ticket.error.unwrap().code.as_str()), (TicketState::Failed, "timed_out"));
        // The slot is free again.
        drop(stage.tickets.inner.slots.acquire().await.unwrap());
        assert!(stage.tickets.inner.running.lock().unwrap().is_empty());
    }
}

on_both! {
    async fn a_ticket_stopped_by_shutdown_keeps_its_attempt_number(db: Db) {
        let mut stage = Stage::new(db, settings(1));
        stage.tickets.start();
        let ticket = stage.submit(json!({"do": "wait"})).await.ticket_id;
        assert_eq!(stage.started().await, (1, 1));
        stage.tickets.stop(WAIT_MAX).await;
        assert_eq!(stage.saw.recv().await.unwrap(), Saw::Stopped(StopReason::Shutdown));
        let back = stage.tickets.get(PROJECT, ticket).await.unwrap();
        assert_eq!(back.state, TicketState::Queued);
        stage.clock.advance(1);
        // A process that stops still takes tickets in, for others to run.
        let later = stage.submit(json!({})).await;
        assert_eq!(later.state, TicketState::Queued);
        let mut other = stage.replica(settings(1));
        other.puppet.gate.add_permits(1);
        assert!(other.tickets.run_next().await.unwrap());
        assert_eq!(other.started().await, (1, 2));
        let done = other.end(ticket).await;
        assert_eq!((done.state, done.attempt), (TicketState::Succeeded, 1));
        assert!(other.tickets.run_next().await.unwrap());
    }
}

on_both! {
    async fn a_runner_stops_when_its_ticket_was_given_to_another(db: Db) {
        let short = TicketSettings { lease: Duration::from_millis(1_200), ..settings(1) };
        let mut stage = Stage::new(db, short);
        let ticket = stage.submit(json!({"do": "wait"})).await.ticket_id;
        stage.started().await;
        // It looked dead: its clock stood still.
        let mut other = stage.replica(settings(1));
        other.clock.advance(2_000);
        other.tickets.maintain().await.unwrap();
        other.clock.advance(2_000);
        other.puppet.gate.add_permits(1);
        let ran = {
            let tickets = other.tickets.clone();
            tokio::spawn(async move { tickets.run_next().await })
        };
        assert_eq!(other.started().await, (2, 2));
        assert_eq!(stage.saw.recv().await.unwrap(), Saw::Stopped(StopReason::LeaseLost));
        assert!(ran.await.unwrap().unwrap());
        let done = other.end(ticket).await;
        assert_eq!((done.state, done.attempt), (TicketState::Succeeded, 2));
    }
}

on_both! {
    async fn a_runner_without_its_database_stops_before_the_lease_ends(db: Db) {
        let short = TicketSettings { lease: Duration::from_millis(1_200), ..settings(1) };
        let mut stage = Stage::new(db, short);
        let submitted_at = std::time::Instant::now();
        stage.submit(json!({"do": "wait"})).await;
        stage.started().await;
        stage.db.close().await;
        assert_eq!(stage.saw.recv().await.unwrap(), Saw::Stopped(StopReason::LeaseLost));
        assert!(submitted_at.elapsed() < Duration::from_millis(1_200), "{:?}", submitted_at.elapsed());
    }
}

on_both! {
    async fn a_heartbeat_keeps_a_long_run_and_shows_its_progress(db: Db) {
        let short = TicketSettings { lease: Duration::from_millis(600), ..settings(1) };
        let mut stage = Stage::new(db, short);
        let ticket = stage.submit(json!({"do": "wait"})).await;
        stage.started().await;
        let changed = loop {
            let seen = WaitFor::Change(ticket.version());
            let now = stage.tickets.wait(PROJECT, ticket.ticket_id, seen, WAIT_MAX).await.unwrap();
            if now.progress.rows_done > 0 {
                break now;
            }
        };
        let shown = TicketProgress { shards_done: 1, shards_total: 4, rows_done: 25, rows_total: 100 };
        assert_eq!(changed.progress, shown);
        // Time passes for everybody, and the lease moves along.
        stage.clock.advance(500);
        while stage.store.find(ticket.ticket_id).await.unwrap().unwrap().lease_until < Some(NOW + 1_100) {
            tokio::task::yield_now().await;
        }
        stage.clock.advance(500);
        stage.tickets.maintain().await.unwrap();
        stage.puppet.gate.add_permits(1);
        assert_eq!(stage.end(ticket.ticket_id).await.attempt, 1);
    }
}

on_both! {
    async fn a_ticket_of_a_killed_process_is_run_by_another(db: Db) {
        let stage = Stage::new(db, settings(0));
        let ticket = stage.submit(json!({})).await.ticket_id;
        let dead = LeaseRequest { by: ReplicaId([9; 16]), now: NOW, until: NOW + 20_000 };
        stage.store.lease_next(dead, &["puppet"]).await.unwrap().unwrap();
        let other = stage.replica(settings(1));
        assert!(!other.tickets.run_next().await.unwrap());
        stage.clock.advance(20_001);
        other.tickets.maintain().await.unwrap();
        stage.clock.advance(1_000);
        assert!(other.tickets.run_next().await.unwrap());
        let done = other.end(ticket).await;
        assert_eq!((done.state, done.attempt), (TicketState::Succeeded, 2));
    }
}

on_both! {
    async fn equal_questions_over_equal_data_run_once(db: Db) {
        let mut stage = Stage::new(db, settings(4));
        *stage.puppet.version.lock().unwrap() = Some([1; 32]);
        let leader = stage.submit(json!({"do": "wait"})).await.ticket_id;
        stage.started().await;
        let followers = [stage.submit(json!({"do": "wait"})).await, stage.submit(json!({"do": "wait"})).await];
        assert!(followers.iter().all(|ticket| ticket.state == TicketState::Queued));
        stage.puppet.gate.add_permits(1);
        let first = stage.end(leader).await;
        for follower in &followers {
            let follower = stage.end(follower.ticket_id).await;
            assert_eq!((follower.state, follower.as_of), (TicketState::Succeeded, first.as_of));
            assert_eq!(stage.tickets.result(&follower).await.unwrap(), "{\"answer\":1}");
        }
        // Afterwards the answer is there at once.
        let late = stage.submit(json!({"do": "wait"})).await;
        assert_eq!(late.state, TicketState::Succeeded);
        assert_eq!(stage.puppet.runs.load(Ordering::SeqCst), 1);
        // Other data, another run.
        *stage.puppet.version.lock().unwrap() = Some([2; 32]);
        stage.puppet.gate.add_permits(1);
        let newer = stage.submit(json!({"do": "wait"})).await.ticket_id;
        assert_eq!(stage.tickets.result(&stage.end(newer).await).await.unwrap(), "{\"answer\":2}");
    }
}

on_both! {
    async fn one_that_waits_is_not_cancelled_with_the_other(db: Db) {
        let mut stage = Stage::new(db, settings(1));
        stage.tickets.start();
        *stage.puppet.version.lock().unwrap() = Some([1; 32]);
        let leader = stage.submit(json!({"do": "wait"})).await.ticket_id;
        stage.started().await;
        let follower = stage.submit(json!({"do": "wait"})).await.ticket_id;
        stage.tickets.cancel(PROJECT, leader).await.unwrap();
        assert_eq!(stage.end(leader).await.state, TicketState::Cancelled);
        stage.puppet.gate.add_permits(1);
        assert_eq!(stage.end(follower).await.state, TicketState::Succeeded);
        stage.tickets.stop(WAIT_MAX).await;
    }
}

on_both! {
    async fn a_result_is_gone_after_its_time(db: Db) {
        let stage = Stage::new(db, settings(1));
        let ticket = stage.submit(json!({})).await.ticket_id;
        stage.end(ticket).await;
        stage.clock.advance(86_400_000);
        assert!(matches!(stage.tickets.get(PROJECT, ticket).await, Err(TicketError::Gone)));
        assert!(matches!(stage.tickets.cancel(PROJECT, ticket).await, Err(TicketError::Gone)));
        assert_eq!(stage.tickets.list(PROJECT, None, 10).await.unwrap().tickets, vec![]);
        stage.tickets.maintain().await.unwrap();
        assert!(matches!(stage.tickets.get(PROJECT, ticket).await, Err(TicketError::Gone)));
        stage.clock.advance(7 * 86_400_000);
        stage.tickets.maintain().await.unwrap();
        assert!(matches!(stage.tickets.get(PROJECT, ticket).await, Err(TicketError::NotFound)));
    }
}

on_both! {
    async fn lists_in_pages_until_the_end(db: Db) {
        let stage = Stage::new(db, TicketSettings { queued_max: 10, ..settings(0) });
        let mut ids = Vec::new();
        for n in 0..5 {
            stage.clock.advance(1);
            ids.push(stage.submit(json!({"n": n})).await.ticket_id);
        }
        ids.reverse();
        let mut seen = Vec::new();
        let mut before = None;
        loop {
            let page = stage.tickets.list(PROJECT, before, 2).await.unwrap();
            seen.extend(page.tickets.iter().map(|ticket| ticket.ticket_id));
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(seen, ids);
    }
}

#[tokio::test]
async fn waiting_ends_with_its_time() {
    let database = fresh_sqlite();
    let stage = Stage::new(database.open_with_schemas().await, settings(0));
    let ticket = stage.submit(json!({})).await.ticket_id;
    let waited = stage.tickets.wait(PROJECT, ticket, WaitFor::End, Duration::from_millis(5)).await.unwrap();
    assert_eq!(waited.state, TicketState::Queued);
    let seen = WaitFor::Change(waited.version() + 1);
    let at_once = stage.tickets.wait(PROJECT, ticket, seen, WAIT_MAX).await.unwrap();
    assert_eq!(at_once, waited);
}

#[test]
fn of_two_equal_runs_only_the_younger_waits() {
    use super::sharing::{Shared, for_leased};
    use crate::storage::control::tickets::{ResultRef, TicketRow};
    let clock = ManualClock::new(NOW);
    let id = |n: i64| {
        clock.set(NOW + n);
        TicketId::time_ordered(&clock, &SeededRandom::new(1))
    };
    let running = |n: i64| TicketRow {
        ticket_id: id(n),
        project_id: PROJECT,
        kind: "puppet".to_owned(),
        state: TicketState::Running,
        body: vec![],
        body_hash: [0; 32],
        request_hash: [0; 32],
        data_version: Some([0; 32]),
        idempotency_key: None,
        created_by: String::new(),
        attempt: 1,
        attempts_max: 3,
        runner_deaths: 0,
        fence: 1,
        leased_by: None,
        lease_until: Some(NOW + 20_000),
        run_after: NOW,
        progress: TicketProgress::default(),
        as_of: None,
        partial: false,
        error: None,
        result: None,
        waits_for: None,
        created_at: NOW,
        started_at: None,
        finished_at: None,
        expires_at: NOW + 1_000_000,
        sweep_at: NOW,
    };
    let (older, younger) = ([running(1)], [running(2)]);
    assert!(for_leased(&older[0], &younger, NOW, 1_000).is_none());
    let behind = for_leased(&younger[0], &older, NOW, 1_000);
    assert!(matches!(behind, Some(Shared::Behind(leader)) if leader.ticket_id == older[0].ticket_id));
    // Not behind one whose runner seems dead.
    assert!(for_leased(&younger[0], &older, NOW + 20_000, 1_000).is_none());
    let result = Some(ResultRef { ticket_id: id(1), fence: 1, bytes: 1, parts: 1 });
    let done = TicketRow { state: TicketState::Succeeded, result, ..running(1) };
    let partial = [TicketRow { partial: true, ..done.clone() }];
    assert!(for_leased(&younger[0], &partial, NOW, 1_000).is_none());
    let ageing = [done.clone()];
    assert!(for_leased(&younger[0], &ageing, NOW + 999_900, 1_000).is_none());
    assert!(matches!(for_leased(&younger[0], &[done], NOW, 1_000), Some(Shared::AnswerOf(_))));
}
