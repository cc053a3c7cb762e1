//! The service on both back ends, with a kind that does what its body says.

mod running;
mod sharing;
mod steps;
mod submitting;
mod unwritten;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::cache::Cache;
use crate::model::{
    ManualClock, Millis, ProjectId, ReplicaId, SeededRandom, ShardNo, SystemRandom, TicketId,
};
use crate::storage::Db;
use crate::storage::conformance::{fresh_sqlite, on_both};
use crate::storage::control::projects::Project;
use crate::storage::control::tickets::{LeaseRequest, TicketStore};
use crate::telemetry::Metrics;

const NOW: Millis = 1_700_000_000_000;
const PROJECT: ProjectId = ProjectId(1);

/// What a run saw, told to the test.
#[derive(Debug, PartialEq)]
enum Saw {
    Started { attempt: u32, fence: u64 },
    Stopped(StopReason),
    Step(u16),
}

/// Does what the body says: `answer`, `fail`, `retry`, `panic`, `wait` (for a permit of `gate`),
/// `deaf` (waits and ignores the stop signal until it is dropped), or `split` into `shards` steps, after
/// which it does the next of `steps`. A step does the next of `step_moves` in the same words, `done`
/// without one.
struct Puppet {
    runs: AtomicU32,
    prepared: AtomicU32,
    gate: Semaphore,
    saw: mpsc::UnboundedSender<Saw>,
    version: Mutex<Option<[u8; 32]>>,
    /// As every preparation reads it.
    project: Mutex<Option<Arc<Project>>>,
    /// What it is taken for, if it is presumed.
    presumed: Mutex<Option<Arc<Project>>>,
    /// What the last run was to go by.
    ran_by: Mutex<Option<Arc<Project>>>,
    /// Of the answer; 0: as it comes.
    answer_bytes: AtomicUsize,
    steps: Mutex<VecDeque<&'static str>>,
    step_moves: Mutex<VecDeque<&'static str>>,
    steps_run: AtomicU32,
}

impl Puppet {
    fn prepared(&self, body: &Value, project: Option<Arc<Project>>) -> Prepared {
        let mut body = body.clone();
        if body["at"] == "now" {
            // As a relative date is resolved when it is asked.
            body["at"] = json!(self.prepared.fetch_add(1, Ordering::SeqCst));
        }
        Prepared {
            body: body.to_string().into_bytes(),
            data_version: *self.version.lock().unwrap(),
            estimate: Duration::from_secs(1),
            project,
        }
    }
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
            Ok(self.prepared(body, self.project.lock().unwrap().clone()))
        })
    }

    fn presume(&self, _: ProjectId, _: Option<&Arc<Project>>, body: &Value) -> Option<Prepared> {
        let presumed = self.presumed.lock().unwrap().clone()?;
        Some(self.prepared(body, Some(presumed)))
    }

    fn run<'a>(&'a self, run: &'a TicketRun) -> BoxFuture<'a, Result<TicketOutput, RunError>> {
        Box::pin(async move {
            self.runs.fetch_add(1, Ordering::SeqCst);
            self.ran_by.lock().unwrap().clone_from(&run.project);
            let _ = self.saw.send(Saw::Started { attempt: run.attempt, fence: run.fence });
            let body: Value = serde_json::from_slice(&run.body).unwrap();
            let mut parts = Vec::new();
            if body["do"] == "split" {
                let shards: Vec<_> = (0..body["shards"].as_u64().unwrap() as u16).map(ShardNo).collect();
                let mut settled = |shard_no: ShardNo, part: Bytes| {
                    assert_eq!(part, format!("part {shard_no}"));
                    parts.push(shard_no.0);
                    Ok(())
                };
                run.steps.run(1, "work".into(), &shards, &mut settled).await?;
                parts.sort_unstable();
                assert_eq!(parts, (0..shards.len() as u16).collect::<Vec<_>>());
            }
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
            let answer = format!("{{\"answer\":{}}}", self.runs.load(Ordering::SeqCst));
            let filling = self.answer_bytes.load(Ordering::SeqCst).saturating_sub(answer.len());
            Ok(TicketOutput {
                body: (answer + &" ".repeat(filling)).into(),
                as_of: Some(NOW - 7),
                partial: false,
                data_version: *self.version.lock().unwrap(),
            })
        })
    }

    fn run_step<'a>(&'a self, step: &'a TicketStep) -> BoxFuture<'a, Result<StepOutput, RunError>> {
        Box::pin(async move {
            assert_eq!((step.project_id, &step.work[..]), (PROJECT, &b"work"[..]));
            self.steps_run.fetch_add(1, Ordering::SeqCst);
            let _ = self.saw.send(Saw::Step(step.shard_no.0));
            let next = self.step_moves.lock().unwrap().pop_front();
            let mut stop = step.stop.clone();
            match next.unwrap_or("done") {
                "fail" => return Err(fail("no_such_property", "there is no property \"x\"")),
                "retry" => return Err(retry("the server is away")),
                "panic" => panic!("a kind with a bug"),
                "wait" => {
                    tokio::select! {
                        permit = self.gate.acquire() => permit.unwrap().forget(),
                        _ = stop.stopped() => return Err(RunError::Stopped),
                    }
                }
                "large" => {
                    let body = vec![b'x'; crate::storage::control::tickets::STEP_BYTES_MAX + 1].into();
                    return Ok(StepOutput { body, is_complete: true });
                }
                other => {
                    let body = format!("part {}", step.shard_no).into();
                    return Ok(StepOutput { body, is_complete: other != "incomplete" });
                }
            }
            Ok(StepOutput { body: format!("part {}", step.shard_no).into(), is_complete: true })
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
        written_after: WAIT_MAX,
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
            project: Mutex::default(),
            presumed: Mutex::default(),
            ran_by: Mutex::default(),
            answer_bytes: AtomicUsize::new(0),
            steps: Mutex::default(),
            step_moves: Mutex::default(),
            steps_run: AtomicU32::new(0),
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
        let_in_with: None,
        kind: "puppet".to_owned(),
        body,
        idempotency_key: None,
        created_by: "key:1".to_owned(),
    }
}
