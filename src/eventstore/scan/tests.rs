mod counts;
mod events;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::eventstore::fixture::{
    PROJECT, SHARD, row, rows, scan, shown, store_run, store_segment, store_segment_with, two_servers,
    write_options,
};
use crate::eventstore::format::{StoredRow, WriteOptions};
use crate::model::{DAY_MS, ProjectId, SeededRandom, ShardNo};
use crate::storage::conformance::{fresh_sqlite, on_both};
use crate::storage::server::{masks, persons};
use crate::telemetry::Metrics;

fn expected(rows: &[StoredRow]) -> Vec<String> {
    let mut shown: Vec<String> = rows
        .iter()
        .map(|row| {
            let value = |name| row.properties.get(name).map(|value| format!("{value:?}")).unwrap_or_default();
            let values = format!("[Some({}), Some({})]", value("value"), value("plan"));
            format!("{} {} {:?} {values}", row.person_no, row.occurred_at, Some(&*row.event))
        })
        .collect();
    shown.sort();
    shown
}

async fn raise_version(db: &Db) {
    db.transaction(|tx| Box::pin(async move { persons::raise_counters(tx, SHARD, PROJECT, 50, 150).await }))
        .await
        .unwrap();
}

/// It is replaced, and may be deleted a second later.
async fn retire(db: &Db, segment: ObjectId) {
    let retired: Result<bool, StorageError> = db
        .transaction(move |tx| {
            Box::pin(
                async move { objects::retire(tx, objects::ObjectKind::Segment, SHARD, segment, 5_000).await },
            )
        })
        .await;
    assert!(retired.unwrap());
}

on_both! {
    async fn a_scan_shows_every_row_of_the_project_and_no_other(db: Db) {
        let random = SeededRandom::new(1);
        let other = ProjectId(2);
        let mut mixed = rows(PROJECT, 0..300);
        mixed.extend(rows(other, 0..40));
        store_run(&db, &random, mixed).await;
        store_run(&db, &random, rows(other, 40..50)).await;
        store_segment(&db, &random, rows(PROJECT, 300..1_000)).await;
        assert_eq!(shown(&db, PROJECT).await, expected(&rows(PROJECT, 0..1_000)));
        assert_eq!(shown(&db, other).await, expected(&rows(other, 0..50)));
        assert!(shown(&db, ProjectId(3)).await.is_empty());
    }
}

on_both! {
    async fn only_rows_of_the_asked_time_and_unmasked_persons_are_shown(db: Db) {
        let random = SeededRandom::new(1);
        let all = rows(PROJECT, 0..900);
        store_run(&db, &random, all[..400].to_vec()).await;
        store_segment(&db, &random, all[400..].to_vec()).await;
        raise_version(&db).await;
        db.transaction(|tx| Box::pin(async move { masks::insert(tx, SHARD, PROJECT, 7, "erased", 0).await }))
            .await
            .unwrap();
        let (from, to) = (2 * DAY_MS + 3_600_000, 9 * DAY_MS);
        let request = ScanRequest { from, to, ..ScanRequest::everything(PROJECT) };
        let scanned = scan(&Scanner::new(ObjectCache::none(), 1, 0, &Metrics::default()), &db, SHARD, &request).await;
        let there = |row: &&StoredRow| (from..to).contains(&row.occurred_at) && row.person_no != 7;
        assert_eq!(scanned.rows(), all.iter().filter(there).count() as u64);
        assert!(scanned.rows() > 100);
        for block in &scanned.blocks {
            let keys = block.person_no.iter().enumerate().map(|(row, person)| (person, block.occurred_at.at(row)));
            let keys: Vec<_> = keys.collect();
            assert!(keys.is_sorted());
        }
        let listing = Listing::read(&db, &ObjectCache::none(), SHARD, &request).await.unwrap();
        assert_eq!((listing.objects.len(), listing.masked), (2, vec![7]));
        assert_eq!(listing.data_version, 2, "raised by the pass and by the mask");
    }
}

on_both! {
    async fn a_missing_part_is_never_fewer_rows(db: Db) {
        let random = SeededRandom::new(1);
        let gone = store_segment(&db, &random, rows(PROJECT, 0..200)).await;
        let request = ScanRequest::everything(PROJECT);
        let scanner = Scanner::new(ObjectCache::none(), 1, 0, &Metrics::default());
        let stale = Listing::read(&db, &ObjectCache::none(), SHARD, &request).await.unwrap();
        // It is replaced and deleted after it was listed.
        store_segment(&db, &random, rows(PROJECT, 0..200)).await;
        retire(&db, gone).await;
        assert_eq!(scanner.read(&db, &request, stale.clone()).await.unwrap().unwrap().rows(), 200);
        assert_eq!(objects::delete_retired(&db, SHARD, 6_000).await.unwrap(), 1);
        assert!(scanner.read(&db, &request, stale).await.unwrap().is_none());
        assert_eq!(scan(&scanner, &db, SHARD, &request).await.rows(), 200);
    }
}

on_both! {
    async fn several_shards_are_listed_at_one_moment(db: Db) {
        let random = SeededRandom::new(1);
        let segment = store_segment(&db, &random, rows(PROJECT, 0..200)).await;
        raise_version(&db).await;
        let masked: Result<(), StorageError> = db
            .transaction(|tx| Box::pin(async move { masks::insert(tx, SHARD, PROJECT, 7, "erased", 0).await }))
            .await;
        masked.unwrap();
        let of: Vec<ShardNo> = (0..70).map(ShardNo).collect();
        let listed = Listing::read_shards(&db, &ObjectCache::none(), &of, &ScanRequest::everything(PROJECT)).await.unwrap();
        assert_eq!(listed.iter().map(|listing| listing.shard_no).collect::<Vec<_>>(), of);
        let (here, others): (Vec<_>, Vec<_>) = listed.iter().partition(|listing| listing.shard_no == SHARD);
        assert_eq!(here[0].objects.iter().map(|object| object.object_id).collect::<Vec<_>>(), [segment]);
        assert_eq!((&*here[0].masked, here[0].mask_version, here[0].data_version), (&[7][..], 1, 2));
        let is_empty = |listing: &&Listing| {
            listing.objects.is_empty() && listing.masked.is_empty() && listing.data_version == 0
        };
        assert!(others.iter().all(is_empty));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_that_took_long_count_when_nobody_was_masked_meanwhile() {
    let databases = [fresh_sqlite(), fresh_sqlite(), fresh_sqlite()];
    let storage = two_servers(&databases).await;
    let random = SeededRandom::new(1);
    store_segment(storage.shards.db_of(SHARD).unwrap(), &random, rows(PROJECT, 0..200)).await;
    let of: Vec<ShardNo> = storage.shards.all().collect();
    // Nothing is as quick as the shortest of them.
    for settle in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(60)] {
        let request = ScanRequest::everything(PROJECT);
        let listed = list_shards(&storage.shards, &ObjectCache::none(), &of, &request, settle).await.unwrap();
        let objects: Vec<usize> = listed.iter().map(|listing| listing.objects.len()).collect();
        assert_eq!(objects, [0, 0, 0, 1], "{settle:?}");
    }
}

on_both! {
    async fn only_objects_that_may_hold_what_counts_are_read(db: Db) {
        let random = SeededRandom::new(1);
        // Even numbers are page views with a float, odd ones purchases with an integer.
        let of = |from: u32, to: u32, odd: bool| -> Vec<StoredRow> {
            (from..to).filter(|n| (n % 2 == 1) == odd).map(|n| row(PROJECT, n)).collect()
        };
        store_segment(&db, &random, of(0, 200, false)).await;
        store_segment(&db, &random, of(200, 400, true)).await;
        store_run(&db, &random, of(1_000, 1_100, true)).await;
        let metrics = Metrics::default();
        let scanner = Scanner::new(ObjectCache::none(), 1, 0, &metrics);
        let value = |low: f64, high: f64| vec![Need { property: "value".into(), range: Some((low, high)) }];
        let set = |name: &str| vec![Need { property: name.into(), range: None }];
        let everything = ScanRequest::everything(PROJECT);
        let mut bytes_of_all = 0;
        for (name, events, needs, rows) in [
            ("everything", None, vec![], 250),
            ("both events", Some(vec!["$pageview", "purchase"]), vec![], 250),
            ("page views", Some(vec!["$pageview"]), vec![], 100),
            ("purchases", Some(vec!["purchase"]), vec![], 150),
            ("no such event", Some(vec!["nothing"]), vec![], 0),
            ("a property that all have", None, set("plan"), 250),
            ("one that none has", None, set("planet"), 0),
            ("above all floats", None, value(150.0, f64::INFINITY), 150),
            ("below all integers", None, value(f64::NEG_INFINITY, 100.0), 100),
            ("the greatest of the run", None, value(1_099.0, 1_099.0), 50),
            ("between the segments", None, value(500.0, 600.0), 0),
            ("of one event and the other's values", Some(vec!["$pageview"]), value(300.0, 400.0), 0),
        ] {
            let events = events.map(|names: Vec<&str>| names.into_iter().map(str::to_owned).collect());
            let request = ScanRequest { events, needs, ..everything.clone() };
            let scanned = scan(&scanner, &db, SHARD, &request).await;
            assert_eq!(scanned.rows(), rows, "{name}");
            match name {
                "everything" => bytes_of_all = scanned.bytes,
                "both events" => assert_eq!(scanned.bytes, bytes_of_all),
                _ if rows == 0 => assert_eq!(scanned.bytes, 0, "{name}"),
                _ if rows < 250 => assert!(scanned.bytes < bytes_of_all, "{name}"),
                _ => {}
            }
        }
        let shown = metrics.render();
        assert!(shown.contains("weir_scan_objects_total{outcome=\"pruned\"}"), "{shown}");
    }
}

on_both! {
    async fn what_was_decoded_is_not_read_again(db: Db) {
        let random = SeededRandom::new(1);
        store_segment(&db, &random, rows(PROJECT, 0..400)).await;
        let scanner = Scanner::new(ObjectCache::none(), 1, 1 << 20, &Metrics::default());
        let ask = |properties: &[&str], to| {
            let properties = properties.iter().map(|name| (*name).to_owned()).collect();
            ScanRequest { properties, to, ..ScanRequest::everything(PROJECT) }
        };
        let everything = ScanRequest::everything(PROJECT).to;
        let first = scan(&scanner, &db, SHARD, &ask(&["value"], everything)).await;
        let again = scan(&scanner, &db, SHARD, &ask(&["value"], everything)).await;
        assert!(first.bytes > 0 && again.bytes == 0);
        let shown = |rows: &ShardRows| format!("{:?}", rows.blocks);
        assert_eq!(shown(&again), shown(&first));

        // Another property is read, and the order is that of the question.
        let both = ask(&["plan", "value"], 3 * DAY_MS);
        let more = scan(&scanner, &db, SHARD, &both).await;
        let uncached = scan(&Scanner::new(ObjectCache::none(), 1, 0, &Metrics::default()), &db, SHARD, &both).await;
        assert!(more.bytes > 0 && more.rows() > 0);
        assert_eq!(shown(&more), shown(&uncached));

        // Fewer rows of what is kept do not make it less.
        assert_eq!(shown(&scan(&scanner, &db, SHARD, &ask(&["value"], everything)).await), shown(&first));
        store_segment(&db, &random, rows(PROJECT, 400..500)).await;
        assert_eq!(scan(&scanner, &db, SHARD, &ask(&["value"], everything)).await.rows(), 500);
    }
}

on_both! {
    async fn what_was_decoded_of_a_run_is_not_read_again_and_has_one_order(db: Db) {
        let random = SeededRandom::new(1);
        let other = ProjectId(2);
        let mut mixed = rows(PROJECT, 0..300);
        mixed.extend(rows(other, 0..40));
        store_run(&db, &random, mixed).await;
        let objects = || ObjectCache::new(1 << 20, 1 << 20, &Metrics::default());
        let scanner = Scanner::new(objects(), 1, 1 << 20, &Metrics::default());
        let nothing = RowColumns::default();
        let ask = |project, with, properties: &[&str], days: std::ops::Range<i64>| ScanRequest {
            with,
            properties: properties.iter().map(|name| (*name).to_owned()).collect(),
            from: days.start * DAY_MS,
            to: days.end * DAY_MS,
            ..ScanRequest::everything(project)
        };
        let shown = |rows: &ShardRows| format!("{:?}", rows.blocks);
        let asked = [
            ask(PROJECT, nothing, &[], 0..30),
            ask(PROJECT, nothing, &["plan"], 2..9),
            ask(other, RowColumns::ALL, &["value"], 0..30),
            ask(PROJECT, RowColumns { quarters: true, ..nothing }, &["value", "plan"], 3..4),
            ask(PROJECT, RowColumns { persons: true, ..nothing }, &[], 0..9),
            ask(ProjectId(3), RowColumns::ALL, &[], 0..30),
        ];
        for request in &asked {
            let first = scan(&scanner, &db, SHARD, request).await;
            let uncached = Scanner::new(ObjectCache::none(), 1, 0, &Metrics::default());
            assert_eq!(shown(&first), shown(&scan(&uncached, &db, SHARD, request).await));
        }
        for request in &asked {
            assert_eq!(scan(&scanner, &db, SHARD, request).await.bytes, 0, "{request:?}");
        }
        scanner.forget_rows();
        assert!(scan(&scanner, &db, SHARD, &asked[0]).await.bytes > 0);
    }
}

on_both! {
    async fn a_list_that_is_kept_does_not_hide_what_has_changed_since(db: Db) {
        let random = SeededRandom::new(1);
        store_run(&db, &random, rows(PROJECT, 0..100)).await;
        raise_version(&db).await;
        let objects = ObjectCache::new(1 << 20, 1 << 20, &Metrics::default());
        let scanner = Scanner::new(objects, 1, 1 << 20, &Metrics::default());
        let request = ScanRequest::everything(PROJECT);
        let count = async || scan(&scanner, &db, SHARD, &request).await.rows();
        assert_eq!(count().await, 100);
        let gone = store_segment(&db, &random, rows(PROJECT, 100..300)).await;
        raise_version(&db).await;
        assert_eq!(count().await, 300);
        db.transaction(|tx| Box::pin(async move { masks::insert(tx, SHARD, PROJECT, 7, "erased", 0).await }))
            .await
            .unwrap();
        let of_person = rows(PROJECT, 0..300).iter().filter(|row| row.person_no == 7).count() as u64;
        assert!(of_person > 0);
        assert_eq!(count().await, 300 - of_person);

        // Compaction replaces and raises nothing; what it has deleted is missed, and listed anew.
        let without_columns = Scanner::new(scanner.objects().clone(), 1, 0, &Metrics::default());
        let stale = Listing::read(&db, scanner.objects(), SHARD, &request).await.unwrap();
        store_segment(&db, &random, rows(PROJECT, 100..300)).await;
        retire(&db, gone).await;
        assert_eq!(objects::delete_retired(&db, SHARD, 6_000).await.unwrap(), 1);
        assert!(without_columns.read(&db, &request, stale).await.unwrap().is_none());
        assert_eq!(scan(&without_columns, &db, SHARD, &request).await.rows(), 300 - of_person);
    }
}

/// How many events each event has on each day.
fn counted(scanned: &ShardRows) -> BTreeMap<(String, i64), u64> {
    let mut counted = BTreeMap::new();
    for block in &scanned.blocks {
        for n in block.rows() {
            let is_told = block.quarters.is_empty();
            let day = if is_told { block.occurred_at.at(n) } else { block.quarters.start_of(n) } / DAY_MS;
            let events = block.stand_for.as_ref().map_or(1, |events| events[n].into());
            *counted.entry((block.event.get(n).unwrap().to_owned(), day)).or_insert(0) += events;
        }
    }
    counted
}

on_both! {
    async fn who_only_counts_reads_rollups_and_gets_the_same_numbers(db: Db) {
        let random = SeededRandom::new(1);
        let segment = store_segment(&db, &random, rows(PROJECT, 0..900)).await;
        store_run(&db, &random, rows(PROJECT, 900..1_000)).await;
        let hour = 3_600_000;
        let mut of_few_hours = rows(PROJECT, 1_000..1_200);
        for (n, row) in of_few_hours.iter_mut().enumerate() {
            row.occurred_at = 3 * DAY_MS + n as i64 / 20 * hour;
        }
        let few_hours = store_segment(&db, &random, of_few_hours).await;
        raise_version(&db).await;
        let scanner = |columns_max| {
            let headers = if columns_max > 0 { 1 << 20 } else { 0 };
            let objects = ObjectCache::new(headers, 1 << 20, &Metrics::default());
            Scanner::new(objects, 1, columns_max, &Metrics::default())
        };
        let (keeping, forgetting) = (scanner(1 << 20), scanner(0));
        let is_of_rollup = |block: &&RowBlock| block.stand_for.is_some();
        // The first segment has too many hours for all to be told apart, the second few within the third day.
        for (from, to, longest, with_quarters, rollups) in [
            (0, 500 * DAY_MS, DAY_MS, true, 2),
            (0, 500 * DAY_MS, hour, true, 1),
            (0, 500 * DAY_MS, hour / 4, true, 1),
            (0, 500 * DAY_MS, DAY_MS, false, 2),
            (2 * DAY_MS + hour, 9 * DAY_MS + hour / 4, DAY_MS, true, 1),
            (2 * DAY_MS + hour, 9 * DAY_MS + hour / 4, DAY_MS, false, 1),
            // Of the first, only whole times tell which rows are before.
            (2 * DAY_MS + hour, 9 * DAY_MS + 1, DAY_MS, false, 1),
            (3 * DAY_MS + hour, 9 * DAY_MS + 1, DAY_MS, false, 0),
            (3 * DAY_MS + hour, 3 * DAY_MS + 2 * hour, hour, true, 1),
        ] {
            let with = RowColumns { quarters: with_quarters, ..RowColumns::default() };
            let request = ScanRequest { from, to, with, ..ScanRequest::everything(PROJECT) };
            let rows_only = scan(&forgetting, &db, SHARD, &request).await;
            assert!(rows_only.blocks.iter().all(|block| block.stand_for.is_none()));
            let request = ScanRequest { counted_by: Some(longest), ..request };
            for scanner in [&forgetting, &keeping, &keeping] {
                let scanned = scan(scanner, &db, SHARD, &request).await;
                assert_eq!(scanned.blocks.iter().filter(is_of_rollup).count(), rollups, "{from} {to}");
                assert_eq!(scanned.rows(), rows_only.rows(), "{from} {to}");
                if with_quarters {
                    assert_eq!(counted(&scanned), counted(&rows_only), "{from} {to}");
                }
            }
        }
        let request = ScanRequest {
            with: RowColumns { quarters: true, ..RowColumns::default() },
            counted_by: Some(DAY_MS),
            ..ScanRequest::everything(PROJECT)
        };
        assert_eq!(scan(&keeping, &db, SHARD, &request).await.bytes, 0);
        let by_hours = ScanRequest { counted_by: Some(hour), ..request.clone() };
        let at_hand = async |scanner: &Scanner, request| {
            let listing = Listing::read(&db, scanner.objects(), SHARD, request).await.unwrap();
            scanner.rows_at_hand(request, &listing)
        };
        // The first segment has days only, and its columns were read; the run's rows are always read.
        for (scanner, request, counted, kept) in [
            (&keeping, &request, 1_100, 100),
            (&keeping, &by_hours, 200, 1_000),
            (&forgetting, &request, 1_100, 0),
        ] {
            assert_eq!(at_hand(scanner, request).await, RowsAtHand { counted, kept });
        }
        keeping.forget_rows();
        let again = scan(&keeping, &db, SHARD, &request).await.bytes;
        assert!(again > 0, "rollups are forgotten as columns are");
        let header = objects::find_headers(&db, &[segment]).await.unwrap()[0].1.len() as u64;
        let rows = scan(&forgetting, &db, SHARD, &ScanRequest { counted_by: None, ..request.clone() }).await;
        assert!(again >= header && again < rows.bytes, "{header} {again} {}", rows.bytes);

        // Who is erased does not count, which a rollup cannot tell.
        db.transaction(|tx| Box::pin(async move { masks::insert(tx, SHARD, PROJECT, 7, "erased", 0).await }))
            .await
            .unwrap();
        let of_person = self::rows(PROJECT, 0..1_200).iter().filter(|row| row.person_no == 7).count() as u64;
        // Whoever says that a segment has none of them is believed.
        let of_first = self::rows(PROJECT, 0..1_000).iter().filter(|row| row.person_no == 7).count() as u64;
        assert!(0 < of_first && of_first < of_person);
        let scanned = scan(&forgetting, &db, SHARD, &request).await;
        assert_eq!((scanned.rows(), scanned.blocks.iter().filter(is_of_rollup).count()), (1_200 - of_person, 0));
        // A segment that was looked through and has none of them is counted as before.
        let version = Listing::read(&db, &ObjectCache::none(), SHARD, &request).await.unwrap().mask_version;
        for (obeyed, rollups) in [(version - 1, 0), (version, 1)] {
            let kind = objects::ObjectKind::Segment;
            objects::raise_masks(&db, kind, SHARD, few_hours, obeyed).await.unwrap();
            let objects = ObjectCache::new(1 << 20, 1 << 20, &Metrics::default());
            let scanned = scan(&Scanner::new(objects, 1, 0, &Metrics::default()), &db, SHARD, &request).await;
            assert_eq!(scanned.blocks.iter().filter(is_of_rollup).count(), rollups, "{obeyed}");
            let there = if rollups == 0 { 1_200 - of_person } else { 1_200 - of_first };
            assert_eq!(scanned.rows(), there, "{obeyed}");
        }
    }
}
