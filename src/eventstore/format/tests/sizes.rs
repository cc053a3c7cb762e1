//! Parts and pages of rows that are large.

use super::*;

#[test]
fn no_part_is_larger_than_128_kibibytes_whatever_a_page_holds() {
    let random = SeededRandom::new(3);
    let rows: Vec<StoredRow> = (0..300)
        .map(|n| {
            let mut noise = [0; 8_000];
            random.fill(&mut noise);
            let mut row = row(n, 0, 0);
            row.properties = vec![("noise", PropertyValue::String(hex::encode(noise)))].into();
            row
        })
        .collect();
    let object = write_segment(&rows, &WriteOptions::default()).unwrap();
    assert!(object.parts.iter().all(|part| part.len() <= 128 << 10));
    assert!(object.facts.bytes > 2 << 20);
    assert_eq!(read_rows(&object, RowRanges::All), rows);
    assert_eq!(read_rows(&object, RowRanges::one(7..9)), rows[7..9]);
}

#[test]
fn big_rows_make_small_pages() {
    let rows: Vec<StoredRow> = (0..600)
        .map(|n| {
            let mut row = row(n, 0, 0);
            row.properties = vec![("body", PropertyValue::String("x".repeat(100_000)))].into();
            row
        })
        .collect();
    let object = write_segment(&rows, &WriteOptions::default()).unwrap();
    let starts = open(&object).page_starts().unwrap();
    assert_eq!(starts[0][..3], [0, 64, 128]);
    assert_eq!(read_rows(&object, RowRanges::All), rows);
}
