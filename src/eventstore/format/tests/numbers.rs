//! Whole columns of numbers, against Parquet's own reader.

use super::*;

#[test]
fn numbers_read_whole_are_those_that_parquets_reader_finds_however_many_there_are() {
    // Few are listed, 20,000 differences are not; of floats 20,000 are listed and none of these is whole.
    for (distinct, every) in [(1, 1), (2, 3), (200, 1), (257, 64), (5_000, 7), (20_000, 1), (20_000, 2)] {
        let mut rows = many_rows();
        for (n, row) in rows.iter_mut().enumerate() {
            let integer = PropertyValue::Integer((n as i64 * 7_919 % distinct - 5) << (n % 3 * 20));
            let float = PropertyValue::Float((n as i64 * 31 % distinct) as f64 / -7.0);
            // Whole pages too have none, and one has all.
            let absent = (n % every != 0 && !(512..1_024).contains(&n)) || (3_000..9_000).contains(&n);
            row.properties = if absent {
                Properties::default()
            } else {
                vec![("float", float), ("integer", integer)].into()
            };
        }
        for options in
            [small_pages(), WriteOptions::default(), WriteOptions { page_rows: 7, ..small_pages() }]
        {
            let object = write_segment(&rows, &options).unwrap();
            assert!(are_same_both_ways(&object, rows.len()), "{distinct} {every}");
        }
    }
}

#[test]
fn floats_that_are_too_many_for_a_list_are_read_too() {
    let mut rows = many_rows();
    for at_once in 0..4 {
        let mut more = many_rows();
        more.iter_mut().for_each(|row| row.occurred_at += at_once + 1);
        rows.extend(more);
    }
    rows.sort_by_key(StoredRow::segment_key);
    for (n, row) in rows.iter_mut().enumerate() {
        let float = PropertyValue::Float(n as f64 / 3.0 + 0.1);
        row.properties =
            if n % 100_000 < 90_000 { vec![("float", float)].into() } else { Properties::default() };
    }
    let object = write_segment(&rows, &WriteOptions::default()).unwrap();
    assert!(are_same_both_ways(&object, rows.len()));
}

/// Reads all rows as a whole and as a range, and says whether the columns as a whole are read without the
/// library.
fn are_same_both_ways(object: &ObjectBytes, rows: usize) -> bool {
    let asked = ["integer", "float", "integer"];
    let whole = read_block(object, &asked, RowRanges::All);
    let by_parquet = read_block(object, &asked, RowRanges::one(0..rows as u64));
    let shown = |block: &RowBlock| -> Vec<String> {
        let values = |n| -> Vec<_> { block.properties.iter().map(|column| column.value(n)).collect() };
        block.rows().map(|n| format!("{:?}", values(n))).collect()
    };
    assert_eq!(shown(&whole), shown(&by_parquet));
    let reader = open(object);
    let properties = vec!["float".to_owned(), "integer".to_owned()];
    let columns = Columns::Block { with: RowColumns::default(), properties, of_events: None };
    let want = Want { columns, rows: RowRanges::All };
    let parts = fetch(object, &reader, &want);
    let layout = &reader.header().layout;
    let mut are_ours = true;
    for index in reader.column_indices(&want.columns).unwrap() {
        are_ours &= match layout.kind_of(index) {
            Some(PropertyKind::Integer) => reader.read_numbers::<i64>(index, &parts).unwrap().is_some(),
            Some(PropertyKind::Float) => reader.read_numbers::<f64>(index, &parts).unwrap().is_some(),
            _ => true,
        };
    }
    are_ours
}
