//! Samples of events that were rejected or could not be sealed.

use crate::model::{BatchId, ProjectId};
use crate::storage::server::failed_events;
use crate::storage::{Shards, StorageError};
use crate::tickets::Names;

/// Samples looked at at a time: of 8 KiB each, most of them.
const PAGE: usize = 200;

/// Deletes the samples of a project that name the person, on all servers; how many.
pub async fn delete_naming(
    shards: &Shards,
    project_id: ProjectId,
    names: &Names<'_>,
) -> Result<u64, StorageError> {
    let mut deleted = 0;
    for server in shards.servers() {
        let db = server.db()?;
        // Those of project 0 are of batches that do not say whose they are.
        for project_id in [project_id, ProjectId(0)] {
            let mut before = BatchId([0xff; 16]);
            loop {
                let page = failed_events::list_page(db, project_id, None, before, PAGE).await?;
                let Some(last) = page.last() else { break };
                before = last.failed_id;
                let naming =
                    page.iter().filter(|event| names.are_in_bytes(&event.body) || names.is_in(&event.detail));
                let ids: Vec<BatchId> = naming.map(|event| event.failed_id).collect();
                deleted += failed_events::delete(db, &ids).await?;
            }
        }
    }
    Ok(deleted)
}
