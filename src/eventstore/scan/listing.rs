//! What a shard holds of a project, at one point in time.

use super::{ScanError, ScanRequest};
use crate::eventstore::format::{FormatError, ObjectFacts, RowRanges};
use crate::model::{Millis, ObjectId, PersonNo, utc_day};
use crate::storage::server::objects::{self, ObjectKind, ObjectRow};
use crate::storage::server::{journal, links, masks, persons};
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
    /// Masked persons whose rows are on their way to the person they belong to.
    pub moving: u64,
    /// Objects of the asked days that have no row that counts.
    pub pruned: u64,
}

struct Snapshot {
    runs: Vec<ObjectRow>,
    segments: Vec<ObjectRow>,
    masked: Vec<PersonNo>,
    moving: u64,
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
                        moving: match counters.mask_version {
                            0 => 0,
                            _ => links::count_moving_in(tx, shard_no, project_id).await?,
                        },
                        runs: objects::list_runs_in(tx, shard_no).await?,
                        segments: objects::list_segments_in(tx, shard_no, project_id, from, to).await?,
                    })
                })
            })
            .await?;
        let mut listed = Vec::new();
        let mut pruned = 0;
        let of_days = snapshot.runs.into_iter().filter(|run| run.max_at >= from && run.min_at < to);
        for object in of_days.chain(snapshot.segments) {
            let object_id = object.object_id;
            match list(object, request).map_err(|source| ScanError::Format { object_id, source })? {
                Listed::Read(object) => listed.push(object),
                Listed::Pruned => pruned += 1,
                Listed::Elsewhere => {}
            }
        }
        Ok(Self {
            objects: listed,
            masked: snapshot.masked,
            moving: snapshot.moving,
            data_version: snapshot.data_version,
            as_of: snapshot.as_of,
            pruned,
        })
    }

    /// Rows that will be decoded, which is what a scan costs.
    pub fn rows_to_read(&self) -> u64 {
        self.objects.iter().map(ListedObject::rows_to_read).sum()
    }
}

enum Listed {
    Read(ListedObject),
    /// It has rows of the asked days, but none that counts.
    Pruned,
    /// It has no such rows.
    Elsewhere,
}

fn list(object: ObjectRow, request: &ScanRequest) -> Result<Listed, FormatError> {
    let mut listed = ListedObject {
        object_id: object.object_id,
        events: object.events,
        bytes: object.bytes,
        min_at: object.min_at,
        max_at: object.max_at,
        created_at: object.created_at,
        rows: RowRanges::All,
    };
    // The catalogue row of a segment says all that is needed otherwise.
    if object.kind == ObjectKind::Segment && !request.is_selective() {
        return Ok(Listed::Read(listed));
    }
    let facts = ObjectFacts::from_bytes(&object.facts)?;
    let Some(slice) = facts.slice_of(request.project_id) else { return Ok(Listed::Elsewhere) };
    if object.kind == ObjectKind::Run {
        // Within the slice, so that a request for all of time has days that are numbers of days.
        let from = request.from.max(slice.occurred_min);
        let last = request.to.saturating_sub(1).min(slice.occurred_max);
        listed.rows = RowRanges::of_days(slice, utc_day(from), utc_day(last));
        (listed.min_at, listed.max_at) = (slice.occurred_min, slice.occurred_max);
        if listed.rows == RowRanges::Some(Vec::new()) {
            return Ok(Listed::Elsewhere);
        }
    }
    Ok(if request.may_match(slice) { Listed::Read(listed) } else { Listed::Pruned })
}
