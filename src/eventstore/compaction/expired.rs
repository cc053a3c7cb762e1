//! Rows that their project keeps no longer ([`crate::eventstore::retention`]).
//!
//! Every merge leaves them out. A segment that has only such rows is dropped without being read; one that
//! has some, and a run, is written again: once a day at most, since what is kept changes at midnight.

use std::collections::HashSet;

use super::choose::{Candidate, Merge};
use super::step::parse_facts;
use super::{CompactionError, Compactor};
use crate::eventstore::retention::Cuts;
use crate::model::{Millis, ObjectId, ProjectId, ShardNo};
use crate::storage::Db;
use crate::storage::server::objects::{self, ObjectKind, ObjectRow};

/// Segments that one step drops.
const DROPPED_AT_ONCE_MAX: usize = 200;

/// Runs that were looked at and have nothing from before the cuts of then.
#[derive(Default)]
pub(super) struct KeptRuns {
    cuts: Cuts,
    runs: HashSet<ObjectId>,
}

impl Compactor {
    /// A run with rows that its project keeps no longer. Whose rows are how old is in the directory, which
    /// is read once a day for each run that may have some.
    pub(super) async fn choose_expired_run(
        &self,
        db: &Db,
        shard_no: ShardNo,
        runs: &[(Candidate, Millis)],
        cuts: &Cuts,
    ) -> Result<Option<Merge>, CompactionError> {
        let Some(latest) = cuts.values().max() else { return Ok(None) };
        for (run, _) in runs.iter().filter(|(run, _)| run.min_at < *latest) {
            let is_kept = {
                let mut seen = self.seen();
                let kept = seen.kept_runs.entry(shard_no).or_default();
                if kept.cuts != *cuts {
                    *kept = KeptRuns { cuts: cuts.clone(), runs: HashSet::new() };
                }
                kept.runs.contains(&run.object_id)
            };
            if is_kept {
                continue;
            }
            let found = objects::find_facts(db, ObjectKind::Run, shard_no, run.object_id).await?;
            let Some(facts) = found else { continue };
            let facts = parse_facts(run.object_id, &facts)?;
            let is_old = |(project_id, kept_from): (&ProjectId, &Millis)| {
                facts.slice_of(*project_id).is_some_and(|slice| slice.occurred_min < *kept_from)
            };
            if cuts.iter().any(is_old) {
                return Ok(Some(Merge::Runs { inputs: vec![*run], to_segments: false }));
            }
            self.seen().kept_runs.entry(shard_no).or_default().runs.insert(run.object_id);
        }
        Ok(None)
    }
}

/// What is to be done first about `segments`, which are sorted by project.
pub(super) fn choose(segments: &[ObjectRow], cuts: &Cuts) -> Option<Merge> {
    if cuts.is_empty() {
        return None;
    }
    for of_project in segments.chunk_by(|a, b| a.project_id == b.project_id) {
        let project_id = of_project[0].project_id.unwrap_or(ProjectId(0));
        let Some(&kept_from) = cuts.get(&project_id) else { continue };
        let whole = of_project.iter().filter(|segment| segment.max_at < kept_from);
        let inputs: Vec<Candidate> = whole.take(DROPPED_AT_ONCE_MAX).map(Candidate::from).collect();
        if !inputs.is_empty() {
            return Some(Merge::Dropped { inputs });
        }
        if let Some(in_part) = of_project.iter().find(|segment| segment.min_at < kept_from) {
            return Some(Merge::Segments { project_id, inputs: vec![Candidate::from(in_part)] });
        }
    }
    None
}
