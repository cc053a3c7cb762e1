//! The commits to one server, one after the other (or a few at a time).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::{CommitterSettings, Journal, Piece};
use crate::collection::budget::{Budget, Reserved};
use crate::collection::metrics::CollectMetrics;
use crate::collection::outcome::Unavailable;
use crate::model::{BatchId, Clock, Random, ShardNo};
use crate::storage::StorageError;
use crate::storage::batch::BatchEncoder;
use crate::storage::server::journal::{INSERT_BYTES_MAX, INSERT_ROWS_MAX, NewBatch};
use crate::telemetry::failpoint;

/// Records of one commit. What cannot be compressed grows by less than an eighth, so that the
/// statement stays below its limit.
const GROUP_BYTES_MAX: usize = INSERT_BYTES_MAX / 8 * 7;

/// From this many bytes on, compressing would hold up other requests on the same thread.
const COMPRESS_APART_BYTES: usize = 64 * 1024;

/// A commit that failed sooner than this is tried once more: a connection that the server had closed
/// meanwhile, a deadlock, a lock.
const RETRY_WITHIN: Duration = Duration::from_secs(1);

/// How long a commit that nobody waits for any more keeps others from starting. Then one more tries:
/// the connection may hang for an hour though the server is back.
const STALL_LETS_GO: Duration = Duration::from_secs(30);

/// While a commit takes longer than this, its server is asked something else.
const PROBED_AFTER: Duration = Duration::from_millis(400);
const PROBED_EVERY: Duration = Duration::from_millis(200);
/// A server that has answered nothing for so long is away: who waits is told within two seconds.
const PROBE_MAX: Duration = Duration::from_millis(800);

/// How long a server that failed is left alone while others take its events.
const AWAY_REST: Duration = Duration::from_secs(1);

/// Why a commit is not waited for any longer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GivenUp {
    TooSlow,
    /// The server answers nothing at all.
    Silent,
}

/// A piece that was not committed, for another server to take.
pub(super) struct Returned {
    pub piece: Piece,
    pub why: Unavailable,
}

pub(super) struct Admitted {
    pub reserved: Reserved,
    /// It finds out whether the server is back.
    pub is_trial: bool,
}

type Answer = oneshot::Sender<Result<(), Returned>>;

pub(super) struct Lane {
    journal: Arc<dyn Journal>,
    settings: CommitterSettings,
    /// Whether others take what this server does not.
    can_spill: bool,
    memory: Budget,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    metrics: CollectMetrics,
    state: Mutex<State>,
    became_idle: Notify,
    /// Where commits run: not on the threads of HTTP, which end before the last commit does.
    runtime: Handle,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Waiting>,
    /// Tasks that take from the queue until it is empty.
    committing: usize,
    /// Commits over their deadline that have not ended. Until they do, the server counts as away.
    stalled: usize,
    /// After a failure, when the next request may try. Only where others take what this server does not.
    away_until: Option<Instant>,
    is_stopping: bool,
}

struct Waiting {
    piece: Piece,
    answer: Answer,
    /// Given back when the piece is dropped, committed or not.
    _reserved: Arc<Reserved>,
}

impl Lane {
    pub(super) fn new(
        journal: Arc<dyn Journal>,
        settings: CommitterSettings,
        can_spill: bool,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        metrics: CollectMetrics,
    ) -> Self {
        Self {
            journal,
            settings,
            can_spill,
            memory: Budget::with_gauge(settings.queue_bytes_max, metrics.queue_bytes.clone()),
            clock,
            random,
            metrics,
            state: Mutex::default(),
            became_idle: Notify::new(),
            runtime: Handle::current(),
        }
    }

    /// Room for so many bytes of records, or a refusal at once. `is_trial`: the same request tries the
    /// server already.
    pub(super) fn admit(&self, bytes: usize, mut is_trial: bool) -> Result<Admitted, Unavailable> {
        let mut state = self.lock();
        if state.is_stopping {
            return Err(Unavailable::Stopping);
        }
        if state.stalled > 0 {
            return Err(Unavailable::ServerAway);
        }
        if let Some(until) = state.away_until.filter(|_| !is_trial) {
            let now = Instant::now();
            if now < until {
                return Err(Unavailable::ServerAway);
            }
            // This one tries; the others spill until it is known how that ends.
            state.away_until = Some(now + self.settings.deadline);
            is_trial = true;
        }
        let Ok(reserved) = self.memory.reserve(bytes) else {
            if is_trial {
                state.away_until = Some(Instant::now());
            }
            return Err(Unavailable::QueueFull);
        };
        Ok(Admitted { reserved, is_trial })
    }

    /// The request that was to try the server sends it nothing: the next may.
    pub(super) fn give_back_trial(&self) {
        let mut state = self.lock();
        if state.away_until.is_some() {
            state.away_until = Some(Instant::now());
        }
    }

    pub(super) fn submit(
        self: &Arc<Self>,
        pieces: Vec<Piece>,
        reserved: Reserved,
    ) -> Vec<oneshot::Receiver<Result<(), Returned>>> {
        let reserved = Arc::new(reserved);
        let mut answers = Vec::with_capacity(pieces.len());
        let mut state = self.lock();
        for piece in pieces {
            let (answer, receiver) = oneshot::channel();
            answers.push(receiver);
            state.queue.push_back(Waiting { piece, answer, _reserved: reserved.clone() });
        }
        if state.committing < self.settings.in_flight_max {
            state.committing += 1;
            self.runtime.spawn(Committing { lane: self.clone(), is_counted: true }.run());
        }
        answers
    }

    pub(super) async fn drain(&self) {
        loop {
            let idle = self.became_idle.notified();
            {
                let mut state = self.lock();
                state.is_stopping = true;
                if state.committing == 0 {
                    return;
                }
            }
            // `notified` was made before the look, so an end in between is not missed.
            idle.await;
        }
    }

    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.lock().queue.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock can panic")
    }
}

/// A task that commits group after group until there is none.
struct Committing {
    lane: Arc<Lane>,
    /// Whether the lane still counts on it. A task that panics must not keep the next from starting.
    is_counted: bool,
}

impl Drop for Committing {
    fn drop(&mut self) {
        if self.is_counted {
            self.lane.lock().committing -= 1;
            self.lane.became_idle.notify_waiters();
        }
    }
}

impl Committing {
    async fn run(mut self) {
        let lane = self.lane.clone();
        let mut encoder = BatchEncoder::default();
        while let Some(group) = self.next_group() {
            let (clock, random) = (lane.clock.clone(), lane.random.clone());
            let new_id = move || BatchId::time_ordered(&*clock, &*random);
            let (kept, group, batches) = encode(encoder, group, new_id).await;
            encoder = kept;
            lane.commit(batches, group).await;
        }
    }

    /// The next group. When there is none, this task counts as ended in the same instant, so that no
    /// piece can arrive between the look and the end and then wait for nobody.
    fn next_group(&mut self) -> Option<Vec<Waiting>> {
        let mut state = self.lane.lock();
        let group = state.take_group();
        if group.is_empty() {
            state.committing -= 1;
            self.is_counted = false;
            drop(state);
            self.lane.became_idle.notify_waiters();
            return None;
        }
        Some(group)
    }
}

impl State {
    /// What goes into the next statement: pieces in their order, as long as they fit.
    fn take_group(&mut self) -> Vec<Waiting> {
        let mut group: Vec<Waiting> = Vec::new();
        let mut shards: Vec<ShardNo> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.queue.front() {
            bytes += next.piece.records.len();
            let is_new_shard = !shards.contains(&next.piece.shard_no);
            let fits = bytes <= GROUP_BYTES_MAX && (!is_new_shard || shards.len() < INSERT_ROWS_MAX);
            // One piece alone always fits: it is cut far below the limit.
            if !group.is_empty() && !fits {
                break;
            }
            if is_new_shard {
                shards.push(next.piece.shard_no);
            }
            group.extend(self.queue.pop_front());
        }
        group
    }
}

impl Lane {
    /// Commits the batches and answers for the group they were made of.
    async fn commit(&self, batches: Vec<NewBatch>, group: Vec<Waiting>) {
        let started = Instant::now();
        self.metrics.observe_batches(&batches);
        let journal = self.journal.clone();
        // A task, so that running out of time ends the waiting and not the statement.
        let mut inserting = tokio::spawn(async move {
            match journal.insert(batches.clone()).await {
                Err(error) if error.is_transient() && started.elapsed() < RETRY_WITHIN => {
                    journal.insert(batches).await
                }
                settled => settled,
            }
        });
        let ended = tokio::select! {
            ended = &mut inserting => ended,
            why = self.gives_up() => {
                self.metrics.commits.with_label_values(&["stalled"]).inc();
                return self.wait_out(inserting, group, why).await;
            }
        };
        let outcome = match ended {
            Ok(Ok(())) => {
                failpoint::hit("collect.after_insert");
                Ok(())
            }
            Ok(Err(error)) => Err(refusal(&error)),
            Err(_) => Err(Unavailable::CommitFailed("the commit panicked".into())),
        };
        self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        self.note(outcome.is_ok());
        let label = if outcome.is_ok() { "committed" } else { "failed" };
        self.metrics.commits.with_label_values(&[label]).inc();
        answer(group, &outcome);
    }

    /// Ends when a commit has taken too long, or when its server turns out to be silent: one that is only
    /// slow answers other statements meanwhile.
    async fn gives_up(&self) -> GivenUp {
        tokio::select! {
            () = tokio::time::sleep(self.settings.deadline) => GivenUp::TooSlow,
            () = self.falls_silent() => GivenUp::Silent,
        }
    }

    async fn falls_silent(&self) {
        tokio::time::sleep(PROBED_AFTER).await;
        loop {
            let probed = tokio::time::timeout(PROBE_MAX, self.journal.probe()).await;
            // A probe may wait behind others' statements, which the server answers.
            let is_heard = self.journal.heard_before().is_some_and(|before| before < PROBE_MAX);
            if probed.is_err() && !is_heard {
                return;
            }
            tokio::time::sleep(PROBED_EVERY).await;
        }
    }

    async fn is_heard_again(&self) {
        loop {
            if let Ok(Ok(())) = tokio::time::timeout(PROBE_MAX, self.journal.probe()).await {
                return;
            }
            tokio::time::sleep(PROBED_EVERY).await;
        }
    }

    /// Whether the server takes what it is given.
    fn note(&self, is_taken: bool) {
        if !self.can_spill {
            return;
        }
        let mut state = self.lock();
        let was_away = state.away_until.is_some();
        state.away_until = (!is_taken).then(|| Instant::now() + AWAY_REST);
        match (was_away, is_taken) {
            (false, false) => tracing::warn!("a server takes no events; others take them until it does"),
            (true, true) => tracing::info!("a server takes events again"),
            _ => {}
        }
    }

    /// The server does not answer. Everybody is told, new events are refused at once, and no commit is
    /// sent to it until this statement ends, so that at most one connection in half a minute is lost to
    /// it; or until one that was silent answers something else.
    async fn wait_out(
        &self,
        inserting: JoinHandle<Result<(), StorageError>>,
        group: Vec<Waiting>,
        why: GivenUp,
    ) {
        self.lock().stalled += 1;
        self.note(false);
        answer(group, &Err(Unavailable::CommitTooSlow));
        let refused = self.lock().queue.drain(..).collect();
        answer(refused, &Err(Unavailable::ServerAway));
        tracing::warn!("a server does not answer; events for it are refused until it does");
        tokio::select! {
            _ = inserting => {}
            () = self.is_heard_again(), if why == GivenUp::Silent => {}
            () = tokio::time::sleep(STALL_LETS_GO) => {}
        }
        self.lock().stalled -= 1;
    }
}

fn refusal(error: &StorageError) -> Unavailable {
    tracing::warn!(error = error as &dyn std::error::Error, "the journal did not take a batch");
    match error {
        StorageError::Unavailable { .. } => Unavailable::CommitFailed("the server is unavailable".into()),
        _ => Unavailable::CommitFailed("the server refused the statement".into()),
    }
}

fn answer(group: Vec<Waiting>, outcome: &Result<(), Unavailable>) {
    for waiting in group {
        let Waiting { piece, answer, _reserved } = waiting;
        // Whoever asked may be gone; the events are committed all the same.
        let _ = answer.send(outcome.clone().map_err(|why| Returned { piece, why }));
    }
}

/// One batch for each shard of the group.
async fn encode(
    encoder: BatchEncoder,
    group: Vec<Waiting>,
    new_id: impl Fn() -> BatchId + Send + 'static,
) -> (BatchEncoder, Vec<Waiting>, Vec<NewBatch>) {
    let bytes: usize = group.iter().map(|waiting| waiting.piece.records.len()).sum();
    if bytes < COMPRESS_APART_BYTES {
        return encode_here(encoder, group, &new_id);
    }
    let encoding = tokio::task::spawn_blocking(move || encode_here(encoder, group, &new_id));
    encoding.await.expect("records below the limit are always compressed")
}

fn encode_here(
    mut encoder: BatchEncoder,
    group: Vec<Waiting>,
    new_id: &dyn Fn() -> BatchId,
) -> (BatchEncoder, Vec<Waiting>, Vec<NewBatch>) {
    let mut pieces: Vec<&Piece> = group.iter().map(|waiting| &waiting.piece).collect();
    // By shard, and in order of arrival within one.
    pieces.sort_by_key(|piece| piece.shard_no);
    let batches = pieces
        .chunk_by(|a, b| a.shard_no == b.shard_no)
        .map(|pieces| {
            let events = pieces.iter().map(|piece| piece.events).sum();
            let records = pieces.iter().map(|piece| piece.records.as_slice());
            let batch = encoder.encode(events, records);
            NewBatch { shard_no: pieces[0].shard_no, batch_id: new_id(), batch }
        })
        .collect();
    (encoder, group, batches)
}
