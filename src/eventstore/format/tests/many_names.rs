//! What a client that writes ids into names does to an object: less than one would fear.

use super::*;
use crate::eventstore::COUNT_STEPS;

const JUNK_OF_A_ROW: u32 = 100;

/// A name like an id: it does not compress.
fn junk(n: u32) -> String {
    format!("id_{:016x}", crate::model::hash64(&n.to_le_bytes()))
}

/// 1,000 rows with 100 names each that no other row has, beside ordinary properties; each event's name
/// is its own too.
fn flooded_rows() -> Vec<StoredRow> {
    let rows = 0..1_000_u32;
    rows.map(|n| {
        let mut row = row(n / 10, i64::from(n) * 1_000, u128::from(n));
        row.event = format!("event{n:04}").into();
        let junk = (n * JUNK_OF_A_ROW..(n + 1) * JUNK_OF_A_ROW)
            .map(|name| (junk(name), PropertyValue::Integer(i64::from(n))));
        let mut properties: Vec<_> = junk.collect();
        // One type has a column, the other is too rare for one.
        let amount = match n {
            999 => PropertyValue::String("late".into()),
            _ => PropertyValue::Integer(i64::from(n)),
        };
        properties.push(("amount".into(), amount));
        properties.push(("plan".into(), PropertyValue::String("pro".into())));
        row.properties = properties.into();
        row
    })
    .collect()
}

fn few_columns() -> WriteOptions {
    WriteOptions {
        page_rows: 64,
        columns_max: 2,
        names_max: 200,
        // The shared column is then the last of the parts.
        times_by_event_rows_min: u64::MAX,
        ..WriteOptions::default()
    }
}

/// Whether a question for this property reads the shared column, which is the last of the file.
fn reads_shared(object: &ObjectBytes, name: &str) -> bool {
    let columns =
        Columns::Block { with: RowColumns::ALL, properties: vec![name.to_owned()], of_events: None };
    let want = Want { columns, rows: RowRanges::All };
    let slices = open(object).slices_for(&want, &PartSet::default()).unwrap();
    let last = object.parts.len() - 1;
    slices.iter().any(|slice| slice.part_no as usize == last && slice.end == object.parts[last].len() as u64)
}

#[test]
fn a_hundred_thousand_names_stay_askable_and_are_not_listed() {
    let rows = flooded_rows();
    for (options, header_max) in [(few_columns(), 4_000), (WriteOptions::default(), 60_000)] {
        let object = write_segment(&rows, &options).unwrap();
        let facts = object.facts.to_bytes();
        let header = object.parts[HEADER_PART as usize].len();
        println!("{} columns: part 0 {header} bytes, facts {} bytes", options.columns_max, facts.len());
        assert!(header < header_max && facts.len() < 60_000, "{header} and {} bytes", facts.len());
        let slice = &object.facts.slices[0];
        assert!(slice.more_properties);
        assert!(slice.events.len() <= options.names_max && slice.properties.len() <= options.names_max + 1);
        assert_eq!(slice.more_events, options.names_max < 1_000);
        assert!(slice.may_have_event("event0999"));
        assert_eq!(slice.may_have_event("never"), slice.more_events);

        assert_eq!(exact(&read_rows(&object, RowRanges::All)), exact(&rows));
        let (first, middle, last) = (junk(0), junk(50_000), junk(99_999));
        let asked = ["amount", &first, &middle, &last, "plan", "never"];
        assert_block_shows(&read_block(&object, &asked, RowRanges::All), &rows, &asked);
        let some = RowRanges::one(300..777);
        assert_block_shows(&read_block(&object, &asked, some), &rows[300..777], &asked);
        let own = &rows[500..510];
        let located = Located {
            person_no: own[0].person_no,
            occurred_at: own.iter().map(|row| row.occurred_at).collect(),
            with_properties: true,
        };
        let want = Want { columns: Columns::Located(located), rows: RowRanges::one(500..510) };
        let reader = open(&object);
        let read = reader.read_all_rows(&want, &fetch(&object, &reader, &want)).unwrap();
        assert_eq!(exact(&read), exact(own));
    }
}

#[test]
fn only_questions_for_names_without_a_column_read_the_shared_one() {
    let object = write_segment(&flooded_rows(), &few_columns()).unwrap();
    for (name, expected) in
        [("plan", false), ("amount", true), (&junk(0), true), (&junk(99_999), true), ("never", true)]
    {
        assert_eq!(reads_shared(&object, name), expected, "{name}");
    }
    // One that lists all its names knows which it does not have.
    let options = WriteOptions { names_max: 200_000, ..few_columns() };
    let object = write_segment(&flooded_rows(), &options).unwrap();
    assert!(!reads_shared(&object, "never"));
    assert!(reads_shared(&object, &junk(0)));
}

#[test]
fn facts_are_whole_or_say_that_they_are_not() {
    let object = write_segment(&flooded_rows(), &few_columns()).unwrap();
    let slice = &object.facts.slices[0];
    let facts = slice.facts_of("amount").unwrap();
    let shown: Vec<_> = facts.iter().map(|fact| (fact.kind, fact.rows, fact.range)).collect();
    let range = Some(NumberRange::Integer(0, 998));
    assert_eq!(shown, [(PropertyKind::String, 1, None), (PropertyKind::Integer, 999, range)]);
    assert_eq!(slice.facts_of(&junk(99_999)), None, "counted late, or not listed");
    assert_eq!(slice.facts_of("never"), None);

    let run = write_run(&flooded_rows(), &few_columns()).unwrap();
    let slice = &run.facts.slices[0];
    assert!(slice.more_events && slice.properties.len() <= 201);
    assert_eq!(slice.facts_of("plan").unwrap()[0].rows, 1_000);
}

#[test]
fn the_last_row_of_a_name_is_known_to_the_second() {
    let mut rows = many_rows();
    rows.sort_by_key(|row| row.occurred_at);
    let end = rows.last().unwrap().occurred_at;
    rows[15_000].event = "once".into();
    rows[100].properties = rows[100].properties.with("seldom", PropertyValue::Bool(true));
    rows.sort_by_key(StoredRow::segment_key);
    let object = write_segment(&rows, &WriteOptions::default()).unwrap();
    let facts = ObjectFacts::from_bytes(&object.facts.to_bytes()).unwrap();
    let slice = &facts.slices[0];
    let last_of = |name: &str| slice.events.iter().find(|fact| fact.name == name).unwrap().quiet_secs;
    assert_eq!(slice.last_at(last_of("once")), 15_000 * 60_000);
    assert_eq!(slice.last_at(slice.facts_of("seldom").unwrap()[0].quiet_secs), 100 * 60_000);
    assert_eq!(slice.last_at(slice.facts_of("page").unwrap()[0].quiet_secs), end);
}

/// With another description in part 0.
fn with_description(object: &ObjectBytes, change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let (start, packed) = object.parts[0].split_at(5);
    let (length, packed) = packed.split_first_chunk().unwrap();
    let (packed, rollups) = packed.split_at(u32::from_le_bytes(*length) as usize);
    let body = zstd::decode_all(packed).unwrap();
    let (length, body) = body.split_first_chunk().unwrap();
    let (json, rest) = body.split_at(u32::from_le_bytes(*length) as usize);
    let mut description = serde_json::from_slice(json).unwrap();
    change(&mut description);
    let json = serde_json::to_vec(&description).unwrap();
    let body = [&(json.len() as u32).to_le_bytes()[..], &json, rest].concat();
    let packed = zstd::encode_all(&*body, 3).unwrap();
    [start, &(packed.len() as u32).to_le_bytes(), &packed, rollups].concat()
}

#[test]
fn what_part_0_says_of_rollups_is_checked() {
    let object = write_segment(&many_rows(), &small_pages()).unwrap();
    assert!(ObjectReader::open(&with_description(&object, |_| ())).is_ok());
    let rollups = open(&object).header().rollups.len();
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        ObjectReader::open(&with_description(&object, change)).err().map(|error| error.to_string())
    };
    let too_many = refused(&|description| description["rollups_behind"] = (rollups + 1).into());
    assert!(too_many.is_some_and(|refused| refused.contains("rollups behind")));
    for bytes in [(1 << 20) + 1, u64::MAX] {
        let too_long = refused(&|description| description["rollups"][0][1] = bytes.into()).unwrap();
        assert!(too_long.contains("1048576 at most"), "{too_long}");
    }
}

#[test]
fn objects_of_the_versions_before_are_read() {
    let of_version = |object: &ObjectBytes, version| {
        let mut header = object.parts[0].to_vec();
        header[4] = version;
        let mut older = object.clone();
        older.parts[0] = header.into();
        older
    };
    let options = WriteOptions { short_ids: false, filter_bits: 16, ..small_pages() };
    let object = write_segment(&many_rows(), &options).unwrap();
    assert_eq!(object.parts[0][4], 3);
    for version in 1..5 {
        assert_eq!(read_rows(&of_version(&object, version), RowRanges::All), many_rows());
    }
    let newest = write_segment(&many_rows(), &small_pages()).unwrap();
    assert_eq!(newest.parts[0][4], 7);
    for (version, too_new) in [(6, "rollups behind"), (5, "times by event")] {
        let refused = ObjectReader::open(&of_version(&newest, version).parts[0]).err().unwrap();
        assert!(refused.to_string().contains(too_new), "{refused}");
    }
    let before = WriteOptions { times_by_event_rows_min: u64::MAX, ..small_pages() };
    let before = write_segment(&many_rows(), &before).unwrap();
    assert_eq!(before.parts[0][4], 5);
    assert_eq!(read_rows(&before, RowRanges::All), read_rows(&newest, RowRanges::All));
    // Of older ones there are the shortest steps only, whatever is asked for.
    let counted = |object: &ObjectBytes, step| rollup_of(object, step).map(|block| format!("{block:?}"));
    let shortest = COUNT_STEPS.into_iter().find_map(|step| counted(&newest, step));
    assert!(shortest.is_some());
    assert_eq!(counted(&object, DAY_MS), shortest);
    // Too few to be counted beside.
    let short = write_segment(&many_rows()[..7], &small_pages()).unwrap();
    assert_eq!(short.parts[0][4], 4);
    let refused = ObjectReader::open(&of_version(&short, 3).parts[0]).err().unwrap();
    assert!(refused.to_string().contains("15 bytes"), "{refused}");
    let mut facts = object.facts.to_bytes();
    facts[0] = 1;
    assert_eq!(ObjectFacts::from_bytes(&facts).unwrap(), object.facts);
    facts[0] = 0;
    assert!(matches!(ObjectFacts::from_bytes(&facts), Err(FormatError::UnknownVersion(0))));
}
