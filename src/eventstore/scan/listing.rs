//! What a shard holds of a project, at one point in time.

use super::{ScanError, ScanRequest};
use crate::eventstore::format::{FormatError, ObjectFacts, RowRanges};
use crate::model::{Millis, ObjectId, PersonNo, utc_day};
use crate::storage::server::objects::{self, ObjectRow};
use crate::storage::server::{journal, masks, persons};
use crate::storage::{Db, StorageError};

/// A run or segment that has rows for a request.
#[derive(Clone, Debug)]
pub struct ListedObject {
    pub object_id: ObjectId,
    /// All of its rows and bytes, not only those asked for.
    pub events: u64,
    pub bytes: u64,
    pub min_at: Millis,
    pub max_at: Millis,
    /// When it was written: by its pass, or by the compaction that made it.
    pub created_at: Millis,
    /// Those that may be asked for.
    pub rows: RowRanges,
}

/// Everything that has to be of the same moment.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub objects: Vec<ListedObject>,
    /// Ascending.
    pub masked: Vec<PersonNo>,
    pub data_version: i64,
    /// Everything that was answered until then is in the list.
    pub as_of: Millis,
}

struct Snapshot {
    runs: Vec<ObjectRow>,
    segments: Vec<ObjectRow>,
    masked: Vec<PersonNo>,
    data_version: i64,
    as_of: Millis,
}

impl Listing {
    pub async fn read(db: &Db, request: &ScanRequest) -> Result<Self, ScanError> {
        let (shard_no, project_id) = (request.shard_no, request.project_id);
        let (from, to) = (request.from, request.to);
        let snapshot = db
            .snapshot(move |tx| {
                Box::pin(async move {
                    let counters = persons::get_counters_in(tx, shard_no, project_id).await?;
                    Ok::<_, StorageError>(Snapshot {
                        data_version: counters.data_version,
                        as_of: journal::as_of_in(tx, shard_no).await?,
                        masked: match counters.mask_version {
                            0 => Vec::new(),
                            _ => masks::list_in(tx, shard_no, project_id).await?,
                        },
                        runs: objects::list_runs_in(tx, shard_no).await?,
                        segments: objects::list_segments_in(tx, shard_no, project_id, from, to).await?,
                    })
                })
            })
            .await?;
        let mut listed = Vec::new();
        for run in snapshot.runs {
            if run.max_at < from || run.min_at >= to {
                continue;
            }
            let object_id = run.object_id;
            let found = of_run(run, request);
            listed.extend(found.map_err(|source| ScanError::Format { object_id, source })?);
        }
        listed.extend(snapshot.segments.into_iter().map(|segment| ListedObject {
            object_id: segment.object_id,
            events: segment.events,
            bytes: segment.bytes,
            min_at: segment.min_at,
            max_at: segment.max_at,
            created_at: segment.created_at,
            rows: RowRanges::All,
        }));
        Ok(Self {
            objects: listed,
            masked: snapshot.masked,
            data_version: snapshot.data_version,
            as_of: snapshot.as_of,
        })
    }

    /// Rows that will be decoded, which is what a scan costs.
    pub fn rows_to_read(&self) -> u64 {
        self.objects.iter().map(ListedObject::rows_to_read).sum()
    }
}

/// The days of the project in a run, if it has any that are asked for.
fn of_run(run: ObjectRow, request: &ScanRequest) -> Result<Option<ListedObject>, FormatError> {
    let facts = ObjectFacts::from_bytes(&run.facts)?;
    let Some(slice) = facts.slice_of(request.project_id) else { return Ok(None) };
    // Within the slice, so that a request for all of time has days that are numbers of days.
    let from = request.from.max(slice.occurred_min);
    let last = request.to.saturating_sub(1).min(slice.occurred_max);
    let rows = RowRanges::of_days(slice, utc_day(from), utc_day(last));
    if rows == RowRanges::Some(Vec::new()) {
        return Ok(None);
    }
    Ok(Some(ListedObject {
        object_id: run.object_id,
        events: run.events,
        bytes: run.bytes,
        min_at: slice.occurred_min,
        max_at: slice.occurred_max,
        created_at: run.created_at,
        rows,
    }))
}
