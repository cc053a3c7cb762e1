use std::time::Duration;

use super::on_both;
use crate::model::{BatchId, Clock, Event, EventId, ProjectId, Properties, ShardNo, SystemClock, TimeSource};
use crate::storage::batch::{BatchDecoder, BatchEncoder};
use crate::storage::server::journal::{self, NewBatch};
use crate::storage::{Db, StorageError};

fn event(n: u8) -> Event {
    Event {
        project_id: ProjectId(1),
        distinct_id: format!("u{n}").into(),
        anonymous_id: None,
        event: "e".into(),
        event_id: EventId([n; 16]),
        occurred_at: i64::from(n),
        received_at: i64::from(n),
        time_source: TimeSource::Client,
        properties: Properties::default(),
        route: Vec::new(),
    }
}

fn new_batch(shard_no: u16, n: u8) -> NewBatch {
    let batch = BatchEncoder::default().encode_events(&[event(n)]);
    NewBatch { shard_no: ShardNo(shard_no), batch_id: BatchId([n; 16]), batch }
}

async fn ids(db: &Db, shard_no: u16) -> Vec<u8> {
    let entries = journal::list_oldest(db, ShardNo(shard_no), 1_000).await.unwrap();
    entries.iter().map(|entry| entry.batch_id.0[0]).collect()
}

async fn delete(db: &Db, shard_no: u16, ids: Vec<BatchId>) -> u64 {
    db.transaction(move |tx| {
        let ids = ids.clone();
        Box::pin(async move { journal::delete(tx, ShardNo(shard_no), &ids).await })
    })
    .await
    .unwrap()
}

on_both! {
    async fn a_batch_comes_back_as_it_was_inserted(db: Db) {
        let before = journal::database_now(&db).await.unwrap();
        journal::insert(&db, vec![new_batch(3, 2), new_batch(3, 1), new_batch(4, 9)]).await.unwrap();
        let after = journal::database_now(&db).await.unwrap();

        assert_eq!(ids(&db, 3).await, [1, 2]);
        let batches = journal::read(&db, ShardNo(3), &[BatchId([2; 16]), BatchId([1; 16])]).await.unwrap();
        assert_eq!(batches.len(), 2);
        for (n, batch) in (1..).zip(&batches) {
            let decoded = BatchDecoder::default().decode(&batch.body).unwrap();
            assert_eq!(decoded.events, [event(n)]);
            assert_eq!(batch.entry.events, 1);
            assert!((before..=after).contains(&batch.entry.inserted_at));
        }
        let latest = journal::list_latest(&db, ShardNo(3), 1).await.unwrap();
        assert_eq!(latest[0].entry, batches[1].entry);
        // Both clocks are this machine's.
        assert!((SystemClock.now_ms() - after).abs() < 5_000);

        let backlog = journal::backlog(&db).await.unwrap();
        let shards: Vec<_> = backlog.iter().map(|b| (b.shard_no.0, b.batches, b.events)).collect();
        assert_eq!(shards, [(3, 2, 2), (4, 1, 1)]);
        assert_eq!(backlog[0].oldest_inserted_at, batches[0].entry.inserted_at);
        let waiting = journal::list_waiting(&db).await.unwrap();
        let oldest: Vec<_> = backlog.iter().map(|b| (b.shard_no, b.oldest_inserted_at)).collect();
        assert_eq!(waiting, oldest);
    }
}

on_both! {
    async fn the_same_batch_twice_is_there_once_and_unchanged(db: Db) {
        journal::insert(&db, vec![new_batch(1, 1)]).await.unwrap();
        let first = journal::list_oldest(&db, ShardNo(1), 9).await.unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
        // A retry may carry it beside others.
        journal::insert(&db, vec![new_batch(1, 1), new_batch(1, 2)]).await.unwrap();
        let second = journal::list_oldest(&db, ShardNo(1), 9).await.unwrap();
        assert_eq!(second.len(), 2);
        assert_eq!(second[0], first[0]);
    }
}

on_both! {
    async fn every_number_of_rows_is_one_statement(db: Db) {
        for count in 1..=journal::INSERT_ROWS_MAX {
            let batches = (0..count).map(|n| new_batch(count as u16, n as u8)).collect();
            journal::insert(&db, batches).await.unwrap();
            assert_eq!(ids(&db, count as u16).await.len(), count);
        }
    }
}

on_both! {
    async fn only_the_named_batches_are_deleted(db: Db) {
        for n in 0..=249 {
            journal::insert(&db, vec![new_batch(1, n), new_batch(2, n)]).await.unwrap();
        }
        // More than fit one statement, and one that is not there.
        let named: Vec<BatchId> = (3..=255).map(|n| BatchId([n; 16])).collect();
        assert_eq!(delete(&db, 1, named).await, 247);
        assert_eq!(ids(&db, 1).await, [0, 1, 2]);
        assert_eq!(ids(&db, 2).await.len(), 250);
    }
}

/// The sealer must not wait for collection: a delete by scan would stop at the first open insert.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_does_not_wait_for_an_open_insert_on_mysql() {
    let database = super::fresh_mysql().await;
    let db = database.open_with_schemas().await;
    for n in 0..=249 {
        journal::insert(&db, vec![new_batch(1, n)]).await.unwrap();
    }
    let (opened, is_open) = tokio::sync::oneshot::channel();
    let (finish, finished) = tokio::sync::oneshot::channel::<()>();
    let channels = std::sync::Mutex::new(Some((opened, finished)));
    let other = db.clone();
    let open_insert = tokio::spawn(async move {
        static INSERT: crate::storage::Statement = crate::storage::db::statement!(
            "test.insert",
            "INSERT INTO journal (shard_no, batch_id, events, bytes, inserted_at, body) \
             VALUES (1, ?, 0, 0, 0, '')"
        );
        other
            .transaction(move |tx| {
                let channels = channels.lock().unwrap().take();
                Box::pin(async move {
                    tx.execute(&INSERT, crate::values![[0x01, 0xff].repeat(8)]).await?;
                    if let Some((opened, finished)) = channels {
                        opened.send(()).unwrap();
                        finished.await.unwrap();
                    }
                    Ok::<_, StorageError>(())
                })
            })
            .await
    });
    is_open.await.unwrap();
    let named: Vec<BatchId> = (0..=249).map(|n| BatchId([n; 16])).collect();
    // A lock wait would fail after three seconds and be tried again.
    let deleted = tokio::time::timeout(Duration::from_secs(2), delete(&db, 1, named)).await;
    assert_eq!(deleted.expect("no lock is waited for"), 250);
    finish.send(()).unwrap();
    open_insert.await.unwrap().unwrap();
}
