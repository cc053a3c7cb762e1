//! Large questions, a step a round and shard, on any replica.
//!
//! A question that will take long is split, so that several replicas work on it and a retry repeats
//! only the shards that are missing. Each step reads its shard anew, so rows may have come between the
//! rounds of a breakdown: the second round answers for what the first one chose, `as_of` is the earlier
//! of the two, and such an answer is not offered to equal questions.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::asked::Asked;
use super::completeness::{Before, Seen};
use super::kernels::Cancel;
use super::plan::{Next, Partial, Plan, Reads, Round};
use super::question_kind::{CancelOnDrop, QuestionKind, Read};
use crate::eventstore::scan::{Listing, ScanRequest};
use crate::model::{Millis, ProjectId, ShardNo};
use crate::storage::StorageError;
use crate::storage::server::overview;
use crate::tickets::{RunError, StepOutput, TicketOutput, TicketRun, TicketStep, fail, retry};

/// What one replica reads, decodes and counts on two cores: the low end of what was seen.
const ROWS_PER_SEC: f64 = 2_000_000.0;
/// How long a project's number of rows is believed.
const ROWS_KNOWN_FOR: Duration = Duration::from_secs(60);
/// Projects whose numbers of rows are remembered.
const PROJECTS_KNOWN_MAX: usize = 10_000;
/// A partial larger than this once inflated was not written by us.
const PARTIAL_BYTES_MAX: u64 = 256 << 20;

/// When to split, and what is known of the sizes of projects.
pub(super) struct Splitting {
    /// Questions estimated above this are split; zero splits all that touch several shards.
    after: Duration,
    rows: Mutex<HashMap<ProjectId, (Instant, u64)>>,
}

/// What a step is to do.
#[derive(Serialize, Deserialize)]
struct StepWork {
    round: Round,
    /// The same for all, though a midnight may come between them.
    kept_from: Millis,
}

/// What a step leaves behind.
#[derive(Serialize, Deserialize)]
enum ShardPart {
    Passed { data_version: i64, as_of: Millis, moving: u64, rows: u64, partial: Box<Partial> },
    Away,
}

impl ShardPart {
    fn write(&self) -> Result<Bytes, RunError> {
        let json = serde_json::to_vec(self).map_err(retry)?;
        Ok(zstd::encode_all(json.as_slice(), 1).map_err(retry)?.into())
    }

    fn read(bytes: &[u8]) -> Result<Self, RunError> {
        let mut json = Vec::new();
        let inflate = zstd::Decoder::new(bytes).map_err(retry)?;
        inflate.take(PARTIAL_BYTES_MAX).read_to_end(&mut json).map_err(retry)?;
        serde_json::from_slice(&json).map_err(retry)
    }
}

impl Splitting {
    pub(super) fn new(after: Duration) -> Self {
        Self { after, rows: Mutex::default() }
    }

    fn known_rows(&self, project_id: ProjectId) -> Option<u64> {
        let rows = self.rows.lock().expect("no holder of this lock can panic");
        let (known_at, rows) = rows.get(&project_id)?;
        (known_at.elapsed() < ROWS_KNOWN_FOR).then_some(*rows)
    }

    fn remember(&self, project_id: ProjectId, rows: u64) {
        let mut known = self.rows.lock().expect("no holder of this lock can panic");
        if known.len() >= PROJECTS_KNOWN_MAX {
            known.clear();
        }
        known.insert(project_id, (Instant::now(), rows));
    }

    fn is_long(&self, rows: u64) -> bool {
        rows as f64 / ROWS_PER_SEC > self.after.as_secs_f64()
    }
}

impl QuestionKind {
    /// Whether to split. Small projects are told from one number a minute; only for large ones the
    /// catalogue is looked at for what this very question reads.
    pub(super) async fn is_large(
        &self,
        project_id: ProjectId,
        shards: &[ShardNo],
        reads: &Reads,
        kept_from: Millis,
    ) -> Result<bool, RunError> {
        if shards.len() < 2 || self.splitting.after.is_zero() {
            return Ok(shards.len() > 1);
        }
        let all = match self.splitting.known_rows(project_id) {
            Some(rows) => rows,
            None => {
                let rows = self.rows_of(project_id, shards).await.map_err(retry)?;
                self.splitting.remember(project_id, rows);
                rows
            }
        };
        if !self.splitting.is_long(all) {
            return Ok(false);
        }
        let mut rows = 0;
        for &shard_no in shards {
            let request = scan_request(shard_no, project_id, reads, kept_from);
            let Ok(db) = self.shards.db_of(shard_no) else { continue };
            match Listing::read(db, &request).await {
                Ok(listing) => rows += listing.rows_to_read(),
                // The run itself finds out what is wrong there.
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(retry(error)),
            }
        }
        Ok(self.splitting.is_long(rows))
    }

    /// Rows in segments. Those still in runs are few.
    async fn rows_of(&self, project_id: ProjectId, shards: &[ShardNo]) -> Result<u64, StorageError> {
        let mut rows = 0;
        for server in self.shards.servers() {
            let here: Vec<ShardNo> = shards
                .iter()
                .copied()
                .filter(|&shard_no| self.shards.server_of(shard_no).server_id == server.server_id)
                .collect();
            let Ok(db) = server.db() else { continue };
            match overview::count_rows_in_segments(db, project_id, &here).await {
                Ok(found) => rows += found,
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(rows)
    }

    pub(super) async fn answer_split(
        &self,
        run: &TicketRun,
        plan: &Arc<Plan>,
        shards: &[ShardNo],
        before: &Before,
    ) -> Result<TicketOutput, RunError> {
        let mut round = plan.first_round();
        let mut seen = Seen::default();
        for round_no in 1.. {
            let work = StepWork { round: round.clone(), kept_from: before.kept_from };
            let work = Bytes::from(serde_json::to_vec(&work).map_err(retry)?);
            let mut partials = Vec::new();
            // The figures are those of the last round.
            seen.moving = 0;
            let settled = |shard_no: ShardNo, body: Bytes| {
                if round_no == 1 {
                    run.progress.add_shard();
                }
                match ShardPart::read(&body)? {
                    ShardPart::Away => seen.away(shard_no),
                    ShardPart::Passed { data_version, as_of, moving, rows, partial } => {
                        if round_no == 1 {
                            run.progress.add_rows(rows);
                        }
                        seen.passed(shard_no, data_version, as_of, moving);
                        partials.push(*partial);
                    }
                }
                Ok(())
            };
            run.steps.run(round_no, work, shards, settled).await?;
            if partials.is_empty() {
                return Err(retry("no server of this project can be reached"));
            }
            match self.merge(plan, &round, partials).await? {
                Next::Done(answer) => return self.output(run, before, seen, answer).await,
                Next::Round(next) => round = next,
            }
        }
        unreachable!("a plan has a last round")
    }

    /// One shard's part of one round.
    pub(super) async fn answer_step(&self, step: &TicketStep) -> Result<StepOutput, RunError> {
        let (_, settings) = self.settings(step.project_id).await.map_err(retry)?;
        let Ok(asked) = Asked::read(&step.body, &settings) else {
            return Err(fail("question_unreadable", "this release cannot read the stored question"));
        };
        // A round of another release: one that knows it takes the step up.
        let StepWork { round, kept_from } = serde_json::from_slice(&step.work).map_err(retry)?;
        let plan = Arc::new(Plan::new(&asked.question, &self.limits));
        let cancel = Cancel::default();
        let _cancelled_with_this = CancelOnDrop(cancel.clone());
        let request = scan_request(step.shard_no, step.project_id, &plan.reads(), kept_from);
        let (part, is_complete) = match self.read_shard(request, &plan, &round, &cancel).await? {
            Read::Away(_) => (ShardPart::Away, false),
            Read::Passed(shard) => {
                let part = ShardPart::Passed {
                    data_version: shard.data_version,
                    as_of: shard.as_of,
                    moving: shard.moving,
                    rows: shard.rows,
                    partial: Box::new(shard.partial),
                };
                (part, true)
            }
        };
        Ok(StepOutput { body: part.write()?, is_complete })
    }
}

pub(super) fn scan_request(
    shard_no: ShardNo,
    project_id: ProjectId,
    reads: &Reads,
    kept_from: Millis,
) -> ScanRequest {
    ScanRequest {
        shard_no,
        project_id,
        from: reads.range.from.max(kept_from).min(reads.range.to),
        to: reads.range.to,
        properties: reads.properties.clone(),
        events: reads.events.clone(),
        needs: reads.needs.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_long_from_their_setting_on() {
        let splitting = Splitting::new(Duration::from_secs(2));
        assert!(!splitting.is_long(4_000_000));
        assert!(splitting.is_long(4_000_001));
    }

    #[test]
    fn rows_of_a_project_are_remembered_and_the_memory_is_bounded() {
        let splitting = Splitting::new(Duration::from_secs(2));
        assert_eq!(splitting.known_rows(ProjectId(1)), None);
        for n in 0..=PROJECTS_KNOWN_MAX as u32 {
            splitting.remember(ProjectId(n), u64::from(n));
        }
        assert_eq!(splitting.known_rows(ProjectId(PROJECTS_KNOWN_MAX as u32)), Some(10_000));
        assert_eq!(splitting.rows.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_part_that_is_cut_short_is_an_error() {
        let bytes = ShardPart::Away.write().unwrap();
        assert!(matches!(ShardPart::read(&bytes), Ok(ShardPart::Away)));
        assert!(ShardPart::read(&bytes[..bytes.len() - 1]).is_err());
        assert!(ShardPart::read(b"").is_err());
    }
}
