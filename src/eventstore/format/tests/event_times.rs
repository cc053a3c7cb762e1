//! Times by event, and rows of some events alone.

use super::super::header::Header;
use super::super::times::EventTimes;
use super::*;

/// Some of six events; three of them have a place of their own in tests.
fn rows_of_events() -> impl Strategy<Value = Vec<StoredRow>> {
    let event = prop_oneof![6 => "a", 3 => "b", 2 => "c", 1 => "[d-g]"];
    let names = proptest::sample::select(&NAMES[..4]);
    let properties = proptest::collection::btree_map(names, any_value(), 0..4);
    let made = (0..8_u32, -DAY_MS..DAY_MS, event, any::<u64>(), properties);
    let made = made.prop_map(|(person_no, at, event, id, properties)| {
        let mut row = row(person_no, at, u128::from(id));
        row.event = event.into();
        row.properties = properties.into_iter().collect();
        row
    });
    proptest::collection::vec(made, 1..300).prop_map(|mut rows| {
        rows.sort_by_key(StoredRow::segment_key);
        rows
    })
}

fn by_event(page_rows: usize) -> WriteOptions {
    WriteOptions { page_rows, times_by_event_rows_min: 1, ..WriteOptions::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn rows_of_some_events_are_those_and_no_others(
        rows in rows_of_events(),
        page_rows in 1..40_usize,
        asked in proptest::sample::subsequence(vec!["a", "b", "c", "d", "e", "never"], 0..6),
        quarters in any::<bool>(),
    ) {
        let object = write_segment(&rows, &by_event(page_rows)).unwrap();
        let reader = open(&object);
        let own: Vec<StoredRow> = rows.iter().filter(|row| asked.contains(&&*row.event)).cloned().collect();
        let events: Arc<[String]> = asked.iter().map(|name| (*name).to_owned()).collect();
        let names = ["a.b", "a", "never there", "a.b"];
        let properties = names.map(str::to_owned).to_vec();
        let at_most = reader.rows_of_events_at_most(&events, &properties).expect("no JSON column");
        prop_assert!(own.len() as u64 <= at_most);
        let with = RowColumns { quarters, ..RowColumns::ALL };
        let want = Want {
            columns: Columns::Block { with, properties, of_events: Some(events) },
            rows: RowRanges::All,
        };
        let block = reader.read_block(&want, &fetch(&object, &reader, &want)).unwrap();
        assert_block_shows(&block, &own, &names);
        prop_assert_eq!(block.quarters.len(), if quarters { own.len() } else { 0 });
        for (n, row) in own.iter().enumerate().filter(|_| quarters) {
            prop_assert_eq!(block.quarters.start_of(n), row.occurred_at.div_euclid(900_000) * 900_000);
        }
    }

    #[test]
    fn few_rows_anywhere_have_their_times(
        rows in rows_of_events(),
        page_rows in 1..40_usize,
        numbers in proptest::collection::btree_set(0..300_u64, 0..40),
    ) {
        let object = write_segment(&rows, &by_event(page_rows)).unwrap();
        let reader = open(&object);
        let numbers: Vec<u64> = numbers.into_iter().filter(|n| *n < rows.len() as u64).collect();
        let expected: Vec<StoredRow> = numbers.iter().map(|n| rows[*n as usize].clone()).collect();
        let ranges = RowRanges::of_numbers(numbers);
        prop_assert_eq!(exact(&read_rows(&object, ranges.clone())), exact(&expected));
        let want = Want { columns: Columns::PersonsAndTimes, rows: ranges.clone() };
        // Slices are enough.
        let mut parts = PartSet::default();
        for slice in reader.slices_for(&want, &parts).unwrap() {
            let part = &object.parts[slice.part_no as usize];
            parts.insert_slice(slice, part.slice(slice.start as usize..slice.end as usize));
        }
        let read = reader.read_identities(&want, &parts).unwrap();
        prop_assert_eq!(read.occurred_at, expected.iter().map(|row| row.occurred_at).collect::<Vec<_>>());
        assert_block_shows(&read_block(&object, &["a"], ranges), &expected, &["a"]);
    }
}

#[test]
fn times_that_four_bytes_hold_are_by_event_and_others_are_a_column() {
    // 65,536 minutes, from the quarter of an hour on in which the first row is.
    let length = 65_536 * 60_000 - 1;
    for (last, least_rows, is_by_event) in
        [(length, 3, true), (length + 1, 3, false), (-1, 3, true), (-1, 4, false), (i64::MAX - 5, 3, false)]
    {
        let rows = [row(1, 0, 0), row(1, 900_000 - 1, 1), row(2, last, 2)];
        let options = WriteOptions { times_by_event_rows_min: least_rows, ..small_pages() };
        let object = write_segment(&rows, &options).unwrap();
        assert_eq!(open(&object).header().times.is_some(), is_by_event, "{last} {least_rows}");
        assert_eq!(read_rows(&object, RowRanges::All), rows);
    }
    let passing = small_pages().for_passes();
    assert!(open(&write_segment(&many_rows(), &passing).unwrap()).header().times.is_none());
}

#[test]
fn one_event_of_many_needs_few_bytes() {
    let mut rows: Vec<StoredRow> =
        (0..100_000_u32).map(|n| row(n / 50, i64::from(n % 50) * 7_919, n.into())).collect();
    rows.iter_mut().enumerate().for_each(|(n, row)| row.event = if n % 8 == 7 { "b" } else { "a" }.into());
    rows.sort_by_key(StoredRow::segment_key);
    let object = write_segment(&rows, &WriteOptions::default()).unwrap();
    let reader = open(&object);
    let bytes_with = |with, of_events: Option<&str>| {
        let of_events = of_events.map(|event| [event.to_owned()].into());
        let columns = Columns::Block { with, properties: Vec::new(), of_events };
        reader.slices_for(&Want { columns, rows: RowRanges::All }, &PartSet::default()).unwrap()
    };
    let bytes_of = |event| bytes_with(RowColumns { times: true, ..RowColumns::default() }, event);
    let quarters_of = |event| bytes_with(RowColumns { quarters: true, ..RowColumns::default() }, event);
    let length = |slices: &[PartSlice]| slices.iter().map(|slice| slice.end - slice.start).sum::<u64>();
    let (whole, of_a, of_b) = (bytes_of(None), bytes_of(Some("a")), bytes_of(Some("b")));
    assert_eq!(length(&whole) - length(&of_b), 4 * 87_500);
    assert_eq!(length(&whole) - length(&of_a), 4 * 12_500);
    assert_eq!(length(&whole) - length(&quarters_of(None)), 2 * 100_000);
    assert_eq!(length(&of_b) - length(&quarters_of(Some("b"))), 2 * 12_500);
    assert_eq!(reader.rows_of_events_at_most(&["b".to_owned()], &[]), Some(12_500));
    assert_eq!(reader.rows_of_events_at_most(&["a".to_owned(), "b".to_owned()], &[]), Some(100_000));
    assert_eq!(reader.rows_of_events_at_most(&["c".to_owned()], &[]), Some(0));
}

#[test]
fn events_without_a_list_have_their_times_too() {
    // More names than Parquet's writer keeps in one.
    let mut rows: Vec<StoredRow> =
        (0..20_000).map(|n| row(n / 9, i64::from(n % 9) * 70_001, n.into())).collect();
    for (n, row) in rows.iter_mut().enumerate() {
        row.event = if n % 3 == 0 { "often".into() } else { format!("{n:0>400}").into() };
    }
    let object = write_segment(&rows, &WriteOptions::default()).unwrap();
    let reader = open(&object);
    assert!(reader.header().times.is_some());
    let event = reader.header().layout.fixed_index(super::super::columns::Fixed::Event).unwrap();
    let columns = Columns::Block { with: RowColumns::default(), properties: Vec::new(), of_events: None };
    let parts = fetch(&object, &reader, &Want { columns, rows: RowRanges::All });
    assert!(reader.read_texts(event, None, &parts).unwrap().is_none());
    assert_eq!(read_rows(&object, RowRanges::All), rows);
    assert_eq!(read_rows(&object, RowRanges::one(7_000..7_010)), rows[7_000..7_010]);
    let quarters = RowColumns { quarters: true, ..RowColumns::default() };
    for (events, from) in [(None, 0), (None, 15_000), (Some("often"), 0)] {
        let is_asked = |row: &&StoredRow| events.is_none_or(|event| row.event == event);
        let own: Vec<StoredRow> = rows[from..].iter().filter(is_asked).cloned().collect();
        let of_events: Option<Arc<[String]>> = events.map(|event| [event.to_owned()].into());
        let ranges = if from == 0 { RowRanges::All } else { RowRanges::one(from as u64..20_000) };
        for with in [quarters, RowColumns::ALL] {
            let columns = Columns::Block { with, properties: Vec::new(), of_events: of_events.clone() };
            let want = Want { columns, rows: ranges.clone() };
            let block = reader.read_block(&want, &fetch(&object, &reader, &want)).unwrap();
            assert_eq!(block.row_count(), own.len());
            for (n, row) in own.iter().enumerate() {
                assert_eq!(block.event.get(n), Some(&*row.event));
                match with.quarters {
                    true => assert_eq!(block.quarters.start_of(n), row.occurred_at / 900_000 * 900_000),
                    false => assert_eq!(block.occurred_at.at(n), row.occurred_at),
                }
            }
        }
    }
}

#[test]
fn counts_that_are_not_those_of_the_pages_are_refused() {
    let of = |events: usize, counts: &[u32]| {
        let events = (0..events).map(|n| format!("e{n}")).collect();
        EventTimes::new(0, events, counts, 7, 3)
    };
    let times = of(1, &[1, 2, 0, 3, 1, 0]).unwrap();
    assert!(times.counts().eq([1, 2, 0, 3, 1, 0]));
    for (events, counts) in [
        (1, vec![1, 2, 0, 3, 1, 1]),
        (1, vec![1, 2, 0, 3]),
        (1, vec![1, 1, 0, 4, 1, 0]),
        (2, vec![1, 2, 0, 3, 1, 0]),
        (1, vec![u32::MAX, 4, 0, 3, 1, 0]),
        (4, [3, 0, 0, 0, 0].repeat(2).into_iter().chain([1, 0, 0, 0, 0]).collect()),
    ] {
        let refused = of(events, &counts).unwrap_err().to_string();
        assert!(refused.contains("times by event"), "{refused}");
    }
    let at = |base| EventTimes::new(base, Vec::new(), &[3, 3, 1], 7, 3);
    let last = (i64::MAX - 66_000 * 60_000) / 900_000 * 900_000;
    assert!(at(-900_000).is_ok() && at(last).is_ok());
    for base in [-1, 60_000, i64::MAX / 900_000 * 900_000] {
        assert!(at(base).unwrap_err().to_string().contains("quarter of an hour"), "{base}");
    }
}

#[test]
fn times_are_read_across_the_borders_of_parts() {
    // 63 places and the others outside tests; here three, each over several parts.
    let mut rows: Vec<StoredRow> =
        (0..150_000_u32).map(|n| row(n / 50, i64::from(n % 50) * 1_234_567, n.into())).collect();
    rows.iter_mut().enumerate().for_each(|(n, row)| row.event = if n % 3 == 1 { "b" } else { "a" }.into());
    rows.sort_by_key(StoredRow::segment_key);
    let object = write_segment(&rows, &WriteOptions::default()).unwrap();
    let expected: Vec<i64> = rows.iter().map(|row| row.occurred_at).collect();
    let reader = open(&object);
    let read = |columns: Columns, rows: RowRanges| {
        let want = Want { columns, rows };
        reader.read_identities(&want, &fetch(&object, &reader, &want)).unwrap().occurred_at
    };
    assert_eq!(read(Columns::PersonsAndTimes, RowRanges::All), expected);
    for first in [0, 32_600, 65_300, 98_000, 149_990] {
        let range = first..(first + 100).min(150_000);
        let some = RowRanges::one(range.start as u64..range.end as u64);
        assert_eq!(read(Columns::PersonsAndTimes, some), expected[range]);
    }
    for event in ["a", "b"] {
        let of_events = Some([event.to_owned()].into());
        let with = RowColumns { quarters: true, ..RowColumns::ALL };
        let want = Want {
            columns: Columns::Block { with, properties: Vec::new(), of_events },
            rows: RowRanges::All,
        };
        let block = reader.read_block(&want, &fetch(&object, &reader, &want)).unwrap();
        let own: Vec<i64> = rows.iter().filter(|row| row.event == event).map(|row| row.occurred_at).collect();
        assert!(block.occurred_at.iter().eq(own.iter().copied()));
        let quarters = (0..own.len()).map(|row| block.quarters.start_of(row));
        assert!(quarters.eq(own.iter().map(|at| at / 900_000 * 900_000)));
    }
}

#[test]
fn texts_of_some_rows_are_no_more_than_they_have() {
    let mut rows = many_rows();
    rows[7].event = "rare".into();
    let object = write_segment(&rows, &small_pages()).unwrap();
    let reader = open(&object);
    let of_events = Some(["rare".to_owned()].into());
    let want = Want {
        columns: Columns::Block { with: RowColumns::default(), properties: vec!["page".into()], of_events },
        rows: RowRanges::All,
    };
    let block = reader.read_block(&want, &fetch(&object, &reader, &want)).unwrap();
    assert_eq!(block.properties[0].strings.as_ref().unwrap().values().len(), 1);
    assert_eq!(block.event.values().len(), 1);
    let few = Want { rows: RowRanges::one(0..10), ..want };
    let refused = reader.read_block(&few, &fetch(&object, &reader, &few)).unwrap_err().to_string();
    assert!(refused.contains("some events"), "{refused}");
}

#[test]
fn events_that_do_not_fit_the_counts_are_an_error() {
    let mut object = write_segment(&many_rows(), &small_pages()).unwrap();
    let mut header = Header::parse(&object.parts[0]).unwrap();
    let times = header.times.take().unwrap();
    // One row of the second page is said to be of another event.
    let mut counts: Vec<u32> = times.counts().collect();
    let places = times.events().len() + 1;
    counts[places] -= 1;
    counts[places + 1] += 1;
    let times = EventTimes::new(times.base(), times.events().to_vec(), &counts, 20_000, 512).unwrap();
    let events = times.events().to_vec();
    header.times = Some(times);
    object.parts[0] = header.to_bytes().unwrap();
    let reader = open(&object);
    let read = |columns: Columns, rows: RowRanges| {
        let want = Want { columns, rows };
        let parts = fetch(&object, &reader, &want);
        match &want.columns {
            Columns::Block { .. } => reader.read_block(&want, &parts).map(|_| ()),
            _ => reader.read_identities(&want, &parts).map(|_| ()),
        }
    };
    let block = |of_events: Option<&String>| {
        let of_events = of_events.map(|event| [event.clone()].into());
        Columns::Block { with: RowColumns::ALL, properties: Vec::new(), of_events }
    };
    for (columns, rows) in [
        (block(None), RowRanges::All),
        (block(Some(&events[0])), RowRanges::All),
        (block(Some(&events[1])), RowRanges::All),
        (Columns::PersonsAndTimes, RowRanges::All),
        (Columns::PersonsAndTimes, RowRanges::one(512..1_024)),
    ] {
        let refused = read(columns, rows).unwrap_err().to_string();
        assert!(refused.contains("disagree"), "{refused}");
    }
    read(block(Some(&events[2])), RowRanges::All).unwrap();
    read(Columns::PersonsAndTimes, RowRanges::one(1_024..2_000)).unwrap();
}
