//! Leases exclude, expire and fence.

use super::on_both;
use crate::model::{ReplicaId, ShardNo};
use crate::storage::Db;
use crate::storage::server::leases::{self, LeaseTask};

const ONE: ReplicaId = ReplicaId([1; 16]);
const TWO: ReplicaId = ReplicaId([2; 16]);
const LONG_MS: u64 = 60_000;

async fn take(db: &Db, holder: ReplicaId, lease_ms: u64) -> Option<leases::Lease> {
    leases::find_lease(db, ShardNo(3), LeaseTask::Seal, holder, lease_ms).await.unwrap()
}

async fn is_held(db: &Db, lease: leases::Lease) -> bool {
    db.transaction(move |tx| Box::pin(async move { leases::is_held(tx, &lease).await })).await.unwrap()
}

on_both! {
    async fn one_holder_at_a_time_and_a_released_lease_is_free(db: Db) {
        let lease = take(&db, ONE, LONG_MS).await.unwrap();
        assert_eq!(lease.fence, 1);
        assert_eq!(take(&db, TWO, LONG_MS).await, None);
        let other = leases::find_lease(&db, ShardNo(3), LeaseTask::Compact, TWO, LONG_MS).await.unwrap();
        assert!(other.is_some(), "another task of the same shard has its own lease");
        assert!(leases::renew(&db, &lease, LONG_MS).await.unwrap());
        leases::release(&db, &lease).await.unwrap();
        assert_eq!(take(&db, TWO, LONG_MS).await.unwrap().fence, 2);
    }
}

on_both! {
    async fn who_lost_a_lease_is_told_everywhere(db: Db) {
        let lost = take(&db, ONE, LONG_MS).await.unwrap();
        assert!(is_held(&db, lost).await);
        leases::release(&db, &lost).await.unwrap();
        let held = take(&db, TWO, LONG_MS).await.unwrap();
        assert!(!is_held(&db, lost).await);
        assert!(!leases::renew(&db, &lost, LONG_MS).await.unwrap());
        leases::release(&db, &lost).await.unwrap();
        assert!(is_held(&db, held).await);
        assert_eq!(take(&db, ONE, LONG_MS).await, None, "a release by a former holder frees nothing");
    }
}

on_both! {
    async fn an_expired_lease_is_taken_over_with_a_higher_fence(db: Db) {
        // Expired as soon as the database's clock has moved on by a millisecond.
        let first = take(&db, ONE, 0).await.unwrap();
        let start = db.now_ms().await.unwrap();
        while db.now_ms().await.unwrap() <= start + 1 {}
        let second = take(&db, TWO, LONG_MS).await.unwrap();
        assert_eq!(second.fence, first.fence + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_holder_is_overtaken_at_once_and_its_transaction_undone() {
    let database = super::fresh_mysql().await;
    let db = database.open_with_schemas().await;
    // Expired as soon as the clock has moved on; the transaction stays where it is.
    let frozen = take(&db, ONE, LONG_MS).await.unwrap();
    let (inside, mut entered) = tokio::sync::mpsc::channel::<()>(1);
    let go_on = std::sync::Arc::new(tokio::sync::Notify::new());
    let closing = tokio::spawn({
        let (db, go_on) = (db.clone(), go_on.clone());
        async move {
            db.transaction_after(leases::enter(&frozen, 0), move |tx| {
                let (inside, go_on) = (inside.clone(), go_on.clone());
                Box::pin(async move {
                    assert!(leases::is_held(tx, &frozen).await?);
                    leases::leave(tx, &frozen).await?;
                    inside.send(()).await.unwrap();
                    go_on.notified().await;
                    Ok::<_, crate::storage::StorageError>(())
                })
            })
            .await
        }
    });
    entered.recv().await.unwrap();
    let start = std::time::Instant::now();
    let successor = loop {
        if let Some(lease) = take(&db, TWO, LONG_MS).await {
            break lease;
        }
    };
    // A lock wait would take three seconds, and then fail.
    assert!(start.elapsed() < std::time::Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(successor.fence, frozen.fence + 1);
    go_on.notify_one();
    assert!(closing.await.unwrap().unwrap_err().is_transient());
    assert!(is_held(&db, successor).await && !is_held(&db, frozen).await);
}
