//! What a shard holds of a project, at one point in time.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{ScanError, ScanRequest};
use crate::eventstore::format::{FormatError, ObjectFacts, RowRanges, SliceFacts};
use crate::eventstore::object_cache::{ObjectCache, ProjectSlice, ShardList};
use crate::model::{DAY_MS, Millis, ObjectId, PersonNo, ProjectId, ShardNo, utc_day};
use crate::storage::server::objects::{self, ObjectKind, ObjectRow};
use crate::storage::server::{journal, links, masks, persons};
use crate::storage::{Db, Reads, SHARDS_PER_STATEMENT, StorageError};

/// A project with so many rows in a run at most is read whole from it, so that what was decoded can be kept
/// for whatever is asked next.
const RUN_ROWS_WHOLE_MAX: u64 = 8_192;

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
    /// They are all that the project has in it.
    #[serde(default)]
    pub is_whole: bool,
    /// It has no rows of any masked person of the project.
    #[serde(default)]
    pub obeys_masks: bool,
}

/// Everything that has to be of the same moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listing {
    pub shard_no: ShardNo,
    pub objects: Vec<ListedObject>,
    /// Ascending.
    pub masked: Vec<PersonNo>,
    /// Of the latest mask of the project; an object of this version or a later one obeys all of them.
    pub mask_version: i64,
    pub data_version: i64,
    /// Everything that was answered until then is in the list.
    pub as_of: Millis,
    /// Whether something was answered before that is not in the list, if it was asked for.
    #[serde(default)]
    pub has_waiting: Option<bool>,
    /// Masked persons whose rows are on their way to the person they belong to.
    pub moving: u64,
    /// Objects of the asked days that have no row that counts.
    pub pruned: u64,
}

/// How often a server is asked for its lists when what they name is deleted faster than it is looked at.
const ATTEMPTS: u32 = 5;

/// What some shards of one server hold.
struct Snapshot {
    /// The database's clock just before.
    now: Millis,
    /// If it was asked for.
    waiting: Option<BTreeMap<ShardNo, Millis>>,
    /// In the order of the shards.
    shards: Vec<Arc<ShardList>>,
}

/// The facts that a list needs, by object.
type Slices = HashMap<ObjectId, ProjectSlice>;

impl Listing {
    /// Of one shard, without saying how fresh that is.
    pub async fn read(
        db: &Db,
        known: &ObjectCache,
        shard_no: ShardNo,
        request: &ScanRequest,
    ) -> Result<Self, ScanError> {
        let listed = Self::list(db, known, &[shard_no], request, false).await?;
        Ok(listed.into_iter().next().expect("there is a list for every shard"))
    }

    /// The lists of several shards of one server, of the same moment and in the order of the shards.
    pub async fn read_shards(
        db: &Db,
        known: &ObjectCache,
        shards: &[ShardNo],
        request: &ScanRequest,
    ) -> Result<Vec<Self>, ScanError> {
        Self::list(db, known, shards, request, true).await
    }

    /// `with_waiting`: whether anybody wants to know what waits.
    async fn list(
        db: &Db,
        known: &ObjectCache,
        shards: &[ShardNo],
        request: &ScanRequest,
        with_waiting: bool,
    ) -> Result<Vec<Self>, ScanError> {
        for _ in 0..ATTEMPTS {
            let snapshot = Snapshot::read(db, known, shards, request, with_waiting).await?;
            // Facts never change, so they need not be of the same moment.
            if let Some(slices) = find_slices(db, known, snapshot.objects(request), request).await? {
                return Ok(snapshot.into_listings(shards, slices, request));
            }
            known.forget_lists();
        }
        Err(ScanError::Outrun)
    }

    /// Rows that will be decoded, which is what a scan costs.
    pub fn rows_to_read(&self) -> u64 {
        self.objects.iter().map(ListedObject::rows_to_read).sum()
    }

    /// Of one segment.
    #[cfg(test)]
    pub fn of_rows(shard_no: ShardNo, events: u64) -> Self {
        let segment = ListedObject {
            object_id: ObjectId([0; 16]),
            events,
            bytes: 0,
            min_at: 0,
            max_at: 0,
            created_at: 0,
            rows: RowRanges::All,
            is_whole: true,
            obeys_masks: true,
        };
        Self {
            shard_no,
            objects: vec![segment],
            masked: Vec::new(),
            mask_version: 0,
            data_version: 0,
            as_of: 0,
            has_waiting: None,
            moving: 0,
            pruned: 0,
        }
    }
}

/// The catalogue row of a segment says all that is needed otherwise.
fn needs_facts(object: &ObjectRow, request: &ScanRequest) -> bool {
    object.kind == ObjectKind::Run || request.is_selective()
}

/// The facts of objects that need them, those that are not known out of the catalogue; `None` when an object
/// has been deleted since it was listed.
async fn find_slices(
    db: &Db,
    known: &ObjectCache,
    objects: impl Iterator<Item = &ObjectRow> + Clone,
    request: &ScanRequest,
) -> Result<Option<Slices>, ScanError> {
    let project_id = request.project_id;
    let mut slices = Slices::new();
    let (mut runs, mut segments) = (Vec::new(), Vec::new());
    for object in objects.filter(|object| needs_facts(object, request)) {
        match (known.slice_of(object.object_id, project_id), object.kind) {
            (Some(slice), _) => _ = slices.insert(object.object_id, slice),
            (None, ObjectKind::Run) => runs.push((object.shard_no, object.object_id)),
            (None, ObjectKind::Segment) => segments.push((object.shard_no, object.object_id)),
        }
    }
    let of_runs = objects::find_facts_of(db, ObjectKind::Run, &runs);
    let of_segments = objects::find_facts_of(db, ObjectKind::Segment, &segments);
    let (of_runs, of_segments) = tokio::try_join!(of_runs, of_segments)?;
    if of_runs.len() < runs.len() || of_segments.len() < segments.len() {
        return Ok(None);
    }
    for (object_id, facts) in of_runs.into_iter().chain(of_segments) {
        let unreadable = |source| ScanError::Format { object_id, source };
        let slice = slice_in(&facts, project_id).map_err(unreadable)?;
        known.keep_slice(object_id, project_id, slice.clone());
        slices.insert(object_id, slice);
    }
    Ok(Some(slices))
}

fn slice_in(facts: &[u8], project_id: ProjectId) -> Result<ProjectSlice, FormatError> {
    let mut facts = ObjectFacts::from_bytes(facts)?;
    let found = facts.slices.binary_search_by_key(&project_id, |slice| slice.project_id);
    Ok(found.ok().map(|index| Arc::new(facts.slices.swap_remove(index))))
}

impl Snapshot {
    async fn read(
        db: &Db,
        known: &ObjectCache,
        shards: &[ShardNo],
        request: &ScanRequest,
        with_waiting: bool,
    ) -> Result<Self, StorageError> {
        let (project_id, days) = (request.project_id, request.days());
        let listed = shards.iter().map(|&shard_no| known.list_of(shard_no, project_id, &days));
        if let Some(listed) = listed.collect::<Option<Vec<_>>>()
            && let Some(unchanged) = Self::unchanged(db, shards, project_id, listed, with_waiting).await?
        {
            return Ok(unchanged);
        }
        let snapshot = Self::read_anew(db, shards, project_id, &days, with_waiting).await?;
        for (&shard_no, list) in shards.iter().zip(&snapshot.shards) {
            known.keep_list(shard_no, project_id, &days, list);
        }
        Ok(snapshot)
    }

    /// What was listed a moment ago, when all versions are still the same.
    async fn unchanged(
        db: &Db,
        shards: &[ShardNo],
        project_id: ProjectId,
        listed: Vec<Arc<ShardList>>,
        with_waiting: bool,
    ) -> Result<Option<Self>, StorageError> {
        let mut reads = Reads::default();
        let waiting = with_waiting.then(|| reads.add(journal::read_waiting()));
        let of_some = |shards: &[ShardNo]| reads.add(persons::read_counters(shards, project_id));
        let counters: Vec<_> = shards.chunks(SHARDS_PER_STATEMENT).map(of_some).collect();
        // What is not waiting has been sealed, and whatever is sealed changes the counters of its shard. So where
        // the counters of all shards, which are read later, are still the same, the list is what there was when
        // they were first looked at, and has all that did not wait before.
        let read = db.read_in_order(reads).await?;
        let mut now = BTreeMap::new();
        for counters in counters {
            now.extend(read.get(counters)?);
        }
        let is_as_listed = |(shard_no, list): (&ShardNo, &Arc<ShardList>)| {
            now.get(shard_no).copied().unwrap_or_default() == list.counters
        };
        if !shards.iter().zip(&listed).all(is_as_listed) {
            return Ok(None);
        }
        let waiting = waiting.map(|waiting| read.get(waiting)).transpose()?;
        let waiting = waiting.map(|waiting| waiting.into_iter().collect());
        Ok(Some(Self { now: read.now, waiting, shards: listed }))
    }

    async fn read_anew(
        db: &Db,
        shards: &[ShardNo],
        project_id: ProjectId,
        days: &Range<Millis>,
        with_waiting: bool,
    ) -> Result<Self, StorageError> {
        let read_at = Instant::now();
        let mut reads = Reads::default();
        let waiting = with_waiting.then(|| reads.add(journal::read_waiting()));
        let of_some = |shards: &[ShardNo]| {
            (
                reads.add(persons::read_counters(shards, project_id)),
                reads.add(masks::read_masks(shards, project_id)),
                reads.add(links::read_moving(shards, project_id)),
                reads.add(objects::read_runs(shards, days.start, days.end)),
                reads.add(objects::read_segments(shards, project_id, days.start, days.end)),
            )
        };
        let places: Vec<_> = shards.chunks(SHARDS_PER_STATEMENT).map(of_some).collect();
        let read = db.read_together(reads).await?;
        let new = |&shard_no| (shard_no, ShardList::new(read_at));
        let mut lists: BTreeMap<ShardNo, ShardList> = shards.iter().map(new).collect();
        fn of(lists: &mut BTreeMap<ShardNo, ShardList>, shard_no: ShardNo) -> &mut ShardList {
            lists.get_mut(&shard_no).expect("only shards that were asked for are found")
        }
        for (counters, masked, moving, runs, segments) in places {
            for (shard_no, counters) in read.get(counters)? {
                of(&mut lists, shard_no).counters = counters;
            }
            for (shard_no, person_no) in read.get(masked)? {
                of(&mut lists, shard_no).masked.push(person_no);
            }
            for (shard_no, moving) in read.get(moving)? {
                of(&mut lists, shard_no).moving = moving;
            }
            for object in read.get(runs)?.into_iter().chain(read.get(segments)?) {
                of(&mut lists, object.shard_no).objects.push(object);
            }
        }
        let waiting = waiting.map(|waiting| read.get(waiting)).transpose()?;
        let waiting = waiting.map(|waiting| waiting.into_iter().collect());
        let shards = shards.iter().filter_map(|shard_no| lists.remove(shard_no)).map(Arc::new).collect();
        Ok(Self { now: read.now, waiting, shards })
    }

    /// Those of the asked time.
    fn objects<'a>(&'a self, request: &'a ScanRequest) -> impl Iterator<Item = &'a ObjectRow> + Clone {
        self.shards.iter().flat_map(|list| &list.objects).filter(|object| request.overlaps(object))
    }

    /// In the order of the shards. Where nothing waits, a list is as fresh as the snapshot.
    fn into_listings(self, shards: &[ShardNo], slices: Slices, request: &ScanRequest) -> Vec<Listing> {
        let waiting = |shard_no| self.waiting.as_ref().and_then(|waiting| waiting.get(&shard_no).copied());
        let listings = shards.iter().zip(&self.shards).map(|(&shard_no, list)| {
            let mut listing = Listing {
                shard_no,
                objects: Vec::new(),
                masked: list.masked.clone(),
                mask_version: list.counters.mask_version,
                data_version: list.counters.data_version,
                as_of: waiting(shard_no).unwrap_or(self.now),
                has_waiting: self.waiting.as_ref().map(|waiting| waiting.contains_key(&shard_no)),
                moving: list.moving,
                pruned: 0,
            };
            for object in list.objects.iter().filter(|object| request.overlaps(object)) {
                let slice = needs_facts(object, request)
                    .then(|| slices.get(&object.object_id).and_then(Option::as_ref));
                match list_object(object, slice, request) {
                    Listed::Read(listed) => {
                        let obeys_masks = object.mask_version >= listing.mask_version;
                        listing.objects.push(ListedObject { obeys_masks, ..listed });
                    }
                    Listed::Pruned => listing.pruned += 1,
                    Listed::Elsewhere => {}
                }
            }
            // In order of time, so that a person's rows mostly come in that order too.
            listing.objects.sort_unstable_by_key(|object| (object.min_at, object.object_id));
            listing
        });
        listings.collect()
    }
}

impl ScanRequest {
    /// The asked time as whole days: questions about nearly the same time share a list.
    fn days(&self) -> Range<Millis> {
        let start = self.from.div_euclid(DAY_MS).saturating_mul(DAY_MS);
        let end = self.to.saturating_add(DAY_MS - 1).div_euclid(DAY_MS).saturating_mul(DAY_MS);
        start.min(self.from)..end.max(self.to)
    }

    fn overlaps(&self, object: &ObjectRow) -> bool {
        object.max_at >= self.from && object.min_at < self.to
    }
}

enum Listed {
    Read(ListedObject),
    /// It has rows of the asked days, but none that counts.
    Pruned,
    /// It has no such rows.
    Elsewhere,
}

/// `slice`: the facts of the project's rows, when they are needed.
fn list_object(object: &ObjectRow, slice: Option<Option<&Arc<SliceFacts>>>, request: &ScanRequest) -> Listed {
    let mut listed = ListedObject {
        object_id: object.object_id,
        events: object.events,
        bytes: object.bytes,
        min_at: object.min_at,
        max_at: object.max_at,
        created_at: object.created_at,
        rows: RowRanges::All,
        is_whole: true,
        obeys_masks: false,
    };
    let Some(slice) = slice else { return Listed::Read(listed) };
    let Some(slice) = slice else { return Listed::Elsewhere };
    if object.kind == ObjectKind::Run {
        (listed.min_at, listed.max_at) = (slice.occurred_min, slice.occurred_max);
        let of_days = rows_of_days(slice, request);
        if of_days.is_empty() {
            return Listed::Elsewhere;
        }
        listed.is_whole = slice.rows <= RUN_ROWS_WHOLE_MAX;
        listed.rows = if listed.is_whole { RowRanges::of_slice(slice) } else { of_days };
    }
    if request.may_match(slice) { Listed::Read(listed) } else { Listed::Pruned }
}

fn rows_of_days(slice: &SliceFacts, request: &ScanRequest) -> RowRanges {
    // Within the slice, so that a request for all of time has days that are numbers of days.
    let from = request.from.max(slice.occurred_min);
    let last = request.to.saturating_sub(1).min(slice.occurred_max);
    RowRanges::of_days(slice, utc_day(from), utc_day(last))
}
