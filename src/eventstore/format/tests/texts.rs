//! Whole columns of texts, against Parquet's own reader.

use super::*;

#[test]
fn texts_read_whole_are_those_that_parquets_reader_finds_however_many_differ() {
    for (distinct, every) in
        [(1, 1), (2, 3), (3, 1), (200, 7), (254, 1), (255, 1), (256, 2), (257, 1), (5_000, 3)]
    {
        let mut rows = many_rows();
        for (n, row) in rows.iter_mut().enumerate() {
            let text = PropertyValue::String(format!("text {}", n * 31 % distinct));
            let list = PropertyValue::Json(format!("[{}]", n % distinct).as_str().into());
            // Whole pages too have none.
            let absent = n % every != 0 || (3_000..9_000).contains(&n);
            row.properties =
                if absent { Properties::default() } else { vec![("list", list), ("text", text)].into() };
            row.event = format!("event {}", n % distinct.min(700)).as_str().into();
        }
        for options in
            [small_pages(), WriteOptions::default(), WriteOptions { page_rows: 7, ..small_pages() }]
        {
            let object = write_segment(&rows, &options).unwrap();
            assert!(are_same_both_ways(&object, rows.len()), "by codes: {distinct} {every}");
        }
    }
}

#[test]
fn texts_that_are_too_many_for_a_list_are_read_by_parquets_reader() {
    let mut rows = many_rows();
    for (n, row) in rows.iter_mut().enumerate() {
        row.properties = vec![("text", PropertyValue::String(format!("{n:0400}")))].into();
    }
    let object = write_segment(&rows, &WriteOptions::default()).unwrap();
    assert!(!are_same_both_ways(&object, rows.len()));
}

/// Reads all rows as a whole and as a range, and says whether the columns as a whole are codes.
fn are_same_both_ways(object: &ObjectBytes, rows: usize) -> bool {
    let asked = ["text", "list", "text"];
    let whole = read_block(object, &asked, RowRanges::All);
    let by_parquet = read_block(object, &asked, RowRanges::one(0..rows as u64));
    let shown = |block: &RowBlock| -> Vec<String> {
        let row = |n| {
            let values: Vec<_> = block.properties.iter().map(|column| column.value(n)).collect();
            format!("{:?} {values:?}", block.event.get(n))
        };
        block.rows().map(row).collect()
    };
    assert_eq!(shown(&whole), shown(&by_parquet));
    let reader = open(object);
    let properties = vec!["list".to_owned(), "text".to_owned()];
    let columns = Columns::Block { with: RowColumns::default(), properties, of_events: None };
    let want = Want { columns, rows: RowRanges::All };
    let parts = fetch(object, &reader, &want);
    let columns = reader.column_indices(&want.columns).unwrap();
    columns.into_iter().all(|index| reader.read_texts(index, None, &parts).unwrap().is_some())
}
