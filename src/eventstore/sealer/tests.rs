//! Passes over real journals, on both back ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::eventstore::format::{Columns, ObjectReader, PartSet, RowRanges, StoredRow, Want};
use crate::model::ProjectId;
use crate::model::{
    BatchId, DAY_MS, Event, EventId, ManualClock, PropertyValue, ReplicaId, SeededRandom, TimeSource,
};
use crate::storage::batch::BatchEncoder;
use crate::storage::conformance::on_both;
use crate::storage::server::journal::NewBatch;
use crate::storage::server::{leases::LeaseTask, objects};

const SHARD: ShardNo = ShardNo(1);
const PROJECT: ProjectId = ProjectId(3);

fn context(segment_rows_min: usize) -> SealContext {
    SealContext {
        clock: Arc::new(ManualClock::new(1_000_000)),
        random: Arc::new(SeededRandom::new(segment_rows_min as u64)),
        holder: ReplicaId([9; 16]),
        pass_bytes_max: 1 << 20,
        lease_ms: 60_000,
        idle: Duration::from_millis(1),
        segment_rows_min,
        segment_rows_max: 100,
        persons_cache_entries_max: 1_000,
    }
}

fn memory() -> ShardMemory {
    ShardMemory { persons: PersonsCache::new(100), opened: OpenedCache::new(1 << 20) }
}

fn event(who: &str, id: u8, at: i64) -> Event {
    Event {
        project_id: PROJECT,
        distinct_id: who.to_owned(),
        anonymous_id: None,
        event: "visited".to_owned(),
        event_id: EventId([id; 16]),
        occurred_at: at,
        received_at: at + 5,
        time_source: TimeSource::Client,
        properties: vec![("n".to_owned(), PropertyValue::Integer(id.into()))],
    }
}

async fn send(db: &Db, n: u8, events: &[Event]) {
    let batch = BatchEncoder::default().encode_events(events);
    journal::insert(db, vec![NewBatch { shard_no: SHARD, batch_id: BatchId([n; 16]), batch }]).await.unwrap();
}

async fn pass(db: &Db, context: &SealContext, memory: &mut ShardMemory) -> PassOutcome {
    let taken = leases::find_lease(db, SHARD, LeaseTask::Seal, context.holder, 60_000).await.unwrap();
    let lease = taken.expect("nobody holds it");
    let outcome = run_pass(context, db, &lease, memory).await.unwrap();
    leases::release(db, &lease).await.unwrap();
    outcome
}

async fn stored(db: &Db) -> Vec<StoredRow> {
    let mut listed = objects::list_runs(db, SHARD).await.unwrap();
    listed.extend(objects::list_segments(db, SHARD, PROJECT, i64::MIN, i64::MAX).await.unwrap());
    let mut rows = Vec::new();
    for object in listed {
        let nos: Vec<u32> = (0..object.parts).collect();
        let read = objects::find_parts(db, object.object_id, &nos).await.unwrap().unwrap();
        let reader = ObjectReader::open(&read[0].1).unwrap();
        let mut parts = PartSet::default();
        read.into_iter().for_each(|(no, bytes)| parts.insert(no, bytes));
        let want = Want { columns: Columns::All, rows: RowRanges::All };
        for batch in reader.read_rows(&want, &parts).unwrap() {
            rows.extend(batch.unwrap());
        }
    }
    rows.sort_by_key(|row| (row.event_id, row.person_no));
    rows
}

on_both! {
    async fn an_event_is_stored_once_however_often_it_is_sent(db: Db) {
        // Half of the passes end in segments, half in runs.
        for (segment_rows_min, base) in [(1, 0_u8), (1_000, 100)] {
            let context = context(segment_rows_min);
            let mut memory = memory();
            let first = [event("a", base + 1, DAY_MS), event("b", base + 2, DAY_MS), event("a", base + 1, DAY_MS)];
            send(&db, base + 1, &first).await;
            send(&db, base + 2, &first[1..]).await;
            let outcome = pass(&db, &context, &mut memory).await;
            assert_eq!((outcome.batches, outcome.events, outcome.rows, outcome.duplicates), (2, 5, 2, 3));
            // Again, together with something new, by a worker that remembers and by one that does not.
            for (n, mut memory) in [(3, memory), (4, self::memory())] {
                send(&db, base + n, &[event("b", base + 2, DAY_MS), event("c", base + 10 + n, DAY_MS)]).await;
                let outcome = pass(&db, &context, &mut memory).await;
                assert_eq!((outcome.rows, outcome.duplicates), (1, 1));
            }
        }
        let rows = stored(&db).await;
        assert_eq!(rows.len(), 8);
        assert!(journal::backlog(&db).await.unwrap().is_empty());
        let mut persons = BTreeMap::new();
        for row in &rows {
            assert_eq!(row.person_no, row.id_no);
            *persons.entry(row.person_no).or_insert(0) += 1;
        }
        assert_eq!(persons.into_values().collect::<Vec<_>>(), [2, 2, 4], "a, b and c keep their numbers");
    }
}

on_both! {
    async fn the_first_content_wins_and_days_and_persons_tell_events_apart(db: Db) {
        let context = context(1_000);
        let mut memory = memory();
        send(&db, 1, &[event("a", 1, DAY_MS)]).await;
        pass(&db, &context, &mut memory).await;
        let mut changed = event("a", 1, DAY_MS + 7);
        changed.properties[0].1 = PropertyValue::Integer(99);
        send(&db, 2, &[changed, event("b", 1, DAY_MS), event("a", 1, 2 * DAY_MS)]).await;
        let outcome = pass(&db, &context, &mut memory).await;
        assert_eq!((outcome.rows, outcome.duplicates), (2, 1));
        let rows = stored(&db).await;
        assert_eq!(rows.iter().filter(|row| row.properties[0].1 == PropertyValue::Integer(99)).count(), 0);
    }
}

on_both! {
    async fn a_time_that_is_not_the_clients_is_looked_for_on_the_neighbouring_days(db: Db) {
        let context = context(1);
        let mut memory = memory();
        let server_time = |at| Event { time_source: TimeSource::Server, ..event("a", 1, at) };
        send(&db, 1, &[server_time(5 * DAY_MS)]).await;
        pass(&db, &context, &mut memory).await;
        send(&db, 2, &[server_time(6 * DAY_MS), server_time(4 * DAY_MS)]).await;
        assert_eq!(pass(&db, &context, &mut memory).await.duplicates, 2);
        send(&db, 3, &[server_time(7 * DAY_MS)]).await;
        assert_eq!(pass(&db, &context, &mut memory).await.rows, 1, "two days away is another event");
    }
}

on_both! {
    async fn a_broken_batch_is_put_aside_and_the_shard_goes_on(db: Db) {
        let context = context(1_000);
        let mut batch = BatchEncoder::default().encode_events(&[event("a", 1, DAY_MS)]);
        batch.body.truncate(batch.body.len() / 2);
        journal::insert(&db, vec![NewBatch { shard_no: SHARD, batch_id: BatchId([1; 16]), batch }]).await.unwrap();
        send(&db, 2, &[event("a", 2, DAY_MS)]).await;
        let outcome = pass(&db, &context, &mut memory()).await;
        assert_eq!((outcome.broken, outcome.rows), (1, 1));
        let kept = crate::storage::server::failed_events::list_latest(&db, ProjectId(0), 10).await.unwrap();
        assert_eq!(kept.len(), 1);
        assert!(journal::backlog(&db).await.unwrap().is_empty());
    }
}

on_both! {
    async fn a_worker_that_lost_its_lease_changes_nothing(db: Db) {
        let context = context(1);
        send(&db, 1, &[event("a", 1, DAY_MS)]).await;
        let lost = leases::find_lease(&db, SHARD, LeaseTask::Seal, context.holder, 60_000).await.unwrap().unwrap();
        leases::release(&db, &lost).await.unwrap();
        let other = ReplicaId([8; 16]);
        leases::find_lease(&db, SHARD, LeaseTask::Seal, other, 60_000).await.unwrap().unwrap();
        let failed = run_pass(&context, &db, &lost, &mut memory()).await;
        assert!(matches!(failed, Err(SealError::LeaseLost)), "{failed:?}");
        assert!(stored(&db).await.is_empty());
        assert_eq!(journal::backlog(&db).await.unwrap().len(), 1);
    }
}

on_both! {
    async fn a_pass_takes_a_bounded_part_of_the_journal(db: Db) {
        let context = SealContext { pass_bytes_max: 1, ..context(1_000) };
        for n in 1..=3 {
            send(&db, n, &[event("a", n, DAY_MS)]).await;
        }
        let mut memory = memory();
        for left in [true, true, false] {
            let outcome = pass(&db, &context, &mut memory).await;
            assert_eq!((outcome.batches, outcome.more), (1, left));
        }
        assert_eq!(stored(&db).await.len(), 3);
    }
}

on_both! {
    async fn links_are_recorded_and_never_stored_as_rows(db: Db) {
        let mut link = event("anonymous", 1, DAY_MS);
        link.event = LINK_EVENT.to_owned();
        link.anonymous_id = Some("user".to_owned());
        send(&db, 1, &[link, event("user", 2, DAY_MS)]).await;
        let outcome = pass(&db, &context(1), &mut memory()).await;
        assert_eq!((outcome.links, outcome.rows), (1, 1));
    }
}
