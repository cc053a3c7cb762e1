//! Which rows of a pass are stored already.
//!
//! An event is identified by its project, person, event id and UTC day; one whose time is not the
//! client's own is looked for on the neighbouring days too. Every run and segment has a filter over
//! those identities; on a hit, only the pages that hold the person are read. What the list names is
//! complete: only the sealer adds rows, and compaction never changes which rows there are.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::SealError;
use crate::eventstore::format::{
    Columns, Filter, FormatError, ObjectFacts, ObjectReader, PartSet, RowRanges, StoredRow, Want,
    identity_hash,
};
use crate::model::{EventId, FastMap, FastSet, ObjectId, PersonNo, ProjectId, utc_day};
use crate::storage::Db;
use crate::storage::server::objects::{self, ObjectKind, ObjectRow};

/// What identifies an event within its project.
pub type Identity = (PersonNo, EventId, i32);

/// What of a row is looked for in every object that may hold it.
pub struct Probe {
    person_no: PersonNo,
    event_id: EventId,
    day: i32,
    /// On how many days before and after, too.
    around: i32,
    /// Of its own day, as the filters of segments and of runs have it.
    in_segments: u64,
    in_runs: u64,
}

impl Probe {
    pub fn of(row: &StoredRow) -> Self {
        let days = probed_days(row);
        let day = utc_day(row.occurred_at);
        Self {
            person_no: row.person_no,
            event_id: row.event_id,
            day,
            around: days.end() - day,
            in_segments: identity_hash(None, row.person_no, row.event_id, day),
            in_runs: identity_hash(Some(row.project_id), row.person_no, row.event_id, day),
        }
    }

    fn hash(&self, in_filter: Option<ProjectId>, day: i32) -> u64 {
        match in_filter {
            None if day == self.day => self.in_segments,
            Some(_) if day == self.day => self.in_runs,
            project_id => identity_hash(project_id, self.person_no, self.event_id, day),
        }
    }
}

/// The days on which an event may already be stored.
pub fn probed_days(row: &StoredRow) -> RangeInclusive<i32> {
    let day = utc_day(row.occurred_at);
    if row.time_source.may_shift() { day - 1..=day + 1 } else { day..=day }
}

/// An object with what a look-up needs in memory.
pub struct Opened {
    facts: ObjectFacts,
    reader: ObjectReader,
    filter: Filter,
}

impl Opened {
    fn memory_bytes(&self) -> usize {
        // The reader's metadata grows with the columns; a few kilobytes are near enough.
        self.filter.bytes().len() + 8 * 1024
    }
}

/// Objects that were looked at lately; objects never change, so nothing here can be wrong.
pub struct OpenedCache {
    bytes_max: usize,
    bytes: usize,
    clock: u64,
    objects: HashMap<ObjectId, (Arc<Opened>, u64)>,
}

impl OpenedCache {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, clock: 0, objects: HashMap::new() }
    }

    fn find(&mut self, object_id: ObjectId) -> Option<Arc<Opened>> {
        self.clock += 1;
        let (opened, used) = self.objects.get_mut(&object_id)?;
        *used = self.clock;
        Some(opened.clone())
    }

    fn insert(&mut self, object_id: ObjectId, opened: Arc<Opened>) {
        self.bytes += opened.memory_bytes();
        self.objects.insert(object_id, (opened, self.clock));
        while self.bytes > self.bytes_max && self.objects.len() > 1 {
            let oldest = self.objects.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id);
            if let Some((gone, _)) = oldest.and_then(|id| self.objects.remove(&id)) {
                self.bytes -= gone.memory_bytes();
            }
        }
    }

    /// Forgets what is no longer listed.
    pub fn keep_only(&mut self, listed: &HashSet<ObjectId>) {
        let bytes = &mut self.bytes;
        self.objects.retain(|object_id, (opened, _)| {
            let keep = listed.contains(object_id);
            if !keep {
                *bytes -= opened.memory_bytes();
            }
            keep
        });
    }
}

/// The identities of rows (all of one project) that `object` holds, `compared_max` of them with the whole
/// row.
///
/// `Ok(None)`: the object is gone, list again.
pub async fn find_stored(
    db: &Db,
    cache: &mut OpenedCache,
    object: &ObjectRow,
    project_id: ProjectId,
    probes: &Arc<Vec<Probe>>,
    compared_max: usize,
) -> Result<Option<FastMap<Identity, Option<StoredRow>>>, SealError> {
    let object_id = object.object_id;
    let unreadable = move |source: FormatError| SealError::Unreadable { object_id, source };
    let Some(opened) = open(db, cache, object).await? else { return Ok(None) };
    let Some(slice) = opened.facts.slice_of(project_id) else { return Ok(Some(FastMap::default())) };
    let in_filter = match object.kind {
        ObjectKind::Run => Some(project_id),
        ObjectKind::Segment => None,
    };
    let days = opened.facts.day_from()..=opened.facts.day_to();
    let persons = slice.person_min..=slice.person_max;
    let (probing, probes) = (opened.clone(), probes.clone());
    let suspects = tokio::task::spawn_blocking(move || {
        let mut suspects: FastSet<Identity> = FastSet::default();
        for probe in probes.iter().filter(|probe| persons.contains(&probe.person_no)) {
            let (from, to) = (probe.day - probe.around, probe.day + probe.around);
            for day in (from..=to).filter(|day| days.contains(day)) {
                if probing.filter.may_contain(probe.hash(in_filter, day)) {
                    suspects.insert((probe.person_no, probe.event_id, day));
                }
            }
        }
        suspects
    });
    let suspects = suspects.await.map_err(SealError::from_join)?;
    if suspects.is_empty() {
        return Ok(Some(FastMap::default()));
    }
    let wanted_rows = match object.kind {
        ObjectKind::Run => {
            let days = suspects.iter().map(|(_, _, day)| *day);
            let (from, to) =
                days.fold((i32::MAX, i32::MIN), |(low, high), day| (low.min(day), high.max(day)));
            RowRanges::of_days(slice, from, to)
        }
        ObjectKind::Segment => {
            let mut persons: Vec<_> = suspects.iter().map(|(person, _, _)| *person).collect();
            persons.sort_unstable();
            persons.dedup();
            opened.reader.rows_of_persons(&persons)
        }
    };
    let want = Want { columns: Columns::Identity, rows: wanted_rows };
    let part_nos = opened.reader.parts_for(&want).map_err(unreadable)?;
    let Some(read) = objects::find_parts(db, object.object_id, &part_nos).await? else { return Ok(None) };
    let reading = opened.clone();
    let found = tokio::task::spawn_blocking(move || -> Result<_, FormatError> {
        let mut parts = PartSet::default();
        read.into_iter().for_each(|(part_no, bytes)| parts.insert(part_no, bytes));
        let stored = reading.reader.read_identities(&want, &parts)?;
        let mut found = FastMap::default();
        let mut rows = Vec::new();
        for (n, (row, &person_no)) in want.rows.numbers().zip(stored.person_no.iter()).enumerate() {
            let identity = (person_no, stored.event_id[n], utc_day(stored.occurred_at[n]));
            if suspects.contains(&identity)
                && found.insert(identity, None).is_none()
                && rows.len() < compared_max
            {
                rows.push(row);
            }
        }
        Ok((found, rows))
    });
    let (mut found, rows) = found.await.map_err(SealError::from_join)?.map_err(unreadable)?;
    if rows.is_empty() {
        return Ok(Some(found));
    }
    let want = Want { columns: Columns::All, rows: RowRanges::of_numbers(rows) };
    let part_nos = opened.reader.parts_for(&want).map_err(unreadable)?;
    let Some(read) = objects::find_parts(db, object.object_id, &part_nos).await? else { return Ok(None) };
    let whole = tokio::task::spawn_blocking(move || -> Result<Vec<StoredRow>, FormatError> {
        let parts: PartSet = read.into_iter().collect();
        opened.reader.read_rows(&want, &parts)?.collect::<Result<Vec<_>, _>>().map(|pages| pages.concat())
    });
    for row in whole.await.map_err(SealError::from_join)?.map_err(unreadable)? {
        let identity = (row.person_no, row.event_id, utc_day(row.occurred_at));
        found.entry(identity).and_modify(|whole| *whole = Some(row));
    }
    Ok(Some(found))
}

async fn open(
    db: &Db,
    cache: &mut OpenedCache,
    object: &ObjectRow,
) -> Result<Option<Arc<Opened>>, SealError> {
    if let Some(opened) = cache.find(object.object_id) {
        return Ok(Some(opened));
    }
    let object_id = object.object_id;
    let unreadable = move |source: FormatError| SealError::Unreadable { object_id, source };
    let Some(first) = objects::find_parts(db, object_id, &[0]).await? else { return Ok(None) };
    let reader = ObjectReader::open(&first[0].1).map_err(unreadable)?;
    let filter_parts: Vec<u32> = reader.filter_parts().collect();
    let Some(read) = objects::find_parts(db, object.object_id, &filter_parts).await? else {
        return Ok(None);
    };
    let mut parts = PartSet::default();
    read.into_iter().for_each(|(part_no, bytes)| parts.insert(part_no, bytes));
    let filter = reader.read_filter(&parts).map_err(unreadable)?;
    let facts = ObjectFacts::from_bytes(&object.facts).map_err(unreadable)?;
    let opened = Arc::new(Opened { facts, reader, filter });
    cache.insert(object.object_id, opened.clone());
    Ok(Some(opened))
}
