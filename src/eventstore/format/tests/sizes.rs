//! Parts and pages of rows that are large.

use parquet::file::reader::ChunkReader;

use super::super::page_header::PageHeader;
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

/// Whether each page of rows of a property's column is in zstd.
fn are_packed(object: &ObjectBytes, name: &str) -> Vec<bool> {
    let reader = open(object);
    let (_, index) = reader.header().layout.columns_of(name).next().unwrap();
    let (start, bytes) = reader.chunk(index).byte_range();
    let parts = (0..).zip(&object.parts).skip(1).map(|(part_no, part)| (part_no, part.clone())).collect();
    let file = reader.file(&parts).unwrap();
    let (mut next, end, mut found) = (start, start + bytes, Vec::new());
    while next < end {
        let header =
            PageHeader::parse(&file.get_bytes(next, 256.min((end - next) as usize)).unwrap()).unwrap();
        found.extend(header.data.as_ref().map(|data| data.is_compressed));
        next += header.page_bytes() as u64;
    }
    found
}

#[test]
fn pages_that_zstd_makes_hardly_smaller_are_left_as_they_are() {
    let rows = (0..20_000_u32).map(|n| {
        let chance = (crate::model::hash64(&n.to_le_bytes()) % 1_000) as f64 / 1_000.0;
        let (path, plan) = ((4_000.0 * chance * chance) as u32, n / 100 % 3);
        let text = |text: String| PropertyValue::String(text.as_str().into());
        let mut row = row(n / 20, i64::from(n), n.into());
        row.properties = vec![("path", text(format!("/{path}"))), ("plan", text(format!("{plan}")))].into();
        row
    });
    let rows: Vec<StoredRow> = rows.collect();
    let object = write_segment(&rows, &WriteOptions::default()).unwrap();
    for (name, expected) in [("path", false), ("plan", true)] {
        let packed = are_packed(&object, name);
        assert!(packed.len() > 1 && packed.iter().all(|packed| *packed == expected), "{name}: {packed:?}");
    }
    assert_eq!(read_rows(&object, RowRanges::All), rows);
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
