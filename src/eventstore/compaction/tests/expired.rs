//! Rows that are older than their project keeps.

use super::*;
use crate::eventstore::retention::Retention;
use crate::model::DAY_MS;

/// The first day that is kept; rows of the fixture lie on 21 days.
const KEPT_FROM_DAY: i32 = 10;
const KEPT_FROM: Millis = KEPT_FROM_DAY as Millis * DAY_MS;

async fn keeping(db: &Db, compactor: Compactor) -> Compactor {
    compactor.with_retention(Arc::new(Retention::from_day(db, PROJECT, KEPT_FROM_DAY).await))
}

/// What a scan shows of the days that are kept.
async fn kept(db: &Db) -> Vec<String> {
    let mut shown = shown(db, PROJECT).await;
    shown.retain(|row| row.split(' ').nth(1).unwrap().parse::<Millis>().unwrap() >= KEPT_FROM);
    shown
}

fn days(
    numbers: std::ops::Range<u32>,
    keep: impl Fn(i32) -> bool,
) -> Vec<crate::eventstore::format::StoredRow> {
    rows(PROJECT, numbers).into_iter().filter(|row| keep(utc_day(row.occurred_at))).collect()
}

on_both! {
    async fn old_rows_go_and_no_others(db: Db) {
        let random = SeededRandom::new(5);
        // Whole, in part, not at all; and another project, which keeps all.
        store_segment(&db, &random, days(0..400, |day| day < KEPT_FROM_DAY)).await;
        store_segment(&db, &random, days(400..800, |_| true)).await;
        store_segment(&db, &random, days(800..1_200, |day| day >= KEPT_FROM_DAY)).await;
        store_segment(&db, &random, rows(OTHER, 0..200)).await;
        let (before, other) = (kept(&db).await, shown(&db, OTHER).await);
        let all = shown(&db, PROJECT).await.len();
        let compactor = keeping(&db, compactor(1)).await;
        let done = compactor.compact_shard(&db, SHARD).await.unwrap();
        assert_eq!((done.steps, done.outputs, done.dropped), (2, 1, 0), "one without reading it: {done:?}");
        assert_eq!(done.expired as usize, all - before.len());
        assert_eq!(shown(&db, PROJECT).await, before);
        assert_eq!(shown(&db, OTHER).await, other);
        assert_eq!(counts(&db).await, (0, 3));
        // Nothing is left to do until the day ends.
        assert_eq!(compactor.compact_shard(&db, SHARD).await.unwrap(), Compacted::default());
    }
}

on_both! {
    async fn old_rows_in_runs_go_too(db: Db) {
        let random = SeededRandom::new(5);
        for n in 0..3 {
            let mut mixed = rows(PROJECT, n * 100..(n + 1) * 100);
            mixed.extend(rows(OTHER, n * 10..(n + 1) * 10));
            store_run(&db, &random, mixed).await;
        }
        // Old as well, but nobody's who minds.
        store_run(&db, &random, rows(OTHER, 30..40)).await;
        let (before, other) = (kept(&db).await, shown(&db, OTHER).await);
        let mut compactor = keeping(&db, compactor(1)).await;
        compactor.options.fan_in_min = 9;
        let done = compactor.compact_shard(&db, SHARD).await.unwrap();
        assert_eq!((done.steps, done.inputs, done.outputs), (3, 3, 3), "{done:?}");
        assert_eq!(done.expired as usize, 300 - before.len());
        assert_eq!((shown(&db, PROJECT).await, shown(&db, OTHER).await), (before, other));
        assert_eq!(compactor.compact_shard(&db, SHARD).await.unwrap(), Compacted::default());
    }
}

on_both! {
    async fn all_that_a_segment_has_may_go(db: Db) {
        let random = SeededRandom::new(5);
        for n in 0..2 {
            store_segment(&db, &random, days(n * 200..(n + 1) * 200, |day| day < KEPT_FROM_DAY)).await;
        }
        let done = keeping(&db, compactor(1)).await.compact_shard(&db, SHARD).await.unwrap();
        assert_eq!((done.steps, done.inputs, done.outputs), (1, 2, 0), "{done:?}");
        assert_eq!(shown(&db, PROJECT).await, [] as [String; 0]);
        assert_eq!(counts(&db).await, (0, 0));
    }
}
