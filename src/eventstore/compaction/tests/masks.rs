//! Masked persons: their rows go, nobody else's do, and masks go when nothing is left to hide.

use super::super::masks::ERASED_GRACE_MS;
use super::*;
use crate::eventstore::held;
use crate::model::{FastSet, PersonNo};
use crate::storage::Statement;
use crate::storage::server::links::{self, Link, LinkState};
use crate::storage::server::{masks, persons};

/// Masks persons of [`PROJECT`]; with a move, theirs is open.
async fn mask(db: &Db, persons: &'static [PersonNo], reason: &'static str, moving: &'static [PersonNo]) {
    let done: Result<(), StorageError> = db
        .transaction(move |tx| {
            Box::pin(async move {
                persons::raise_counters(tx, SHARD, PROJECT, 50, 150).await?;
                for &person_no in persons {
                    masks::insert(tx, SHARD, PROJECT, person_no, reason, 5).await?;
                }
                for &person_no in moving {
                    links::start(tx, SHARD, PROJECT, &link(person_no), SHARD, person_no).await?;
                }
                Ok(())
            })
        })
        .await;
    done.unwrap();
}

fn link(person_no: PersonNo) -> Link {
    Link {
        distinct_id: format!("id{person_no}"),
        target_id: "target".to_owned(),
        target_shard: Some(SHARD),
        state: LinkState::Linked,
    }
}

const RAISE_TEXT: &str =
    "UPDATE project_shards SET erasure_epoch = erasure_epoch + 1 WHERE shard_no = ? AND project_id = 0";

/// As an erasure does it, but for the lease.
async fn erase(db: &Db, persons: &'static [PersonNo]) {
    mask(db, persons, masks::ERASED, &[]).await;
    static RAISE: Statement =
        Statement { name: "test.raise_erasures", mysql: RAISE_TEXT, sqlite: RAISE_TEXT };
    db.execute(&RAISE, crate::values![SHARD]).await.unwrap();
}

/// Whose rows lie in any object in any state, masked or not.
async fn stored(db: &Db) -> FastSet<PersonNo> {
    let mut stored = FastSet::default();
    let all: Vec<PersonNo> = (0..50).collect();
    for listed in objects::list_below(db, SHARD, i64::MAX, 1_000).await.unwrap() {
        let facts = held::facts_of(&listed.object).unwrap();
        let persons = held::Persons::from([(PROJECT, all.clone())]);
        let held = held::count_held(db, &listed.object, &facts, &persons).await.unwrap().unwrap();
        stored.extend(held.into_keys().map(|(_, person_no)| person_no));
    }
    stored
}

async fn masked(db: &Db) -> Vec<PersonNo> {
    let shard = masks::read_shard(db, SHARD, 0).await.unwrap();
    shard.masks.iter().map(|mask| mask.person_no).collect()
}

on_both! {
    async fn a_merge_leaves_out_who_is_erased_or_has_moved_and_no_one_else(db: Db) {
        let random = SeededRandom::new(5);
        for n in 0..4 {
            let mut mixed = rows(PROJECT, n * 100..(n + 1) * 100);
            // The same numbers are other persons in another project.
            mixed.extend(rows(OTHER, n * 3..(n + 1) * 3));
            store_run(&db, &random, mixed).await;
        }
        mask(&db, &[7], "moved", &[]).await;
        mask(&db, &[14], "moved", &[14]).await;
        mask(&db, &[21], masks::ERASED, &[]).await;
        let before = (shown(&db, PROJECT).await, shown(&db, OTHER).await);
        let mut compactor = compactor(1);
        let done = compactor.compact_shard(&db, SHARD).await.unwrap();
        assert_eq!((done.steps, done.dropped), (1, 16), "{done:?}");
        assert_eq!((shown(&db, PROJECT).await, shown(&db, OTHER).await), before);
        compactor.grace_ms = -1_000;
        compactor.compact_shard(&db, SHARD).await.unwrap();
        let stored = stored(&db).await;
        assert!(!stored.contains(&7) && !stored.contains(&21));
        assert!(stored.contains(&14), "its rows are still to be copied");
        let live = objects::list_all_segments(&db, SHARD).await.unwrap();
        let runs = objects::list_runs_bare(&db, SHARD).await.unwrap();
        assert!(live.iter().chain(&runs).all(|object| object.mask_version == 1), "what was masked before it");
    }
}

on_both! {
    async fn who_is_erased_is_in_no_object_after_a_short_grace(db: Db) {
        let random = SeededRandom::new(5);
        // One that nobody would merge, one that is replaced already, and one of others.
        store_segment(&db, &random, rows(PROJECT, 0..1_900)).await;
        fill(&db).await;
        let mut compactor = compactor(1);
        compactor.compact_shard(&db, SHARD).await.unwrap();
        store_segment(&db, &random, rows(OTHER, 0..300)).await;
        let others = shown(&db, OTHER).await;
        erase(&db, &[7, 14]).await;
        let before = shown(&db, PROJECT).await;
        assert!(stored(&db).await.contains(&7));

        let done = compactor.compact_shard(&db, SHARD).await.unwrap();
        assert!(done.dropped > 0, "{done:?}");
        assert_eq!(shown(&db, PROJECT).await, before);
        assert_eq!(shown(&db, OTHER).await, others);
        assert!(stored(&db).await.contains(&7), "somebody may still be reading it");
        // The grace is an hour; these go as if it were over but for three seconds.
        let listed = objects::list_below(&db, SHARD, i64::MAX, 1_000).await.unwrap();
        let live = listed.iter().filter(|listed| listed.is_live).count();
        let now = db.now_ms().await.unwrap();
        let soon = now + ERASED_GRACE_MS + 1 - compactor.grace_ms;
        assert!(objects::delete_retired(&db, SHARD, soon).await.unwrap() > 0);
        let stored = stored(&db).await;
        assert!(!stored.contains(&7) && !stored.contains(&14));
        assert_eq!(objects::list_below(&db, SHARD, i64::MAX, 1_000).await.unwrap().iter().filter(|l| l.is_live).count(), live);
        assert_eq!(shown(&db, PROJECT).await, before);
        // The next look finds nothing left, and from then on there is none.
        compactor.compact_shard(&db, SHARD).await.unwrap();
        assert_eq!(compactor.find_mask_work(&db, SHARD, now).await.unwrap().erasures, None);
        compactor.grace_ms = -1_000;
    }
}

on_both! {
    async fn an_object_of_nobody_else_vanishes(db: Db) {
        let random = SeededRandom::new(5);
        let of_one = || rows(PROJECT, 0..600).into_iter().filter(|row| row.person_no == 7).collect::<Vec<_>>();
        store_run(&db, &random, of_one()).await;
        store_segment(&db, &random, of_one()).await;
        erase(&db, &[7]).await;
        let done = compactor(1).compact_shard(&db, SHARD).await.unwrap();
        assert_eq!((done.outputs, done.dropped), (0, 24), "{done:?}");
        assert_eq!(counts(&db).await, (0, 0));
    }
}

on_both! {
    async fn masks_go_when_every_object_obeys_them_and_no_move_is_open(db: Db) {
        let random = SeededRandom::new(5);
        // Full segments, which no merge touches.
        for n in 0..3 {
            store_segment(&db, &random, rows(PROJECT, n * 1_500..(n + 1) * 1_500)).await;
        }
        mask(&db, &[7], "moved", &[]).await;
        mask(&db, &[14], "moved", &[14]).await;
        mask(&db, &[21, 999], "moved", &[]).await;
        let before = shown(&db, PROJECT).await;
        let mut compactor = compactor(1);
        // Not due at once.
        assert_eq!(compactor.compact_shard(&db, SHARD).await.unwrap().dropped, 0);
        let tidy = async |compactor: &Compactor| {
            compactor.seen().masks.entry(SHARD).or_default().due();
            compactor.compact_shard(&db, SHARD).await.unwrap()
        };
        let done = tidy(&compactor).await;
        assert_eq!(done.dropped, 180, "{done:?}");
        assert_eq!(masked(&db).await, [7, 14, 21, 999], "retired objects hold them still");
        compactor.grace_ms = -1_000;
        tidy(&compactor).await;
        tidy(&compactor).await;
        assert_eq!(masked(&db).await, [14, 21, 999], "until the move is over");
        assert_eq!(shown(&db, PROJECT).await, before);
        let ended: Result<(), StorageError> =
            db.transaction(|tx| Box::pin(async move { links::end(tx, SHARD, PROJECT, &["id14".to_owned()]).await })).await;
        ended.unwrap();
        for _ in 0..3 {
            tidy(&compactor).await;
        }
        assert_eq!(masked(&db).await, [] as [PersonNo; 0]);
        assert_eq!(shown(&db, PROJECT).await, before);
        assert!(!stored(&db).await.contains(&14));
    }
}
