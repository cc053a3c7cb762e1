//! From an object's bytes to its catalogue row.

use bytes::Bytes;

use super::format::{ObjectBytes, ObjectKind};
use crate::model::{ObjectId, ProjectId, ShardNo};
use crate::storage::server::objects::{self, NewObject};

/// Where an object belongs, beside what its bytes say.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    pub object_id: ObjectId,
    pub shard_no: ShardNo,
    /// A segment's; `None` for a run.
    pub project_id: Option<ProjectId>,
    /// How often its rows have been merged into larger segments.
    pub tier: u32,
    /// The rows obey all masks up to this version.
    pub mask_version: i64,
}

impl Placement {
    pub fn kind(&self) -> objects::ObjectKind {
        match self.project_id {
            None => objects::ObjectKind::Run,
            Some(_) => objects::ObjectKind::Segment,
        }
    }

    pub fn place(self, object: ObjectBytes) -> NewObject {
        let facts = object.facts;
        NewObject {
            object_id: self.object_id,
            shard_no: self.shard_no,
            project_id: self.project_id,
            events: facts.rows,
            min_at: facts.occurred_min,
            max_at: facts.occurred_max,
            day_from: facts.day_from(),
            day_to: facts.day_to(),
            tier: self.tier,
            mask_version: self.mask_version,
            facts: Bytes::from(facts.to_bytes()),
            parts: object.parts,
        }
    }
}

impl From<ObjectKind> for objects::ObjectKind {
    fn from(kind: ObjectKind) -> Self {
        match kind {
            ObjectKind::Run => Self::Run,
            ObjectKind::Segment => Self::Segment,
        }
    }
}
