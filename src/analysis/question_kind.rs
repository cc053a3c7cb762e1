//! The ticket kind `question`: from what a caller sent to a published answer.
//!
//! [`QuestionKind::prepare`] parses and canonicalises; the state of the data it asks is a hash of
//! the question and of the project's data version in every shard, so that equal questions over equal
//! data share one run. [`QuestionKind::run`] lists all shards of the project at one moment, reads
//! what is listed, passes over the rows round by round, and merges; a large question is split into steps
//! instead ([`super::split`]). A shard whose server is away is left out and the answer says so; any other
//! failure fails the run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, try_join_all};
use futures_util::{StreamExt, stream};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::asked::Asked;
use super::completeness::Basis;
use super::elsewhere::Heard;
use super::kernels::{Cancel, CancelOnDrop, KernelError};
use super::known_projects::KnownProjects;
use super::naming::NamingError;
use super::plan::{Next, Partial, Plan, Round};
use super::room::Room;
use super::split::{Splitting, scan_request};
use super::together::{Reading, groups_of};
use super::{ProjectSettings, QuestionLimits};
use crate::eventstore::scan::{Listing, ScanError, ScanRequest, Scanner, ShardRows, list_shards};
use crate::model::{Clock, Millis, ProjectId, ShardNo, shards_of};
use crate::storage::control::projects::{Project, find_project};
use crate::storage::server::{journal, persons};
use crate::storage::{Db, Reads, Shards, StorageError};
use crate::tickets::{
    PARTIAL_TOO_LARGE, PrepareError, Prepared, RunError, StepOutput, TicketKind, TicketOutput, TicketRun,
    TicketStep, fail, retry,
};

pub const QUESTION: &str = "question";

/// How long a question probably takes.
const ESTIMATE: Duration = Duration::from_secs(1);

/// How long a submission waits for a server to say how new its data is: only sharing depends on it.
const VERSION_WAIT_MAX: Duration = Duration::from_secs(2);
/// How often a question begins again when objects vanish under it. Each time means that reading took
/// longer than the grace period.
const ATTEMPTS: u32 = 5;
/// Shards of one question that are read at the same time.
const SHARDS_AT_ONCE: usize = 4;
/// So many rows are passed over, whatever is asked of them, sooner than another thread has begun to.
pub(super) const SMALL_ROWS_MAX: usize = 20_000;
/// So many numbers of partial answers are put together sooner than another thread has begun to.
const SMALL_NUMBERS_MAX: usize = if cfg!(test) { 100 } else { 8_192 };
/// How long a question that asks for fresh data waits for the sealer.
const FRESH_WAIT_MAX: Duration = Duration::from_secs(10);
const FRESH_LOOK_FIRST: Duration = Duration::from_millis(20);
const FRESH_LOOK_LONGEST: Duration = Duration::from_millis(500);

pub struct QuestionKind {
    control: Db,
    pub(super) shards: Shards,
    pub(super) scanner: Scanner,
    pub(super) limits: QuestionLimits,
    pub(super) splitting: Splitting,
    pub(super) heard: Mutex<Heard>,
    known: KnownProjects,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) room: Room,
    move_settle: Duration,
}

/// What became of reading one shard.
pub(super) enum ShardRead {
    Rows(ShardRows),
    Away,
    /// Something that was listed is gone: all has to be listed anew.
    Outrun,
}

pub struct QuestionParts {
    pub control: Db,
    pub shards: Shards,
    pub scanner: Scanner,
    pub clock: Arc<dyn Clock>,
    pub limits: QuestionLimits,
    /// Questions estimated to take longer are split; zero splits all that can be.
    pub split_after: Duration,
    /// `sealing.move_settle_ms`.
    pub move_settle: Duration,
}

impl QuestionKind {
    pub fn new(parts: QuestionParts) -> Self {
        let QuestionParts { control, shards, scanner, clock, limits, split_after, move_settle } = parts;
        let (splitting, heard) = (Splitting::new(split_after), Mutex::default());
        let known = KnownProjects::default();
        let room = Room::default();
        Self { heard, known, control, shards, scanner, limits, splitting, clock, room, move_settle }
    }

    pub(super) async fn settings(
        &self,
        project_id: ProjectId,
    ) -> Result<(Arc<Project>, ProjectSettings), StorageError> {
        let project = find_project(&self.control, project_id).await?;
        let project = Arc::new(project.ok_or(StorageError::Conflict { name: "projects.find" })?);
        self.known.keep(project.clone());
        let settings = self.settings_of(&project);
        Ok((project, settings))
    }

    fn settings_of(&self, project: &Project) -> ProjectSettings {
        let mut settings = ProjectSettings::new(&project.time_zone, self.clock.now_ms());
        settings.limits = self.limits.clone();
        settings
    }

    /// The first instant that the project keeps: what is older does not count, whether or not it has
    /// been deleted yet.
    pub(super) fn kept_from(&self, project: &Project) -> Millis {
        project.kept_from(self.clock.now_ms()).unwrap_or(Millis::MIN)
    }

    /// `None` when a server is away: then nothing can be said about its data.
    async fn data_version(&self, project: &Project, body: &[u8]) -> Result<Option<[u8; 32]>, StorageError> {
        let mut versions = BTreeMap::new();
        for server in self.shards.servers() {
            let Ok(db) = server.db() else { return Ok(None) };
            let listed = persons::list_data_versions(db, project.project_id);
            match tokio::time::timeout(VERSION_WAIT_MAX, listed).await {
                Ok(Ok(listed)) => versions.extend(listed),
                Ok(Err(error)) if error.is_transient() => return Ok(None),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(version_hash(body, self.kept_from(project), &versions)))
    }

    /// Waits until everything that was committed when it was called is sealed; `false` when that takes
    /// too long, or when a server does not say.
    ///
    /// Every batch that was visible then was inserted at that server's time of then or before. So it
    /// is sealed as soon as nothing so old is left in the journal of its shard.
    async fn wait_until_fresh(&self, shards: &[ShardNo]) -> Result<bool, StorageError> {
        // All servers: a batch may have been committed where its shard does not live, and goes home
        // with the time of its insert.
        let dbs: Option<Vec<&Db>> = self.shards.servers().iter().map(|server| server.db().ok()).collect();
        let Some(dbs) = dbs else { return Ok(false) };
        let first_look = async |db: &&Db| {
            let mut reads = Reads::default();
            let waiting = reads.add(journal::read_waiting());
            let found = db.read_together(reads).await?;
            Ok((found.now, found.get(waiting)?))
        };
        let (times, mut waiting): (Vec<Millis>, Vec<_>) = match try_join_all(dbs.iter().map(first_look)).await
        {
            Ok(looks) => looks.into_iter().unzip(),
            Err(error) => return not_fresh(error),
        };
        let asked_at = times.into_iter().max().unwrap_or(Millis::MIN);
        let is_due =
            |(shard_no, oldest): &(ShardNo, Millis)| shards.contains(shard_no) && *oldest <= asked_at;
        let deadline = tokio::time::Instant::now() + FRESH_WAIT_MAX;
        let mut pause = FRESH_LOOK_FIRST;
        // A batch that goes home between the looks at two servers is seen at neither; by the next look it is
        // there.
        let (looks, mut in_vain) = (dbs.len().min(2), 0);
        loop {
            if waiting.iter().flatten().any(is_due) {
                if tokio::time::Instant::now() >= deadline {
                    return Ok(false);
                }
                in_vain = 0;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(FRESH_LOOK_LONGEST);
            } else {
                in_vain += 1;
                if in_vain >= looks {
                    return Ok(true);
                }
            }
            waiting = match try_join_all(dbs.iter().map(|db| journal::list_waiting(db))).await {
                Ok(waiting) => waiting,
                Err(error) => return not_fresh(error),
            };
        }
    }

    /// Reads what is listed of a shard.
    pub(super) async fn read_rows(
        &self,
        request: &ScanRequest,
        listing: &Listing,
    ) -> Result<ShardRead, RunError> {
        let shard_no = listing.shard_no;
        let read = match self.shards.db_of(shard_no) {
            Ok(db) => self.scanner.read(db, request, listing.clone()).await,
            Err(error) => Err(ScanError::Storage(error)),
        };
        match read {
            Ok(Some(rows)) => Ok(ShardRead::Rows(rows)),
            Ok(None) => Ok(ShardRead::Outrun),
            Err(ScanError::Storage(error)) if error.is_transient() => {
                warn_away(shard_no, &error);
                Ok(ShardRead::Away)
            }
            Err(error) => Err(retry(error)),
        }
    }

    /// A shard's part of a round, with the names of persons where they are asked for; `None` when its
    /// server is away.
    pub(super) async fn named(
        &self,
        shard_no: ShardNo,
        project_id: ProjectId,
        plan: &Plan,
        partial: Partial,
    ) -> Result<Option<Partial>, RunError> {
        let numbered = match partial.into_numbered() {
            Err(partial) => return Ok(Some(partial)),
            Ok(numbered) => numbered,
        };
        match self.name_persons(shard_no, project_id, numbered, plan.persons_limit()).await {
            Ok(named) => Ok(Some(Partial::of_persons(named))),
            Err(NamingError::Storage(error)) if error.is_transient() => {
                warn_away(shard_no, &error);
                Ok(None)
            }
            Err(error) => Err(retry(error)),
        }
    }

    async fn answer(&self, run: &TicketRun) -> Result<TicketOutput, RunError> {
        let (project, settings) = match &run.project {
            Some(project) => (project.clone(), self.settings_of(project)),
            None => self.settings(run.project_id).await.map_err(retry)?,
        };
        let Ok(asked) = Asked::read(&run.body, &settings) else {
            return Err(fail("question_unreadable", "this release cannot read the stored question"));
        };
        let shards = shards_of(project.project_id, project.span, self.shards.count());
        run.progress.set_totals(shards.len() as u32, 0);
        let plan = Arc::new(Plan::new(&asked.question, &self.limits));
        let mut rounds_done = 0;
        for _ in 0..ATTEMPTS {
            let mut basis = self.basis(&project, &plan, asked.fresh, &shards).await?;
            if basis.listings.is_empty() {
                return Err(retry("no server of this project can be reached"));
            }
            let is_long = self.is_long(run.project_id, &plan, &basis);
            // An earlier run may have split it, and have kept since what makes it look short now.
            let earlier = match is_long || run.attempt > 1 {
                true => self.handed_out(run, rounds_done + 1, &basis).await?,
                false => None,
            };
            if is_long || earlier.is_some() {
                basis = earlier.unwrap_or(basis);
                match self.answer_split(run, &plan, &basis, &mut rounds_done).await {
                    // It cannot be kept between processes: one does it all.
                    Err(RunError::Fail(failure)) if failure.code == PARTIAL_TOO_LARGE => {}
                    Err(error) => return Err(error),
                    Ok(Some(output)) => return Ok(output),
                    Ok(None) => {
                        run.progress.reset();
                        continue;
                    }
                }
            }
            run.progress.reset();
            if let Some(output) = self.answer_whole(run, &plan, &basis).await? {
                return Ok(output);
            }
            tracing::debug!(ticket.id = %run.ticket_id, "an object was deleted before it was read");
        }
        Err(retry(format!("objects were replaced faster than they could be read, {ATTEMPTS} times")))
    }

    /// Lists what there is, for an answer to stand on.
    pub(super) async fn basis(
        &self,
        project: &Project,
        plan: &Plan,
        is_fresh: bool,
        shards: &[ShardNo],
    ) -> Result<Basis, RunError> {
        if !is_fresh {
            return self.list(project, plan, None, shards).await;
        }
        // What one server lists is fresh when nothing waits there at the same moment: mostly that is so.
        if self.shards.servers().len() == 1 {
            let listed = self.list(project, plan, Some(true), shards).await?;
            if listed.listings.iter().all(|listing| listing.has_waiting == Some(false)) {
                return Ok(listed);
            }
        }
        let fresh = self.wait_until_fresh(shards).await.map_err(retry)?;
        self.list(project, plan, Some(fresh), shards).await
    }

    async fn list(
        &self,
        project: &Project,
        plan: &Plan,
        fresh: Option<bool>,
        shards: &[ShardNo],
    ) -> Result<Basis, RunError> {
        // Before any shard is listed: what is on its way then, and not found here, is in the list.
        let elsewhere = self.elsewhere(shards).await.map_err(retry)?;
        let kept_from = self.kept_from(project);
        let request = scan_request(project.project_id, &plan.reads(), kept_from);
        // Who has not answered just now is not waited for once more.
        let mut there = shards.to_vec();
        there.retain(|&shard_no| !elsewhere.silent.contains(&self.shards.server_of(shard_no).server_id));
        let listings = list_shards(&self.shards, self.scanner.objects(), &there, &request, self.move_settle)
            .await
            .map_err(retry)?;
        Ok(Basis { fresh, kept_from, elsewhere, shards: shards.to_vec(), listings })
    }

    /// All shards in this process; `None` when something that was listed is gone.
    async fn answer_whole(
        &self,
        run: &TicketRun,
        plan: &Arc<Plan>,
        basis: &Basis,
    ) -> Result<Option<TicketOutput>, RunError> {
        let cancel = Cancel::default();
        let _cancelled_with_this = CancelOnDrop(cancel.clone());
        let mut round = plan.first_round();
        let first = round.clone();
        let permits = Semaphore::new(SHARDS_AT_ONCE);
        let project_id = run.project_id;
        let reading = Reading { project_id, basis, plan, round: &first, cancel: &cancel, permits: &permits };
        let server_of = |shard_no| self.shards.server_of(shard_no).server_id;
        let groups = groups_of(&basis.listings, server_of, self.scanner.cores().count());
        let reads: Vec<_> = groups
            .iter()
            // In boxes: what waits for several of them moves them about.
            .map(|group| Box::pin(async { (group.len(), self.read_group(&reading, group).await) }))
            .collect();
        let mut reads = stream::iter(reads).buffer_unordered(SHARDS_AT_ONCE);
        let (mut kept, mut partials) = (Vec::new(), Vec::new());
        let (mut away, mut bytes) = (basis.unlisted(), 0);
        away.iter().for_each(|_| run.progress.add_shard());
        while let Some((shards, read)) = reads.next().await {
            let Some(group) = read? else { return Ok(None) };
            away.extend(group.away);
            run.progress.add_rows(group.rows);
            bytes += group.bytes;
            partials.extend(group.partials);
            kept.extend(group.blocks);
            (0..shards).for_each(|_| run.progress.add_shard());
        }
        self.scanner.observe_question(bytes);
        if partials.is_empty() {
            return Err(retry("no server of this project can be reached"));
        }
        let (answer, is_small) = loop {
            let is_small = partials.iter().map(Partial::count_numbers).sum::<usize>() <= SMALL_NUMBERS_MAX;
            match self.merge(plan, &round, std::mem::take(&mut partials), is_small).await? {
                Next::Done(answer) => break (answer, is_small),
                Next::Round(next) => {
                    round = next;
                    let passes = kept.iter().map(|blocks| self.pass(plan, &round, blocks.clone(), &cancel));
                    partials = try_join_all(passes).await?.concat();
                }
            }
        };
        self.output(run, basis, away, answer, is_small).await.map(Some)
    }

    /// Puts the partial answers of one round together, and says what comes next.
    pub(super) async fn merge(
        &self,
        plan: &Arc<Plan>,
        round: &Round,
        partials: Vec<Partial>,
        is_small: bool,
    ) -> Result<Next, RunError> {
        let (plan, round) = (plan.clone(), round.clone());
        let merge = move || {
            let merged = plan.merge(&round, partials)?;
            plan.next(&round, merged)
        };
        self.compute(is_small, merge).await
    }

    /// On a thread for what computes; what is small at once.
    pub(super) async fn compute<T: Send + 'static>(
        &self,
        is_small: bool,
        work: impl FnOnce() -> Result<T, KernelError> + Send + 'static,
    ) -> Result<T, RunError> {
        let done = if is_small { work() } else { self.scanner.cores().run(work).await.map_err(retry)? };
        done.map_err(kernel_failed)
    }
}

fn warn_away(shard_no: ShardNo, error: &StorageError) {
    let error: &dyn std::error::Error = error;
    tracing::warn!(shard.no = shard_no.0, error, "a shard is away; the answer is partial");
}

/// A server that does not answer makes the answer partial later; here it only keeps it from being fresh.
fn not_fresh(error: StorageError) -> Result<bool, StorageError> {
    if error.is_transient() { Ok(false) } else { Err(error) }
}

fn kernel_failed(error: KernelError) -> RunError {
    match error {
        KernelError::TooManyValues { .. } => fail("too_many_values", error.to_string()),
        KernelError::Cancelled | KernelError::PartialMismatch => retry(error),
    }
}

pub(super) fn version_hash(body: &[u8], kept_from: Millis, versions: &BTreeMap<ShardNo, i64>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((body.len() as u64).to_le_bytes());
    hash.update(body);
    hash.update(kept_from.to_le_bytes());
    // A shard without rows has no version: it is the same whether it is listed as 0 or not at all.
    for (shard_no, version) in versions.iter().filter(|(_, version)| **version > 0) {
        hash.update(shard_no.0.to_le_bytes());
        hash.update(version.to_le_bytes());
    }
    hash.finalize().into()
}

impl TicketKind for QuestionKind {
    fn name(&self) -> &'static str {
        QUESTION
    }

    fn prepare<'a>(
        &'a self,
        project: ProjectId,
        body: &'a Value,
    ) -> BoxFuture<'a, Result<Prepared, PrepareError>> {
        Box::pin(async move {
            let (project, settings) = self.settings(project).await?;
            let asked = Asked::parse(body, &settings)?;
            let body = asked.to_body();
            let data_version = match asked.fresh {
                // What it waits for is not there yet.
                true => None,
                false => self.data_version(&project, &body).await?,
            };
            Ok(Prepared { body, data_version, estimate: ESTIMATE, project: Some(project) })
        })
    }

    fn presume(
        &self,
        project: ProjectId,
        let_in_with: Option<&Arc<Project>>,
        body: &Value,
    ) -> Option<Prepared> {
        let let_in_with = let_in_with.filter(|known| known.project_id == project);
        let project = self.known.find(project).or(let_in_with.cloned())?;
        let asked = Asked::parse(body, &self.settings_of(&project)).ok()?;
        // Of others there is more to be read, and the project tells what answers they may share.
        let body = asked.fresh.then(|| asked.to_body())?;
        Some(Prepared { body, data_version: None, estimate: ESTIMATE, project: Some(project) })
    }

    fn run<'a>(&'a self, run: &'a TicketRun) -> BoxFuture<'a, Result<TicketOutput, RunError>> {
        Box::pin(async move {
            let mut stop = run.stop.clone();
            tokio::select! {
                answered = self.answer(run) => answered,
                // Dropping the work cancels its passes too.
                _ = stop.stopped() => Err(RunError::Stopped),
            }
        })
    }

    fn run_step<'a>(&'a self, step: &'a TicketStep) -> BoxFuture<'a, Result<StepOutput, RunError>> {
        Box::pin(async move {
            let mut stop = step.stop.clone();
            tokio::select! {
                answered = self.answer_step(step) => answered,
                _ = stop.stopped() => Err(RunError::Stopped),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_shard_does_not_change_the_version() {
        let one = BTreeMap::from([(ShardNo(1), 4)]);
        let with_empty = BTreeMap::from([(ShardNo(0), 0), (ShardNo(1), 4)]);
        assert_eq!(version_hash(b"q", 0, &one), version_hash(b"q", 0, &with_empty));
        assert_ne!(version_hash(b"q", 0, &one), version_hash(b"q", 0, &BTreeMap::from([(ShardNo(1), 5)])));
        assert_ne!(version_hash(b"q", 0, &one), version_hash(b"p", 0, &one));
        assert_ne!(version_hash(b"q", 0, &one), version_hash(b"q", 1, &one), "a day later");
    }
}
