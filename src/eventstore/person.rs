//! One person of a project: all ids, and what they did, out of the journal and of the pages of
//! segments that hold them. A person lives in one shard, so nothing else is asked.
//!
//! What waits in the journal has no number yet; it belongs to the person by its distinct id.

use std::collections::HashSet;

use super::format::{Columns, HEADER_PART, ObjectKind, ObjectReader, PartSet, RowRanges, StoredRow, Want};
use super::recent;
use super::scan::{ListedObject, Listing, ScanError, ScanRequest};
use crate::model::{Event, PersonNo, ProjectId, ShardNo, shard_of};
use crate::storage::server::{objects, persons};
use crate::storage::{Db, Shards};

/// A person as far as it is looked at.
#[derive(Debug, Default)]
pub struct PersonEvents {
    /// Every id of the person, sorted; at least the one that was asked for when anything is known.
    pub distinct_ids: Vec<String>,
    /// Newest occurrence first.
    pub events: Vec<Event>,
    /// There are more than were asked for.
    pub more: bool,
}

impl PersonEvents {
    /// Nothing of this id ever arrived.
    pub fn is_unknown(&self) -> bool {
        self.distinct_ids.is_empty()
    }
}

/// The latest `limit` events of whoever has this distinct id. Precondition: `1 <= span <= shards`.
pub async fn read_person(
    shards: &Shards,
    project_id: ProjectId,
    span: u16,
    distinct_id: &str,
    limit: usize,
) -> Result<PersonEvents, ScanError> {
    let shard_no = shard_of(project_id, distinct_id, span, shards.count());
    read_in_shard(shards.db_of(shard_no)?, shard_no, project_id, distinct_id, limit).await
}

async fn read_in_shard(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    distinct_id: &str,
    limit: usize,
) -> Result<PersonEvents, ScanError> {
    // The journal first: what is sealed in between is seen twice, never not at all.
    let mut events = recent::waiting(db, shard_no, project_id).await?;
    let asked = [distinct_id.to_owned()];
    let known = persons::find_ids(db, shard_no, project_id, &asked).await?;
    let mut distinct_ids: Vec<String> = Vec::new();
    let mut more = false;
    if let Some(person_no) = known.first().map(|known| known.person_no) {
        let listing = Listing::read(db, &ScanRequest::everything(shard_no, project_id)).await?;
        // A masked person moved or was erased: what is left here is not to be shown.
        if listing.masked.binary_search(&person_no).is_err() {
            let ids = persons::find_ids_of_persons(db, shard_no, project_id, &[person_no]).await?;
            distinct_ids.extend(ids.iter().map(|known| known.distinct_id.clone()));
            let mut rows = Vec::new();
            let mut objects = listing.objects;
            // Newest first, so that reading may end when older objects cannot matter.
            objects.sort_by_key(|object| std::cmp::Reverse(object.max_at));
            for object in &objects {
                if rows.len() > limit && oldest_of(&mut rows, limit) > object.max_at {
                    more = true;
                    break;
                }
                rows.extend(rows_of(db, object, project_id, person_no).await?);
            }
            events.retain(|event| distinct_ids.contains(&event.distinct_id));
            let name_of = |row: &StoredRow| ids.iter().find(|known| known.id_no == row.id_no);
            events.extend(rows.into_iter().map(|row| Event {
                project_id,
                distinct_id: name_of(&row).map(|known| known.distinct_id.clone()).unwrap_or_default(),
                anonymous_id: None,
                event: row.event,
                event_id: row.event_id,
                occurred_at: row.occurred_at,
                received_at: row.received_at,
                time_source: row.time_source,
                properties: row.properties,
            }));
        }
    }
    if distinct_ids.is_empty() {
        events.retain(|event| event.distinct_id == distinct_id);
        if !events.is_empty() {
            distinct_ids.push(distinct_id.to_owned());
        }
    }
    distinct_ids.sort_unstable();
    // Each once: a resend waits in the journal until the sealer drops it, and the first one counts.
    let mut seen = HashSet::new();
    events.sort_by_key(|event| (event.received_at, event.event_id));
    events.retain(|event| seen.insert(event.event_id));
    events.sort_by_key(|event| std::cmp::Reverse((event.occurred_at, event.received_at, event.event_id)));
    more |= events.len() > limit;
    events.truncate(limit);
    Ok(PersonEvents { distinct_ids, events, more })
}

/// The time of the oldest of the `limit` newest rows; puts the newest first.
fn oldest_of(rows: &mut [StoredRow], limit: usize) -> crate::model::Millis {
    rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.occurred_at));
    rows[limit - 1].occurred_at
}

/// The person's rows in one object; none when compaction has replaced it, since they are then in an
/// object that a later look finds.
async fn rows_of(
    db: &Db,
    object: &ListedObject,
    project_id: ProjectId,
    person_no: PersonNo,
) -> Result<Vec<StoredRow>, ScanError> {
    let object_id = object.object_id;
    let unreadable = move |source| ScanError::Format { object_id, source };
    let headers = objects::find_headers(db, &[object_id]).await?;
    let Some((_, header)) = headers.into_iter().next() else { return Ok(Vec::new()) };
    let reader = ObjectReader::open(&header).map_err(unreadable)?;
    let rows = match reader.kind() {
        ObjectKind::Segment => reader.rows_of_persons(&[person_no]),
        ObjectKind::Run => object.rows.clone(),
    };
    if rows == RowRanges::Some(Vec::new()) {
        return Ok(Vec::new());
    }
    let mut parts = PartSet::default();
    parts.insert(HEADER_PART, header);
    let want = Want { columns: Columns::All, rows };
    if !recent::fetch(db, object, &reader, &want, &mut parts).await.map_err(|e| e.of(object_id))? {
        return Ok(Vec::new());
    }
    let read = tokio::task::spawn_blocking(move || {
        let mut own = Vec::new();
        for page in reader.read_rows(&want, &parts)? {
            own.extend(page?.into_iter().filter(|r| r.person_no == person_no && r.project_id == project_id));
        }
        Ok(own)
    });
    read.await?.map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventstore::fixture::{PROJECT, SHARD, row, rows, store_run, store_segment};
    use crate::model::{BatchId, Millis, SeededRandom, TimeSource};
    use crate::storage::StorageError;
    use crate::storage::batch::BatchEncoder;
    use crate::storage::conformance::on_both;
    use crate::storage::server::journal::{self, NewBatch};
    use crate::storage::server::persons::KnownId;

    async fn name_persons(db: &Db) {
        let known: Vec<_> = (0..50)
            .map(|n| KnownId { distinct_id: format!("id{}", n + 100), id_no: n + 100, person_no: n })
            .collect();
        db.transaction(move |tx| {
            let known = known.clone();
            Box::pin(async move {
                persons::insert_new(tx, SHARD, PROJECT, &known, 1).await?;
                persons::raise_counters(tx, SHARD, PROJECT, 50, 150).await?;
                Ok::<_, StorageError>(())
            })
        })
        .await
        .unwrap();
    }

    fn waiting_event(distinct_id: &str, n: u8, at: Millis) -> Event {
        Event {
            project_id: PROJECT,
            distinct_id: distinct_id.into(),
            anonymous_id: None,
            event: "waiting".into(),
            event_id: crate::model::EventId([n; 16]),
            occurred_at: at,
            received_at: at,
            time_source: TimeSource::Client,
            properties: vec![],
        }
    }

    on_both! {
        async fn a_person_is_read_from_everywhere_newest_first(db: Db) {
            let random = SeededRandom::new(1);
            name_persons(&db).await;
            let all = rows(PROJECT, 0..900);
            let other = rows(ProjectId(2), 0..100);
            store_segment(&db, &random, all[..500].to_vec()).await;
            store_run(&db, &random, [&all[500..], &other].concat()).await;
            let future = all.iter().map(|row| row.occurred_at).max().unwrap() + 1;
            // The new one, a resend of the same, and somebody else's.
            let sent = [waiting_event("id107", 1, future), waiting_event("id107", 1, future + 5), waiting_event("id108", 2, future)];
            let batch = NewBatch { shard_no: SHARD, batch_id: BatchId([1; 16]), batch: BatchEncoder::default().encode_events(&sent) };
            journal::insert(&db, vec![batch]).await.unwrap();

            let mut expected: Vec<_> = all.iter().filter(|row| row.person_no == 7).map(|row| (row.occurred_at, row.event_id)).collect();
            expected.push((future, crate::model::EventId([1; 16])));
            expected.sort_unstable();
            expected.reverse();
            // Equal times may come in any order of arrival; the set is what counts.
            let found = read_in_shard(&db, SHARD, PROJECT, "id107", 1_000).await.unwrap();
            let mut got: Vec<_> = found.events.iter().map(|event| (event.occurred_at, event.event_id)).collect();
            assert!(got.is_sorted_by_key(|(at, _)| std::cmp::Reverse(*at)));
            got.sort_unstable();
            got.reverse();
            assert_eq!(got, expected);
            assert_eq!((found.distinct_ids, found.more), (vec!["id107".to_owned()], false));
            assert!(found.events.iter().all(|event| event.distinct_id == "id107"));
            assert_eq!(found.events[1].properties.len(), row(PROJECT, 1).properties.len());

            let few = read_in_shard(&db, SHARD, PROJECT, "id107", 3).await.unwrap();
            assert_eq!((few.events.len(), few.more), (3, true));
            assert_eq!(few.events[0].event, "waiting");
            let exactly = read_in_shard(&db, SHARD, PROJECT, "id107", expected.len()).await.unwrap();
            assert!(!exactly.more);
        }
    }

    on_both! {
        async fn who_only_waits_in_the_journal_is_known_and_others_are_not(db: Db) {
            let sent = [waiting_event("new", 1, 1_000)];
            let batch = NewBatch { shard_no: SHARD, batch_id: BatchId([1; 16]), batch: BatchEncoder::default().encode_events(&sent) };
            journal::insert(&db, vec![batch]).await.unwrap();
            let new = read_in_shard(&db, SHARD, PROJECT, "new", 10).await.unwrap();
            assert_eq!((new.events.len(), new.distinct_ids), (1, vec!["new".to_owned()]));
            for (project_id, distinct_id) in [(PROJECT, "nobody"), (ProjectId(2), "new")] {
                let nobody = read_in_shard(&db, SHARD, project_id, distinct_id, 10).await.unwrap();
                assert!(nobody.is_unknown() && nobody.events.is_empty(), "{distinct_id}");
            }
        }
    }
}
