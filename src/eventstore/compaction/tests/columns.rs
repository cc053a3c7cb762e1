//! Which properties have a column after a merge, and that no value depends on it.

use proptest::prelude::*;

use super::super::masks::LeftOut;
use super::*;
use crate::eventstore::format::{
    Columns, ObjectBytes, PartSet, RowRanges, StoredRow, Want, join_segments, write_segment,
};
use crate::eventstore::{COUNT_STEPS, RowColumns, ValueRef};
use crate::model::{DAY_MS, PropertyRef, PropertyValue};

/// Rows of one project, each with some of 12 properties; the higher the number, the rarer.
fn rows_of_some_properties(numbers: std::ops::Range<u32>, seed: u32) -> Vec<StoredRow> {
    let mut made: Vec<StoredRow> = numbers
        .map(|n| {
            let mut made = row(PROJECT, n);
            let dice = identity_hash(None, n, made.event_id, seed as i32);
            made.properties = (0..12_u32)
                .filter(|p| (dice >> (4 * p)).is_multiple_of(u64::from(*p) + 1))
                .map(|p| match (dice >> p) % 3 {
                    0 => (format!("p{p:02}"), PropertyValue::String(format!("v{}", n % 7))),
                    _ => (format!("p{p:02}"), PropertyValue::Integer(n.into())),
                })
                .collect();
            made
        })
        .collect();
    made.sort_by_key(StoredRow::segment_key);
    made
}

fn input(object: ObjectBytes) -> Input {
    let parts: PartSet = (0..).zip(object.parts).collect();
    let reader = ObjectReader::open(parts.get(HEADER_PART).unwrap()).unwrap();
    Input { reader, parts, facts: object.facts }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever had a column before and has one afterwards, rows and blocks are the same to the bit.
    #[test]
    fn merged_segments_choose_columns_anew_and_keep_every_value(
        seed in any::<u32>(),
        inputs in proptest::collection::vec((1..80_u32, 1..8_usize, 1..8_usize, any::<bool>()), 1..6),
        (columns_max, names_max) in (1..20_usize, 1..20_usize),
    ) {
        let (mut all, mut objects, mut next) = (Vec::new(), Vec::new(), 0);
        for (count, columns_max, names_max, short_ids) in inputs {
            let rows = rows_of_some_properties(next..next + count, seed);
            next += count;
            let options =
                WriteOptions { page_rows: 16, columns_max, names_max, short_ids, ..WriteOptions::default() };
            objects.push(input(write_segment(&rows, &options).unwrap()));
            all.extend(rows);
        }
        all.sort_by_key(StoredRow::segment_key);
        let options = WriteOptions { page_rows: 16, columns_max, names_max, ..WriteOptions::default() };
        let merged = merge::merge_segments(PROJECT, &objects, &LeftOut::default(), &options).unwrap().outputs;
        prop_assert_eq!(merged.len(), 1);
        let merged = input(merged.into_iter().next().unwrap().object);
        let want = Want { columns: Columns::All, rows: RowRanges::All };
        let read = merged.reader.read_rows(&want, &merged.parts).unwrap();
        let read: Vec<StoredRow> = read.flat_map(Result::unwrap).collect();
        prop_assert_eq!(format!("{read:?}"), format!("{all:?}"));
        for p in 0..13 {
            let name = format!("p{p:02}");
            let want = Want { columns: Columns::Block { with: RowColumns::ALL, properties: vec![name.clone()], of_events: None }, rows: RowRanges::All };
            let block = merged.reader.read_block(&want, &merged.parts).unwrap();
            for (n, row) in all.iter().enumerate() {
                let stored = row.properties.get(&name).map(|value| match value {
                    PropertyRef::String(text) => ValueRef::String(text),
                    PropertyRef::Integer(number) => ValueRef::Integer(number),
                    other => panic!("{other:?}"),
                });
                prop_assert_eq!(block.properties[0].value(n), stored, "{} of row {}", name, n);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Joined column by column, a segment is what it would be had all rows been written at once.
    #[test]
    fn segments_joined_by_columns_have_the_rows_and_the_facts_of_all(
        seed in any::<u32>(),
        counts in proptest::collection::vec(1..120_u32, 1..9_usize),
        as_import in any::<bool>(),
    ) {
        let options = WriteOptions { page_rows: 16, ..WriteOptions::default() };
        let (mut all, mut objects, mut next) = (Vec::new(), Vec::new(), 0);
        for count in counts {
            let mut rows = rows_of_some_properties(next..next + count, seed);
            next += count;
            for row in rows.iter_mut().filter(|_| as_import) {
                row.received_at = row.occurred_at + 5;
            }
            // Some of an earlier build.
            let short_ids = next % 3 > 0;
            objects.push(input(write_segment(&rows, &WriteOptions { short_ids, ..options }).unwrap()));
            all.extend(rows);
        }
        all.sort_by_key(StoredRow::segment_key);
        let inputs: Vec<_> = objects.iter().map(Input::columns).collect();
        let joined = input(join_segments(PROJECT, &inputs, &options).unwrap().expect("nothing is in the way"));
        let want = Want { columns: Columns::All, rows: RowRanges::All };
        let read = joined.reader.read_rows(&want, &joined.parts).unwrap();
        let read: Vec<StoredRow> = read.flat_map(Result::unwrap).collect();
        prop_assert_eq!(&read, &all);
        let whole = input(write_segment(&all, &options).unwrap());
        prop_assert_eq!(&joined.facts.slices, &whole.facts.slices);
        prop_assert_eq!(joined.facts.raw_bytes, whole.facts.raw_bytes);
        // Also of inputs too small to have one.
        let rollup = |of: &Input, step| format!("{:?}", of.reader.read_rollup(step, &of.parts).unwrap());
        for step in COUNT_STEPS {
            prop_assert_eq!(rollup(&joined, step), rollup(&whole, step));
        }
        // Two events on 21 days, and half as many cells as rows at most.
        let by_days = joined.reader.read_rollup(DAY_MS, &joined.parts).unwrap();
        prop_assert!(by_days.is_some() || all.len() < 2 * 2 * 21);
        prop_assert_eq!(joined.facts.received_min, whole.facts.received_min);
        // Pages are cut alike, so whoever looks for a person finds the same rows.
        for row in &all {
            let persons = [row.person_no];
            prop_assert_eq!(joined.reader.rows_of_persons(&persons), whole.reader.rows_of_persons(&persons));
        }
        let parts: PartSet = joined.reader.filter_parts().map(|part_no| {
            (part_no, joined.parts.get(part_no).unwrap().clone())
        }).collect();
        let filter = joined.reader.read_filter(&parts).unwrap();
        for row in &all {
            let day = utc_day(row.occurred_at);
            prop_assert!(filter.may_contain(identity_hash(None, row.person_no, row.event_id, day)));
        }
    }
}

/// Which of these names a question finds in a column, without the one that all others share.
fn with_columns(input: &Input, names: &[&str]) -> Vec<String> {
    let shared = input.facts.parts - 1;
    let has_column = |name: &&&str| {
        let columns =
            Columns::Block { with: RowColumns::ALL, properties: vec![(**name).to_owned()], of_events: None };
        !input.reader.parts_for(&Want { columns, rows: RowRanges::All }).unwrap().contains(&shared)
    };
    names.iter().filter(has_column).map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_merge_gives_columns_to_what_is_most_frequent_in_all_inputs_together() {
    let rows_with = |numbers: std::ops::Range<u32>, names: &[(&str, u32)]| {
        let mut made = rows(PROJECT, numbers);
        for (n, row) in (0..).zip(&mut made) {
            let has = |count: &u32| n < *count;
            // Long enough that columns do not share a part with their neighbours.
            row.properties = names
                .iter()
                .filter(|(_, count)| has(count))
                .map(|(name, _)| ((*name).to_owned(), PropertyValue::String(noise(n))))
                .collect();
        }
        made.sort_by_key(StoredRow::segment_key);
        made
    };
    // The shared column is then the last of the parts.
    let times_by_event_rows_min = u64::MAX;
    let options =
        WriteOptions { columns_max: 2, names_max: 10, times_by_event_rows_min, ..WriteOptions::default() };
    // b is second in neither, and first in both together.
    let one =
        input(write_segment(&rows_with(0..300, &[("a", 300), ("b", 290), ("c", 295)]), &options).unwrap());
    let two =
        input(write_segment(&rows_with(300..600, &[("b", 290), ("d", 300), ("e", 295)]), &options).unwrap());
    let names = ["a", "b", "c", "d", "e"];
    assert_eq!(with_columns(&one, &names), ["a", "c", "d", "e"], "what is not there is in no column");
    let merged = merge::merge_segments(PROJECT, &[one, two], &LeftOut::default(), &options).unwrap().outputs;
    let merged = input(merged.into_iter().next().unwrap().object);
    assert_eq!(with_columns(&merged, &names), ["a", "b"], "of a and d, which are as frequent, the first");
}

/// Text that does not compress.
fn noise(n: u32) -> String {
    let random = SeededRandom::new(n.into());
    let mut bytes = [0; 600];
    random.fill(&mut bytes);
    hex::encode(bytes)
}

on_both! {
    async fn no_answer_changes_when_properties_lose_their_columns_and_get_them_back(db: Db) {
        let random = SeededRandom::new(8);
        let mut stored = 0;
        for columns_max in [1, 500, 2] {
            for _ in 0..6 {
                store_segment(&db, &random, rows(PROJECT, stored..stored + 40)).await;
                stored += 40;
            }
            let before = shown(&db, PROJECT).await;
            assert_eq!(before.len(), stored as usize);
            let mut compactor = compactor(columns_max as u8);
            compactor.write = WriteOptions { columns_max, names_max: columns_max, ..write_options() };
            compactor.options.fan_in_min = 2;
            assert!(compactor.compact_shard(&db, SHARD).await.unwrap().steps > 0);
            assert_eq!(shown(&db, PROJECT).await, before, "{columns_max} columns");
        }
    }
}
