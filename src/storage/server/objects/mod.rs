//! The catalogue of runs and segments, and their parts.
//!
//! An object begins as `building` (nobody reads it), becomes `live` in the transaction that also
//! removes what it replaces, and `retired` when something replaces it; it is deleted after a grace
//! period, so that a reader who listed it before can still read its parts.

//!
//! Runs and segments are two tables with the same life: a [`Pair`] holds a statement for each.

mod list;
mod parts;
mod states;

use bytes::Bytes;

use crate::model::{Millis, ObjectId, ProjectId, ShardNo};
use crate::storage::Statement;

pub use list::{
    ObjectInState, find_facts, find_facts_of, list_all_segments, list_below, list_runs, list_runs_bare,
    list_runs_in, list_segments, list_segments_in, read_runs, read_segments,
};
pub use parts::{Slice, find_headers, find_parts, find_parts_of, find_slices};
pub use states::{
    abandon, delete_given_up, delete_retired, discard, give_up_below_in, hasten, make_live, raise_masks,
    retire, upload,
};

/// Bytes of parts in one statement, in either direction.
const STATEMENT_BYTES_MAX: usize = 4 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ObjectKind {
    Run,
    Segment,
}

/// A run or a segment that is being written.
#[derive(Clone, Debug)]
pub struct NewObject {
    pub object_id: ObjectId,
    pub shard_no: ShardNo,
    /// `None`: a run, with rows of any project.
    pub project_id: Option<ProjectId>,
    pub events: u64,
    pub min_at: Millis,
    pub max_at: Millis,
    pub day_from: i32,
    pub day_to: i32,
    pub tier: u32,
    pub mask_version: i64,
    /// Encoded by the event store: what pruning, menus and compaction need to know.
    pub facts: Bytes,
    pub parts: Vec<Bytes>,
}

/// A catalogue row.
#[derive(Clone, Debug)]
pub struct ObjectRow {
    pub object_id: ObjectId,
    pub kind: ObjectKind,
    pub shard_no: ShardNo,
    pub project_id: Option<ProjectId>,
    pub events: u64,
    pub bytes: u64,
    pub parts: u32,
    pub min_at: Millis,
    pub max_at: Millis,
    pub tier: u32,
    pub mask_version: i64,
    pub facts: Vec<u8>,
    pub created_at: Millis,
}

impl NewObject {
    pub fn kind(&self) -> ObjectKind {
        match self.project_id {
            None => ObjectKind::Run,
            Some(_) => ObjectKind::Segment,
        }
    }

    /// What it takes on its server.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(Bytes::len).chain([self.facts.len()]).sum::<usize>() as u64
    }
}

/// The same statement for both tables.
struct Pair {
    run: Statement,
    segment: Statement,
}

impl Pair {
    fn of(&'static self, kind: ObjectKind) -> &'static Statement {
        match kind {
            ObjectKind::Run => &self.run,
            ObjectKind::Segment => &self.segment,
        }
    }
}
