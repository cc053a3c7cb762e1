use super::*;
use crate::eventstore::fixture::{PROJECT, SHARD, row, rows, store_run, store_segment};
use crate::model::{BatchId, Properties, SeededRandom, TimeSource};
use crate::storage::StorageError;
use crate::storage::batch::BatchEncoder;
use crate::storage::conformance::on_both;
use crate::storage::server::journal::{self, NewBatch};
use crate::storage::server::objects;
use crate::storage::server::persons::KnownId;
use crate::telemetry::Metrics;

async fn name_persons(db: &Db) {
    let known: Vec<_> = (0..50)
        .map(|n| KnownId { distinct_id: format!("id{}", n + 100), id_no: n + 100, person_no: n })
        .collect();
    db.transaction(move |tx| {
        let known = known.clone();
        Box::pin(async move {
            persons::insert_new(tx, SHARD, PROJECT, &known, 1).await?;
            persons::raise_counters(tx, SHARD, PROJECT, 50, 150).await?;
            Ok::<_, StorageError>(())
        })
    })
    .await
    .unwrap();
}

async fn look(
    db: &Db,
    project_id: ProjectId,
    distinct_id: &str,
    after: Option<EventPlace>,
    limit: usize,
) -> Result<PersonEvents, ScanError> {
    look_at_kept(db, project_id, distinct_id, after, limit, None).await
}

async fn look_at_kept(
    db: &Db,
    project_id: ProjectId,
    distinct_id: &str,
    after: Option<EventPlace>,
    limit: usize,
    kept_from: Option<Millis>,
) -> Result<PersonEvents, ScanError> {
    let bytes_max = 1 << 20;
    let with_properties = true;
    let request = PersonRequest {
        project_id,
        span: 1,
        distinct_id,
        after,
        kept_from,
        limit,
        with_properties,
        bytes_max,
    };
    let passed = Passed { ids: vec![request.distinct_id.to_owned()], waiting: Vec::new() };
    let cache = ObjectCache::new(1 << 20, 1 << 20, &Metrics::default());
    let found = FoundId::read(db, SHARD, project_id, distinct_id).await?;
    read_in_shard(db, SHARD, &cache, &request, passed, found).await
}

fn waiting_event(distinct_id: &str, n: u8, at: Millis) -> Event {
    Event {
        project_id: PROJECT,
        distinct_id: distinct_id.into(),
        anonymous_id: None,
        event: "waiting".into(),
        event_id: crate::model::EventId([n; 16]),
        occurred_at: at,
        received_at: at,
        time_source: TimeSource::Client,
        properties: Properties::default(),
        route: Vec::new(),
    }
}

on_both! {
    async fn a_person_is_read_from_everywhere_newest_first(db: Db) {
        let random = SeededRandom::new(1);
        name_persons(&db).await;
        let all = rows(PROJECT, 0..900);
        let other = rows(ProjectId(2), 0..100);
        store_segment(&db, &random, all[..500].to_vec()).await;
        store_run(&db, &random, [&all[500..], &other].concat()).await;
        let future = all.iter().map(|row| row.occurred_at).max().unwrap() + 1;
        // The new one, a resend of the same, and somebody else's.
        let sent = [waiting_event("id107", 1, future), waiting_event("id107", 1, future + 5), waiting_event("id108", 2, future)];
        let batch = NewBatch { shard_no: SHARD, batch_id: BatchId([1; 16]), batch: BatchEncoder::default().encode_events(&sent) };
        journal::insert(&db, vec![batch]).await.unwrap();

        let mut expected: Vec<_> = all.iter().filter(|row| row.person_no == 7).map(|row| (row.occurred_at, row.event_id)).collect();
        expected.push((future, crate::model::EventId([1; 16])));
        expected.sort_unstable();
        expected.reverse();
        // Equal times may come in any order of arrival; the set is what counts.
        let found = look(&db, PROJECT, "id107", None, 1_000).await.unwrap();
        let mut got: Vec<_> = found.events.iter().map(|event| (event.occurred_at, event.event_id)).collect();
        assert!(got.is_sorted_by_key(|(at, _)| std::cmp::Reverse(*at)));
        got.sort_unstable();
        got.reverse();
        assert_eq!(got, expected);
        assert_eq!((found.distinct_ids, found.more), (vec!["id107".to_owned()], false));
        assert!(found.events.iter().all(|event| event.distinct_id == "id107"));
        assert_eq!(found.events[1].properties.len(), row(PROJECT, 1).properties.len());

        let few = look(&db, PROJECT, "id107", None, 3).await.unwrap();
        assert_eq!((few.events.len(), few.more), (3, true));
        assert_eq!(few.events[0].event, "waiting");
        let exactly = look(&db, PROJECT, "id107", None, expected.len()).await.unwrap();
        assert!(!exactly.more);

        // In pages of any size: the same, each once.
        for limit in [1, 4, 7] {
            let (mut paged, mut after) = (Vec::new(), None);
            loop {
                let page = look(&db, PROJECT, "id107", after, limit).await.unwrap();
                paged.extend(page.events.iter().map(EventPlace::of));
                after = paged.last().copied();
                assert!(page.events.len() == limit || !page.more);
                if !page.more {
                    break;
                }
            }
            let whole: Vec<_> = found.events.iter().map(EventPlace::of).collect();
            assert_eq!(paged, whole, "{limit}");
        }
    }
}

on_both! {
    async fn long_events_come_in_pages_that_are_short(db: Db) {
        let random = SeededRandom::new(1);
        name_persons(&db).await;
        // 40 events of the person, 100 kB each, in a segment and a run, and one that waits.
        let mut all = rows(PROJECT, 0..2_000);
        all.retain(|row| row.person_no == 7);
        for row in &mut all {
            row.properties = vec![("text", PropertyValue::String("x".repeat(100_000)))].into();
        }
        store_segment(&db, &random, all[..20].to_vec()).await;
        store_run(&db, &random, all[20..].to_vec()).await;
        let batch = BatchEncoder::default().encode_events(&[waiting_event("id107", 1, 3_600_000)]);
        journal::insert(&db, vec![NewBatch { shard_no: SHARD, batch_id: BatchId([1; 16]), batch }]).await.unwrap();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = look(&db, PROJECT, "id107", after, 100).await.unwrap();
            assert!(page.events.len() <= 12, "{} events of 100 kB in a page of 1 MiB", page.events.len());
            seen.extend(page.events.iter().map(EventPlace::of));
            after = seen.last().copied();
            if !page.more {
                break;
            }
        }
        assert_eq!(seen.len(), 41);
        assert!(seen.is_sorted_by(|a, b| a > b), "each once, newest first");
    }
}

on_both! {
    async fn one_id_on_two_days_is_two_events(db: Db) {
        let days = [1, 2].map(|day| waiting_event("id107", 1, day * crate::model::DAY_MS));
        let batch = NewBatch { shard_no: SHARD, batch_id: BatchId([1; 16]), batch: BatchEncoder::default().encode_events(&days) };
        journal::insert(&db, vec![batch]).await.unwrap();
        assert_eq!(look(&db, PROJECT, "id107", None, 10).await.unwrap().events.len(), 2);
    }
}

on_both! {
    async fn only_what_can_hold_the_shown_events_is_read(db: Db) {
        let random = SeededRandom::new(1);
        name_persons(&db).await;
        // A segment a year.
        let year = 365 * crate::model::DAY_MS;
        for n in 0..12 {
            let mut of_year = rows(PROJECT, 0..2_000);
            for row in &mut of_year {
                row.occurred_at = i64::from(n) * year + row.occurred_at % year;
                row.event_id.0[0] = n;
            }
            store_segment(&db, &random, of_year).await;
        }
        let listing = Listing::read(&db, &ObjectCache::none(), SHARD, &ScanRequest::everything(PROJECT)).await.unwrap();
        let all: u64 = listing.objects.iter().map(|object| object.bytes).sum();

        let newest = look(&db, PROJECT, "id107", None, 5).await.unwrap();
        assert!(newest.events.len() == 5 && newest.more);
        assert!(newest.events.iter().all(|event| event.occurred_at >= 11 * year));
        assert!(newest.bytes_read * 12 <= all * (OBJECTS_AT_ONCE as u64 + 1), "{} of {all}", newest.bytes_read);
        // Behind a place in the third year nothing younger is read.
        let place = EventPlace { occurred_at: 2 * year, event_id: EventId([0; 16]) };
        let old = look(&db, PROJECT, "id107", Some(place), 1_000).await.unwrap();
        assert!(!old.more && old.events.iter().all(|event| event.occurred_at < 2 * year));
        assert_eq!(old.events.len(), 2 * 40);
        assert!(old.bytes_read * 4 < all, "{} of {all}", old.bytes_read);
        let whole = look(&db, PROJECT, "id107", None, 1_000).await.unwrap();
        assert_eq!(whole.events.len(), 12 * 40);
    }
}

on_both! {
    async fn who_only_waits_in_the_journal_is_known_and_others_are_not(db: Db) {
        let sent = [waiting_event("new", 1, 1_000)];
        let batch = NewBatch { shard_no: SHARD, batch_id: BatchId([1; 16]), batch: BatchEncoder::default().encode_events(&sent) };
        journal::insert(&db, vec![batch]).await.unwrap();
        let new = look(&db, PROJECT, "new", None, 10).await.unwrap();
        assert_eq!((new.events.len(), new.distinct_ids), (1, vec!["new".to_owned()]));
        for (project_id, distinct_id) in [(PROJECT, "nobody"), (ProjectId(2), "new")] {
            let nobody = look(&db, project_id, distinct_id, None, 10).await.unwrap();
            assert!(nobody.is_unknown() && nobody.events.is_empty(), "{distinct_id}");
        }
    }
}

on_both! {
    async fn what_is_kept_no_longer_is_not_shown(db: Db) {
        let random = SeededRandom::new(1);
        name_persons(&db).await;
        let all = rows(PROJECT, 0..900);
        store_segment(&db, &random, all[..500].to_vec()).await;
        store_run(&db, &random, all[500..].to_vec()).await;
        let of_person = all.iter().filter(|row| row.person_no == 7);
        let mut expected: Vec<_> = of_person.map(|row| (row.occurred_at, row.event_id)).collect();
        expected.sort_unstable_by(|a, b| b.cmp(a));
        let first_kept = utc_day(expected[6].0);
        let kept_from = Millis::from(first_kept) * crate::model::DAY_MS;
        expected.retain(|(at, _)| *at >= kept_from);
        assert!((7..18).contains(&expected.len()), "some are older: {expected:?}");
        for limit in [2, 3, 1_000] {
            let (mut shown, mut after) = (Vec::new(), None);
            loop {
                let found = look_at_kept(&db, PROJECT, "id107", after, limit, Some(kept_from)).await.unwrap();
                assert!(found.days.is_some_and(|days| days.0 >= first_kept));
                shown.extend(found.events.iter().map(|event| (event.occurred_at, event.event_id)));
                after = found.events.last().map(EventPlace::of);
                if !found.more {
                    break;
                }
            }
            assert_eq!(shown, expected, "pages of {limit}");
        }
        let whole = look_at_kept(&db, PROJECT, "id107", None, 1_000, Some(kept_from)).await.unwrap();
        let first = expected.last().map(|(at, _)| utc_day(*at));
        assert_eq!(whole.days.map(|days| days.0), first, "the very day when all are read");
        let nothing = look_at_kept(&db, PROJECT, "id107", None, 10, Some(Millis::MAX / 2)).await.unwrap();
        assert!(nothing.events.is_empty() && !nothing.more && nothing.days.is_none());
    }
}

on_both! {
    async fn what_is_deleted_after_it_was_listed_is_left_out(db: Db) {
        let random = SeededRandom::new(1);
        let mut segments = Vec::new();
        for n in 0..3 {
            segments.push(store_segment(&db, &random, rows(PROJECT, n * 100..(n + 1) * 100)).await);
        }
        let cache = ObjectCache::new(1 << 20, 1 << 20, &Metrics::default());
        let objects = Listing::read(&db, &ObjectCache::none(), SHARD, &ScanRequest::everything(PROJECT)).await.unwrap().objects;
        let wanted = Wanted {
            project_id: PROJECT,
            person_no: 7,
            after: None,
            limit: 1_000,
            with_properties: true,
            bytes_max: 1 << 20,
        };
        let read = async || read_objects(&db, &cache, objects.clone(), wanted).await.unwrap().rows;
        let mut own: Vec<StoredRow> =
            rows(PROJECT, 0..300).into_iter().filter(|row| row.person_no == 7).collect();
        own.sort_by_key(|row| std::cmp::Reverse(place_of(row)));
        assert_eq!(read().await, own);

        // Its header is kept, and its pages are gone.
        let gone = segments[1];
        let retired = db.transaction(move |tx| {
            Box::pin(objects::retire(tx, objects::ObjectKind::Segment, SHARD, gone, 1))
        });
        let retired: Result<bool, StorageError> = retired.await;
        assert!(retired.unwrap());
        assert_eq!(objects::delete_retired(&db, SHARD, 2).await.unwrap(), 1);
        let others: Vec<StoredRow> =
            [rows(PROJECT, 0..100), rows(PROJECT, 200..300)].concat().into_iter().filter(|row| row.person_no == 7).collect();
        let found = read().await;
        assert!(!others.is_empty() && others.len() < own.len());
        assert!(found.len() == others.len() && found.iter().all(|row| others.contains(row)));
    }
}

on_both! {
    async fn without_properties_everything_else_is_the_same(db: Db) {
        let random = SeededRandom::new(1);
        name_persons(&db).await;
        store_segment(&db, &random, rows(PROJECT, 0..300)).await;
        let of_both = [rows(PROJECT, 300..500), rows(ProjectId(2), 500..600)].concat();
        store_run(&db, &random, of_both).await;
        let request = PersonRequest {
            project_id: PROJECT,
            span: 1,
            distinct_id: "id107",
            after: None,
            kept_from: None,
            limit: 100,
            with_properties: false,
            bytes_max: 1 << 20,
        };
        let cache = ObjectCache::none();
        let passed = Passed { ids: vec!["id107".to_owned()], waiting: Vec::new() };
        let found = FoundId::read(&db, SHARD, PROJECT, "id107").await.unwrap();
        let bare = read_in_shard(&db, SHARD, &cache, &request, passed, found).await.unwrap().events;
        let mut whole = look(&db, PROJECT, "id107", None, 100).await.unwrap().events;
        assert!(whole.len() > 5 && whole.iter().all(|event| !event.properties.is_empty()));
        whole.iter_mut().for_each(|event| event.properties = Properties::default());
        assert_eq!(bare, whole);
    }
}
