//! Large questions, a step a round and shard, on any replica.
//!
//! A question that will take long is split, so that several replicas work on it and a retry repeats
//! only the shards that are missing. All steps of all rounds read what was listed at the beginning, so
//! whoever does them counts the same; when something of it is gone, the rounds begin again.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::asked::Asked;
use super::completeness::Basis;
use super::kernels::{Cancel, CancelOnDrop};
use super::plan::{Next, PARTIAL_VERSION, Partial, Plan, Reads, Round};
use super::question_kind::QuestionKind;
use super::together::{PassedGroup, Reading};
use crate::eventstore::scan::{Listing, RowsAtHand, ScanRequest};
use crate::model::{Millis, ProjectId, ShardNo};
use crate::tickets::{RunError, StepOutput, TicketOutput, TicketRun, TicketStep, fail, retry};

/// What one replica reads, decodes and counts on two cores: the low end of what was seen, of a funnel of five
/// steps.
const ROWS_PER_SEC: f64 = 25_000_000.0;
/// And what it counts where all is kept from before.
const KEPT_ROWS_PER_SEC: f64 = 100_000_000.0;
/// What is larger than this once inflated was not written by us.
const INFLATED_BYTES_MAX: u64 = 256 << 20;

/// When to split.
pub(super) struct Splitting {
    /// Questions estimated above this are split; zero splits all that touch several shards.
    after: Duration,
}

/// What a step is to do.
#[derive(Serialize, Deserialize)]
struct StepWork<B> {
    partials: OwnPartials,
    round: Round,
    basis: B,
}

/// Makes the work of a release unreadable whose partial answers would not merge with ours.
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "u16", try_from = "u16")]
struct OwnPartials;

impl From<OwnPartials> for u16 {
    fn from(_: OwnPartials) -> Self {
        PARTIAL_VERSION
    }
}

impl TryFrom<u16> for OwnPartials {
    type Error = String;

    fn try_from(version: u16) -> Result<Self, String> {
        match version {
            PARTIAL_VERSION => Ok(Self),
            other => Err(format!("partial answers of version {other}, ours are {PARTIAL_VERSION}")),
        }
    }
}

/// What a step leaves behind.
#[derive(Serialize, Deserialize)]
enum ShardPart {
    Passed {
        rows: u64,
        partial: Box<Partial>,
    },
    Away,
    /// Something that was listed is gone.
    Outrun,
}

fn write(value: &impl Serialize) -> Result<Bytes, RunError> {
    let json = serde_json::to_vec(value).map_err(retry)?;
    Ok(zstd::encode_all(json.as_slice(), 1).map_err(retry)?.into())
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RunError> {
    let mut json = Vec::new();
    let inflate = zstd::Decoder::new(bytes).map_err(retry)?;
    inflate.take(INFLATED_BYTES_MAX).read_to_end(&mut json).map_err(retry)?;
    serde_json::from_slice(&json).map_err(retry)
}

impl Splitting {
    pub(super) fn new(after: Duration) -> Self {
        Self { after }
    }

    /// `at_hand` says how many of the rows need not be read.
    fn is_long(&self, basis: &Basis, at_hand: impl FnOnce() -> RowsAtHand) -> bool {
        let rows = basis.listings.iter().map(Listing::rows_to_read).sum::<u64>();
        let is_long = || {
            self.are_many(rows, 0) && {
                let RowsAtHand { counted, kept } = at_hand();
                self.are_many(rows.saturating_sub(counted), kept)
            }
        };
        basis.shards.len() > 1 && (self.after.is_zero() || is_long())
    }

    fn are_many(&self, rows: u64, kept: u64) -> bool {
        let to_read = rows.saturating_sub(kept) as f64 / ROWS_PER_SEC;
        to_read + kept as f64 / KEPT_ROWS_PER_SEC > self.after.as_secs_f64()
    }
}

impl QuestionKind {
    /// Whether a question takes so long that others should help.
    pub(super) fn is_long(&self, project_id: ProjectId, plan: &Plan, basis: &Basis) -> bool {
        self.splitting.is_long(basis, || {
            let request = scan_request(project_id, &plan.reads(), basis.kept_from);
            basis.listings.iter().fold(RowsAtHand::default(), |all, listing| {
                let of_shard = self.scanner.rows_at_hand(&request, listing);
                RowsAtHand { counted: all.counted + of_shard.counted, kept: all.kept + of_shard.kept }
            })
        })
    }

    /// What an earlier run of this ticket stood on when it handed out the steps of a round: as long as
    /// this one stands on the same, it need not repeat them.
    pub(super) async fn handed_out(
        &self,
        run: &TicketRun,
        round_no: u32,
        now: &Basis,
    ) -> Result<Option<Basis>, RunError> {
        let work = run.steps.handed_out(round_no).await?;
        // What another release wrote is not taken over, nor what lacks a shard that may be back.
        let work = work.and_then(|work| read::<StepWork<Basis>>(&work).ok());
        let earlier = work.map(|work| work.basis).filter(|basis| basis.unlisted().is_empty());
        // Nor what was listed before somebody was masked: if they were erased, no answer may show them any
        // more, and a runner that has lost its ticket may hand out such steps until it is told.
        Ok(earlier.filter(|earlier| earlier.has_masks_of(now)))
    }

    /// All shards in steps; `None` when something that was listed is gone. `rounds_done` counts the rounds
    /// of this ticket, those for nothing too.
    pub(super) async fn answer_split(
        &self,
        run: &TicketRun,
        plan: &Arc<Plan>,
        basis: &Basis,
        rounds_done: &mut u32,
    ) -> Result<Option<TicketOutput>, RunError> {
        let shards: Vec<ShardNo> = basis.listings.iter().map(|listing| listing.shard_no).collect();
        let mut round = plan.first_round();
        let mut away = basis.unlisted();
        away.iter().for_each(|_| run.progress.add_shard());
        let mut is_first = true;
        loop {
            *rounds_done += 1;
            let work = write(&StepWork { partials: OwnPartials, round: round.clone(), basis })?;
            let mut partials = Vec::new();
            let mut is_outrun = false;
            let settled = |shard_no: ShardNo, body: Bytes| {
                if is_first {
                    run.progress.add_shard();
                }
                match read(&body)? {
                    ShardPart::Away => {
                        away.insert(shard_no);
                    }
                    ShardPart::Outrun => is_outrun = true,
                    ShardPart::Passed { rows, partial } => {
                        if is_first {
                            run.progress.add_rows(rows);
                        }
                        partials.push(*partial);
                    }
                }
                Ok(())
            };
            run.steps.run(*rounds_done, work, &shards, settled).await?;
            if is_outrun {
                return Ok(None);
            }
            if partials.is_empty() {
                return Err(retry("no server of this project can be reached"));
            }
            match self.merge(plan, &round, partials, false).await? {
                Next::Done(answer) => return self.output(run, basis, away, answer, false).await.map(Some),
                Next::Round(next) => round = next,
            }
            is_first = false;
        }
    }

    /// One shard's part of one round.
    pub(super) async fn answer_step(&self, step: &TicketStep) -> Result<StepOutput, RunError> {
        let (_, settings) = self.settings(step.project_id).await.map_err(retry)?;
        let Ok(asked) = Asked::read(&step.body, &settings) else {
            return Err(fail("question_unreadable", "this release cannot read the stored question"));
        };
        // A round of another release: one that knows it takes the step up.
        let StepWork { round, basis, .. } = read::<StepWork<Basis>>(&step.work)?;
        let listing = basis.listing_of(step.shard_no).ok_or_else(|| retry("the shard is not listed"))?;
        let plan = Arc::new(Plan::new(&asked.question, &self.limits));
        let cancel = Cancel::default();
        let _cancelled_with_this = CancelOnDrop(cancel.clone());
        let (project_id, permits) = (step.project_id, Semaphore::new(1));
        let (basis, plan, round, cancel) = (&basis, &plan, &round, &cancel);
        let reading = Reading { project_id, basis, plan, round, cancel, permits: &permits };
        let (part, is_complete) = match self.read_group(&reading, &[listing]).await? {
            None => (ShardPart::Outrun, true),
            Some(PassedGroup { rows, mut partials, .. }) => match partials.pop() {
                Some(partial) => (ShardPart::Passed { rows, partial: Box::new(partial) }, true),
                None => (ShardPart::Away, false),
            },
        };
        Ok(StepOutput { body: write(&part)?, is_complete })
    }
}

pub(super) fn scan_request(project_id: ProjectId, reads: &Reads, kept_from: Millis) -> ScanRequest {
    ScanRequest {
        project_id,
        from: reads.range.from.max(kept_from).min(reads.range.to),
        to: reads.range.to,
        with: reads.with,
        properties: reads.properties.clone(),
        events: reads.events.clone(),
        needs: reads.needs.clone(),
        counted_by: reads.counted_by,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_long_from_their_setting_on() {
        let splitting = Splitting::new(Duration::from_secs(2));
        assert!(!splitting.are_many(50_000_000, 0) && splitting.are_many(50_000_001, 0));
        assert!(
            !splitting.are_many(200_000_000, 200_000_000) && splitting.are_many(200_000_001, 200_000_000)
        );
        assert!(
            !splitting.are_many(125_000_000, 100_000_000) && splitting.are_many(125_000_001, 100_000_000)
        );
    }

    #[test]
    fn the_work_of_another_release_is_not_taken_up() {
        let work = |partials: &str| format!(r#"{{{partials}"round":"Funnel","basis":7}}"#);
        let read = |work: String| {
            let packed = zstd::bulk::compress(work.as_bytes(), 1).unwrap();
            read::<StepWork<u8>>(&packed).map(|work| work.basis).ok()
        };
        assert_eq!(read(work(&format!(r#""partials":{PARTIAL_VERSION},"#))), Some(7));
        assert_eq!(read(work(r#""partials":1,"#)), None);
        assert_eq!(read(work("")), None, "of before there was a version");
    }

    #[test]
    fn a_part_that_is_cut_short_is_an_error() {
        let bytes = write(&ShardPart::Away).unwrap();
        assert!(matches!(read(&bytes), Ok(ShardPart::Away)));
        assert!(read::<ShardPart>(&bytes[..bytes.len() - 1]).is_err());
        assert!(read::<ShardPart>(b"").is_err());
    }
}
