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
            let absent = n % every != 0 || (3_000..9_000).contains(&n);
            row.properties = if absent { Properties::default() } else { vec![("text", text)].into() };
            row.event = format!("event {}", n % distinct.min(700)).as_str().into();
        }
        for options in
            [small_pages(), WriteOptions::default(), WriteOptions { page_rows: 7, ..small_pages() }]
        {
            let object = write_segment(&rows, &options).unwrap();
            let whole = read_block(&object, &["text"], RowRanges::All);
            let by_parquet = read_block(&object, &["text"], RowRanges::one(0..rows.len() as u64));
            let texts = |block: &RowBlock| -> Vec<(Option<String>, Option<String>)> {
                let text = |n| block.properties[0].value(n).map(|value| format!("{value:?}"));
                block.rows().map(|n| (block.event.get(n).map(str::to_owned), text(n))).collect()
            };
            assert_eq!(texts(&whole), texts(&by_parquet), "{distinct} {every}");
            let reader = open(&object);
            let columns = Columns::Block { with: RowColumns::default(), properties: vec!["text".to_owned()] };
            let want = Want { columns, rows: RowRanges::All };
            let parts = fetch(&object, &reader, &want);
            for index in reader.column_indices(&want.columns).unwrap() {
                assert!(reader.read_texts(index, &parts).unwrap().is_some(), "by codes: {distinct} {every}");
            }
        }
    }
}
