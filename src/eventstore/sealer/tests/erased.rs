//! Events of erased persons.

use super::*;
use crate::model::{IdHash, LINK_EVENT};
use crate::storage::server::{masks, tombstones};

async fn bury(db: &Db, id: &str, until: i64) {
    tombstones::insert(db, PROJECT, &[IdHash::of(INSTALLATION, PROJECT, id)], until).await.unwrap();
}

on_both! {
    async fn what_occurred_or_arrived_until_the_erasure_is_dropped(db: Db) {
        bury(&db, "gone", 1_000).await;
        let mut context = context(1_000);
        context.homes = Homes::one(SHARD);
        let mut memory = memory();
        let early_arrival = Event { received_at: 1_000, ..event("gone", 4, 5_000) };
        let passed = Event { route: vec!["gone".into(), "here".into()], ..event("phone", 5, 900) };
        let link = |id: &str, target: &str| Event {
            event: LINK_EVENT.into(),
            anonymous_id: Some(target.into()),
            ..event(id, 6, 900)
        };
        // An anonymous id beside an event is no id of its person.
        let beside = Event { anonymous_id: Some("gone".into()), ..event("other", 7, 900) };
        let events = [
            event("gone", 1, 1_000),
            event("gone", 2, 1_001),
            event("stays", 3, 10),
            early_arrival,
            passed,
            link("gone", "x"),
            link("x", "gone"),
            beside,
        ];
        send(&db, 1, &events).await;
        let outcome = pass(&db, &context, &mut memory).await;
        assert_eq!((outcome.events, outcome.erased, outcome.rows, outcome.links), (8, 5, 3, 0), "{outcome:?}");
        // For as long as the lease lasts, nobody else is erased.
        send(&db, 2, &[event("gone", 8, 999), event("stays", 9, 999)]).await;
        let outcome = pass(&db, &context, &mut memory).await;
        assert_eq!((outcome.erased, outcome.rows), (1, 1));
    }
}

on_both! {
    async fn what_a_pass_writes_obeys_the_masks_of_before(db: Db) {
        let context = context(1_000);
        let mut memory = memory();
        send(&db, 1, &[event("a", 1, 10)]).await;
        pass(&db, &context, &mut memory).await;
        let masked: Result<(), StorageError> =
            db.transaction(|tx| Box::pin(masks::insert(tx, SHARD, PROJECT, 90, "moved", 1))).await;
        masked.unwrap();
        // Others take the lease away for that; this worker has just begun.
        let mut memory = super::memory();
        send(&db, 2, &[event("a", 2, 10)]).await;
        pass(&db, &context, &mut memory).await;
        let runs = objects::list_runs_bare(&db, SHARD).await.unwrap();
        let mut versions: Vec<i64> = runs.iter().map(|run| run.mask_version).collect();
        versions.sort_unstable();
        assert_eq!(versions, [0, 1]);
    }
}
