//! Round trips through both kinds of objects, of anything that rows may hold.

mod changed;
mod event_times;
mod many_names;
mod numbers;
mod sizes;
mod texts;

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::eventstore::{RowBlock, RowColumns, ValueRef};
use crate::model::{
    DAY_MS, EventId, Millis, ProjectId, Properties, PropertyRef, PropertyValue, Random, SeededRandom,
    TimeSource,
};

fn row(person_no: u32, occurred_at: i64, id: u128) -> StoredRow {
    StoredRow {
        project_id: ProjectId(1),
        person_no,
        id_no: person_no,
        occurred_at,
        received_at: occurred_at + 5,
        event: "purchase".into(),
        event_id: EventId(id.to_be_bytes()),
        time_source: TimeSource::Client,
        properties: Properties::default(),
    }
}

/// 20 persons with 1,000 rows each, so that persons and pages of 512 rows do not meet.
fn many_rows() -> Vec<StoredRow> {
    let mut rows: Vec<StoredRow> = (0..20_000_u32)
        .map(|n| {
            let mut row = row(n / 1_000 * 3, i64::from(n) * 60_000, u128::from(n) << 64);
            row.event = ["$pageview", "purchase", "signup"][n as usize % 3].into();
            row.properties = vec![
                ("amount", PropertyValue::Float(f64::from(n) / 7.0)),
                ("page", PropertyValue::String(format!("/product/{}", n * 31 % 977))),
            ]
            .into();
            row
        })
        .collect();
    rows.sort_by_key(StoredRow::segment_key);
    rows
}

fn small_pages() -> WriteOptions {
    WriteOptions { page_rows: 512, ..WriteOptions::default() }
}

fn rollup_of(object: &ObjectBytes, step_max: Millis) -> Option<RowBlock> {
    let (reader, mut parts) = (open(object), PartSet::default());
    for slice in reader.slices_for_rollup(step_max) {
        let part = &object.parts[slice.part_no as usize];
        parts.insert_slice(slice, part.slice(slice.start as usize..slice.end as usize));
    }
    reader.read_rollup(step_max, &parts).unwrap()
}

/// Gives a reader only what it says it needs, so that every test shows that this is enough.
fn fetch(object: &ObjectBytes, reader: &ObjectReader, want: &Want) -> PartSet {
    let parts = reader.parts_for(want).unwrap();
    parts.into_iter().map(|part_no| (part_no, object.parts[part_no as usize].clone())).collect()
}

fn open(object: &ObjectBytes) -> ObjectReader {
    ObjectReader::open(&object.parts[HEADER_PART as usize]).unwrap()
}

fn read_rows(object: &ObjectBytes, rows: RowRanges) -> Vec<StoredRow> {
    let reader = open(object);
    let want = Want { columns: Columns::All, rows };
    let batches = reader.read_rows(&want, &fetch(object, &reader, &want)).unwrap();
    batches.flat_map(Result::unwrap).collect()
}

fn read_block(object: &ObjectBytes, properties: &[&str], rows: RowRanges) -> RowBlock {
    let reader = open(object);
    let properties = properties.iter().map(|name| (*name).to_owned()).collect();
    let want = Want { columns: Columns::Block { with: RowColumns::ALL, properties, of_events: None }, rows };
    reader.read_block(&want, &fetch(object, &reader, &want)).unwrap()
}

/// The rows of whoever the middle one belongs to are read like all others, and not by Parquet's reader.
fn assert_person_is_found(object: &ObjectBytes, rows: &[StoredRow]) {
    let middle = &rows[rows.len() / 2];
    let is_own = |row: &StoredRow| (row.project_id, row.person_no) == (middle.project_id, middle.person_no);
    let own: Vec<StoredRow> = rows.iter().filter(|row| is_own(row)).cloned().collect();
    let numbers = (0..rows.len()).filter(|n| is_own(&rows[*n])).map(|n| n as u64);
    let rows = RowRanges::of_numbers(numbers);
    let columns = Columns::Located(Located {
        person_no: middle.person_no,
        occurred_at: own.iter().map(|row| row.occurred_at).collect(),
        with_properties: true,
    });
    let want = Want { columns, rows };
    let reader = open(object);
    let parts = fetch(object, &reader, &want);
    let read = reader.read_located(&want, &parts).unwrap().expect("without Parquet's reader");
    assert_eq!(exact(&read), exact(&own));
    let batches = reader.read_rows(&want, &parts).unwrap();
    assert_eq!(exact(&batches.flat_map(Result::unwrap).collect::<Vec<_>>()), exact(&own), "by that too");
}

fn value_of(value: ValueRef<'_>) -> PropertyValue {
    match value {
        ValueRef::String(text) => PropertyValue::String(text.into()),
        ValueRef::Integer(number) => PropertyValue::Integer(number),
        ValueRef::Float(number) => PropertyValue::Float(number),
        ValueRef::Bool(flag) => PropertyValue::Bool(flag),
        ValueRef::Json(text) => PropertyValue::Json(text.into()),
    }
}

/// `==` says that 0.0 is -0.0; the bits do not.
fn exact(rows: &[StoredRow]) -> Vec<String> {
    rows.iter().map(|row| format!("{row:?}")).collect()
}

fn assert_block_shows(block: &RowBlock, rows: &[StoredRow], asked: &[&str]) {
    assert_eq!(block.row_count(), rows.len());
    for (n, row) in rows.iter().enumerate() {
        assert_eq!(block.person_no[n], row.person_no);
        assert_eq!(block.occurred_at.at(n), row.occurred_at);
        assert_eq!(block.event.get(n), Some(&*row.event));
        for (column, name) in block.properties.iter().zip(asked) {
            let stored = row.properties.get(name).map(PropertyRef::to_value);
            let shown = column.value(n).map(value_of);
            assert_eq!(format!("{shown:?}"), format!("{stored:?}"), "row {n}, property {name}");
        }
    }
}

fn any_value() -> impl Strategy<Value = PropertyValue> {
    prop_oneof![
        any::<String>().prop_map(PropertyValue::String),
        "[a-c]".prop_map(PropertyValue::String),
        any::<i64>().prop_map(PropertyValue::Integer),
        prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(0)].prop_map(PropertyValue::Integer),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(PropertyValue::Float),
        prop_oneof![Just(-0.0), Just(0.0), Just(f64::MIN_POSITIVE), Just(5e-324), Just(f64::MAX)]
            .prop_map(PropertyValue::Float),
        any::<bool>().prop_map(PropertyValue::Bool),
        prop_oneof![Just("[1, 2.50]"), Just("{}"), Just("[{\"a\": null}]"), Just("[\"🍣\"]")]
            .prop_map(|text| PropertyValue::Json(text.into())),
    ]
}

const NAMES: [&str; 6] = ["a", "a.b", "a.b.c", "", "größe 🍣", "$os"];

fn any_row() -> impl Strategy<Value = StoredRow> {
    let properties = proptest::collection::btree_map(proptest::sample::select(&NAMES[..]), any_value(), 0..5);
    let times = prop_oneof![-3 * DAY_MS..3 * DAY_MS, Just(i64::MIN / 4), Just(i64::MAX / 4)];
    let ids = (1..4_u32, 0..4_u32, any::<u32>(), any::<[u8; 16]>());
    let rest = (times, any::<i64>(), "[a-d]{1,2}|\\PC{1,5}", 0..3_u8, properties);
    (ids, rest).prop_map(
        |((project, person_no, id_no, event_id), (at, received_at, event, source, properties))| StoredRow {
            project_id: ProjectId(project),
            person_no,
            id_no,
            occurred_at: at,
            received_at,
            event: event.into(),
            event_id: EventId(event_id),
            time_source: TimeSource::from_u8(source).unwrap(),
            properties: properties.into_iter().collect(),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn a_segment_gives_back_exactly_what_it_got(
        mut rows in proptest::collection::vec(any_row(), 1..60),
        page_rows in 1..9_usize,
        columns_max in 0..12_usize,
        names_max in prop_oneof![1..6_usize, Just(2_000)],
        short_ids in any::<bool>(),
        is_short in any::<bool>(),
    ) {
        rows.iter_mut().for_each(|row| row.project_id = ProjectId(9));
        rows.iter_mut().filter(|_| is_short).for_each(|row| row.occurred_at %= DAY_MS);
        rows.sort_by_key(StoredRow::segment_key);
        let options = WriteOptions { page_rows, columns_max, names_max, short_ids, ..WriteOptions::default() };
        let object = write_segment(&rows, &options).unwrap();
        let reader = open(&object);
        let has_times = reader.header().times.is_some();
        let version = match (short_ids, has_times, reader.header().rollups.as_slice()) {
            (false, ..) => 3,
            (true, true, [shortest, ..]) if shortest.bytes_behind().is_some() => 7,
            (true, true, _) => 6,
            (true, false, []) => 4,
            (true, false, _) => 5,
        };
        prop_assert!(!is_short || !short_ids || rows.len() < 40 || has_times);
        prop_assert_eq!(object.parts[0][4], version);
        prop_assert_eq!(exact(&read_rows(&object, RowRanges::All)), exact(&rows));
        assert_person_is_found(&object, &rows);
        let asked = [NAMES[1], NAMES[0], "never there", NAMES[4], NAMES[1]];
        assert_block_shows(&read_block(&object, &asked, RowRanges::All), &rows, &asked);
        // Some rows out of the middle, across pages.
        let (from, to) = (rows.len() / 3, rows.len() - rows.len() / 3);
        let some = RowRanges::one(from as u64..to as u64);
        prop_assert_eq!(exact(&read_rows(&object, some.clone())), exact(&rows[from..to]));
        for (ranges, rows) in [(RowRanges::All, &*rows), (some.clone(), &rows[from..to])] {
            let want = Want { columns: Columns::Identity, rows: ranges };
            let reader = open(&object);
            let read = reader.read_identities(&want, &fetch(&object, &reader, &want)).unwrap();
            prop_assert_eq!(read.event_id, rows.iter().map(|row| row.event_id).collect::<Vec<_>>());
            prop_assert_eq!(read.occurred_at, rows.iter().map(|row| row.occurred_at).collect::<Vec<_>>());
        }
        assert_block_shows(&read_block(&object, &asked, some), &rows[from..to], &asked);
    }

    #[test]
    fn a_run_gives_each_project_its_rows(
        mut rows in proptest::collection::vec(any_row(), 1..60),
        page_rows in 1..9_usize,
        names_max in 1..12_usize,
    ) {
        rows.sort_by_key(StoredRow::run_key);
        let object = write_run(&rows, &WriteOptions { page_rows, names_max, ..WriteOptions::default() }).unwrap();
        prop_assert_eq!(exact(&read_rows(&object, RowRanges::All)), exact(&rows));
        assert_person_is_found(&object, &rows);
        let facts = ObjectFacts::from_bytes(&object.facts.to_bytes()).unwrap();
        prop_assert_eq!(&facts, &object.facts);
        prop_assert_eq!(facts.slices.iter().map(|slice| slice.rows).sum::<u64>(), rows.len() as u64);
        for slice in &facts.slices {
            let mut own: Vec<_> = rows.iter().filter(|r| r.project_id == slice.project_id).cloned().collect();
            let ranges = RowRanges::of_slice(slice);
            prop_assert_eq!(exact(&read_rows(&object, ranges.clone())), exact(&own));
            own.sort_by_key(StoredRow::segment_key);
            let asked = ["a", "$os", "a.b"];
            assert_block_shows(&read_block(&object, &asked, ranges), &own, &asked);
        }
    }
}

#[test]
fn the_pages_of_all_columns_are_cut_at_the_same_rows() {
    // Long texts and sparse values must not move a cut; a dictionary that overflows moves one.
    const UNIQUE: usize = 9;
    let mut rows = many_rows();
    for (n, row) in rows.iter_mut().enumerate() {
        row.properties = row.properties.with("unique", PropertyValue::String(format!("{n:0>400}")));
        if n % 700 == 0 {
            row.properties = row.properties.with("zeldom", PropertyValue::Integer(n as i64));
        }
    }
    let object = write_segment(&rows, &small_pages()).unwrap();
    assert_person_is_found(&object, &rows);
    let starts = open(&object).page_starts().unwrap();
    let expected: Vec<i64> = (0..20_000).step_by(512).collect();
    assert_eq!(starts.len(), 7 + 4 + 1);
    for (column, starts) in starts.iter().enumerate().filter(|(column, _)| *column != UNIQUE) {
        assert_eq!(starts, &expected, "column {column}");
    }
    // The writer gave up this column's dictionary in the middle of a page, and only there.
    let moved = starts[UNIQUE].iter().zip(&expected).filter(|(a, b)| a != b).count();
    assert_eq!((starts[UNIQUE].len(), moved), (expected.len(), 1));
    let block = read_block(&object, &["unique"], RowRanges::All);
    assert_block_shows(&block, &rows, &["unique"]);
    for start in (0..20_000).step_by(512) {
        let range = start..(start + 512).min(20_000);
        let block = read_block(&object, &["unique"], RowRanges::one(range.start as u64..range.end as u64));
        assert_block_shows(&block, &rows[range], &["unique"]);
    }
}

#[test]
fn a_question_fetches_only_the_parts_of_its_columns() {
    let mut rows = many_rows();
    let random = SeededRandom::new(1);
    for row in &mut rows {
        let mut noise = [0; 100];
        random.fill(&mut noise);
        row.properties = row.properties.with("query", PropertyValue::String(hex::encode(noise)));
    }
    let object = write_segment(&rows, &WriteOptions::default()).unwrap();
    let reader = open(&object);
    let bytes_for = |columns| {
        let want = Want { columns, rows: RowRanges::All };
        fetch(&object, &reader, &want).bytes()
    };
    let whole = bytes_for(Columns::All);
    let fixed = bytes_for(Columns::Block { with: RowColumns::ALL, properties: Vec::new(), of_events: None });
    assert!(fixed * 4 < whole, "{fixed} of {whole} bytes");
    assert!(object.parts.iter().all(|part| part.len() <= 128 << 10));
    assert_eq!(object.facts.parts as usize, object.parts.len());
    assert_eq!(object.facts.bytes, object.parts.iter().map(|part| part.len() as u64).sum::<u64>());
    assert_eq!(reader.part_count(), object.facts.parts);
}

#[test]
fn the_pages_of_a_person_hold_all_their_rows() {
    let rows = many_rows();
    let object = write_segment(&rows, &small_pages()).unwrap();
    let reader = open(&object);
    for persons in [vec![0], vec![30], vec![57], vec![0, 3, 57], vec![31], vec![1_000]] {
        let ranges = reader.rows_of_persons(&persons);
        let RowRanges::Some(pages) = &ranges else { panic!("all rows") };
        let read: u64 = pages.iter().map(|page| page.end - page.start).sum();
        assert!(read <= persons.len() as u64 * 2_048, "{read} rows for {persons:?}");
        let want = Want { columns: Columns::Identity, rows: ranges };
        let block = reader.read_identities(&want, &fetch(&object, &reader, &want)).unwrap();
        let found = block.person_no.iter().filter(|person| persons.contains(person)).count();
        let there = rows.iter().filter(|row| persons.contains(&row.person_no)).count();
        assert_eq!(found, there, "{persons:?}");
        for (n, id) in block.event_id.iter().enumerate() {
            let key = (block.person_no[n], block.occurred_at[n], *id);
            assert!(rows.binary_search_by_key(&key, StoredRow::segment_key).is_ok());
        }
    }
}

#[test]
fn days_of_a_run_are_found_without_the_others() {
    let mut rows: Vec<StoredRow> =
        (0..300).map(|n| row(n % 7, i64::from(n) * DAY_MS / 60, u128::from(n))).collect();
    rows.sort_by_key(StoredRow::run_key);
    let object = write_run(&rows, &small_pages()).unwrap();
    let slice = &object.facts.slices[0];
    let read = read_rows(&object, RowRanges::of_days(slice, 1, 2));
    assert_eq!(read.len(), 120);
    assert!(read.iter().all(|row| (DAY_MS..3 * DAY_MS).contains(&row.occurred_at)));
    assert_eq!(RowRanges::of_days(slice, 90, 100), RowRanges::Some(Vec::new()));
    assert!(read_rows(&object, RowRanges::Some(Vec::new())).is_empty());
    assert!(read_block(&object, &["a"], RowRanges::Some(Vec::new())).event.is_empty());
}

#[test]
fn more_kinds_than_columns_stay_askable() {
    let rows: Vec<StoredRow> = (0..700_u32)
        .map(|n| {
            let mut row = row(n, 0, 0);
            // p0 is in every row, p1 in all but one, and so on: the last 200 are the rare ones.
            row.properties =
                (0..=n).map(|p| (format!("p{p:03}"), PropertyValue::Integer(i64::from(n * p)))).collect();
            row
        })
        .collect();
    // The shared column is then the last of the parts.
    let options = WriteOptions { times_by_event_rows_min: u64::MAX, ..WriteOptions::default() };
    let object = write_segment(&rows, &options).unwrap();
    assert_eq!(read_rows(&object, RowRanges::All), rows);
    let asked = ["p000", "p499", "p500", "p699"];
    assert_block_shows(&read_block(&object, &asked, RowRanges::All), &rows, &asked);
    assert_eq!(object.facts.slices[0].properties.len(), 700);
    // Only a question for a rare property pays for the shared column.
    let reader = open(&object);
    let parts = |name: &str| {
        let columns =
            Columns::Block { with: RowColumns::ALL, properties: vec![name.to_owned()], of_events: None };
        reader.parts_for(&Want { columns, rows: RowRanges::All }).unwrap()
    };
    assert!(parts("p499").iter().all(|part| *part < object.facts.parts - 1));
    assert!(parts("p500").contains(&(object.facts.parts - 1)));
}

#[test]
fn received_times_cost_little_for_live_events_and_for_imports() {
    let bytes_with = |received: &dyn Fn(&StoredRow, i64) -> i64| {
        let mut rows = many_rows();
        for (n, row) in rows.iter_mut().enumerate() {
            row.received_at = received(row, n as i64);
        }
        let object = write_segment(&rows, &WriteOptions::default()).unwrap();
        assert_eq!(read_rows(&object, RowRanges::All), rows);
        object.facts.bytes
    };
    let nothing = bytes_with(&|_, _| 7);
    let live = bytes_with(&|row, n| row.occurred_at + n * 7_919 % 5_000);
    let import = bytes_with(&|_, n| 1_800_000_000_000 + n / 2_000);
    // 5,000 different delays are 13 bits; eight bytes would be 160,000 in all.
    assert!(live < nothing + 20_000 * 3, "{live} against {nothing}");
    assert!(import < nothing + 5_000, "{import} against {nothing}");
}

#[test]
fn facts_say_what_is_inside() {
    let mut rows = many_rows();
    rows[5].properties = rows[5].properties.with("amount", PropertyValue::Integer(-4));
    let object = write_segment(&rows, &WriteOptions::default()).unwrap();
    let facts = ObjectFacts::from_bytes(&object.facts.to_bytes()).unwrap();
    assert_eq!(facts, object.facts);
    assert_eq!((facts.rows, facts.day_from(), facts.day_to()), (20_000, 0, 13));
    let slice = facts.slice_of(ProjectId(1)).unwrap();
    assert!(facts.slice_of(ProjectId(2)).is_none());
    assert_eq!((slice.person_min, slice.person_max), (0, 57));
    assert_eq!(slice.events[0], EventFact { name: "$pageview".into(), rows: 6_667, quiet_secs: 60 });
    let kinds: Vec<_> = slice.properties.iter().map(|p| (p.name.as_str(), p.kind, p.rows, p.range)).collect();
    let greatest = 19_999.0 / 7.0;
    assert_eq!(
        kinds,
        [
            ("amount", PropertyKind::Integer, 1, Some(NumberRange::Integer(-4, -4))),
            ("amount", PropertyKind::Float, 19_999, Some(NumberRange::Float(0.0, greatest))),
            ("page", PropertyKind::String, 20_000, None),
        ]
    );
    assert_eq!(slice.facts_of("page").map(<[_]>::len), Some(1));
    assert_eq!(slice.facts_of("pag"), Some(&[][..]));
}

#[test]
fn the_filter_knows_every_row_and_hardly_any_other() {
    let rows = many_rows();
    let object = write_segment(&rows, &WriteOptions::default()).unwrap();
    let reader = open(&object);
    let parts = reader.filter_parts().map(|n| (n, object.parts[n as usize].clone())).collect();
    let filter = reader.read_filter(&parts).unwrap();
    let hash = |row: &StoredRow, day: i32| identity_hash(None, row.person_no, row.event_id, day);
    let day = |row: &StoredRow| crate::model::utc_day(row.occurred_at);
    assert!(rows.iter().all(|row| filter.may_contain(hash(row, day(row)))));
    let wrong = rows.iter().filter(|row| filter.may_contain(hash(row, day(row) + 100))).count();
    assert!(wrong <= 6, "{wrong} of 20,000");
}

#[test]
fn slices_are_enough_for_few_rows_and_far_less_than_parts() {
    let rows = many_rows();
    let object = write_segment(&rows, &small_pages()).unwrap();
    let reader = open(&object);
    let person_no = rows[9_000].person_no;
    let own = rows.partition_point(|row| row.person_no < person_no)
        ..rows.partition_point(|row| row.person_no <= person_no);
    let (first, last) = (own.start..own.start + 20, own.end - 1..own.end);
    let few = RowRanges::of_numbers(first.clone().chain(last.clone()).map(|row| row as u64));
    let expected: Vec<StoredRow> = [&rows[first], &rows[last]].concat();
    let located = |with_properties| {
        let occurred_at = expected.iter().map(|row| row.occurred_at).collect();
        Columns::Located(Located { person_no, occurred_at, with_properties })
    };
    let mut without_properties = expected.clone();
    without_properties.iter_mut().for_each(|row| row.properties = Properties::default());
    let mut parts = PartSet::default();
    parts.insert(HEADER_PART, object.parts[0].clone());
    let mut fixed_bytes = 0;
    for columns in [Columns::Identity, located(false), located(true), Columns::All] {
        let want = Want { columns, rows: few.clone() };
        for slice in reader.slices_for(&want, &parts).unwrap() {
            let part = &object.parts[slice.part_no as usize];
            parts.insert_slice(slice, part.slice(slice.start as usize..slice.end as usize));
        }
        assert_eq!(reader.slices_for(&want, &parts).unwrap(), [], "nothing is read twice");
        if want.columns == Columns::Identity {
            continue;
        }
        let read = reader.read_all_rows(&want, &parts).unwrap();
        if want.columns == located(false) {
            assert_eq!(exact(&read), exact(&without_properties));
            fixed_bytes = parts.bytes();
        } else {
            assert_eq!(exact(&read), exact(&expected));
        }
    }
    assert!(fixed_bytes < parts.bytes(), "{fixed_bytes} bytes without properties");
    let whole: usize = object.parts.iter().map(Bytes::len).sum();
    assert!(parts.bytes() < whole / 2, "{} of {whole} bytes", parts.bytes());

    let other = Want { columns: Columns::Identity, rows: RowRanges::one(15_000..15_001) };
    assert!(matches!(reader.read_identities(&other, &parts), Err(FormatError::MissingPart { .. })));
}

#[test]
fn a_missing_part_is_an_error_and_never_fewer_rows() {
    let object = write_segment(&many_rows(), &small_pages()).unwrap();
    let reader = open(&object);
    let want = Want {
        columns: Columns::Block { with: RowColumns::ALL, properties: vec!["page".into()], of_events: None },
        rows: RowRanges::All,
    };
    for missing in reader.parts_for(&want).unwrap() {
        let parts = fetch(&object, &reader, &want);
        let parts: PartSet = (0..object.facts.parts)
            .filter(|part_no| *part_no != missing && parts.get(*part_no).is_ok())
            .map(|part_no| (part_no, object.parts[part_no as usize].clone()))
            .collect();
        let error = reader.read_block(&want, &parts).unwrap_err();
        assert!(matches!(error, FormatError::MissingPart { part_no } if part_no == missing));
    }
}

#[test]
fn broken_bytes_are_refused() {
    let object = write_segment(&many_rows(), &small_pages()).unwrap();
    let header = &object.parts[0];
    assert!(ObjectReader::open(&header[..header.len() / 2]).is_err());
    assert!(ObjectReader::open(b"PAR1").is_err());
    let mut newer = header.to_vec();
    newer[4] = 99;
    assert!(matches!(ObjectReader::open(&newer), Err(FormatError::UnknownVersion(99))));
    let reader = open(&object);
    let want = Want { columns: Columns::Identity, rows: RowRanges::All };
    let mut parts = fetch(&object, &reader, &want);
    let first = reader.parts_for(&want).unwrap()[0];
    parts.insert(first, Bytes::from_static(b"short"));
    assert!(reader.read_identities(&want, &parts).is_err());
}

#[test]
fn rows_out_of_order_or_of_another_project_are_refused() {
    let rows = [row(2, 0, 0), row(1, 0, 0)];
    assert!(matches!(write_segment(&rows, &small_pages()), Err(FormatError::OutOfOrder { row: 1 })));
    assert!(matches!(write_run(&rows, &small_pages()), Err(FormatError::OutOfOrder { row: 1 })));
    let mut rows = [row(1, 0, 0), row(2, 0, 0)];
    rows[1].project_id = ProjectId(2);
    assert!(matches!(write_segment(&rows, &small_pages()), Err(FormatError::OutOfOrder { row: 1 })));
    assert!(matches!(write_segment(&[], &small_pages()), Err(FormatError::Empty)));
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let rows = many_rows();
    let first = write_segment(&rows, &WriteOptions::default()).unwrap();
    let second = write_segment(&rows, &WriteOptions::default()).unwrap();
    assert_eq!(first.parts, second.parts);
    assert_eq!(first.facts.to_bytes(), second.facts.to_bytes());
}
