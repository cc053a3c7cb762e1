//! What a shorter retention would delete.

use futures_util::{StreamExt, stream};

use crate::eventstore::RowColumns;
use crate::eventstore::format::{Columns, HEADER_PART, ObjectReader, PartSet, RowRanges, Want};
use crate::eventstore::held::facts_of;
use crate::eventstore::scan::ScanError;
use crate::model::{Millis, PersonNo, ProjectId, ShardNo, shards_of};
use crate::storage::server::objects::{self, ObjectKind, ObjectRow};
use crate::storage::server::{lapsed, persons};
use crate::storage::{Db, Shards, StorageError};

const SHARDS_AT_ONCE: usize = 4;
/// Numbers of persons that one statement looks at.
const PERSONS_AT_ONCE: PersonNo = 100_000;
/// How often a list is made again.
const ATTEMPTS: usize = 3;

/// Of what is sealed. Rows of persons who were linked or erased are counted until compaction has left
/// them out.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Preview {
    pub events: u64,
    pub events_before: u64,
    pub persons: u64,
    /// Persons without a later event.
    pub persons_before: u64,
    /// A server did not answer; what only it holds is missing.
    pub is_partial: bool,
}

/// How much of a project occurred before an instant. Only objects with rows on both sides of it are
/// read, of all others the catalogue is enough.
pub async fn preview(
    shards: &Shards,
    project_id: ProjectId,
    span: u16,
    kept_from: Millis,
) -> Result<Preview, ScanError> {
    let mut all = Preview::default();
    let counts = shards_of(project_id, span, shards.count()).into_iter().map(|shard_no| async move {
        count_shard(shards.db_of(shard_no)?, shard_no, project_id, kept_from).await
    });
    let mut counts = stream::iter(counts).buffer_unordered(SHARDS_AT_ONCE);
    while let Some(counted) = counts.next().await {
        match counted {
            Ok(found) => {
                all.events += found.events;
                all.events_before += found.events_before;
                all.persons += found.persons;
                all.persons_before += found.persons_before;
            }
            Err(error) if error.is_transient() => all.is_partial = true,
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// With a new list when compaction has replaced what was listed.
async fn count_shard(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    kept_from: Millis,
) -> Result<Preview, ScanError> {
    let mut found = Preview::default();
    let end = persons::get_counters(db, shard_no, project_id).await?.next_person_no;
    for first in (0..end).step_by(PERSONS_AT_ONCE as usize) {
        let numbers = first..first.saturating_add(PERSONS_AT_ONCE);
        let (all, before) = lapsed::count_persons(db, shard_no, project_id, numbers, kept_from).await?;
        found.persons += all;
        found.persons_before += before;
    }
    for _ in 1..ATTEMPTS {
        match count_events(db, shard_no, project_id, kept_from, found).await {
            Err(ScanError::Outrun) => {}
            counted => return counted,
        }
    }
    count_events(db, shard_no, project_id, kept_from, found).await
}

async fn count_events(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    kept_from: Millis,
    mut found: Preview,
) -> Result<Preview, ScanError> {
    let (runs, segments) = db
        .snapshot(move |tx| {
            Box::pin(async move {
                let runs = objects::list_runs_in(tx, &[shard_no]).await?;
                let segments =
                    objects::list_segments_in(tx, &[shard_no], project_id, Millis::MIN, Millis::MAX).await?;
                Ok::<_, StorageError>((runs, segments))
            })
        })
        .await?;
    for object in runs.into_iter().chain(segments) {
        let facts = facts_of(&object)?;
        let Some(slice) = facts.slice_of(project_id) else { continue };
        found.events += slice.rows;
        found.events_before += if slice.occurred_max < kept_from {
            slice.rows
        } else if slice.occurred_min < kept_from {
            let rows = match object.kind {
                ObjectKind::Segment => RowRanges::All,
                ObjectKind::Run => RowRanges::of_slice(slice),
            };
            count_before(db, &object, rows, kept_from).await?
        } else {
            0
        };
    }
    Ok(found)
}

async fn count_before(
    db: &Db,
    object: &ObjectRow,
    rows: RowRanges,
    kept_from: Millis,
) -> Result<u64, ScanError> {
    let object_id = object.object_id;
    let unreadable = move |source| ScanError::Format { object_id, source };
    let header = objects::find_headers(db, &[object_id]).await?.into_iter().next();
    let (_, header) = header.ok_or(ScanError::Outrun)?;
    let reader = ObjectReader::open(&header).map_err(unreadable)?;
    let with = RowColumns { times: true, ..RowColumns::default() };
    let want = Want { columns: Columns::Block { with, properties: Vec::new(), of_events: None }, rows };
    let part_nos = reader.parts_for(&want).map_err(unreadable)?;
    let parts = objects::find_parts_of(db, object_id, object.bytes, &part_nos).await?;
    let mut parts: PartSet = parts.ok_or(ScanError::Outrun)?.into_iter().collect();
    parts.insert(HEADER_PART, header);
    let read = tokio::task::spawn_blocking(move || reader.read_block(&want, &parts));
    let block = read.await?.map_err(unreadable)?;
    Ok(block.occurred_at.iter().filter(|at| *at < kept_from).count() as u64)
}
