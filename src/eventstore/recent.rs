//! The events of a project that arrived last: out of the journal while they wait there, and out of
//! the youngest runs and segments after that, on all servers, wherever they wait. So every replica
//! shows the same.
//!
//! It is a look, not a count: of a busy project only the newest batches and objects are read.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt, stream};

use super::format::{Columns, ObjectReader, RowRanges, StoredRow, Want};
use super::object_cache::ObjectCache;
use super::reading::{Reading, read_each};
use super::scan::{ListedObject, Listing, ScanError, ScanRequest};
use super::sealer::LINK_EVENT;
use crate::model::{Event, IdNo, Millis, ProjectId, ShardNo};
use crate::storage::batch::BatchDecoder;
use crate::storage::server::journal::{self, JournalBatch};
use crate::storage::server::persons;
use crate::storage::{Db, Read, Server, Shards, StorageError};

/// The newest batches of each shard's journal that are looked into.
const BATCHES_MAX: usize = 8;
/// The newest objects of each shard that are looked into.
const OBJECTS_MAX: usize = 6;
/// An object with more rows is read in two steps: its times, then its latest rows.
const ROWS_READ_WHOLE_MAX: u64 = 5_000;
/// Larger ones are left out: what they hold is old.
const ROWS_MAX: u64 = 300_000;
/// With a filter, how many of an object's latest rows are looked through.
const ROWS_FILTERED_MAX: usize = 1_000;
const SHARDS_AT_ONCE: usize = 4;

/// Which events to show; an empty text is any.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecentFilter {
    pub event: String,
    pub distinct_id: String,
}

impl RecentFilter {
    fn is_any(&self) -> bool {
        self.event.is_empty() && self.distinct_id.is_empty()
    }

    fn matches(&self, event: &Event) -> bool {
        (self.event.is_empty() || event.event == self.event)
            && (self.distinct_id.is_empty() || event.distinct_id == self.distinct_id)
    }
}

#[derive(Debug, Default)]
pub struct Recent {
    /// Newest arrival first.
    pub events: Vec<Event>,
    /// Servers that did not answer, as they may be shown.
    pub missing: Vec<String>,
}

/// At most `limit` events that the filter lets through.
pub async fn list_recent(
    shards: &Shards,
    cache: &ObjectCache,
    project_id: ProjectId,
    limit: usize,
    filter: &RecentFilter,
) -> Result<Recent, ScanError> {
    let mut recent = Recent::default();
    // Elsewhere first: what is forwarded in between is seen twice, never not at all.
    for server in shards.servers().iter().filter(|_| shards.servers().len() > 1) {
        match waiting_elsewhere(shards, server, project_id).await {
            Ok(events) => recent.events.extend(events.into_iter().filter(|event| filter.matches(event))),
            Err(error) if error.is_transient() => recent.missing.push(server.shown.clone()),
            Err(error) => return Err(error),
        }
    }
    // Who has not answered just now would be waited for once more a shard.
    let there = shards.all().filter(|&shard_no| !recent.missing.contains(&shards.server_of(shard_no).shown));
    let asked = there.map(|shard_no| async move {
        let found = match shards.db_of(shard_no) {
            Ok(db) => in_shard(db, cache, shard_no, project_id, limit, filter).await,
            Err(error) => Err(error.into()),
        };
        (shard_no, found)
    });
    let asked: Vec<_> = asked.collect();
    let answers: Vec<_> = stream::iter(asked).buffered(SHARDS_AT_ONCE).collect().await;
    for (shard_no, answer) in answers {
        match answer {
            Ok(events) => recent.events.extend(events),
            Err(error) if error.is_transient() => {
                let shown = &shards.server_of(shard_no).shown;
                if !recent.missing.contains(shown) {
                    recent.missing.push(shown.clone());
                }
            }
            Err(error) => return Err(error),
        }
    }
    sort_and_cut(&mut recent.events, limit);
    Ok(recent)
}

async fn in_shard(
    db: &Db,
    cache: &ObjectCache,
    shard_no: ShardNo,
    project_id: ProjectId,
    limit: usize,
    filter: &RecentFilter,
) -> Result<Vec<Event>, ScanError> {
    // The journal first: what is sealed in between is seen twice, never not at all.
    let mut events = waiting(db, shard_no, project_id).await?;
    events.retain(|event| filter.matches(event));
    let mut listing = Listing::read(db, cache, shard_no, &ScanRequest::everything(project_id)).await?;
    listing.objects.sort_by_key(|object| std::cmp::Reverse(object.created_at));
    let looked_at = if filter.is_any() { limit } else { ROWS_FILTERED_MAX.max(limit) };
    let young = listing.objects.iter().filter(|object| object.rows_to_read() <= ROWS_MAX);
    for object in young.take(OBJECTS_MAX) {
        if events.len() >= limit {
            break;
        }
        // One that compaction has replaced and deleted meanwhile is in a younger object.
        let Some(mut rows) = read_latest(db, cache, object, looked_at).await? else { continue };
        rows.retain(|row| listing.masked.binary_search(&row.person_no).is_err());
        events.extend(
            named(db, shard_no, project_id, rows).await?.into_iter().filter(|event| filter.matches(event)),
        );
    }
    sort_and_cut(&mut events, limit);
    Ok(events)
}

/// What a server's journal holds of the project though it belongs to another server.
async fn waiting_elsewhere(
    shards: &Shards,
    server: &Server,
    project_id: ProjectId,
) -> Result<Vec<Event>, ScanError> {
    let db = server.db()?;
    let mut events = Vec::new();
    for shard_no in journal::list_shards(db).await? {
        let is_foreign =
            shard_no.0 < shards.count() && shards.server_of(shard_no).server_id != server.server_id;
        if is_foreign {
            events.extend(waiting(db, shard_no, project_id).await?);
        }
    }
    Ok(events)
}

/// What the journal holds of the project.
pub(super) async fn waiting(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
) -> Result<Vec<Event>, ScanError> {
    events_of(journal::list_latest(db, shard_no, BATCHES_MAX).await?, project_id).await
}

/// The batches that are looked at for it, together with other reads.
pub(super) fn read_waiting(shard_no: ShardNo) -> Read<Vec<JournalBatch>> {
    journal::read_latest(shard_no, BATCHES_MAX)
}

/// The project's events in batches.
pub(super) async fn events_of(
    batches: Vec<JournalBatch>,
    project_id: ProjectId,
) -> Result<Vec<Event>, ScanError> {
    if batches.is_empty() {
        return Ok(Vec::new());
    }
    let decoded = tokio::task::spawn_blocking(move || {
        let mut decoder = BatchDecoder::default();
        let mut events = Vec::new();
        for batch in batches {
            match decoder.decode(&batch.body) {
                Ok(batch) => events.extend(
                    batch
                        .events
                        .into_iter()
                        .filter(|event| event.project_id == project_id && event.event != LINK_EVENT),
                ),
                // The sealer reports it, and bisects it; the page shows the others.
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "unreadable batch"),
            }
        }
        events
    });
    Ok(decoded.await?)
}

/// The rows of an object that arrived last, about `limit` of them; `None` when it is gone.
async fn read_latest(
    db: &Db,
    cache: &ObjectCache,
    object: &ListedObject,
    limit: usize,
) -> Result<Option<Vec<StoredRow>>, ScanError> {
    let opened = cache.open(db, &[object.object_id]).await?;
    let mut reading: Vec<Reading> = opened.into_iter().map(Reading::new).collect();
    if reading.is_empty() {
        return Ok(None);
    }
    let mut rows = object.rows.clone();
    if object.rows_to_read() > ROWS_READ_WHOLE_MAX {
        let offset = first_row(&rows);
        let want = Want { columns: Columns::PersonsAndTimes, rows };
        let found = read_each(db, &mut reading, vec![Some(want)], ObjectReader::read_identities).await?;
        let Some(found) = found.into_iter().next().flatten() else { return Ok(None) };
        rows = latest_rows(&found.occurred_at, offset, limit);
    }
    let want = Want { columns: Columns::All, rows };
    let found = read_each(db, &mut reading, vec![Some(want)], ObjectReader::read_all_rows).await?;
    let Some(mut rows) = found.into_iter().next().flatten() else { return Ok(None) };
    rows.sort_by_key(|row| std::cmp::Reverse((row.received_at, row.occurred_at)));
    rows.truncate(limit);
    rows.iter_mut().for_each(StoredRow::detach);
    Ok(Some(rows))
}

fn first_row(rows: &RowRanges) -> u64 {
    match rows {
        RowRanges::All => 0,
        RowRanges::Some(ranges) => ranges.first().map_or(0, |range| range.start),
    }
}

/// The numbers of the `limit` rows with the latest times, as ranges. Times of arrival would be
/// better, but they are a column that nothing else reads; both agree but for old events.
fn latest_rows(occurred_at: &[Millis], offset: u64, limit: usize) -> RowRanges {
    let mut numbers: Vec<u64> = (0..occurred_at.len() as u64).collect();
    numbers.sort_unstable_by_key(|&n| std::cmp::Reverse(occurred_at[n as usize]));
    numbers.truncate(limit);
    numbers.sort_unstable();
    RowRanges::of_numbers(numbers.into_iter().map(|n| offset + n))
}

/// Rows as the events that they were.
async fn named(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    rows: Vec<StoredRow>,
) -> Result<Vec<Event>, StorageError> {
    let mut wanted: Vec<IdNo> = rows.iter().map(|row| row.id_no).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut names = HashMap::new();
    for some in wanted.chunks(500) {
        for known in persons::find_ids_by_no(db, shard_no, project_id, some).await? {
            names.insert(known.id_no, known.distinct_id);
        }
    }
    let events = rows.into_iter().map(|row| {
        let distinct_id = names.get(&row.id_no).cloned().unwrap_or_default();
        row.into_event(distinct_id.into(), Vec::new())
    });
    Ok(events.collect())
}

/// Newest first, each once: a resend waits in the journal until the sealer drops it.
fn sort_and_cut(events: &mut Vec<Event>, limit: usize) {
    let mut seen = HashSet::new();
    events.sort_by_key(|event| std::cmp::Reverse((event.received_at, event.occurred_at, event.event_id)));
    // From behind, since the first arrival is the one that counts.
    events.reverse();
    events.retain(|event| seen.insert((event.event_id, event.distinct_id.clone())));
    events.reverse();
    events.truncate(limit);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventstore::fixture::{PROJECT, SHARD, row, rows, store_run, store_segment, two_servers};
    use crate::model::{BatchId, SeededRandom, TimeSource};
    use crate::storage::batch::BatchEncoder;
    use crate::storage::conformance::{TestDatabase, fresh_mysql, fresh_sqlite, on_both};
    use crate::storage::server::journal::NewBatch;
    use crate::storage::server::masks;
    use crate::storage::server::persons::KnownId;

    /// A row whose times of occurrence and arrival are the same.
    fn at(n: u32) -> StoredRow {
        let mut made = row(PROJECT, n);
        made.occurred_at = Millis::from(n) * 1_000;
        made.received_at = made.occurred_at;
        made
    }

    fn event(row: &StoredRow) -> Event {
        Event {
            project_id: row.project_id,
            distinct_id: format!("id{}", row.id_no).into(),
            anonymous_id: None,
            event: row.event.clone(),
            event_id: row.event_id,
            occurred_at: row.occurred_at,
            received_at: row.received_at,
            time_source: TimeSource::Client,
            properties: row.properties.clone(),
            route: Vec::new(),
        }
    }

    async fn insert_batch(db: &Db, n: u8, events: &[Event]) {
        let batch = BatchEncoder::default().encode_events(events);
        let batch = NewBatch { shard_no: SHARD, batch_id: BatchId([n; 16]), batch };
        journal::insert(db, vec![batch]).await.unwrap();
    }

    /// The names behind the numbers that [`row`] gives out.
    async fn name_persons(db: &Db) {
        let known: Vec<_> = (0..50)
            .map(|person_no| {
                let id_no = person_no + 100;
                KnownId { distinct_id: format!("id{id_no}"), id_no, person_no }
            })
            .collect();
        db.transaction(move |tx| {
            let known = known.clone();
            Box::pin(async move {
                persons::insert_new(tx, SHARD, PROJECT, &known, 1).await?;
                persons::raise_counters(tx, SHARD, PROJECT, 50, 150).await
            })
        })
        .await
        .unwrap();
    }

    on_both! {
        async fn journal_and_objects_together_show_the_newest_once(db: Db) {
            let random = SeededRandom::new(1);
            name_persons(&db).await;
            let sealed: Vec<_> = (0..100).map(at).collect();
            let mut mixed = sealed.clone();
            mixed.extend(rows(ProjectId(2), 0..20));
            store_run(&db, &random, mixed).await;
            let mut other = event(&at(900));
            other.project_id = ProjectId(2);
            let mut link = event(&at(901));
            link.event = LINK_EVENT.into();
            // 99 is there twice: it was sealed between two looks, or sent again.
            let mut resent = event(&at(99));
            resent.received_at += 5_000_000;
            insert_batch(&db, 1, &[event(&at(100)), event(&at(101)), resent, other, link]).await;

            let found = in_shard(&db, &ObjectCache::none(), SHARD, PROJECT, 30, &RecentFilter::default()).await.unwrap();
            let expected: Vec<_> = (72..=101).rev().map(|n| event(&at(n))).collect();
            assert_eq!(found, expected);

            let one = RecentFilter { distinct_id: "id107".into(), ..RecentFilter::default() };
            let only = in_shard(&db, &ObjectCache::none(), SHARD, PROJECT, 30, &one).await.unwrap();
            let expected: Vec<_> =
                (0..=101).rev().map(|n| event(&at(n))).filter(|e| e.distinct_id == "id107").collect();
            assert_eq!(only, expected);
            assert_eq!(in_shard(&db, &ObjectCache::none(), SHARD, ProjectId(3), 30, &RecentFilter::default()).await.unwrap(), []);
        }
    }

    on_both! {
        async fn of_a_large_segment_only_the_latest_rows_are_read(db: Db) {
            name_persons(&db).await;
            let all: Vec<_> = (0..7_000).map(at).collect();
            store_segment(&db, &SeededRandom::new(1), all).await;
            db.transaction(|tx| Box::pin(async move { masks::insert(tx, SHARD, PROJECT, 43, "erased", 0).await }))
                .await
                .unwrap();
            let found = in_shard(&db, &ObjectCache::none(), SHARD, PROJECT, 100, &RecentFilter::default()).await.unwrap();
            let expected: Vec<_> =
                (6_900..7_000).rev().map(at).filter(|row| row.person_no != 43).map(|row| event(&row)).collect();
            assert_eq!(found.len(), 98);
            assert_eq!(found, expected);
        }
    }

    async fn what_waits_at_another_server_is_shown_once(databases: [TestDatabase; 3]) {
        let storage = two_servers(&databases).await;
        let [here, there] = storage.shards.servers() else { panic!("two servers") };
        let away = storage.shards.shards_of(there.server_id)[0];
        let spilled = event(&at(7));
        let batch = BatchEncoder::default().encode_events([&spilled]);
        let batch = NewBatch { shard_no: away, batch_id: BatchId([1; 16]), batch };
        journal::insert(here.db().unwrap(), vec![batch]).await.unwrap();
        let shown = async || {
            let any = RecentFilter::default();
            let recent = list_recent(&storage.shards, &ObjectCache::none(), PROJECT, 10, &any).await.unwrap();
            assert_eq!(recent.missing, Vec::<String>::new());
            recent.events
        };
        assert_eq!(shown().await, std::slice::from_ref(&spilled));
        // Half way: it is in both places.
        let half = journal::read(here.db().unwrap(), away, &[BatchId([1; 16])]).await.unwrap();
        journal::insert_forwarded(there.db().unwrap(), away, &half).await.unwrap();
        assert_eq!(shown().await, [spilled]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_waits_at_another_server_is_shown_once_sqlite() {
        what_waits_at_another_server_is_shown_once([fresh_sqlite(), fresh_sqlite(), fresh_sqlite()]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_waits_at_another_server_is_shown_once_mysql() {
        let databases = [fresh_mysql().await, fresh_mysql().await, fresh_mysql().await];
        what_waits_at_another_server_is_shown_once(databases).await;
    }
}
