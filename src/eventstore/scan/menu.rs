//! Which events and properties a project has, for the menus of a form.

use std::collections::BTreeMap;

use super::{ScanError, ScanRequest};
use crate::eventstore::format::{ObjectFacts, PropertyKind, SliceFacts};
use crate::model::{Millis, ProjectId, ShardNo};
use crate::storage::server::objects;
use crate::storage::{Db, StorageError};

/// Read from the catalogue alone. Rows of masked persons are still counted here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProjectMenu {
    /// Rows per event name.
    pub events: BTreeMap<String, u64>,
    pub properties: BTreeMap<String, MenuProperty>,
    /// When the latest event occurred.
    pub last_at: Option<Millis>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MenuProperty {
    pub rows: u64,
    /// The types it has had, with the rows of each.
    pub kinds: BTreeMap<PropertyKind, u64>,
}

impl ProjectMenu {
    /// Adds what one shard holds; call it for every shard of the project.
    pub async fn add_shard(
        &mut self,
        db: &Db,
        shard_no: ShardNo,
        project_id: ProjectId,
    ) -> Result<(), ScanError> {
        let (from, to) = (Millis::MIN, Millis::MAX);
        let (runs, segments) = db
            .snapshot(move |tx| {
                Box::pin(async move {
                    let runs = objects::list_runs_in(tx, shard_no).await?;
                    let segments = objects::list_segments_in(tx, shard_no, project_id, from, to).await?;
                    Ok::<_, StorageError>((runs, segments))
                })
            })
            .await?;
        for object in runs.iter().chain(&segments) {
            let facts = ObjectFacts::from_bytes(&object.facts)
                .map_err(|source| ScanError::Format { object_id: object.object_id, source })?;
            if let Some(slice) = facts.slice_of(project_id) {
                self.add_slice(slice);
            }
        }
        Ok(())
    }

    fn add_slice(&mut self, slice: &SliceFacts) {
        self.last_at = self.last_at.max(Some(slice.occurred_max));
        for event in &slice.events {
            *self.events.entry(event.name.clone()).or_default() += event.rows;
        }
        for fact in &slice.properties {
            let property = self.properties.entry(fact.name.clone()).or_default();
            property.rows += fact.rows;
            *property.kinds.entry(fact.kind).or_default() += fact.rows;
        }
    }
}

impl ScanRequest {
    /// Everything a shard holds of a project, without properties.
    pub fn everything(shard_no: ShardNo, project_id: ProjectId) -> Self {
        Self {
            shard_no,
            project_id,
            from: Millis::MIN,
            to: Millis::MAX,
            properties: Vec::new(),
            events: None,
            needs: Vec::new(),
        }
    }
}
