//! Rows that their project keeps no longer ([`crate::eventstore::retention`]).
//!
//! Every merge leaves them out. A segment that has only such rows is dropped without being read, one that
//! has some is written again: once a day at most, since what is kept changes at midnight. Rows in runs go
//! when they leave the runs.

use super::choose::{Candidate, Merge};
use crate::eventstore::retention::Cuts;
use crate::model::ProjectId;
use crate::storage::server::objects::ObjectRow;

/// Segments that one step drops.
const DROPPED_AT_ONCE_MAX: usize = 200;

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
