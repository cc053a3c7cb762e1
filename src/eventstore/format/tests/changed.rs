//! Objects with a byte of another value.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_changed_byte_is_an_error_or_other_values(
        mut rows in proptest::collection::vec(any_row(), 1..60),
        page_rows in 1..9_usize,
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        is_short in any::<bool>(),
    ) {
        rows.iter_mut().for_each(|row| row.project_id = ProjectId(9));
        rows.iter_mut().filter(|_| is_short).for_each(|row| row.occurred_at %= DAY_MS);
        rows.sort_by_key(StoredRow::segment_key);
        let object = write_segment(&rows, &WriteOptions { page_rows, ..WriteOptions::default() }).unwrap();
        let reader = open(&object);
        let person_no = rows[0].person_no;
        let own = rows.partition_point(|row| row.person_no == person_no);
        let occurred_at = rows[..own].iter().map(|row| row.occurred_at).collect();
        let columns = Columns::Located(Located { person_no, occurred_at, with_properties: true });
        let want = Want { columns, rows: RowRanges::one(0..own as u64) };
        // All of it is one part, but times by event.
        let part_no = reader.parts_for(&want).unwrap()[0];
        let mut part = object.parts[part_no as usize].to_vec();
        let at = at.index(part.len());
        part[at] = byte;
        let others = part_no + 1..object.facts.parts;
        let others = others.map(|part_no| (part_no, object.parts[part_no as usize].clone()));
        let parts: PartSet = others.chain([(part_no, Bytes::from(part))]).collect();
        if let Ok(Some(read)) = reader.read_located(&want, &parts) {
            prop_assert_eq!(read.len(), own);
        }
        let columns = Columns::Block { with: RowColumns::ALL, properties: Vec::new(), of_events: None };
        if let Ok(block) = reader.read_block(&Want { columns, rows: RowRanges::All }, &parts) {
            prop_assert_eq!(block.row_count(), rows.len());
        }
        let events: Arc<[String]> = [rows[0].event.to_string()].into();
        if reader.rows_of_events_at_most(&events, &[]).is_some() {
            let of_events = Some(events);
            let columns = Columns::Block { with: RowColumns::ALL, properties: Vec::new(), of_events };
            if let Ok(block) = reader.read_block(&Want { columns, rows: RowRanges::All }, &parts) {
                prop_assert_eq!(block.person_no.len(), block.occurred_at.len());
            }
        }
        // Parquet's reader panics at some bytes, ours does not.
        let layout = &reader.header().layout;
        for index in 0..layout.len() {
            let found = match layout.kind_of(index) {
                Some(PropertyKind::String | PropertyKind::Json) => {
                    reader.read_texts(index, None, &parts).ok().flatten().map(|texts| texts.len())
                }
                Some(PropertyKind::Integer) => {
                    reader.read_numbers::<i64>(index, &parts).ok().flatten().map(|numbers| numbers.rows())
                }
                Some(PropertyKind::Float) => {
                    reader.read_numbers::<f64>(index, &parts).ok().flatten().map(|numbers| numbers.rows())
                }
                Some(PropertyKind::Boolean) | None => None,
            };
            prop_assert!(found.is_none_or(|found| found == rows.len()));
        }
    }
}
