//! Rows of some events, read by themselves or kept beside all.

use super::*;

/// The rows of some events that a scan shows, with their properties.
fn shown_of(scanned: &ShardRows, events: &[String]) -> Vec<String> {
    let mut shown = Vec::new();
    for block in &scanned.blocks {
        for n in block.rows() {
            let event = block.event.get(n).unwrap();
            let values: Vec<_> = block.properties.iter().map(|column| column.value(n)).collect();
            let person = block.person_no.get(n);
            let at = (!block.occurred_at.is_empty()).then(|| block.occurred_at.at(n));
            if events.iter().any(|name| name == event) {
                shown.push(format!("{person:?} {at:?} {event} {values:?}"));
            }
        }
    }
    shown
}

fn caching(bytes_max: usize) -> Scanner {
    let metrics = Metrics::default();
    Scanner::new(ObjectCache::new(1 << 20, 1 << 20, &metrics), 1, bytes_max, &metrics)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

on_both! {
    async fn of_few_events_no_other_rows_are_read_until_all_would_have_been(db: Db) {
        const EVENTS: [&str; 8] = ["seen", "bought", "seen", "left", "seen", "bought", "seen", "shared"];
        let random = SeededRandom::new(1);
        let mut all = rows(PROJECT, 0..800);
        all.iter_mut().for_each(|row| row.event = EVENTS[row.received_at as usize % 8].into());
        store_segment(&db, &random, all).await;
        raise_version(&db).await;
        let (keeping, forgetting) = (caching(1 << 20), caching(0));
        let nothing = RowColumns::default();
        let quarters = RowColumns { quarters: true, ..nothing };
        // Rows that the block has at first, and from the second time on, and whether anything was read at first.
        for (events, with, properties, hours, held, again, is_read) in [
            (vec!["left"], quarters, vec!["value"], 0..500, 100, 100, true),
            (vec!["left"], quarters, vec!["value"], 30..200, 100, 100, false),
            // What it lacks is a second reading of as many rows.
            (vec!["left"], RowColumns::ALL, vec!["plan", "value"], 0..500, 100, 100, true),
            (vec!["bought"], RowColumns::ALL, vec!["value"], 30..200, 200, 200, true),
            // That would be more than half of all.
            (vec!["shared"], RowColumns::ALL, vec!["value"], 0..500, 800, 100, true),
            (vec!["shared", "left"], RowColumns::ALL, vec!["value"], 0..500, 800, 200, false),
            (vec!["shared"], nothing, vec!["plan"], 0..500, 100, 100, true),
            (vec!["left"], nothing, vec!["plan"], 0..500, 100, 100, false),
            (vec!["seen", "left"], RowColumns::ALL, vec!["value"], 0..500, 800, 800, false),
        ] {
            let events = names(&events);
            let request = ScanRequest {
                with,
                properties: names(&properties),
                events: Some(events.clone()),
                from: hours.start * 3_600_000,
                to: hours.end * 3_600_000,
                ..ScanRequest::everything(PROJECT)
            };
            let expected = scan(&forgetting, &db, SHARD, &request).await;
            let scanned = [
                scan(&keeping, &db, SHARD, &request).await,
                scan(&keeping, &db, SHARD, &request).await,
                scan(&keeping, &db, SHARD, &request).await,
            ];
            assert_eq!(scanned[0].bytes > 0, is_read, "{request:?}");
            assert!(scanned[0].bytes <= expected.bytes, "{request:?}");
            assert_eq!((scanned[1].bytes, scanned[2].bytes), (0, 0), "{request:?}");
            let rows_held = scanned.each_ref().map(|scanned| scanned.blocks[0].event.len());
            assert_eq!(rows_held, [held, again, again], "{request:?}");
            for scanned in scanned {
                assert_eq!(shown_of(&scanned, &events), shown_of(&expected, &events), "{request:?}");
            }
        }
    }
}

on_both! {
    async fn an_event_that_a_segment_has_not_is_looked_for_once(db: Db) {
        let random = SeededRandom::new(1);
        let mut all = rows(PROJECT, 0..800);
        // More names than the facts list, so that they do not tell which are not there.
        for row in &mut all {
            row.event = match row.received_at % 20 {
                0..14 => "seen".into(),
                14..16 => "bought".into(),
                16..18 => "left".into(),
                _ => format!("shared {}", row.received_at % 7).into(),
            };
        }
        let options = WriteOptions { names_max: 4, columns_max: 4, ..write_options() };
        store_segment_with(&db, &random, all, options).await;
        raise_version(&db).await;
        let keeping = caching(1 << 20);
        let mut request = ScanRequest { events: Some(names(&["never"])), ..ScanRequest::everything(PROJECT) };
        let first = scan(&keeping, &db, SHARD, &request).await;
        let second = scan(&keeping, &db, SHARD, &request).await;
        assert_eq!((first.rows(), first.bytes > 0), (0, true));
        assert_eq!((second.rows(), second.bytes), (0, 0));
        let events = names(&["never", "shared 3"]);
        request.events = Some(events.clone());
        let expected = scan(&caching(0), &db, SHARD, &request).await;
        assert!(shown_of(&expected, &events).len() > 5);
        for _ in 0..3 {
            let scanned = scan(&keeping, &db, SHARD, &request).await;
            assert_eq!(shown_of(&scanned, &events), shown_of(&expected, &events));
        }
    }
}

on_both! {
    async fn where_part_0_lists_all_events_nothing_is_read_to_find_that_one_is_not_there(db: Db) {
        const EVENTS: [&str; 3] = ["seen", "bought", "left"];
        let random = SeededRandom::new(1);
        let mut all = rows(PROJECT, 0..800);
        all.iter_mut().for_each(|row| row.event = EVENTS[row.received_at as usize % 3].into());
        // The facts name one of them, and do not tell that others are not there.
        let options = WriteOptions { names_max: 1, columns_max: 1, ..write_options() };
        store_segment_with(&db, &random, all, options).await;
        raise_version(&db).await;
        let keeping = caching(1 << 20);
        let ask = |event| ScanRequest { events: Some(names(&[event])), ..ScanRequest::everything(PROJECT) };
        let first = scan(&keeping, &db, SHARD, &ask("never")).await;
        let second = scan(&keeping, &db, SHARD, &ask("never")).await;
        assert_eq!((first.rows(), second.rows(), second.bytes), (0, 0, 0));
        let there = scan(&keeping, &db, SHARD, &ask("left")).await;
        assert!(there.rows() == 267 && first.bytes < there.bytes, "{} and {} bytes", first.bytes, there.bytes);
    }
}

on_both! {
    async fn rows_of_few_events_are_kept_beside_all_and_are_the_same(db: Db) {
        const EVENTS: [&str; 4] = ["seen", "bought", "seen", "left"];
        let random = SeededRandom::new(1);
        let mut all = rows(PROJECT, 0..1_000);
        all.iter_mut().for_each(|row| row.event = EVENTS[row.received_at as usize % 4].into());
        let masked = all.iter().filter(|row| row.person_no == 7).count() as u64;
        // Written by an earlier build, so that whole columns are read.
        let earlier = WriteOptions { times_by_event_rows_min: u64::MAX, ..write_options() };
        store_segment_with(&db, &random, all[..800].to_vec(), earlier).await;
        store_segment(&db, &random, all[800..900].to_vec()).await;
        store_run(&db, &random, all[900..].to_vec()).await;
        raise_version(&db).await;
        let (keeping, forgetting) = (caching(1 << 20), caching(0));
        let nothing = RowColumns::default();
        let quarters = RowColumns { quarters: true, ..nothing };
        // Rows of the large segment that a block holds from the second time on, and whether anything was read
        // the first time.
        for (events, with, properties, hours, held, is_read) in [
            (vec!["bought"], nothing, vec!["value"], 0..500, 200, true),
            (vec!["bought"], nothing, vec!["value"], 0..500, 200, false),
            (vec!["bought"], quarters, vec!["value"], 0..500, 200, true),
            (vec!["bought"], RowColumns::ALL, vec!["plan", "value"], 0..500, 200, true),
            (vec!["bought"], nothing, vec!["plan"], 30..200, 200, false),
            (vec!["left"], nothing, vec!["plan"], 0..500, 200, false),
            (vec!["bought", "left"], quarters, vec!["value"], 0..500, 400, false),
            (vec!["seen"], RowColumns::ALL, vec!["plan"], 0..500, 400, false),
            (vec!["left", "seen"], nothing, vec!["value"], 0..500, 800, false),
            (vec!["left", "seen"], quarters, vec!["value", "planet"], 30..200, 800, true),
            (vec!["bought", "none"], RowColumns::ALL, vec!["value"], 0..300, 200, false),
        ] {
            let events = names(&events);
            let request = ScanRequest {
                with,
                properties: names(&properties),
                events: Some(events.clone()),
                from: hours.start * 3_600_000,
                to: hours.end * 3_600_000,
                ..ScanRequest::everything(PROJECT)
            };
            let expected = scan(&forgetting, &db, SHARD, &request).await;
            let first = scan(&keeping, &db, SHARD, &request).await;
            assert_eq!(first.bytes > 0, is_read, "{request:?}");
            let second = scan(&keeping, &db, SHARD, &request).await;
            let third = scan(&keeping, &db, SHARD, &request).await;
            assert_eq!((second.bytes, third.bytes), (0, 0), "{request:?}");
            let listing = Listing::read(&db, keeping.objects(), SHARD, &request).await.unwrap();
            assert_eq!(keeping.rows_at_hand(&request, &listing).kept, 1_000, "{request:?}");
            assert!(!shown_of(&expected, &events).is_empty());
            for scanned in [&second, &third] {
                let large = scanned.blocks.iter().map(|block| block.event.len()).max();
                assert_eq!(large, Some(held), "{request:?}");
            }
            for scanned in [&first, &second, &third] {
                let person = |block: &RowBlock| block.person_no.is_empty();
                assert_eq!(scanned.blocks.iter().all(person), expected.blocks.iter().all(person));
                assert_eq!(shown_of(scanned, &events), shown_of(&expected, &events), "{request:?}");
            }
        }

        // Who is masked does not count, and needs persons, which are kept by now.
        db.transaction(|tx| Box::pin(async move { masks::insert(tx, SHARD, PROJECT, 7, "erased", 0).await }))
            .await
            .unwrap();
        let request = ScanRequest {
            with: nothing,
            events: Some(names(&EVENTS[1..2])),
            ..ScanRequest::everything(PROJECT)
        };
        let expected = scan(&forgetting, &db, SHARD, &request).await;
        assert_eq!(expected.rows(), 1_000 - masked);
        let scanned = scan(&keeping, &db, SHARD, &request).await;
        let events = request.events.as_deref().unwrap();
        assert_eq!(shown_of(&scanned, events), shown_of(&expected, events));
        keeping.forget_rows();
        assert!(scan(&keeping, &db, SHARD, &request).await.bytes > 0);
    }
}
