//! Counts by event and time that are too long for part 0.

use super::*;

const HOUR: i64 = 3_600_000;

on_both! {
    async fn counts_by_hours_are_read_behind_a_header_that_is_known(db: Db) {
        let random = SeededRandom::new(1);
        let mut of_few_hours = rows(PROJECT, 0..400);
        for (n, row) in of_few_hours.iter_mut().enumerate() {
            row.occurred_at = 3 * DAY_MS + n as i64 / 20 * HOUR;
        }
        let segment = store_segment(&db, &random, of_few_hours).await;
        raise_version(&db).await;
        let objects = ObjectCache::new(1 << 20, 1 << 20, &Metrics::default());
        let scanner = Scanner::new(objects, 1, 1 << 20, &Metrics::default());
        let request = ScanRequest {
            with: RowColumns { quarters: true, ..RowColumns::default() },
            counted_by: Some(HOUR),
            events: Some(vec!["$pageview".to_owned(), "purchase".to_owned()]),
            ..ScanRequest::everything(PROJECT)
        };
        let header = objects::find_headers(&db, &[segment]).await.unwrap()[0].1.len() as u64;
        let list = async || {
            let listed = Listing::read_shards(&db, scanner.objects(), &[SHARD], &request).await;
            listed.unwrap().remove(0)
        };
        let read = scanner.read(&db, &request, list().await).await.unwrap().unwrap();
        assert_eq!((read.rows(), read.blocks.len()), (400, 1));
        assert!(read.blocks[0].stand_for.is_some());
        assert!(read.bytes > header, "{} and a header of {header}", read.bytes);

        // It is replaced and deleted after it was listed: its header is known, and nothing else of it is there.
        scanner.forget_rows();
        assert_eq!(scanner.objects().open(&db, &[segment]).await.unwrap().len(), 1);
        let stale = list().await;
        retire(&db, segment).await;
        assert_eq!(objects::delete_retired(&db, SHARD, 6_000).await.unwrap(), 1);
        assert!(scanner.read(&db, &request, stale).await.unwrap().is_none());
        assert_eq!(scan(&scanner, &db, SHARD, &request).await.rows(), 0);
    }
}
