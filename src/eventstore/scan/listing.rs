//! What a shard holds of a project, at one point in time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ScanError, ScanRequest};
use crate::eventstore::format::{FormatError, ObjectFacts, RowRanges};
use crate::model::{Millis, ObjectId, PersonNo, ShardNo, utc_day};
use crate::storage::server::objects::{self, ObjectKind, ObjectRow};
use crate::storage::server::persons::ProjectCounters;
use crate::storage::server::{journal, links, masks, persons};
use crate::storage::{Db, SHARDS_PER_STATEMENT, StorageError};

/// A run or segment that has rows for a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listing {
    pub shard_no: ShardNo,
    pub objects: Vec<ListedObject>,
    /// Ascending.
    pub masked: Vec<PersonNo>,
    /// Raised by every mask.
    pub mask_version: i64,
    pub data_version: i64,
    /// Everything that was answered until then is in the list.
    pub as_of: Millis,
    /// Masked persons whose rows are on their way to the person they belong to.
    pub moving: u64,
    /// Objects of the asked days that have no row that counts.
    pub pruned: u64,
}

/// What some shards of one server hold, by shard.
struct Snapshot {
    counters: BTreeMap<ShardNo, ProjectCounters>,
    waiting: BTreeMap<ShardNo, Millis>,
    masked: Vec<(ShardNo, PersonNo)>,
    moving: Vec<(ShardNo, u64)>,
    objects: Vec<FoundObject>,
}

struct FoundObject {
    shard_no: ShardNo,
    object_id: ObjectId,
    listed: Result<Listed, FormatError>,
}

impl FoundObject {
    /// What the catalogue says of it beyond that is not kept: it may be large.
    fn new(row: ObjectRow, request: &ScanRequest) -> Self {
        Self { shard_no: row.shard_no, object_id: row.object_id, listed: list(row, request) }
    }
}

impl Listing {
    /// Of one shard, without saying how fresh that is.
    pub async fn read(db: &Db, shard_no: ShardNo, request: &ScanRequest) -> Result<Self, ScanError> {
        let snapshot = Snapshot::read(db, vec![shard_no], request, false).await?;
        let listed = snapshot.into_listings(&[shard_no], Millis::MIN)?;
        Ok(listed.into_iter().next().expect("there is a list for every shard"))
    }

    /// The lists of several shards of one server, of the same moment and in the order of the shards.
    pub async fn read_shards(
        db: &Db,
        shards: &[ShardNo],
        request: &ScanRequest,
    ) -> Result<Vec<Self>, ScanError> {
        // Before the snapshot: what is committed in between is neither in it nor claimed to be.
        let now = journal::database_now(db).await?;
        Snapshot::read(db, shards.to_vec(), request, true).await?.into_listings(shards, now)
    }

    /// Rows that will be decoded, which is what a scan costs.
    pub fn rows_to_read(&self) -> u64 {
        self.objects.iter().map(ListedObject::rows_to_read).sum()
    }
}

impl Snapshot {
    /// `with_waiting`: whether anybody wants to know what waits.
    async fn read(
        db: &Db,
        shards: Vec<ShardNo>,
        request: &ScanRequest,
        with_waiting: bool,
    ) -> Result<Self, StorageError> {
        let request = request.clone();
        let (project_id, from, to) = (request.project_id, request.from, request.to);
        db.snapshot(move |tx| {
            Box::pin(async move {
                let waiting = if with_waiting { journal::list_waiting_in(tx).await? } else { Vec::new() };
                let mut found = Self {
                    counters: BTreeMap::new(),
                    waiting: waiting.into_iter().collect(),
                    masked: Vec::new(),
                    moving: Vec::new(),
                    objects: Vec::new(),
                };
                for shards in shards.chunks(SHARDS_PER_STATEMENT) {
                    let counters = persons::list_counters_in(tx, shards, project_id).await?;
                    if counters.values().any(|counters| counters.mask_version > 0) {
                        found.masked.extend(masks::list_in(tx, shards, project_id).await?);
                        found.moving.extend(links::count_moving_in(tx, shards, project_id).await?);
                    }
                    found.counters.extend(counters);
                    let runs = objects::list_runs_in(tx, shards).await?;
                    let of_days = runs.into_iter().filter(|run| run.max_at >= from && run.min_at < to);
                    found.objects.extend(of_days.map(|run| FoundObject::new(run, &request)));
                    let segments = objects::list_segments_in(tx, shards, project_id, from, to).await?;
                    found
                        .objects
                        .extend(segments.into_iter().map(|segment| FoundObject::new(segment, &request)));
                }
                Ok(found)
            })
        })
        .await
    }

    /// In the order of the shards. Where nothing waits, a list is as fresh as `now`.
    fn into_listings(self, shards: &[ShardNo], now: Millis) -> Result<Vec<Listing>, ScanError> {
        let mut listings: BTreeMap<ShardNo, Listing> = BTreeMap::new();
        for &shard_no in shards {
            let counters = self.counters.get(&shard_no).copied().unwrap_or_default();
            let listing = Listing {
                shard_no,
                objects: Vec::new(),
                masked: Vec::new(),
                mask_version: counters.mask_version,
                data_version: counters.data_version,
                as_of: self.waiting.get(&shard_no).copied().unwrap_or(now),
                moving: 0,
                pruned: 0,
            };
            listings.insert(shard_no, listing);
        }
        let missing = "only shards that were asked for are found";
        for (shard_no, person_no) in self.masked {
            listings.get_mut(&shard_no).expect(missing).masked.push(person_no);
        }
        for (shard_no, moving) in self.moving {
            listings.get_mut(&shard_no).expect(missing).moving = moving;
        }
        for FoundObject { shard_no, object_id, listed } in self.objects {
            let listing = listings.get_mut(&shard_no).expect(missing);
            match listed.map_err(|source| ScanError::Format { object_id, source })? {
                Listed::Read(object) => listing.objects.push(object),
                Listed::Pruned => listing.pruned += 1,
                Listed::Elsewhere => {}
            }
        }
        // In order of time, so that a person's rows mostly come in that order too.
        for listing in listings.values_mut() {
            listing.objects.sort_unstable_by_key(|object| (object.min_at, object.object_id));
        }
        Ok(shards.iter().filter_map(|shard_no| listings.remove(shard_no)).collect())
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
