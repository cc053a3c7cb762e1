mod columns;
mod expired;
mod masks;

use super::merge::Input;
use super::step::{load, replace};
use super::*;
use crate::eventstore::Placement;
use crate::eventstore::fixture::{PROJECT, SHARD, row, rows, shown, store_run, store_segment, write_options};
use crate::eventstore::format::{HEADER_PART, ObjectReader, identity_hash};
use crate::model::{ObjectId, SeededRandom, utc_day};
use crate::storage::conformance::on_both;

const OTHER: ProjectId = ProjectId(2);

/// Runs wait for four of a size, segments are full with 2,000 rows.
fn compactor(n: u8) -> Compactor {
    let random = Arc::new(SeededRandom::new(n.into()));
    let config = SealingConfig::default();
    let mut compactor = Compactor::new(ReplicaId([n; 16]), &config, random, &Metrics::default());
    compactor.options = CompactionOptions {
        fan_in_min: 4,
        fan_in_max: 6,
        segment_rows_min: 500,
        segment_rows_max: 2_000,
        run_age_max_ms: Millis::MAX,
        ..CompactionOptions::default()
    };
    compactor.write = write_options();
    compactor.grace_ms = 3_600_000;
    compactor
}

async fn counts(db: &Db) -> (usize, usize) {
    let runs = objects::list_runs_bare(db, SHARD).await.unwrap();
    let segments = objects::list_all_segments(db, SHARD).await.unwrap();
    (runs.len(), segments.len())
}

/// 20 runs: project 1 has 150 rows in each, project 2 has 3.
async fn fill(db: &Db) {
    let random = SeededRandom::new(77);
    for n in 0..20 {
        let mut mixed = rows(PROJECT, n * 150..(n + 1) * 150);
        mixed.extend(rows(OTHER, n * 3..(n + 1) * 3));
        store_run(db, &random, mixed).await;
    }
}

on_both! {
    async fn runs_become_few_and_no_answer_changes(db: Db) {
        fill(&db).await;
        let before = (shown(&db, PROJECT).await, shown(&db, OTHER).await);
        assert_eq!((before.0.len(), before.1.len()), (3_000, 60));
        let done = compactor(1).compact_shard(&db, SHARD).await.unwrap();
        assert!(done.steps >= 4, "{done:?}");
        assert_eq!((shown(&db, PROJECT).await, shown(&db, OTHER).await), before);
        let (runs, segments) = counts(&db).await;
        assert!(runs <= 8 && segments <= 5, "{runs} runs, {segments} segments");
        // Once there is nothing to do, there is nothing to do.
        assert_eq!(compactor(1).compact_shard(&db, SHARD).await.unwrap(), Compacted::default());
    }
}

on_both! {
    async fn as_many_are_merged_as_the_setting_says(db: Db) {
        let random = SeededRandom::new(5);
        for n in 0..3 {
            store_segment(&db, &random, rows(PROJECT, n * 100..(n + 1) * 100)).await;
        }
        let compactor = |fan_in| {
            let config = SealingConfig { compact_fan_in: fan_in, ..SealingConfig::default() };
            let random = Arc::new(SeededRandom::new(fan_in.into()));
            Compactor::new(ReplicaId([9; 16]), &config, random, &Metrics::default())
        };
        assert_eq!(compactor(4).compact_shard(&db, SHARD).await.unwrap().steps, 0);
        compactor(3).compact_shard(&db, SHARD).await.unwrap();
        assert_eq!(counts(&db).await, (0, 1));
    }
}

on_both! {
    async fn old_rows_leave_the_runs_and_nothing_else_does(db: Db) {
        let random = SeededRandom::new(5);
        let mut mixed = rows(PROJECT, 0..10);
        mixed.extend(rows(OTHER, 0..5));
        store_run(&db, &random, mixed).await;
        let mut young = row(PROJECT, 11);
        young.received_at = Millis::MAX / 2;
        store_run(&db, &random, vec![young]).await;
        let before = (shown(&db, PROJECT).await, shown(&db, OTHER).await);
        let mut compactor = compactor(1);
        compactor.options.run_age_max_ms = 1_000;
        compactor.compact_shard(&db, SHARD).await.unwrap();
        assert_eq!(counts(&db).await, (1, 2));
        assert_eq!((shown(&db, PROJECT).await, shown(&db, OTHER).await), before);
    }
}

on_both! {
    async fn little_is_merged_as_soon_as_nothing_comes_any_more(db: Db) {
        let random = SeededRandom::new(5);
        for n in 0..3 {
            store_segment(&db, &random, rows(PROJECT, n * 100..(n + 1) * 100)).await;
        }
        store_run(&db, &random, rows(PROJECT, 300..310)).await;
        store_run(&db, &random, rows(OTHER, 0..10)).await;
        let mut compactor = compactor(1);
        compactor.quiet_ms = 3_600_000;
        let later = |hours: i64| compactor.ahead_ms.store(hours * 3_600_000, std::sync::atomic::Ordering::Relaxed);
        let steps = async || compactor.compact_shard(&db, SHARD).await.unwrap().steps;
        assert_eq!(steps().await, 0, "it has just begun to look");
        later(1);
        assert_eq!(steps().await, 2);
        assert_eq!(counts(&db).await, (1, 1));
        // Something comes, and it has to wait as long again.
        store_segment(&db, &random, rows(PROJECT, 400..600)).await;
        assert_eq!(steps().await, 0);
        later(2);
        assert_eq!(steps().await, 1);
        assert_eq!(counts(&db).await, (1, 1));
        assert_eq!((shown(&db, PROJECT).await.len(), shown(&db, OTHER).await.len()), (510, 10));
        later(3);
        assert_eq!(steps().await, 0);
    }
}

on_both! {
    async fn a_merged_segment_has_every_row_whole_and_in_its_filter(db: Db) {
        let random = SeededRandom::new(5);
        for n in 0..4 {
            store_segment(&db, &random, rows(PROJECT, n * 100..(n + 1) * 100)).await;
        }
        let done = compactor(1).compact_shard(&db, SHARD).await.unwrap();
        let expected = Compacted { steps: 1, inputs: 4, outputs: 1, rows: 400, bytes: done.bytes, ..Compacted::default() };
        assert_eq!(done, expected);
        let segment = objects::list_all_segments(&db, SHARD).await.unwrap().remove(0);
        let input = load(&db, SHARD, ObjectKind::Segment, &Candidate::from(&segment)).await.unwrap();
        let want = crate::eventstore::format::Want {
            columns: crate::eventstore::format::Columns::All,
            rows: crate::eventstore::format::RowRanges::All,
        };
        let stored: Vec<_> =
            input.reader.read_rows(&want, &input.parts).unwrap().flat_map(Result::unwrap).collect();
        let mut all = rows(PROJECT, 0..400);
        all.sort_by_key(crate::eventstore::format::StoredRow::segment_key);
        assert_eq!(stored, all);
        let part_nos: Vec<u32> = input.reader.filter_parts().collect();
        let parts = objects::find_parts(&db, segment.object_id, &part_nos).await.unwrap().unwrap();
        let filter = input.reader.read_filter(&parts.into_iter().collect()).unwrap();
        for row in all {
            let day = utc_day(row.occurred_at);
            assert!(filter.may_contain(identity_hash(None, row.person_no, row.event_id, day)));
        }
    }
}

on_both! {
    async fn two_compactors_of_one_shard_do_not_harm_each_other(db: Db) {
        fill(&db).await;
        let before = shown(&db, PROJECT).await;
        let (first, second) = (compactor(1), compactor(2));
        let both = async |compactor: &Compactor| {
            for _ in 0..3 {
                match compactor.compact_shard(&db, SHARD).await {
                    Ok(_) | Err(CompactionError::Overtaken) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        };
        tokio::join!(both(&first), both(&second));
        assert_eq!(shown(&db, PROJECT).await, before);
        let (runs, _) = counts(&db).await;
        assert!(runs <= 8);
    }
}

on_both! {
    async fn who_lost_the_lease_or_an_input_changes_nothing(db: Db) {
        let random = SeededRandom::new(5);
        let input = store_run(&db, &random, rows(PROJECT, 0..50)).await;
        let before = shown(&db, PROJECT).await;
        let holder = ReplicaId([1; 16]);
        let lease = leases::find_lease(&db, SHARD, LeaseTask::Compact, holder, 60_000).await.unwrap().unwrap();
        // What a step that dies before its closing transaction leaves behind.
        let output = Placement {
            object_id: ObjectId([9; 16]),
            shard_no: SHARD,
            project_id: None,
            tier: 0,
            mask_version: 0,
        };
        let mut sorted = rows(PROJECT, 0..50);
        sorted.sort_by_key(crate::eventstore::format::StoredRow::run_key);
        let object = crate::eventstore::format::write_run(&sorted, &write_options()).unwrap();
        objects::upload(&db, output.place(object), 1_000).await.unwrap();
        assert_eq!(shown(&db, PROJECT).await, before);

        let stale = Lease { fence: lease.fence - 1, ..lease };
        let lost = replace(&db, stale, 60_000, ObjectKind::Run, (vec![input], 1_000), vec![output]).await;
        assert!(matches!(lost, Err(CompactionError::Overtaken)));
        let absent = ObjectId([8; 16]);
        let lost = replace(&db, lease, 60_000, ObjectKind::Run, (vec![input, absent], 1_000), vec![output]).await;
        assert!(matches!(lost, Err(CompactionError::Overtaken)));
        assert_eq!(shown(&db, PROJECT).await, before);
        assert_eq!(counts(&db).await, (1, 0));

        replace(&db, lease, 60_000, ObjectKind::Run, (vec![input], 1_000), vec![output]).await.unwrap();
        assert_eq!(shown(&db, PROJECT).await, before);
        let again = replace(&db, lease, 60_000, ObjectKind::Run, (vec![input], 1_000), vec![output]).await;
        assert!(matches!(again, Err(CompactionError::Overtaken)));
        assert_eq!(shown(&db, PROJECT).await, before);
    }
}

on_both! {
    async fn replaced_objects_go_after_the_grace_period(db: Db) {
        fill(&db).await;
        let mut compactor = compactor(1);
        let done = compactor.compact_shard(&db, SHARD).await.unwrap();
        assert_eq!(done.deleted, 0, "somebody may still be reading them");
        compactor.grace_ms = -1_000;
        let deleted = compactor.compact_shard(&db, SHARD).await.unwrap().deleted;
        assert_eq!(deleted, done.inputs);
        assert_eq!(shown(&db, PROJECT).await.len(), 3_000);
    }
}
