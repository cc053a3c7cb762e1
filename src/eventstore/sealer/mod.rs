//! The sealer: journal → runs and segments, one worker a shard.
//!
//! One task per server looks every second which of its shards have batches (one statement, nothing
//! else while nothing happens). For each such shard it takes the lease, if nobody else has it, and
//! runs passes ([`pass`]) until the journal is empty. Several replicas do this at once: the lease
//! decides, the fence protects.

mod doubts;
mod duplicates;
mod erased;
mod expired;
mod homes;
mod links;
mod metrics;
mod moves;
mod pass;
mod persons;
mod profiles;
mod resends;
#[cfg(test)]
mod tests;
mod traits;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, Semaphore, watch};
use tokio::time::Instant;

use crate::eventstore::EndedEarly;
use crate::eventstore::each_server;
use crate::eventstore::format::{FormatError, WriteOptions};
use crate::eventstore::retention::Retention;
use crate::model::{Clock, Millis, ObjectId, Random, ReplicaId, ServerId, ShardNo};
use crate::storage::server::leases::{self, Lease, LeaseTask};
use crate::storage::server::{journal, links as stored_links};
use crate::storage::{AsStorageError, Db, Server, Shards, StorageError};
use crate::telemetry::Metrics;

use doubts::Doubts;
use duplicates::OpenedCache;
use erased::ErasedIds;
use expired::Sweep;
pub use homes::Homes;
use metrics::SealMetrics;
pub use moves::ChunkLimits;
pub use pass::{LINK_EVENT, PassOutcome};
use pass::{ShardMemory, run_pass};
use persons::PersonsCache;
use profiles::DaysCache;
pub use traits::{TraitLimits, Traits, TraitsError};

/// Counting the batches of a journal rests for so many times as long as it took.
const COUNT_REST: u32 = 50;
/// The longest rest after failures.
const FAILURE_REST_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("the lease was lost")]
    LeaseLost,
    #[error("an object was given up while it was being built")]
    ObjectGivenUp,
    #[error("{deleted} of {expected} batches were still in the journal")]
    JournalChanged { expected: u64, deleted: u64 },
    #[error("objects were replaced faster than they could be listed")]
    ObjectsKeepVanishing,
    #[error("a distinct id has no numbers")]
    Unresolved,
    #[error("a worker thread failed")]
    Worker(#[source] EndedEarly),
    #[error("the stored object {object_id} cannot be read")]
    Unreadable {
        object_id: ObjectId,
        #[source]
        source: FormatError,
    },
    #[error("the events of a batch can be sealed one by one but not together")]
    NotTogether,
    /// Not a failure: a trial ends like this.
    #[error("a trial was rolled back")]
    RolledBack,
    #[error("rows cannot be written")]
    Format(#[source] FormatError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl SealError {
    fn from_join(error: tokio::task::JoinError) -> Self {
        Self::Worker(error.into())
    }
}

impl AsStorageError for SealError {
    fn as_storage_error(&self) -> Option<&StorageError> {
        match self {
            Self::Storage(error) => Some(error),
            _ => None,
        }
    }
}

pub struct SealContext {
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub holder: ReplicaId,
    pub pass_bytes_max: u64,
    pub lease_ms: u64,
    pub idle: Duration,
    pub segment_rows_min: usize,
    pub segment_rows_max: usize,
    pub write: WriteOptions,
    pub persons_cache_entries_max: usize,
    /// For the filters that tell duplicates, of all shards of this process.
    pub filters_bytes_max: usize,
    pub traits: TraitLimits,
    pub homes: Homes,
    pub retention: Arc<Retention>,
    /// Rows of a linked person are copied no sooner after they were masked.
    pub move_settle_ms: Millis,
    pub move_chunk: ChunkLimits,
}

/// Seals all shards of all servers until it is told to stop.
pub struct Sealer {
    context: SealContext,
    shards: Shards,
    metrics: SealMetrics,
    /// At most so many shards of a server at once. Each server has its own, since passes on one that
    /// does not answer keep theirs until a statement runs out of time.
    slots: HashMap<ServerId, Semaphore>,
    workers: HashMap<ShardNo, Mutex<ShardWorker>>,
    /// When the batches of a server may be counted again.
    counts: std::sync::Mutex<HashMap<ServerId, Instant>>,
    wake: Arc<Notify>,
}

#[derive(Default)]
struct ShardWorker {
    /// Outlasts the lease: a failed pass gives that back.
    doubts: Doubts,
    held: Option<(Lease, ShardMemory)>,
    sweep: Sweep,
}

impl Sealer {
    pub fn new(context: SealContext, shards: Shards, parallel_shards: usize, metrics: &Metrics) -> Self {
        let workers = shards.all().map(|shard| (shard, Mutex::default())).collect();
        let slots = shards.servers().iter();
        let slots = slots.map(|server| (server.server_id, Semaphore::new(parallel_shards.max(1)))).collect();
        Self {
            context,
            shards,
            metrics: SealMetrics::new(metrics),
            slots,
            workers,
            counts: Default::default(),
            wake: Arc::new(Notify::new()),
        }
    }

    /// Wakes the sealer before its next look: something was committed here.
    pub fn waker(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    /// Runs until `stop` turns true, then gives its leases back.
    pub async fn run(self: Arc<Self>, stop: watch::Receiver<bool>) {
        each_server(&self.shards, |server| self.clone().run_server(server, stop.clone())).await;
    }

    async fn run_server(self: Arc<Self>, server: Arc<Server>, mut stop: watch::Receiver<bool>) {
        let mut failures = 0_u32;
        while !*stop.borrow() {
            let rest = match self.seal_server(&server).await {
                Ok(true) => {
                    failures = 0;
                    Duration::ZERO
                }
                Ok(false) => {
                    failures = 0;
                    self.context.idle
                }
                Err(error) => {
                    failures += 1;
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(server.id = %server.server_id, error, "sealing failed; trying again");
                    self.metrics.failures.inc();
                    (self.context.idle * failures.min(10)).min(FAILURE_REST_MAX)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                _ = stop.changed() => {}
            }
        }
        self.release_leases(&server).await;
    }

    /// One look at a server: passes over every shard that has batches. True when there is more.
    async fn seal_server(&self, server: &Server) -> Result<bool, SealError> {
        let db = server.db()?;
        let oldest = journal::list_waiting(db).await?;
        self.show_waiting(server, db, &oldest).await?;
        let mut waiting: BTreeSet<ShardNo> = oldest.into_iter().map(|(shard_no, _)| shard_no).collect();
        waiting.extend(stored_links::list_shards(db).await?);
        waiting.extend(self.shards_to_sweep(server, db).await?);
        let here = waiting.into_iter().filter(|shard_no| {
            // Batches of other servers' shards wait for the forwarder.
            self.workers.contains_key(shard_no)
                && self.shards.server_of(*shard_no).server_id == server.server_id
        });
        let passes = here.map(|shard_no| self.seal_shard(db, shard_no));
        let mut more = false;
        let mut failed = None;
        for outcome in futures_util::future::join_all(passes).await {
            match outcome {
                Ok(Some(outcome)) => more |= outcome.more,
                Ok(None) => {}
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(more), Err)
    }

    /// One pass over a shard; `None` when another replica has its lease.
    pub async fn seal_shard(&self, db: &Db, shard_no: ShardNo) -> Result<Option<PassOutcome>, SealError> {
        let Some(worker) = self.workers.get(&shard_no) else { return Ok(None) };
        let mut worker = worker.lock().await;
        let slots = self.slots.get(&self.shards.server_of(shard_no).server_id);
        let _slot = slots.expect("every server has slots").acquire().await.expect("they are never closed");
        if !self.hold_lease(db, shard_no, &mut worker).await? {
            worker.sweep.leave();
            return Ok(None);
        }
        let ShardWorker { doubts, held, sweep } = &mut *worker;
        let Some((lease, memory)) = held else { return Ok(None) };
        let timer = self.metrics.pass_seconds.start_timer();
        let lease = *lease;
        let work = self.pass_and_move(db, &lease, memory, doubts, sweep);
        let passed = self.with_renewal(db, &lease, work).await;
        timer.observe_duration();
        match passed {
            Ok(outcome) => {
                doubts.pass_succeeded();
                self.metrics.count(&outcome);
                if outcome.batches > 0 {
                    tracing::debug!(
                        shard.no = shard_no.0,
                        batches = outcome.batches,
                        rows = outcome.rows,
                        duplicates = outcome.duplicates,
                        "sealed"
                    );
                }
                Ok(Some(outcome))
            }
            Err(error) => {
                if matches!(error, SealError::LeaseLost) {
                    self.metrics.leases_lost.inc();
                }
                // Whatever was remembered may be wrong now; the next pass starts from the database.
                worker.held = None;
                let _ = leases::release(db, &lease).await;
                if !error.may_be_an_event() {
                    return Err(error);
                }
                // This shard's own trouble: it tries again with less, and no other shard waits.
                worker.doubts.pass_failed();
                self.metrics.failures.inc();
                let error: &dyn std::error::Error = &error;
                tracing::warn!(shard.no = shard_no.0, error, "a pass failed over what it had read");
                Ok(Some(PassOutcome::default()))
            }
        }
    }

    /// A pass, and then a step of the moves that links have begun, and one of what retention takes.
    async fn pass_and_move(
        &self,
        db: &Db,
        lease: &Lease,
        memory: &mut ShardMemory,
        doubts: &mut Doubts,
        sweep: &mut Sweep,
    ) -> Result<PassOutcome, SealError> {
        let mut outcome = run_pass(&self.context, db, lease, memory, doubts).await?;
        let moved = moves::copy_chunk(&self.context, db, lease, memory).await?;
        self.metrics.moved_rows.inc_by(moved.rows);
        self.metrics.links.with_label_values(&["moved"]).inc_by(moved.finished);
        // What goes on to another shard of this server waits there by now.
        outcome.more |= moved.more || moved.rows > 0 || outcome.relayed > 0;
        // An event that waits may be what keeps a person.
        if !outcome.more {
            self.sweep(db, lease, memory, sweep).await?;
            outcome.more |= sweep.is_under_way();
        }
        Ok(outcome)
    }

    /// What fails here must not cost what the pass has done.
    async fn sweep(
        &self,
        db: &Db,
        lease: &Lease,
        memory: &mut ShardMemory,
        sweep: &mut Sweep,
    ) -> Result<(), SealError> {
        let server_id = self.shards.server_of(lease.shard_no).server_id;
        let sweeps_server = self.shards.shards_of(server_id).first() == Some(&lease.shard_no);
        match expired::sweep(&self.context, db, lease, memory, sweep, sweeps_server).await {
            Ok(lapsed) => self.metrics.lapsed_persons.inc_by(lapsed),
            Err(SealError::LeaseLost) => return Err(SealError::LeaseLost),
            Err(error) => {
                sweep.rest();
                let error: &dyn std::error::Error = &error;
                let shard_no = lease.shard_no.0;
                tracing::warn!(shard.no = shard_no, error, "persons without events stay for now");
            }
        }
        Ok(())
    }

    /// Those with projects that keep less than all, when it is time to look through their persons.
    async fn shards_to_sweep(&self, server: &Server, db: &Db) -> Result<Vec<ShardNo>, StorageError> {
        if !self.context.retention.is_any() {
            return Ok(Vec::new());
        }
        let cuts = self.context.retention.cuts(journal::database_now(db).await?);
        let is_due = |shard_no: &ShardNo| {
            let worker = self.workers.get(shard_no).and_then(|worker| worker.try_lock().ok());
            worker.is_some_and(|mut worker| worker.sweep.is_due(&cuts))
        };
        Ok(self.shards.shards_of(server.server_id).into_iter().filter(is_due).collect())
    }

    /// Renews the lease while a pass takes its time.
    async fn with_renewal<T>(&self, db: &Db, lease: &Lease, pass: impl Future<Output = T>) -> T {
        let mut pass = std::pin::pin!(pass);
        loop {
            tokio::select! {
                done = &mut pass => return done,
                () = tokio::time::sleep(Duration::from_millis(self.context.lease_ms / 3)) => {
                    // A lease that was lost is noticed by the closing transaction.
                    if let Err(error) = leases::renew(db, lease, self.context.lease_ms).await {
                        let error: &dyn std::error::Error = &error;
                        tracing::warn!(shard.no = lease.shard_no.0, error, "the lease could not be renewed");
                    }
                }
            }
        }
    }

    async fn hold_lease(
        &self,
        db: &Db,
        shard_no: ShardNo,
        worker: &mut ShardWorker,
    ) -> Result<bool, StorageError> {
        let lease_ms = self.context.lease_ms;
        if let Some((lease, _)) = &worker.held {
            if leases::renew(db, lease, lease_ms).await? {
                return Ok(true);
            }
            self.metrics.leases_lost.inc();
            worker.held = None;
        }
        let taken = leases::find_lease(db, shard_no, LeaseTask::Seal, self.context.holder, lease_ms).await?;
        let Some(lease) = taken else { return Ok(false) };
        let shards = self.workers.len().max(1);
        let memory = ShardMemory {
            persons: PersonsCache::new(self.context.persons_cache_entries_max / shards),
            days: DaysCache::new(self.context.persons_cache_entries_max / shards),
            opened: OpenedCache::new(self.context.filters_bytes_max / shards),
            unlinked: Default::default(),
            erased: ErasedIds::new(self.shards.installation_id()),
            moves: moves::SeenMoves::new(),
            looked_at: Default::default(),
        };
        worker.held = Some((lease, memory));
        // Whoever held it may have been in the middle of it.
        worker.sweep = Sweep::default();
        Ok(true)
    }

    async fn show_waiting(
        &self,
        server: &Server,
        db: &Db,
        waiting: &[(ShardNo, Millis)],
    ) -> Result<(), StorageError> {
        let label = server.server_id.to_string();
        let lag_ms = match waiting.iter().map(|(_, oldest)| *oldest).min() {
            Some(oldest) => (journal::database_now(db).await? - oldest).max(0),
            None => 0,
        };
        self.metrics.lag_seconds.with_label_values(&[&label]).set(lag_ms / 1_000);
        self.count_backlog(server, db, &label).await
    }

    /// Counting takes the longer the more waits, and must not be what keeps it waiting.
    async fn count_backlog(&self, server: &Server, db: &Db, label: &str) -> Result<(), StorageError> {
        let next =
            self.counts.lock().expect("no holder of this lock can panic").get(&server.server_id).copied();
        let began = Instant::now();
        if next.is_some_and(|next| began < next) {
            return Ok(());
        }
        let backlog = journal::backlog(db).await?;
        let next = Instant::now() + began.elapsed() * COUNT_REST;
        self.counts.lock().expect("no holder of this lock can panic").insert(server.server_id, next);
        let batches: u64 = backlog.iter().map(|entry| entry.batches).sum();
        self.metrics.waiting_batches.with_label_values(&[label]).set(batches as i64);
        let events: u64 = backlog.iter().map(|entry| entry.events).sum();
        self.metrics.waiting_events.with_label_values(&[label]).set(events as i64);
        let bytes: u64 = backlog.iter().map(|entry| entry.inflated_bytes).sum();
        self.metrics.waiting_bytes.with_label_values(&[label]).set(bytes as i64);
        let is_here = |shard_no: ShardNo| self.shards.server_of(shard_no).server_id == server.server_id;
        let foreign = backlog
            .iter()
            .filter(|entry| self.workers.contains_key(&entry.shard_no) && !is_here(entry.shard_no));
        let foreign: u64 = foreign.map(|entry| entry.batches).sum();
        self.metrics.foreign_batches.with_label_values(&[label]).set(foreign as i64);
        Ok(())
    }

    async fn release_leases(&self, server: &Server) {
        let Ok(db) = server.db() else { return };
        for shard_no in self.shards.shards_of(server.server_id) {
            let Some(worker) = self.workers.get(&shard_no) else { continue };
            if let Some((lease, _)) = worker.lock().await.held.take()
                && let Err(error) = leases::release(db, &lease).await
            {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(shard.no = shard_no.0, error, "the lease runs out by itself");
            }
        }
    }

    /// Passes over every shard until the journals are empty. For commands and tests that have no
    /// running sealer; shards that another replica seals are left to it.
    pub async fn seal_everything(&self) -> Result<(), SealError> {
        for server in self.shards.servers() {
            while self.seal_server(server).await? {}
        }
        Ok(())
    }
}
