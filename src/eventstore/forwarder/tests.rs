//! Batches between two real servers, on both back ends.

use super::*;
use crate::eventstore::fixture::two_servers;
use crate::model::{BatchId, DAY_MS, Event, EventId, ProjectId, Properties, TimeSource};
use crate::storage::Storage;
use crate::storage::batch::BatchEncoder;
use crate::storage::conformance::{TestDatabase, fresh_mysql, fresh_sqlite};
use crate::storage::server::journal::NewBatch;

fn forwarder(storage: &Storage, n: u8) -> Forwarder {
    let idle = Duration::from_millis(1);
    Forwarder::new(ReplicaId([n; 16]), storage.shards.clone(), 60_000, idle, &Metrics::default())
}

async fn insert(db: &Db, shard_no: ShardNo, n: u8, value_bytes: usize) {
    let event = Event {
        project_id: ProjectId(1),
        distinct_id: "x".repeat(value_bytes).into(),
        anonymous_id: None,
        event: "spilled".into(),
        event_id: EventId([n; 16]),
        occurred_at: DAY_MS,
        received_at: DAY_MS,
        time_source: TimeSource::Client,
        properties: Properties::default(),
        route: Vec::new(),
    };
    let batch = BatchEncoder::default().encode_events([&event]);
    journal::insert(db, vec![NewBatch { shard_no, batch_id: BatchId([n; 16]), batch }]).await.unwrap();
}

async fn entries(db: &Db, shard_no: ShardNo) -> Vec<JournalEntry> {
    journal::list_oldest(db, shard_no, 1_000).await.unwrap()
}

/// Moves everything to its home and nothing else, as it was, whatever was there before.
async fn batches_go_home_as_they_are(databases: [TestDatabase; 3]) {
    let storage = two_servers(&databases).await;
    let [here, there] = storage.shards.servers() else { panic!("two servers") };
    let (away, at_home) =
        (storage.shards.shards_of(there.server_id)[0], storage.shards.shards_of(here.server_id)[0]);
    for n in 1..=40 {
        insert(here.db().unwrap(), away, n, 10).await;
    }
    insert(here.db().unwrap(), at_home, 50, 10).await;
    // One is there already: a forwarder died after its insert.
    let waiting = entries(here.db().unwrap(), away).await;
    let first = journal::read(here.db().unwrap(), away, &[waiting[0].batch_id]).await.unwrap();
    journal::insert_forwarded(there.db().unwrap(), away, &first).await.unwrap();

    let forwarder = forwarder(&storage, 1);
    assert_eq!(forwarder.forward_server(here).await.unwrap(), 40);
    assert_eq!(entries(there.db().unwrap(), away).await, waiting, "the time of the first insert included");
    let bodies = journal::read(there.db().unwrap(), away, &ids(&waiting)).await.unwrap();
    assert!(bodies.iter().all(|batch| !batch.body.is_empty()));
    assert!(entries(here.db().unwrap(), away).await.is_empty());
    assert_eq!(entries(here.db().unwrap(), at_home).await.len(), 1, "what lives here stays here");
    assert_eq!(forwarder.forward_server(here).await.unwrap(), 0);
    assert_eq!(forwarder.forward_server(there).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_go_home_as_they_are_sqlite() {
    batches_go_home_as_they_are([fresh_sqlite(), fresh_sqlite(), fresh_sqlite()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_go_home_as_they_are_mysql() {
    batches_go_home_as_they_are([fresh_mysql().await, fresh_mysql().await, fresh_mysql().await]).await;
}

/// A forwarder that lost its lease deletes nothing; two at once move each batch.
async fn two_forwarders_lose_nothing(databases: [TestDatabase; 3]) {
    let storage = two_servers(&databases).await;
    let [here, there] = storage.shards.servers() else { panic!("two servers") };
    let away = storage.shards.shards_of(there.server_id)[0];
    let (here_db, there_db) = (here.db().unwrap(), there.db().unwrap());
    insert(here_db, away, 1, 10).await;
    let (one, two) = (forwarder(&storage, 1), forwarder(&storage, 2));
    let lost =
        leases::find_lease(here_db, away, LeaseTask::Forward, one.holder, 60_000).await.unwrap().unwrap();
    assert_eq!(two.forward_server(here).await.unwrap(), 0, "one at a time");
    leases::release(here_db, &lost).await.unwrap();
    let held =
        leases::find_lease(here_db, away, LeaseTask::Forward, two.holder, 60_000).await.unwrap().unwrap();
    let overtaken = one.step(here_db, there_db, &lost).await;
    assert!(matches!(overtaken, Err(ForwardError::Overtaken)), "{overtaken:?}");
    assert_eq!((entries(here_db, away).await.len(), entries(there_db, away).await.len()), (1, 1));
    leases::release(here_db, &held).await.unwrap();

    for n in 2..=100 {
        insert(here_db, away, n, 10).await;
    }
    while !entries(here_db, away).await.is_empty() {
        let (first, second) = tokio::join!(one.forward_server(here), two.forward_server(here));
        first.unwrap();
        second.unwrap();
    }
    assert_eq!(entries(there_db, away).await.len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_forwarders_lose_nothing_sqlite() {
    two_forwarders_lose_nothing([fresh_sqlite(), fresh_sqlite(), fresh_sqlite()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_forwarders_lose_nothing_mysql() {
    two_forwarders_lose_nothing([fresh_mysql().await, fresh_mysql().await, fresh_mysql().await]).await;
}

#[test]
fn a_step_is_cut_by_bytes_and_takes_one_however_large() {
    let batch = |n: u8, bytes: usize| JournalBatch {
        entry: JournalEntry { batch_id: BatchId([n; 16]), events: 1, inflated_bytes: 1, inserted_at: 0 },
        body: vec![0; bytes],
    };
    let counts = |sizes: &[usize]| {
        fitting(sizes.iter().enumerate().map(|(n, bytes)| batch(n as u8, *bytes)).collect()).len()
    };
    assert_eq!(counts(&[INSERT_BYTES_MAX / 2; 3]), 2);
    assert_eq!(counts(&[INSERT_BYTES_MAX + 1, 1]), 1);
    assert_eq!(counts(&[1, 2, 3]), 3);
}
