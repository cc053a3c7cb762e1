//! Keeps runs and segments few: merges runs with runs, moves rows from runs into segments, and
//! merges segments with segments.
//!
//! One step lists the live objects, chooses ([`choose`]), reads the inputs whole, merges them on a
//! blocking thread ([`merge`]), uploads the outputs as `building`, and then, in one short transaction
//! under the shard's `compact` lease, makes the outputs live and retires the inputs. All of it happens
//! or nothing: a step that dies leaves `building` objects, which are given up after a while, and
//! inputs that are as live as before. The set of rows never changes but for those that no question
//! sees, and so no answer does: rows of masked persons ([`masks`]), and those that are older than their
//! project keeps ([`expired`]).
//!
//! [`Compactor::compact_shard`] makes steps until there is nothing to do; [`Compactor::run`] goes
//! round the shards for as long as the process lives.

mod choose;
mod expired;
mod masks;
mod merge;
mod metrics;
mod quiet;
mod step;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::EndedEarly;
use super::format::{FormatError, WriteOptions};
use super::retention::Retention;
use crate::config::SealingConfig;
use crate::model::{Millis, ObjectId, ProjectId, Random, ReplicaId, ShardNo};
use crate::storage::server::leases::{self, Lease, LeaseTask};
use crate::storage::server::objects::{self, ObjectKind, ObjectRow};
use crate::storage::{AsStorageError, Db, Shards, StorageError};
use crate::telemetry::Metrics;

use choose::{Candidate, Merge};
pub use choose::{CompactionOptions, Debt};
use masks::{MaskWork, SeenMasks};
use metrics::CompactionMetrics;
use quiet::Arrivals;
use step::parse_facts;

/// Steps of one shard before the next shard has its turn.
const STEPS_PER_TURN: u32 = 32;
/// Nothing takes longer to build than this, whether here or in the sealer; what is older was left by
/// somebody who died. Giving up an object that is still being built only costs its builder the work.
const BUILDING_MS_MAX: Millis = 15 * 60_000;
/// How often a shard is looked through for what can be deleted.
const TIDY_EVERY_MS: Millis = 60_000;

#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the object {object_id} cannot be read")]
    Unreadable {
        object_id: ObjectId,
        #[source]
        source: FormatError,
    },
    #[error("objects cannot be merged")]
    Merge(#[source] FormatError),
    /// Somebody else compacts this shard by now, or has replaced an input. Nothing was changed.
    #[error("another process compacts the shard")]
    Overtaken,
    #[error("the merging thread ended early")]
    Stopped(#[from] EndedEarly),
}

impl From<tokio::task::JoinError> for CompactionError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Stopped(error.into())
    }
}

impl AsStorageError for CompactionError {
    fn as_storage_error(&self) -> Option<&StorageError> {
        match self {
            Self::Storage(error) => Some(error),
            _ => None,
        }
    }
}

/// What a turn did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Compacted {
    pub steps: u32,
    pub inputs: u64,
    pub outputs: u64,
    pub rows: u64,
    pub deleted: u64,
    /// Rows of masked persons that were left out.
    pub dropped: u64,
    /// Rows that are older than their project keeps.
    pub expired: u64,
    /// Written to the server.
    pub bytes: u64,
}

/// Why objects are written again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    /// There are many of their size, or they are old.
    Size,
    /// They hold persons who are masked.
    Masked,
    /// Among them one who was erased: what is replaced goes soon.
    Erased,
    /// They hold rows that are older than their project keeps.
    Expired,
}

pub struct Compactor {
    holder: ReplicaId,
    options: CompactionOptions,
    write: WriteOptions,
    lease_ms: u64,
    grace_ms: Millis,
    quiet_ms: Millis,
    retention: Arc<Retention>,
    random: Arc<dyn Random>,
    seen: Mutex<Seen>,
    metrics: CompactionMetrics,
    /// A test's own time, as a distance.
    #[cfg(test)]
    pub(super) ahead_ms: std::sync::atomic::AtomicI64,
}

/// What need not be asked again.
#[derive(Default)]
struct Seen {
    /// When the first row of a live run arrived. It never changes.
    waiting_since: HashMap<ShardNo, HashMap<ObjectId, Millis>>,
    /// Objects whose rows are so big that merging them gave as many objects again.
    settled: HashSet<ObjectId>,
    tidied_at: HashMap<ShardNo, Millis>,
    masks: HashMap<ShardNo, SeenMasks>,
    /// At the last look.
    debts: HashMap<ShardNo, Debt>,
    kept_runs: HashMap<ShardNo, expired::KeptRuns>,
    arrivals: HashMap<ShardNo, Arrivals>,
}

impl Compactor {
    pub fn new(
        holder: ReplicaId,
        config: &SealingConfig,
        random: Arc<dyn Random>,
        metrics: &Metrics,
    ) -> Self {
        let fan_in = config.compact_fan_in as usize;
        let options = CompactionOptions {
            fan_in_min: fan_in,
            fan_in_max: 2 * fan_in,
            segment_rows_min: config.segment_rows_min.into(),
            segment_rows_max: config.segment_rows_max.into(),
            run_age_max_ms: Millis::from(config.run_age_secs_max) * 1_000,
            ..CompactionOptions::default()
        };
        Self {
            holder,
            options,
            write: WriteOptions::from(config),
            lease_ms: u64::from(config.lease_secs) * 1_000,
            grace_ms: Millis::from(config.retired_grace_secs) * 1_000,
            quiet_ms: Millis::from(config.compact_quiet_secs) * 1_000,
            retention: Arc::default(),
            random,
            seen: Mutex::default(),
            metrics: CompactionMetrics::new(metrics),
            #[cfg(test)]
            ahead_ms: Default::default(),
        }
    }

    /// Leaves out what projects keep no longer.
    pub fn with_retention(self, retention: Arc<Retention>) -> Self {
        Self { retention, ..self }
    }

    /// Goes round the shards until `stop` says so; the step that runs then is finished first.
    pub async fn run(&self, shards: &Shards, every: Duration, mut stop: watch::Receiver<bool>) {
        loop {
            let mut outcome = "idle";
            // One that does not answer costs a round one statement's time, not one for each shard.
            let mut away = HashSet::new();
            for shard_no in shards.all() {
                if *stop.borrow() {
                    return;
                }
                let server_id = shards.server_of(shard_no).server_id;
                if away.contains(&server_id) {
                    continue;
                }
                let Ok(db) = shards.db_of(shard_no) else { continue };
                match self.compact_shard(db, shard_no).await {
                    Ok(Compacted { steps: 0, .. }) => {}
                    Ok(_) => outcome = "merged",
                    Err(CompactionError::Overtaken) => {
                        outcome = "merged";
                        tracing::debug!(shard.no = shard_no.0, "another process compacts this shard");
                    }
                    Err(error) => {
                        if error.as_storage_error().is_some_and(StorageError::is_transient) {
                            away.insert(server_id);
                        }
                        outcome = "failed";
                        self.metrics.failures.inc();
                        tracing::warn!(
                            shard.no = shard_no.0,
                            error = &error as &dyn std::error::Error,
                            "compaction of a shard failed and will be tried again"
                        );
                    }
                }
            }
            self.metrics.rounds.with_label_values(&[outcome]).inc();
            self.show_debt(shards);
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// The server's time.
    async fn now(&self, db: &Db) -> Result<Millis, StorageError> {
        let now = db.now_ms().await?;
        #[cfg(test)]
        let now = now + self.ahead_ms.load(std::sync::atomic::Ordering::Relaxed);
        Ok(now)
    }

    fn show_debt(&self, shards: &Shards) {
        let seen = self.seen();
        for server in shards.servers() {
            let mut debt = Debt::default();
            let here = shards.shards_of(server.server_id);
            here.iter().filter_map(|shard_no| seen.debts.get(shard_no)).for_each(|found| debt.add(*found));
            let label = server.server_id.to_string();
            self.metrics.debt_objects.with_label_values(&[&label]).set(debt.objects as i64);
            self.metrics.debt_bytes.with_label_values(&[&label]).set(debt.bytes as i64);
        }
    }

    /// What is due in a shard.
    pub async fn debt(&self, db: &Db, shard_no: ShardNo) -> Result<Debt, CompactionError> {
        self.find_merge(db, shard_no, self.now(db).await?).await?;
        Ok(self.seen().debts.get(&shard_no).copied().unwrap_or_default())
    }

    /// Makes steps until there is nothing left to merge in the shard. Looks before it takes the
    /// lease, so that an idle shard costs a few reads and no write.
    pub async fn compact_shard(&self, db: &Db, shard_no: ShardNo) -> Result<Compacted, CompactionError> {
        let now = self.now(db).await?;
        let mut done = Compacted::default();
        let mask_work = self.find_mask_work(db, shard_no, now).await?;
        let must_tidy = self.must_tidy(shard_no, now) || mask_work.erasures.is_some();
        let first = self.find_merge(db, shard_no, now).await?;
        if first.is_none() && !must_tidy && !mask_work.is_any() {
            return Ok(done);
        }
        let taken = leases::find_lease(db, shard_no, LeaseTask::Compact, self.holder, self.lease_ms);
        let Some(lease) = taken.await? else { return Ok(done) };
        let kept = KeptLease::keep(db.clone(), lease, self.lease_ms);
        let result = self.make_steps(db, &lease, mask_work, must_tidy, &mut done).await;
        kept.end().await;
        leases::release(db, &lease).await?;
        result.map(|()| done)
    }

    async fn make_steps(
        &self,
        db: &Db,
        lease: &Lease,
        mask_work: MaskWork,
        must_tidy: bool,
        done: &mut Compacted,
    ) -> Result<(), CompactionError> {
        if let Some(erasures) = mask_work.erasures {
            self.erase_rows(db, lease, erasures, done).await?;
        }
        if mask_work.tidy {
            self.tidy_masks(db, lease, done).await?;
        }
        while done.steps < STEPS_PER_TURN {
            let now = self.now(db).await?;
            // Again, under the lease: the list from before may be of another's time.
            let Some((merge, why)) = self.find_merge(db, lease.shard_no, now).await? else { break };
            self.step(db, lease, merge, why, done).await?;
        }
        if must_tidy {
            let now = self.now(db).await?;
            objects::abandon(db, lease.shard_no, now - BUILDING_MS_MAX, now).await?;
            done.deleted = objects::delete_retired(db, lease.shard_no, now - self.grace_ms).await?;
            self.metrics.objects.with_label_values(&["deleted"]).inc_by(done.deleted);
            self.seen().tidied_at.insert(lease.shard_no, now);
        }
        Ok(())
    }

    fn must_tidy(&self, shard_no: ShardNo, now: Millis) -> bool {
        let every = TIDY_EVERY_MS.min(self.grace_ms);
        self.seen().tidied_at.get(&shard_no).is_none_or(|at| now - at >= every)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn find_merge(
        &self,
        db: &Db,
        shard_no: ShardNo,
        now: Millis,
    ) -> Result<Option<(Merge, Why)>, CompactionError> {
        let runs = objects::list_runs_bare(db, shard_no).await?;
        let segments = objects::list_all_segments(db, shard_no).await?;
        let quiet = self.look_for_arrivals(shard_no, &runs, &segments, now);
        let runs = self.waiting_runs(db, shard_no, runs).await?;
        let cuts = self.retention.cuts(now);
        let expired = expired::choose(&segments, &cuts);
        let projects = segments.chunk_by(|a, b| a.project_id == b.project_id);
        let mut debt = self.options.debt_of_runs(&runs, now);
        for of_project in projects {
            let candidates: Vec<Candidate> =
                of_project.iter().map(|segment| self.candidate(segment)).collect();
            debt.add(self.options.debt_of_segments(&candidates));
        }
        self.seen().debts.insert(shard_no, debt);
        if let Some(merge) = self.options.choose_runs(&runs, now, quiet.contains(&None)) {
            return Ok(Some((merge, Why::Size)));
        }
        let expired = match expired {
            None => self.choose_expired_run(db, shard_no, &runs, &cuts).await?,
            chosen => chosen,
        };
        if let Some(merge) = expired {
            return Ok(Some((merge, Why::Expired)));
        }
        for of_project in segments.chunk_by(|a, b| a.project_id == b.project_id) {
            let project_id = of_project[0].project_id.unwrap_or(ProjectId(0));
            let candidates: Vec<Candidate> =
                of_project.iter().map(|segment| self.candidate(segment)).collect();
            let is_quiet = quiet.contains(&of_project[0].project_id);
            if let Some(merge) = self.options.choose_segments(project_id, &candidates, is_quiet) {
                return Ok(Some((merge, Why::Size)));
            }
        }
        Ok(None)
    }

    /// The projects to whose segments none has come for a while, and none when that is so of the runs.
    fn look_for_arrivals(
        &self,
        shard_no: ShardNo,
        runs: &[ObjectRow],
        segments: &[ObjectRow],
        now: Millis,
    ) -> HashSet<Option<ProjectId>> {
        let mut seen = self.seen();
        let arrivals = seen.arrivals.entry(shard_no).or_default();
        arrivals.look(runs.iter().chain(segments), now);
        arrivals.quiet_since(now - self.quiet_ms)
    }

    fn candidate(&self, object: &ObjectRow) -> Candidate {
        Candidate { is_settled: self.seen().settled.contains(&object.object_id), ..Candidate::from(object) }
    }

    /// The live runs with the time when the first of their rows arrived. That lies in the directory,
    /// which is read once for each run.
    async fn waiting_runs(
        &self,
        db: &Db,
        shard_no: ShardNo,
        listed: Vec<ObjectRow>,
    ) -> Result<Vec<(Candidate, Millis)>, CompactionError> {
        let known = self.seen().waiting_since.remove(&shard_no).unwrap_or_default();
        let mut still = HashMap::new();
        let mut runs = Vec::new();
        for run in listed {
            let since = match known.get(&run.object_id) {
                Some(&since) => since,
                None => {
                    let found = objects::find_facts(db, ObjectKind::Run, shard_no, run.object_id).await?;
                    let Some(facts) = found else { continue };
                    parse_facts(run.object_id, &facts)?.received_min
                }
            };
            still.insert(run.object_id, since);
            runs.push((self.candidate(&run), since));
        }
        self.seen().waiting_since.insert(shard_no, still);
        Ok(runs)
    }
}

impl From<&ObjectRow> for Candidate {
    fn from(row: &ObjectRow) -> Self {
        Self {
            object_id: row.object_id,
            rows: row.events,
            bytes: row.bytes,
            min_at: row.min_at,
            max_at: row.max_at,
            mask_version: row.mask_version,
            is_settled: false,
        }
    }
}

/// Renews a lease while a step takes its time. Losing it is noticed by the closing transaction.
struct KeptLease {
    task: tokio::task::JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl KeptLease {
    fn keep(db: Db, lease: Lease, lease_ms: u64) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(lease_ms / 3)) => {}
                    _ = stopped.changed() => return,
                }
                match leases::renew(&db, &lease, lease_ms).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => tracing::debug!(%error, "a lease could not be renewed this time"),
                }
            }
        });
        Self { task, stop }
    }

    /// Returns when no renewal is under way any more, so that none undoes a release.
    async fn end(self) {
        self.stop.send_replace(true);
        // The task has nothing to fail with; a panic in it ends it too.
        let _ = self.task.await;
    }
}
