use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::*;
use crate::model::{ShardNo, SystemClock, SystemRandom};
use crate::storage::batch::BatchDecoder;
use crate::telemetry::Metrics;

/// A server whose commits happen when the test lets them, and fail when it says so.
struct Gate {
    commits_let: Semaphore,
    failures: AtomicUsize,
    inserts: Mutex<Vec<Vec<NewBatch>>>,
    arrived: tokio::sync::Notify,
    is_silent: AtomicBool,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            commits_let: Semaphore::new(0),
            failures: AtomicUsize::new(0),
            inserts: Mutex::default(),
            arrived: tokio::sync::Notify::new(),
            is_silent: AtomicBool::new(false),
        }
    }
}

struct GatedJournal(Arc<Gate>);

impl Journal for GatedJournal {
    fn insert(&self, batches: Vec<NewBatch>) -> BoxFuture<'static, Result<(), StorageError>> {
        let gate = self.0.clone();
        Box::pin(async move {
            gate.inserts.lock().unwrap().push(batches);
            gate.arrived.notify_one();
            gate.commits_let.acquire().await.expect("never closed").forget();
            let failing =
                gate.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            if failing.is_ok() { Err(StorageError::Refused("told to fail".into())) } else { Ok(()) }
        })
    }

    fn probe(&self) -> BoxFuture<'static, Result<(), StorageError>> {
        let is_silent = self.0.is_silent.load(Ordering::SeqCst);
        Box::pin(async move { if is_silent { std::future::pending().await } else { Ok(()) } })
    }

    fn heard_before(&self) -> Option<Duration> {
        None
    }
}

impl Gate {
    fn open(&self, commits: usize) {
        self.commits_let.add_permits(commits);
    }

    async fn wait_for_insert(&self, number: usize) {
        while self.inserts.lock().unwrap().len() < number {
            self.arrived.notified().await;
        }
    }

    /// Shard and events of each batch of each statement.
    fn statements(&self) -> Vec<Vec<(u16, u32)>> {
        let inserts = self.inserts.lock().unwrap();
        let shown =
            |batches: &Vec<NewBatch>| batches.iter().map(|b| (b.shard_no.0, b.batch.events)).collect();
        inserts.iter().map(shown).collect()
    }
}

const SETTINGS: CommitterSettings = CommitterSettings {
    queue_bytes_max: 64 << 20,
    deadline: Duration::from_secs(20),
    spill_after: Duration::from_secs(20),
    in_flight_max: 1,
};

/// Even shards live on the first server, odd ones on the second.
fn committer(settings: CommitterSettings) -> (Arc<Committer>, [Arc<Gate>; 2]) {
    over(settings)
}

/// All shards live on one server.
fn lonely(settings: CommitterSettings) -> (Arc<Committer>, Arc<Gate>) {
    let (committer, [gate]) = over(settings);
    (committer, gate)
}

fn over<const N: usize>(settings: CommitterSettings) -> (Arc<Committer>, [Arc<Gate>; N]) {
    let gates = [(); N].map(|()| Arc::<Gate>::default());
    let journals =
        gates.iter().map(|gate| Arc::new(GatedJournal(gate.clone())) as Arc<dyn Journal>).collect();
    let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let metrics = CollectMetrics::new(&Metrics::default());
    let lanes = (0..64).map(|shard| shard % N).collect();
    (Arc::new(Committer::over(journals, lanes, settings, &clock, &random, &metrics)), gates)
}

fn event(n: u64) -> crate::model::Event {
    use crate::model::{Event, EventId, ProjectId, TimeSource};
    Event {
        project_id: ProjectId(1),
        distinct_id: format!("u{n}").into(),
        anonymous_id: None,
        event: "e".into(),
        event_id: EventId([n as u8; 16]),
        occurred_at: n as i64,
        received_at: n as i64,
        time_source: TimeSource::Client,
        properties: crate::model::Properties::default(),
        route: Vec::new(),
    }
}

fn piece(shard_no: u16, n: u64) -> Piece {
    let mut records = Vec::new();
    crate::storage::batch::encode_event(&event(n), &mut records);
    Piece { shard_no: ShardNo(shard_no), events: 1, records }
}

fn send(committer: &Arc<Committer>, pieces: Vec<Piece>) -> tokio::task::JoinHandle<Result<(), Unavailable>> {
    let committer = committer.clone();
    tokio::spawn(async move { committer.commit(pieces).await })
}

/// Until so many pieces wait in a lane's queue.
async fn wait_for_queue(committer: &Committer, lane: usize, pieces: usize) {
    while committer.lanes[lane].queued() < pieces {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_arrives_during_a_commit_is_the_next_commit() {
    let (committer, [gate, _]) = committer(SETTINGS);
    let first = send(&committer, vec![piece(0, 0)]);
    gate.wait_for_insert(1).await;
    let others: Vec<_> = (1..=20).map(|n| send(&committer, vec![piece(2 * (n as u16 % 3), n)])).collect();
    wait_for_queue(&committer, 0, 20).await;
    assert!(!first.is_finished(), "answered before its commit");
    gate.open(1);
    assert_eq!(first.await.unwrap(), Ok(()));
    gate.wait_for_insert(2).await;
    assert!(others.iter().all(|other| !other.is_finished()));
    gate.open(1);
    for other in others {
        assert_eq!(other.await.unwrap(), Ok(()));
    }
    assert_eq!(gate.statements(), [vec![(0, 1)], vec![(0, 6), (2, 7), (4, 7)]]);

    let inserts = gate.inserts.lock().unwrap();
    let mut stored = Vec::new();
    for batch in inserts.iter().flatten() {
        stored.extend(BatchDecoder::default().decode(&batch.batch.body).unwrap().events);
    }
    stored.sort_by_key(|event| event.occurred_at);
    assert_eq!(stored, (0..=20).map(event).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_failed_commit_refuses_exactly_its_own_requests() {
    let (committer, gate) = lonely(SETTINGS);
    let first = send(&committer, vec![piece(0, 0)]);
    gate.wait_for_insert(1).await;
    let second = send(&committer, vec![piece(0, 1)]);
    wait_for_queue(&committer, 0, 1).await;
    gate.failures.store(1, Ordering::SeqCst);
    gate.open(2);
    assert!(matches!(first.await.unwrap(), Err(Unavailable::CommitFailed(_))));
    assert_eq!(second.await.unwrap(), Ok(()));
    // And it goes on by itself.
    gate.open(1);
    assert_eq!(committer.commit(vec![piece(0, 2)]).await, Ok(()));
}

#[tokio::test]
async fn a_request_waits_for_every_server_it_touches() {
    let (committer, [even, odd]) = committer(SETTINGS);
    let both = send(&committer, vec![piece(0, 0), piece(1, 1)]);
    even.wait_for_insert(1).await;
    odd.wait_for_insert(1).await;
    even.open(1);
    tokio::task::yield_now().await;
    assert!(!both.is_finished());
    odd.open(1);
    assert_eq!(both.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn what_a_server_does_not_take_another_does_until_it_does() {
    let (committer, [even, odd]) = committer(SETTINGS);
    odd.failures.store(1, Ordering::SeqCst);
    even.open(1_000_000);
    odd.open(1_000_000);
    let both = vec![piece(0, 0), piece(1, 1), piece(3, 2)];
    assert_eq!(committer.commit(both).await, Ok(()), "not one request fails");
    // Shards 1 and 3 keep their numbers in the other's journal.
    assert_eq!(even.statements(), [vec![(0, 1)], vec![(1, 1), (3, 1)]]);
    assert_eq!(committer.metrics.spilled_events.get(), 2);
    // Left alone at first, then tried again, and back.
    let tries = odd.statements().len();
    assert_eq!(committer.commit(vec![piece(1, 3)]).await, Ok(()));
    assert_eq!(odd.statements().len(), tries);
    while odd.statements().len() == tries {
        assert_eq!(committer.commit(vec![piece(1, 4)]).await, Ok(()));
    }
    let spilled = committer.metrics.spilled_events.get();
    assert_eq!(committer.commit(vec![piece(1, 5)]).await, Ok(()));
    assert_eq!(committer.metrics.spilled_events.get(), spilled, "it is home again");
}

#[tokio::test]
async fn when_no_server_commits_the_refusal_is_quick_and_says_so() {
    let (committer, [even, odd]) = committer(SETTINGS);
    even.failures.store(usize::MAX, Ordering::SeqCst);
    odd.failures.store(usize::MAX, Ordering::SeqCst);
    even.open(100);
    odd.open(100);
    assert!(matches!(committer.commit(vec![piece(1, 0)]).await, Err(Unavailable::CommitFailed(_))));
    assert_eq!(committer.commit(vec![piece(1, 1)]).await, Err(Unavailable::ServerAway));
    assert_eq!(committer.commit(vec![piece(0, 1)]).await, Err(Unavailable::ServerAway));
    assert_eq!((even.statements().len(), odd.statements().len()), (1, 1), "nobody was asked again");
}

#[tokio::test]
async fn a_server_that_hangs_costs_its_requests_no_more_than_the_wait() {
    let spill_after = Duration::from_millis(50);
    let (committer, [even, odd]) = committer(CommitterSettings { spill_after, ..SETTINGS });
    even.open(100);
    // One in its statement, one in its queue behind it.
    let first = send(&committer, vec![piece(1, 0)]);
    odd.wait_for_insert(1).await;
    let second = send(&committer, vec![piece(1, 1)]);
    assert_eq!(first.await.unwrap(), Ok(()));
    assert_eq!(second.await.unwrap(), Ok(()));
    assert_eq!(committer.commit(vec![piece(1, 2)]).await, Ok(()));
    assert_eq!(even.statements().iter().flatten().map(|(_, events)| events).sum::<u32>(), 3);
    assert_eq!(odd.statements().len(), 1);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_takes_again_when_it_has_room() {
    // Half of it for each of two servers.
    let (committer, [gate, _]) = committer(CommitterSettings { queue_bytes_max: 400, ..SETTINGS });
    let size = piece(0, 0).records.len();
    let fitting = 200 / size;
    let mut waiting = vec![send(&committer, vec![piece(0, 0)])];
    gate.wait_for_insert(1).await;
    waiting.extend((1..fitting).map(|n| send(&committer, vec![piece(0, n as u64)])));
    wait_for_queue(&committer, 0, fitting - 1).await;
    assert_eq!(committer.commit(vec![piece(0, 9)]).await, Err(Unavailable::QueueFull));
    // A refusal by one server leaves nothing at the other.
    assert_eq!(committer.commit(vec![piece(1, 8), piece(0, 9)]).await, Err(Unavailable::QueueFull));
    gate.open(10);
    for request in waiting {
        assert_eq!(request.await.unwrap(), Ok(()));
    }
    assert_eq!(committer.commit(vec![piece(0, 9)]).await, Ok(()));
    assert!(committer.lanes[1].queued() == 0);
}

#[tokio::test]
async fn a_server_that_hangs_alone_refuses_at_once_and_recovers_by_itself() {
    let deadline = Duration::from_millis(50);
    let (committer, gate) = lonely(CommitterSettings { deadline, ..SETTINGS });
    assert_eq!(committer.commit(vec![piece(0, 0)]).await, Err(Unavailable::CommitTooSlow));
    while committer.commit(vec![piece(0, 1)]).await != Err(Unavailable::ServerAway) {
        tokio::task::yield_now().await;
    }
    // The old statement ends, and the lane with it.
    gate.open(10);
    while committer.commit(vec![piece(0, 3)]).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_silent_server_is_given_up_within_two_seconds_and_a_slow_one_is_not() {
    let (committer, gate) = lonely(SETTINGS);
    let slow = send(&committer, vec![piece(0, 0)]);
    tokio::time::sleep(Duration::from_millis(1_800)).await;
    assert!(!slow.is_finished(), "it answers whatever else it is asked");
    gate.open(1);
    assert_eq!(slow.await.unwrap(), Ok(()));

    gate.is_silent.store(true, Ordering::SeqCst);
    let began = std::time::Instant::now();
    assert_eq!(committer.commit(vec![piece(0, 1)]).await, Err(Unavailable::CommitTooSlow));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(committer.commit(vec![piece(0, 2)]).await, Err(Unavailable::ServerAway));
    // It answers again, though the old statement hangs for ever.
    gate.is_silent.store(false, Ordering::SeqCst);
    let began = std::time::Instant::now();
    while committer.lanes[0].admit(1, false).is_err() {
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn requests_that_touch_two_servers_notice_that_both_are_back() {
    let (committer, gates) = committer(SETTINGS);
    for gate in &gates {
        gate.open(100);
    }
    // One after the other, so that they are tried again at different times.
    gates[0].failures.store(1, Ordering::SeqCst);
    assert_eq!(committer.commit(vec![piece(0, 0)]).await, Ok(()), "the other takes it");
    tokio::time::sleep(Duration::from_millis(300)).await;
    gates[1].failures.store(1, Ordering::SeqCst);
    committer.commit(vec![piece(1, 0)]).await.unwrap_err();
    let began = std::time::Instant::now();
    while committer.commit(vec![piece(0, 1), piece(1, 1)]).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(4), "both take events");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for lane in &committer.lanes {
        while lane.admit(1, false).is_err() {
            assert!(began.elapsed() < Duration::from_secs(4), "each takes events of its own");
            let _ = committer.commit(vec![piece(0, 2), piece(1, 2)]).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn a_request_that_stops_waiting_cancels_nothing() {
    let (committer, [gate, _]) = committer(SETTINGS);
    let first = send(&committer, vec![piece(0, 0)]);
    gate.wait_for_insert(1).await;
    let second = send(&committer, vec![piece(0, 1)]);
    wait_for_queue(&committer, 0, 1).await;
    first.abort();
    second.abort();
    assert!(first.await.is_err() && second.await.is_err());
    gate.open(2);
    gate.wait_for_insert(2).await;
    committer.drain().await;
    assert_eq!(gate.statements(), [[(0, 1)], [(0, 1)]]);
}

#[tokio::test]
async fn statements_are_cut_by_bytes_and_by_rows() {
    let (committer, [gate, _]) = committer(SETTINGS);
    let first = send(&committer, vec![piece(0, 0)]);
    gate.wait_for_insert(1).await;
    // Ten pieces of half a megabyte for one shard.
    let large = Piece { shard_no: ShardNo(2), events: 1, records: vec![0; 512 * 1024] };
    let by_bytes = send(&committer, vec![large; 10]);
    wait_for_queue(&committer, 0, 10).await;
    // Seventy small ones for thirty-two shards, twice and a bit.
    let by_rows: Vec<Piece> = (0..32).chain(0..32).chain(0..6).map(|n| piece(2 * n, n.into())).collect();
    let by_rows = send(&committer, by_rows);
    wait_for_queue(&committer, 0, 80).await;
    gate.open(100);
    for request in [first, by_bytes, by_rows] {
        assert_eq!(request.await.unwrap(), Ok(()));
    }
    let statements = gate.statements();
    assert_eq!(statements.iter().flatten().map(|(_, events)| events).sum::<u32>(), 81);
    assert!(statements.len() >= 3, "{statements:?}");
    for batches in gate.inserts.lock().unwrap().iter() {
        assert!(batches.len() <= journal::INSERT_ROWS_MAX);
        let inflated: u32 = batches.iter().map(|batch| batch.batch.inflated_bytes).sum();
        assert!(inflated as usize <= journal::INSERT_BYTES_MAX);
    }
}

#[tokio::test]
async fn draining_refuses_new_events_and_waits_for_the_old() {
    let (committer, [gate, _]) = committer(SETTINGS);
    let first = send(&committer, vec![piece(0, 0)]);
    gate.wait_for_insert(1).await;
    let draining = tokio::spawn({
        let committer = committer.clone();
        async move { committer.drain().await }
    });
    while committer.lanes[0].admit(1, false).is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(committer.commit(vec![piece(0, 1)]).await, Err(Unavailable::Stopping));
    assert!(!draining.is_finished());
    gate.open(1);
    draining.await.unwrap();
    assert_eq!(first.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn two_commits_may_be_in_flight() {
    let (committer, [gate, _]) = committer(CommitterSettings { in_flight_max: 2, ..SETTINGS });
    let first = send(&committer, vec![piece(0, 0)]);
    gate.wait_for_insert(1).await;
    let second = send(&committer, vec![piece(0, 1)]);
    gate.wait_for_insert(2).await;
    gate.open(2);
    assert_eq!(first.await.unwrap(), Ok(()));
    assert_eq!(second.await.unwrap(), Ok(()));
}
