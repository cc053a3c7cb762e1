//! Where a distinct id lives, and whether that place answers: what has to be known before a link is
//! followed.
//!
//! A project's span never changes, so it is asked once. A link whose home cannot be told waits; events
//! never do, since a pointer remembers the shard it leads to.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::model::{ProjectId, ShardNo, shard_of};
use crate::storage::control::projects;
use crate::storage::server::journal;
use crate::storage::{Db, Shards, StorageError};

/// A server that takes longer to tell its time is not there for a move.
const ANSWER_MAX: Duration = Duration::from_secs(1);

pub struct Homes {
    places: Places,
    spans: Mutex<HashMap<ProjectId, u16>>,
}

enum Places {
    Stored {
        control: Db,
        shards: Shards,
    },
    /// A test's: everybody lives there.
    #[cfg(test)]
    One(ShardNo),
}

impl Homes {
    pub fn new(control: Db, shards: Shards) -> Self {
        Self { places: Places::Stored { control, shards }, spans: Mutex::default() }
    }

    #[cfg(test)]
    pub fn one(shard_no: ShardNo) -> Self {
        Self { places: Places::One(shard_no), spans: Mutex::default() }
    }

    /// `None` when nobody knows for now, or when there is no such project.
    pub async fn find_home(
        &self,
        project_id: ProjectId,
        distinct_id: &str,
    ) -> Result<Option<ShardNo>, StorageError> {
        let (control, shards) = match &self.places {
            Places::Stored { control, shards } => (control, shards),
            #[cfg(test)]
            Places::One(shard_no) => return Ok(Some(*shard_no)),
        };
        let known = self.spans.lock().expect("no holder of this lock can panic").get(&project_id).copied();
        let span = match known {
            Some(span) => span,
            None => match projects::find_project(control, project_id).await {
                Ok(None) => return Ok(None),
                Err(error) if error.is_transient() => return Ok(None),
                Err(error) => return Err(error),
                Ok(Some(project)) => {
                    let mut spans = self.spans.lock().expect("no holder of this lock can panic");
                    spans.insert(project_id, project.span);
                    project.span
                }
            },
        };
        let shards = shards.count();
        // A project may be older than the number of shards it was created with.
        Ok(Some(shard_of(project_id, distinct_id, span.clamp(1, shards), shards)))
    }

    /// Whether the server of a shard answers.
    pub async fn does_answer(&self, shard_no: ShardNo) -> bool {
        let shards = match &self.places {
            Places::Stored { shards, .. } => shards,
            #[cfg(test)]
            Places::One(_) => return true,
        };
        let Ok(db) = shards.db_of(shard_no) else { return false };
        matches!(tokio::time::timeout(ANSWER_MAX, journal::database_now(db)).await, Ok(Ok(_)))
    }
}
