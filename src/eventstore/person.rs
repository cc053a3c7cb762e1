//! One person of a project: all ids, and what they did, out of the journal and of the pages of
//! segments that hold them. A person lives in one shard, so nothing else is asked.
//!
//! Objects are looked at newest first, a few at a time, until older ones cannot matter. Of each, first
//! the identities are read, which say where the person's rows lie, and then only those rows that are
//! shown: one person may have a handful of rows in a page of 8,192, or a million in a segment.
//!
//! What waits in the journal has no number yet; it belongs to the person by its distinct id.

use std::collections::{HashSet, VecDeque};

use futures_util::TryFutureExt;
use futures_util::future::try_join_all;
use tokio::try_join;

use super::format::{Columns, Located, ObjectKind, ObjectReader, RowRanges, StoredRow, Want};
use super::object_cache::ObjectCache;
use super::reading::{Reading, read_each};
use super::recent;
use super::scan::{ListedObject, Listing, ScanError, ScanRequest};
use super::sealer::Traits;
use crate::model::{
    Event, EventId, Millis, PersonNo, ProjectId, Properties, PropertyValue, ShardNo, shard_of, utc_day,
};
use crate::storage::server::links::{self, Link, LinkState};
use crate::storage::server::persons;
use crate::storage::server::profiles::{self, Days};
use crate::storage::{Db, Reads, Shards};

/// Rows of an object that are read first; then twice as many each time.
const ROWS_AT_FIRST: usize = 32;
/// Objects that are read at once: more would often be read for nothing, since the newest have what is
/// shown.
const OBJECTS_AT_ONCE: usize = 8;
/// Of those, so many are read with one statement: while some are decoded others are read.
const OBJECTS_PER_READ: usize = 4;

/// Whose events, and which of them. Precondition: `1 <= span <= shards`, `limit >= 1`.
#[derive(Clone, Copy, Debug)]
pub struct PersonRequest<'a> {
    pub project_id: ProjectId,
    pub span: u16,
    /// Any of the person's ids.
    pub distinct_id: &'a str,
    /// Only what comes after this one in the order of showing, which is newest first.
    pub after: Option<EventPlace>,
    /// What occurred before is not shown.
    pub kept_from: Option<Millis>,
    pub limit: usize,
    /// Whether anybody wants to know the properties of the events.
    pub with_properties: bool,
    /// Fewer come when they are longer than this together; one always does.
    pub bytes_max: usize,
}

/// Where an event stands among those of its person: by occurrence, equal times by id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EventPlace {
    pub occurred_at: Millis,
    pub event_id: EventId,
}

impl EventPlace {
    pub fn of(event: &Event) -> Self {
        Self { occurred_at: event.occurred_at, event_id: event.event_id }
    }
}

/// A person as far as it is looked at.
#[derive(Debug, Default)]
pub struct PersonEvents {
    /// Every id of the person, sorted; at least the one that was asked for when anything is known.
    pub distinct_ids: Vec<String>,
    /// Newest occurrence first.
    pub events: Vec<Event>,
    /// There are more than were asked for.
    pub more: bool,
    /// UTC days of the first and the last of all events, as far as is known.
    pub days: Option<Days>,
    /// Sorted by name. What waits in the journal is not in them yet.
    pub traits: Vec<(String, PropertyValue)>,
    /// What of runs and segments was read for it.
    pub bytes_read: u64,
}

impl PersonEvents {
    /// Nothing of this id ever arrived.
    pub fn is_unknown(&self) -> bool {
        self.distinct_ids.is_empty()
    }
}

/// The latest events of whoever has this distinct id, which may by now belong to another one.
pub async fn read_person(
    shards: &Shards,
    cache: &ObjectCache,
    request: &PersonRequest<'_>,
) -> Result<PersonEvents, ScanError> {
    let &PersonRequest { project_id, distinct_id, span, .. } = request;
    let mut shard_no = shard_of(project_id, distinct_id, span, shards.count());
    let mut passed = Passed { ids: vec![distinct_id.to_owned()], waiting: Vec::new() };
    loop {
        let db = shards.db_of(shard_no)?;
        let last = passed.ids.last().expect("at least the id that was asked for");
        let found = FoundId::read(db, shard_no, project_id, last).await?;
        let Some(link) = found.link.as_ref().filter(|link| passed.leads_on(link)) else {
            return read_in_shard(db, shard_no, cache, request, passed, found).await;
        };
        shard_no = link.target_shard.unwrap_or(shard_no);
        let waiting = found.journal.into_iter();
        passed.waiting.extend(waiting.filter(|event| passed.ids.iter().any(|id| event.distinct_id == *id)));
        passed.ids.push(link.target_id.clone());
    }
}

/// What a shard says of an id, at one moment: what is sealed after the journal was read is seen twice, never
/// not at all.
struct FoundId {
    /// What of the project waits in the journal.
    journal: Vec<Event>,
    link: Option<Link>,
    person_no: Option<PersonNo>,
}

impl FoundId {
    async fn read(
        db: &Db,
        shard_no: ShardNo,
        project_id: ProjectId,
        distinct_id: &str,
    ) -> Result<Self, ScanError> {
        let mut reads = Reads::default();
        let waiting = reads.add(recent::read_waiting(shard_no));
        let link = reads.add(links::read_link(shard_no, project_id, distinct_id));
        let known = reads.add(persons::read_id(shard_no, project_id, distinct_id));
        let read = db.read_together(reads).await?;
        Ok(Self {
            journal: recent::events_of(read.get(waiting)?, project_id).await?,
            link: read.get(link)?,
            person_no: read.get(known)?.map(|known| known.person_no),
        })
    }
}

/// The ids on the way to the person, the one that was asked for first, and what waits in the journals
/// of their homes to go the same way.
struct Passed {
    ids: Vec<String>,
    waiting: Vec<Event>,
}

/// Ids on the way to one person: a circle that no event has noticed yet is longer than none, and a chain
/// ends here at the latest.
const PASSED_MAX: usize = 256;

impl Passed {
    fn leads_on(&self, link: &Link) -> bool {
        link.state == LinkState::Linked && self.ids.len() < PASSED_MAX && !self.ids.contains(&link.target_id)
    }
}

/// `last`: what is found of the last id on the way.
async fn read_in_shard(
    db: &Db,
    shard_no: ShardNo,
    cache: &ObjectCache,
    request: &PersonRequest<'_>,
    passed: Passed,
    last: FoundId,
) -> Result<PersonEvents, ScanError> {
    let &PersonRequest { project_id, after, kept_from, limit, with_properties, bytes_max, .. } = request;
    let mut events = Vec::new();
    let Passed { ids: passed, waiting } = passed;
    let FoundId { mut journal, person_no, .. } = last;
    let mut found = PersonEvents::default();
    let mut floor = None;
    if let Some(person_no) = person_no {
        let mut kept = ScanRequest::everything(project_id);
        kept.from = kept_from.unwrap_or(kept.from);
        let listing = Listing::read(db, cache, shard_no, &kept).await?;
        // A masked person moved or was erased: what is left here is not to be shown.
        if listing.masked.binary_search(&person_no).is_err() {
            let wanted = Wanted { project_id, person_no, after, limit, with_properties, bytes_max };
            let of_person = [person_no];
            let ids =
                persons::find_ids_of_persons(db, shard_no, project_id, &of_person).map_err(ScanError::from);
            let profiles =
                profiles::find_profiles(db, shard_no, project_id, &of_person).map_err(ScanError::from);
            let sealed = read_objects(db, cache, listing.objects, wanted);
            let (ids, mut profiles, sealed) = try_join!(ids, profiles, sealed)?;
            found.distinct_ids.extend(ids.iter().map(|known| known.distinct_id.clone()));
            if let Some(profile) = profiles.pop() {
                found.days = profile.days;
                found.traits = traits_of(profile.traits.as_deref(), shard_no, person_no);
            }
            (floor, found.bytes_read) = (sealed.floor, sealed.bytes_read);
            let name_of = |row: &StoredRow| ids.iter().find(|known| known.id_no == row.id_no);
            events.extend(sealed.rows.into_iter().map(|row| {
                let distinct_id = name_of(&row).map(|known| known.distinct_id.clone()).unwrap_or_default();
                row.into_event(distinct_id.into(), Vec::new())
            }));
        }
    }
    // Of events that follow links, it counts where they have got to.
    journal.retain(|event| {
        let at = event.route.last().unwrap_or(&event.distinct_id);
        found.distinct_ids.iter().chain(&passed).any(|known| at == known)
    });
    let is_known = !found.distinct_ids.is_empty() || !waiting.is_empty() || !journal.is_empty();
    events.extend(waiting);
    events.extend(journal);
    // The ids on the way are the person's as well.
    if is_known || passed.len() > 1 {
        found.distinct_ids.extend(passed);
    }
    found.distinct_ids.sort_unstable();
    found.distinct_ids.dedup();
    // Each once: a resend waits in the journal until the sealer drops it, and the first one counts. One
    // id on two days is two events.
    let mut seen = HashSet::new();
    events.sort_by_key(|event| (event.received_at, event.event_id));
    events.retain(|event| seen.insert((event.event_id, utc_day(event.occurred_at))));
    let mut is_first_unknown = false;
    if let Some(kept_from) = kept_from {
        events.retain(|event| event.occurred_at >= kept_from);
        floor = floor.filter(|floor| floor.occurred_at >= kept_from);
        let first_kept = utc_day(kept_from);
        found.days = found.days.filter(|(_, last)| *last >= first_kept);
        is_first_unknown = found.days.is_some_and(|(first, _)| first < first_kept);
        found.days = found.days.map(|(first, last)| (first.max(first_kept), last));
    }
    let days = events.iter().map(|event| utc_day(event.occurred_at)).map(|day| (day, day));
    found.days = days.chain(found.days).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    events.retain(|event| after.is_none_or(|after| EventPlace::of(event) < after));
    events.sort_by_key(|event| std::cmp::Reverse(EventPlace::of(event)));
    // Behind the floor are events that were not read.
    events.retain(|event| floor.is_none_or(|floor| EventPlace::of(event) >= floor));
    let mut bytes = 0;
    let fit = events.iter().take(limit).take_while(|event| {
        let fits = bytes == 0 || bytes <= bytes_max;
        bytes += bytes_of(&event.event, &event.properties);
        fits
    });
    let fit = fit.count();
    found.more = floor.is_some() || fit < events.len();
    events.truncate(fit);
    if let (true, false, None, Some(oldest), Some(days)) =
        (is_first_unknown, found.more, after, events.last(), &mut found.days)
    {
        days.0 = utc_day(oldest.occurred_at);
    }
    found.events = events;
    Ok(found)
}

/// The stored traits; none when a newer release has written them.
fn traits_of(stored: Option<&[u8]>, shard_no: ShardNo, person_no: PersonNo) -> Vec<(String, PropertyValue)> {
    match stored.map(Traits::decode) {
        None => Vec::new(),
        Some(Ok(traits)) => traits.values(),
        Some(Err(error)) => {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, shard.no = shard_no.0, person_no, "unreadable traits");
            Vec::new()
        }
    }
}

#[derive(Clone, Copy)]
struct Wanted {
    project_id: ProjectId,
    person_no: PersonNo,
    after: Option<EventPlace>,
    limit: usize,
    with_properties: bool,
    bytes_max: usize,
}

impl Wanted {
    /// What is read of rows that occurred then.
    fn columns(self, occurred_at: Vec<Millis>) -> Columns {
        let Self { person_no, with_properties, .. } = self;
        Columns::Located(Located { person_no, occurred_at, with_properties })
    }
}

/// The person's newest rows: one more than are wanted at most.
#[derive(Default)]
struct Sealed {
    rows: Vec<StoredRow>,
    /// Set when there is more than is kept: everything from this place on is in `rows`, and nothing
    /// behind it.
    floor: Option<EventPlace>,
    bytes_read: u64,
}

impl Sealed {
    /// Leaves what is wanted.
    fn cut(&mut self, wanted: Wanted) {
        self.rows.sort_unstable_by_key(|row| std::cmp::Reverse(place_of(row)));
        let mut bytes = 0;
        let fit = self.rows.iter().take(wanted.limit + 1).take_while(|row| {
            let fits = bytes == 0 || bytes <= wanted.bytes_max;
            bytes += bytes_of(&row.event, &row.properties);
            fits
        });
        let fit = fit.count();
        if fit < self.rows.len() || fit > wanted.limit {
            self.rows.truncate(fit);
            self.floor = self.floor.max(self.rows.last().map(place_of));
        }
        let floor = self.floor;
        self.rows.retain(|row| floor.is_none_or(|floor| place_of(row) >= floor));
        self.rows.iter_mut().for_each(StoredRow::detach);
    }
}

fn place_of(row: &StoredRow) -> EventPlace {
    EventPlace { occurred_at: row.occurred_at, event_id: row.event_id }
}

/// About what an event takes in memory, and in an answer.
fn bytes_of(event: &str, properties: &Properties) -> usize {
    const FIXED: usize = 200;
    FIXED + event.len() + properties.as_bytes().len()
}

async fn read_objects(
    db: &Db,
    cache: &ObjectCache,
    mut objects: Vec<ListedObject>,
    wanted: Wanted,
) -> Result<Sealed, ScanError> {
    objects.retain(|object| wanted.after.is_none_or(|after| object.min_at <= after.occurred_at));
    objects.sort_by_key(|object| std::cmp::Reverse(object.max_at));
    let mut sealed = Sealed::default();
    for some in objects.chunks(OBJECTS_AT_ONCE) {
        // All that follow are at most as new.
        if sealed.floor.is_some_and(|floor| floor.occurred_at > some[0].max_at) {
            break;
        }
        let ids: Vec<_> = some.iter().map(|object| object.object_id).collect();
        // One that is not there any more was replaced: its rows are in an object that a later look finds.
        let opened = cache.open(db, &ids).await?.into_iter().filter_map(|opened| {
            let object = some.iter().find(|object| object.object_id == opened.object_id)?;
            let candidates = match opened.reader.kind() {
                ObjectKind::Segment => opened.reader.rows_of_persons(&[wanted.person_no]),
                ObjectKind::Run => object.rows.clone(),
            };
            Some((Reading::new(opened), candidates))
        });
        let mut opened: Vec<(Reading, RowRanges)> = opened.collect();
        let mut reads = Vec::new();
        while !opened.is_empty() {
            let (readings, candidates) = opened.drain(..OBJECTS_PER_READ.min(opened.len())).unzip();
            reads.push(read_chunk(db, readings, candidates, wanted));
        }
        for read in try_join_all(reads).await? {
            sealed.rows.extend(read.rows);
            sealed.floor = sealed.floor.max(read.floor);
            sealed.bytes_read += read.bytes_read;
        }
        sealed.cut(wanted);
    }
    Ok(sealed)
}

/// The person's newest rows in some objects, `candidates` of each may be theirs; none of objects that have
/// been deleted meanwhile.
async fn read_chunk(
    db: &Db,
    mut readings: Vec<Reading>,
    candidates: Vec<RowRanges>,
    wanted: Wanted,
) -> Result<Sealed, ScanError> {
    let located = locate(db, &mut readings, candidates, wanted).await?;
    let mut left: Vec<VecDeque<(Millis, u64)>> =
        located.into_iter().map(|own| own.iter().rev().copied().take(wanted.limit + 1).collect()).collect();

    // A few first, since one event may have 256 KiB and most persons have no more in one object.
    let mut at_once = ROWS_AT_FIRST;
    let mut rows: Vec<Vec<StoredRow>> = readings.iter().map(|_| Vec::new()).collect();
    let mut sealed = Sealed::default();
    while left.iter().any(|left| !left.is_empty()) {
        let wants = left.iter_mut().map(|left| {
            let mut some: Vec<(Millis, u64)> = left.drain(..at_once.min(left.len())).collect();
            some.sort_unstable_by_key(|(_, row)| *row);
            let rows = RowRanges::of_numbers(some.iter().map(|(_, row)| *row));
            let columns = wanted.columns(some.into_iter().map(|(occurred_at, _)| occurred_at).collect());
            (!rows.is_empty()).then_some(Want { columns, rows })
        });
        let wants = wants.collect();
        at_once *= 2;
        let read = read_each(db, &mut readings, wants, ObjectReader::read_all_rows).await?;
        for (((reading, left), rows), read) in readings.iter().zip(&mut left).zip(&mut rows).zip(read) {
            // The list says where a project's rows lie in a run; that another's are never shown rests on more.
            // Whose they are was read when they were located, of the same object.
            let is_own = |row: &StoredRow| row.project_id == wanted.project_id;
            rows.extend(read.into_iter().flatten().filter(is_own));
            if reading.is_gone {
                rows.clear();
                left.clear();
            }
            let bytes: usize = rows.iter().map(|row| bytes_of(&row.event, &row.properties)).sum();
            if bytes > wanted.bytes_max && !left.is_empty() {
                sealed.floor = sealed.floor.max(rows.iter().map(place_of).min());
                left.clear();
            }
        }
    }
    sealed.rows = rows.concat();
    sealed.bytes_read = readings.iter().map(Reading::bytes_read).sum();
    Ok(sealed)
}

/// When the person's rows among the candidates occurred, and where they lie: in runs as in segments a
/// person's rows are in the order of time, and those of one moment in that of event ids.
async fn locate(
    db: &Db,
    readings: &mut [Reading],
    candidates: Vec<RowRanges>,
    wanted: Wanted,
) -> Result<Vec<Vec<(Millis, u64)>>, ScanError> {
    let wants: Vec<Option<Want>> = candidates
        .into_iter()
        .map(|rows| (!rows.is_empty()).then_some(Want { columns: Columns::PersonsAndTimes, rows }))
        .collect();
    let read = read_each(db, readings, wants.clone(), ObjectReader::read_identities).await?;
    let own = wants.into_iter().zip(read).map(|(want, found)| {
        let (Some(want), Some(found)) = (want, found) else { return Vec::new() };
        let rows = want.rows.numbers().zip(found.person_no.iter().zip(&found.occurred_at));
        let own = rows.filter(|(_, (person_no, _))| **person_no == wanted.person_no);
        own.map(|(row, (_, &occurred_at))| (occurred_at, row)).collect()
    });
    let mut own: Vec<Vec<(Millis, u64)>> = own.collect();
    let Some(after) = wanted.after else { return Ok(own) };

    // Of the moment of `after` only the ids tell which rows follow.
    let wants = own.iter_mut().map(|own| {
        own.retain(|(occurred_at, _)| *occurred_at <= after.occurred_at);
        let ties = own.iter().filter(|(occurred_at, _)| *occurred_at == after.occurred_at);
        let rows = RowRanges::of_numbers(ties.map(|(_, row)| *row));
        (!rows.is_empty()).then_some(Want { columns: Columns::Identity, rows })
    });
    let wants = wants.collect();
    let ties = read_each(db, readings, wants, ObjectReader::read_identities).await?;
    for (own, ties) in own.iter_mut().zip(ties) {
        let following = ties.map_or(0, |ties| ties.event_id.partition_point(|id| *id < after.event_id));
        let earlier = own.partition_point(|(occurred_at, _)| *occurred_at < after.occurred_at);
        own.truncate(earlier + following);
    }
    Ok(own)
}

#[cfg(test)]
mod tests;
