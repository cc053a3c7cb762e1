use proptest::prelude::*;

use super::*;
use crate::model::{PropertyRef, PropertyValue, put_varint};
use crate::storage::StorageError;

fn sample(n: u32) -> Event {
    Event {
        project_id: ProjectId(7),
        distinct_id: format!("user-{n}").into(),
        anonymous_id: n.is_multiple_of(2).then(|| format!("anon-{n}").into()),
        event: "order_placed".into(),
        event_id: EventId([n as u8; 16]),
        occurred_at: 1_300_000_000_000 + i64::from(n),
        received_at: 1_700_000_000_000,
        time_source: TimeSource::Client,
        properties: vec![
            ("amount_pence", PropertyValue::Integer(i64::from(n) * 100)),
            ("country", PropertyValue::String("United Kingdom".into())),
            ("first", PropertyValue::Bool(n == 0)),
            ("tags", PropertyValue::Json(r#"["a",1]"#.into())),
            ("weight", PropertyValue::Float(0.1)),
        ]
        .into(),
        route: Vec::new(),
    }
}

fn property_value() -> impl Strategy<Value = PropertyValue> {
    prop_oneof![
        any::<String>().prop_map(PropertyValue::String),
        any::<i64>().prop_map(PropertyValue::Integer),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(PropertyValue::Float),
        any::<bool>().prop_map(PropertyValue::Bool),
        Just(PropertyValue::Json("{}".into())),
    ]
}

prop_compose! {
    fn event()(
        project_id in any::<u32>(),
        distinct_id in any::<String>(),
        anonymous_id in any::<Option<String>>(),
        event in any::<String>(),
        event_id in any::<[u8; 16]>(),
        occurred_at in any::<i64>(),
        received_at in any::<i64>(),
        time_source in 0u8..3,
        properties in prop::collection::btree_map(any::<String>(), property_value(), 0..8),
    ) -> Event {
        Event {
            project_id: ProjectId(project_id),
            distinct_id: distinct_id.into(),
            anonymous_id: anonymous_id.map(Into::into),
            event: event.into(),
            event_id: EventId(event_id),
            occurred_at,
            received_at,
            time_source: TimeSource::from_u8(time_source).unwrap(),
            properties: properties.into_iter().collect(),
            route: Vec::new(),
        }
    }
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(events in prop::collection::vec(event(), 0..20)) {
        let encoded = BatchEncoder::default().encode_events(&events);
        prop_assert_eq!(encoded.events as usize, events.len());
        let batch = BatchDecoder::default().decode(&encoded.body).unwrap();
        prop_assert_eq!(batch.events, events);
    }

    #[test]
    fn random_bytes_are_an_error(mut body in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(BatchDecoder::default().decode(&body).is_err());
        // The same bytes as the content of a sound frame: the reader itself is reached.
        let mut sealed = vec![FORMAT_VERSION];
        put_varint(&mut sealed, body.len() as u64);
        sealed.extend(zstd::bulk::compress(&body, 1).unwrap());
        let _ = BatchDecoder::default().decode(&sealed);
        // And after a sound beginning.
        let mut content = vec![0, 1];
        content.append(&mut body);
        let mut sealed = vec![FORMAT_VERSION];
        put_varint(&mut sealed, content.len() as u64);
        sealed.extend(zstd::bulk::compress(&content, 1).unwrap());
        let _ = BatchDecoder::default().decode(&sealed);
    }

    #[test]
    fn any_changed_byte_is_noticed(at in any::<prop::sample::Index>(), change in 1u8..=255) {
        let events: Vec<Event> = (0..50).map(sample).collect();
        let mut body = BatchEncoder::default().encode_events(&events).body.to_vec();
        let at = at.index(body.len());
        body[at] ^= change;
        match BatchDecoder::default().decode(&body) {
            Err(StorageError::Corrupt { .. }) => {}
            Err(other) => prop_assert!(false, "another error: {other}"),
            // zstd leaves a bit or two of its headers without meaning.
            Ok(batch) => prop_assert_eq!(batch.events, events),
        }
    }

    #[test]
    fn a_shortened_batch_is_noticed(at in any::<prop::sample::Index>()) {
        let body = BatchEncoder::default().encode_events(&[sample(1), sample(2)]).body;
        prop_assert!(BatchDecoder::default().decode(&body[..at.index(body.len())]).is_err());
    }
}

#[test]
fn records_of_all_sizes_keep_their_length_prefix() {
    let mut encoder = BatchEncoder::default();
    for size in [0, 1, 100, 127, 128, 16_200, 16_383, 16_384, 200_000, 3_000_000] {
        let mut event = sample(3);
        event.properties = vec![("text", PropertyValue::String("x".repeat(size)))].into();
        let encoded = encoder.encode_events([&event, &sample(4)]);
        let batch = BatchDecoder::default().decode(&encoded.body).unwrap();
        assert_eq!(batch.events, [event, sample(4)], "{size} bytes");
    }
}

#[test]
fn a_false_size_is_refused_before_it_is_allocated() {
    let mut body = vec![FORMAT_VERSION];
    put_varint(&mut body, u64::MAX);
    body.extend(zstd::bulk::compress(&[0; 1000], 1).unwrap());
    assert!(BatchDecoder::default().decode(&body).is_err());
}

#[test]
fn a_route_travels_with_its_event() {
    let route = vec!["a".into(), "b".into()];
    let events = [sample(1), Event { route, ..sample(2) }, sample(3)];
    let encoded = BatchEncoder::default().encode_events(&events);
    assert_eq!(BatchDecoder::default().decode(&encoded.body).unwrap().events, events);
}

#[test]
fn the_format_is_fixed() {
    // Stored batches must stay readable: version 1 writes a record like this.
    let mut record = Vec::new();
    encode_record(
        RecordHead {
            project_id: ProjectId(300),
            event_id: EventId([0xab; 16]),
            occurred_at: 1_000,
            received_at: 999,
            time_source: TimeSource::Corrected,
            event: "e",
            distinct_id: "d",
            anonymous_id: Some("a"),
        },
        [("p", PropertyRef::Integer(-1)), ("q", PropertyRef::Bool(true))].into_iter(),
        &mut record,
    );
    assert_eq!(
        hex::encode(&record),
        concat!(
            "a400",
            "05",
            "ac02",
            "abababababababababababababababab",
            "d00f",
            "01", // head
            "0165",
            "0164",
            "0161",
            "02",
            "01700101",
            "017104", // names and properties
        )
    );
}
#[test]
fn a_broken_record_costs_no_other() {
    let mut records = vec![Vec::new(); 3];
    for (n, record) in records.iter_mut().enumerate() {
        encode_event(&sample(n as u32), record);
    }
    // The flags, behind two bytes of size.
    records[1][2] = 0xff;
    let encoded = BatchEncoder::default().encode(3, records.iter().map(Vec::as_slice));
    let salvaged = BatchDecoder::default().salvage(&encoded.body).unwrap();
    assert_eq!(salvaged.batch.events, [sample(0), sample(2)]);
    let [broken] = salvaged.broken.as_slice() else { panic!("{salvaged:?}") };
    assert_eq!((broken.project_id, broken.bytes.as_slice()), (Some(ProjectId(7)), &records[1][2..]));
    assert!(broken.detail.contains("flags"), "{}", broken.detail);
    assert!(BatchDecoder::default().decode(&encoded.body).is_err());

    // A record that says it is longer than the batch takes the rest with it.
    records[1][2] = 0;
    records[1][1] = 0x7f;
    let encoded = BatchEncoder::default().encode(3, records.iter().map(Vec::as_slice));
    let salvaged = BatchDecoder::default().salvage(&encoded.body).unwrap();
    assert_eq!((salvaged.batch.events.len(), salvaged.broken.len()), (1, 1));
}
