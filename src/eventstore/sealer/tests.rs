//! Passes over real journals, on both back ends.

mod erased;
mod expired;
mod profiles;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::eventstore::fixture::{seal_context, two_servers};
use crate::eventstore::format::{Columns, ObjectReader, PartSet, RowRanges, StoredRow, Want};
use crate::model::ProjectId;
use crate::model::{
    BatchId, DAY_MS, Event, EventId, PropertyRef, PropertyValue, ReplicaId, SeededRandom, ServerId,
    TimeSource,
};
use crate::storage::Statement;
use crate::storage::batch::{BatchEncoder, encode_event};
use crate::storage::conformance::{TestDatabase, fresh_mysql, fresh_sqlite, on_both};
use crate::storage::server::failed_events;
use crate::storage::server::journal::NewBatch;
use crate::storage::server::{leases::LeaseTask, objects};

const SHARD: ShardNo = ShardNo(1);
const PROJECT: ProjectId = ProjectId(3);
const INSTALLATION: ServerId = ServerId([7; 16]);

fn context(segment_rows_min: usize) -> SealContext {
    SealContext {
        random: Arc::new(SeededRandom::new(segment_rows_min as u64)),
        segment_rows_min,
        move_chunk: ChunkLimits { rows_max: 5, raw_bytes_max: 1 << 20 },
        ..seal_context(Homes::one(SHARD))
    }
}

fn memory() -> ShardMemory {
    ShardMemory {
        persons: PersonsCache::new(100),
        days: DaysCache::new(100),
        opened: OpenedCache::new(1 << 20),
        unlinked: Default::default(),
        erased: ErasedIds::new(INSTALLATION),
        moves: Default::default(),
        looked_at: Default::default(),
    }
}

fn event(who: &str, id: u8, at: i64) -> Event {
    Event {
        project_id: PROJECT,
        distinct_id: who.into(),
        anonymous_id: None,
        event: "visited".into(),
        event_id: EventId([id; 16]),
        occurred_at: at,
        received_at: at + 5,
        time_source: TimeSource::Client,
        properties: vec![("n", PropertyValue::Integer(id.into()))].into(),
        route: Vec::new(),
    }
}

async fn send(db: &Db, n: u8, events: &[Event]) {
    let batch = BatchEncoder::default().encode_events(events);
    journal::insert(db, vec![NewBatch { shard_no: SHARD, batch_id: BatchId([n; 16]), batch }]).await.unwrap();
}

async fn pass(db: &Db, context: &SealContext, memory: &mut ShardMemory) -> PassOutcome {
    try_pass(db, context, memory, &mut Doubts::default()).await.unwrap()
}

async fn try_pass(
    db: &Db,
    context: &SealContext,
    memory: &mut ShardMemory,
    doubts: &mut Doubts,
) -> Result<PassOutcome, SealError> {
    let taken = leases::find_lease(db, SHARD, LeaseTask::Seal, context.holder, 60_000).await.unwrap();
    let lease = taken.expect("nobody holds it");
    let outcome = run_pass(context, db, &lease, memory, doubts).await;
    leases::release(db, &lease).await.unwrap();
    outcome
}

/// Passes, as a worker makes them, until the journal is empty; what all of them did.
async fn seal_all(db: &Db, context: &SealContext) -> PassOutcome {
    let (mut doubts, mut all) = (Doubts::default(), PassOutcome::default());
    for _ in 0..60 {
        match try_pass(db, context, &mut memory(), &mut doubts).await {
            Ok(outcome) => {
                doubts.pass_succeeded();
                all.rows += outcome.rows;
                all.broken += outcome.broken;
                all.batches += outcome.batches;
            }
            Err(error) if error.may_be_an_event() => doubts.pass_failed(),
            Err(error) => panic!("{error:?}"),
        }
        if journal::backlog(db).await.unwrap().is_empty() {
            return all;
        }
    }
    panic!("the shard is blocked: {all:?}");
}

async fn put_aside(db: &Db, project_id: ProjectId) -> Vec<failed_events::FailedEvent> {
    failed_events::list_latest(db, project_id, 100).await.unwrap()
}

/// The database itself refuses ids with this beginning.
async fn refuse_ids(db: &Db) {
    static REFUSE: Statement = Statement {
        name: "test.refuse",
        mysql: "CREATE TRIGGER refuse BEFORE INSERT ON distinct_ids FOR EACH ROW \
                IF NEW.distinct_id LIKE 'poison%' THEN \
                SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'told to refuse'; END IF",
        sqlite: "CREATE TRIGGER refuse BEFORE INSERT ON distinct_ids WHEN NEW.distinct_id LIKE 'poison%' \
                 BEGIN SELECT RAISE(ABORT, 'told to refuse'); END",
    };
    db.execute(&REFUSE, vec![]).await.unwrap();
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
        changed.properties = changed.properties.with("n", PropertyValue::Integer(99));
        send(&db, 2, &[changed, event("b", 1, DAY_MS), event("a", 1, 2 * DAY_MS)]).await;
        let outcome = pass(&db, &context, &mut memory).await;
        assert_eq!((outcome.rows, outcome.duplicates), (2, 1));
        assert_eq!((outcome.compared, outcome.changed), (1, 1));
        send(&db, 3, &[event("b", 1, DAY_MS), event("b", 1, DAY_MS)]).await;
        let outcome = pass(&db, &context, &mut memory).await;
        assert_eq!((outcome.duplicates, outcome.compared, outcome.changed), (2, 2, 0));
        let rows = stored(&db).await;
        assert_eq!(rows.iter().filter(|row| row.properties.get("n") == Some(PropertyRef::Integer(99))).count(), 0);
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
    async fn a_batch_that_cannot_be_read_at_all_is_put_aside_whole(db: Db) {
        let context = context(1_000);
        let mut batch = BatchEncoder::default().encode_events(&[event("a", 1, DAY_MS)]);
        batch.body.truncate(batch.body.len() / 2);
        journal::insert(&db, vec![NewBatch { shard_no: SHARD, batch_id: BatchId([1; 16]), batch }]).await.unwrap();
        send(&db, 2, &[event("a", 2, DAY_MS)]).await;
        let (mut memory, mut doubts) = (memory(), Doubts::default());
        let mut passed = Vec::new();
        for _ in 0..3 {
            let outcome = try_pass(&db, &context, &mut memory, &mut doubts).await.unwrap();
            passed.push((outcome.batches, outcome.rows, outcome.broken));
        }
        // The sound one at once; the other when it has failed three times.
        assert_eq!(passed, [(1, 1, 0), (0, 0, 0), (1, 0, 1)]);
        let kept = put_aside(&db, ProjectId(0)).await;
        assert_eq!(kept.iter().map(|kept| kept.reason.as_str()).collect::<Vec<_>>(), ["broken_batch"]);
        assert!(journal::backlog(&db).await.unwrap().is_empty());
    }
}

on_both! {
    async fn of_a_poisoned_batch_only_the_bad_event_is_put_aside(db: Db) {
        let mut records: Vec<Vec<u8>> = Vec::new();
        for n in 1..=9 {
            records.push(Vec::new());
            encode_event(&event("a", n, DAY_MS), records.last_mut().unwrap());
        }
        // Its flags; the size before them still says where the next record begins.
        records[4][2] = 0xff;
        let batch = BatchEncoder::default().encode(9, records.iter().map(Vec::as_slice));
        journal::insert(&db, vec![NewBatch { shard_no: SHARD, batch_id: BatchId([1; 16]), batch }]).await.unwrap();
        let all = seal_all(&db, &context(1)).await;
        assert_eq!((all.rows, all.broken), (8, 1));
        let numbers: Vec<_> = stored(&db).await.iter().map(|row| row.event_id.0[0]).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 6, 7, 8, 9]);
        let kept = put_aside(&db, PROJECT).await;
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].reason.as_str(), &kept[0].body[..]), ("broken_event", &records[4][2..]));
    }
}

on_both! {
    async fn events_that_the_database_refuses_are_found_among_many_batches(db: Db) {
        refuse_ids(&db).await;
        let mut sent = Vec::new();
        for n in 0..12_u8 {
            let who = |k: u8| if (n, k) == (7, 3) || (n, k) == (9, 0) { format!("poison{n}") } else { format!("p{k}") };
            let events: Vec<_> = (0..6).map(|k| event(&who(k), 10 * n + k + 1, DAY_MS)).collect();
            send(&db, n + 1, &events).await;
            sent.extend(events);
        }
        let all = seal_all(&db, &context(1)).await;
        assert_eq!((all.batches, all.rows, all.broken), (12, 70, 2));
        let stored = stored(&db).await;
        let expected: Vec<_> =
            sent.iter().filter(|e| !e.distinct_id.starts_with("poison")).map(|e| e.event_id).collect();
        assert_eq!(stored.iter().map(|row| row.event_id).collect::<Vec<_>>(), expected);
        let kept = put_aside(&db, PROJECT).await;
        assert_eq!(kept.len(), 2);
        for failed in kept {
            assert_eq!(failed.reason, "unsealable_event");
            assert!(failed.detail.contains("told to refuse"), "{}", failed.detail);
            let body: serde_json::Value = serde_json::from_slice(&failed.body).unwrap();
            assert!(body["distinct_id"].as_str().unwrap().starts_with("poison"), "{body}");
            assert_eq!(body["properties"]["n"].as_u64(), Some(body["id"].as_str().map(|id| {
                u64::from_str_radix(&id[..2], 16).unwrap()
            }).unwrap()));
        }
    }
}

on_both! {
    async fn a_database_that_refuses_everything_costs_no_event(db: Db) {
        const fn renames(text: &'static str) -> Statement {
            Statement { name: "test.rename", mysql: text, sqlite: text }
        }
        static BREAK: Statement = renames("ALTER TABLE persons RENAME TO persons_away");
        static MEND: Statement = renames("ALTER TABLE persons_away RENAME TO persons");
        send(&db, 1, &[event("a", 1, DAY_MS), event("b", 2, DAY_MS)]).await;
        db.execute(&BREAK, vec![]).await.unwrap();
        let (context, mut doubts) = (context(1), Doubts::default());
        for _ in 0..8 {
            try_pass(&db, &context, &mut memory(), &mut doubts).await.expect_err("there are no persons");
            doubts.pass_failed();
        }
        assert_eq!((put_aside(&db, PROJECT).await.len(), put_aside(&db, ProjectId(0)).await.len()), (0, 0));
        db.execute(&MEND, vec![]).await.unwrap();
        let outcome = try_pass(&db, &context, &mut memory(), &mut doubts).await.unwrap();
        assert_eq!((outcome.rows, outcome.broken), (2, 0));
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
        let failed = run_pass(&context, &db, &lost, &mut memory(), &mut Doubts::default()).await;
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
        link.event = LINK_EVENT.into();
        link.anonymous_id = Some("user".into());
        send(&db, 1, &[link, event("user", 2, DAY_MS)]).await;
        let outcome = pass(&db, &context(1), &mut memory()).await;
        assert_eq!((outcome.links, outcome.rows), (1, 1));
    }
}

/// The worker itself, over two shards of one server.
async fn a_poisoned_shard_holds_up_no_other(databases: [TestDatabase; 3]) {
    let storage = two_servers(&databases).await;
    let server = &storage.shards.servers()[0];
    let db = server.db().unwrap();
    let [poisoned, sound] = storage.shards.shards_of(server.server_id)[..] else { panic!("two shards") };
    refuse_ids(db).await;
    let journal_has =
        async |shard_no| journal::backlog(db).await.unwrap().iter().any(|entry| entry.shard_no == shard_no);
    for (shard_no, n, who) in [(poisoned, 1, "poison"), (poisoned, 2, "a"), (sound, 3, "b")] {
        let batch = BatchEncoder::default().encode_events(&[event(who, n, DAY_MS), event("c", n, DAY_MS)]);
        journal::insert(db, vec![NewBatch { shard_no, batch_id: BatchId([n; 16]), batch }]).await.unwrap();
    }
    let metrics = Metrics::default();
    let sealer = Sealer::new(context(1), storage.shards.clone(), 2, &metrics);
    sealer.seal_everything().await.unwrap();
    assert!(!journal_has(sound).await && journal_has(poisoned).await);
    let mut rounds = 1;
    while journal_has(poisoned).await {
        sealer.seal_everything().await.unwrap();
        rounds += 1;
        assert!(rounds < 20, "the shard is blocked");
    }
    assert!(rounds >= 4, "three failures come before any verdict");
    let kept = put_aside(db, PROJECT).await;
    assert_eq!(kept.iter().map(|kept| kept.reason.as_str()).collect::<Vec<_>>(), ["unsealable_event"]);
    let shown = metrics.render();
    assert!(shown.contains(r#"weir_seal_events_total{outcome="stored"} 5"#), "{shown}");
    assert!(shown.contains(r#"weir_seal_events_total{outcome="broken"} 1"#), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_shard_holds_up_no_other_sqlite() {
    a_poisoned_shard_holds_up_no_other([fresh_sqlite(), fresh_sqlite(), fresh_sqlite()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_shard_holds_up_no_other_mysql() {
    let databases = [fresh_mysql().await, fresh_mysql().await, fresh_mysql().await];
    a_poisoned_shard_holds_up_no_other(databases).await;
}
