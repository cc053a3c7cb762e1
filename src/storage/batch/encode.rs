//! Events into records, records into batches.

use zstd::bulk::Compressor;

use super::{
    BATCH_INFLATED_BYTES_MAX, EncodedBatch, FLAG_ANONYMOUS_ID, FLAG_ROUTE, FORMAT_VERSION, RecordHead,
    RecordValue, TYPE_FALSE, TYPE_FLOAT, TYPE_INTEGER, TYPE_JSON, TYPE_STRING, TYPE_TRUE,
};
use crate::model::{Event, PropertyValue};

/// Level 1: a third of the size at several hundred MB/s. The journal is short-lived, so a better
/// ratio would cost more than it saves.
const ZSTD_LEVEL: i32 = 1;

/// Appends an event as a record.
pub fn encode_event(event: &Event, records: &mut Vec<u8>) {
    let head = RecordHead {
        project_id: event.project_id,
        event_id: event.event_id,
        occurred_at: event.occurred_at,
        received_at: event.received_at,
        time_source: event.time_source,
        event: &event.event,
        distinct_id: &event.distinct_id,
        anonymous_id: event.anonymous_id.as_deref(),
    };
    let properties = event.properties.iter().map(|(name, value)| {
        let value = match value {
            PropertyValue::String(text) => RecordValue::String(text),
            PropertyValue::Integer(number) => RecordValue::Integer(*number),
            PropertyValue::Float(number) => RecordValue::Float(*number),
            PropertyValue::Bool(flag) => RecordValue::Bool(*flag),
            PropertyValue::Json(text) => RecordValue::Json(text),
        };
        (name.as_str(), value)
    });
    encode(head, &event.route, properties, records);
}

/// Appends a record. Precondition: properties are sorted by name and finite, as in
/// [`Event::properties`].
pub fn encode_record<'a>(
    head: RecordHead<'a>,
    properties: impl ExactSizeIterator<Item = (&'a str, RecordValue<'a>)>,
    records: &mut Vec<u8>,
) {
    encode(head, &[], properties, records);
}

fn encode<'a>(
    head: RecordHead<'a>,
    route: &[String],
    properties: impl ExactSizeIterator<Item = (&'a str, RecordValue<'a>)>,
    records: &mut Vec<u8>,
) {
    // The size goes in front but is known last; most records need the two bytes left for it.
    let start = records.len();
    records.extend_from_slice(&[0, 0]);

    let anonymous_flag = if head.anonymous_id.is_some() { FLAG_ANONYMOUS_ID } else { 0 };
    let route_flag = if route.is_empty() { 0 } else { FLAG_ROUTE };
    records.push(head.time_source as u8 | anonymous_flag | route_flag);
    put_varint(records, u64::from(head.project_id.0));
    records.extend_from_slice(&head.event_id.0);
    put_zigzag(records, head.occurred_at);
    put_zigzag(records, head.received_at.wrapping_sub(head.occurred_at));
    put_text(records, head.event);
    put_text(records, head.distinct_id);
    if let Some(anonymous_id) = head.anonymous_id {
        put_text(records, anonymous_id);
    }
    if !route.is_empty() {
        put_varint(records, route.len() as u64);
        route.iter().for_each(|id| put_text(records, id));
    }
    put_varint(records, properties.len() as u64);
    for (name, value) in properties {
        put_text(records, name);
        match value {
            RecordValue::String(text) => {
                records.push(TYPE_STRING);
                put_text(records, text);
            }
            RecordValue::Integer(number) => {
                records.push(TYPE_INTEGER);
                put_zigzag(records, number);
            }
            RecordValue::Float(number) => {
                records.push(TYPE_FLOAT);
                records.extend_from_slice(&number.to_le_bytes());
            }
            RecordValue::Bool(false) => records.push(TYPE_FALSE),
            RecordValue::Bool(true) => records.push(TYPE_TRUE),
            RecordValue::Json(text) => {
                records.push(TYPE_JSON);
                put_text(records, text);
            }
        }
    }

    let size = records.len() - start - 2;
    if size < 1 << 14 {
        records[start] = (size & 0x7f) as u8 | 0x80;
        records[start + 1] = (size >> 7) as u8;
    } else {
        let mut prefix = Vec::with_capacity(5);
        put_varint(&mut prefix, size as u64);
        records.splice(start..start + 2, prefix);
    }
}

/// Joins records into batches. Keeps its compression context, half a megabyte, between batches.
pub struct BatchEncoder {
    compressor: Compressor<'static>,
    content: Vec<u8>,
}

impl Default for BatchEncoder {
    fn default() -> Self {
        let mut compressor = Compressor::new(ZSTD_LEVEL).expect("level 1 exists");
        compressor.include_checksum(true).expect("every zstd can checksum");
        Self { compressor, content: Vec::new() }
    }
}

impl BatchEncoder {
    /// A batch of records made by [`encode_record`], `events` of them in all.
    ///
    /// Precondition: together they stay below [`BATCH_INFLATED_BYTES_MAX`].
    pub fn encode<'r>(&mut self, events: u32, records: impl IntoIterator<Item = &'r [u8]>) -> EncodedBatch {
        self.content.clear();
        put_varint(&mut self.content, 0);
        put_varint(&mut self.content, u64::from(events));
        for record in records {
            self.content.extend_from_slice(record);
        }
        let inflated_bytes = self.content.len();
        debug_assert!(inflated_bytes <= BATCH_INFLATED_BYTES_MAX);

        let mut body = Vec::with_capacity(16 + inflated_bytes / 2);
        body.push(FORMAT_VERSION);
        put_varint(&mut body, inflated_bytes as u64);
        let frame = self.compressor.compress(&self.content).expect("the output has the room zstd asks for");
        body.extend_from_slice(&frame);
        EncodedBatch { events, inflated_bytes: inflated_bytes as u32, body: body.into() }
    }

    pub fn encode_events<'e>(&mut self, events: impl IntoIterator<Item = &'e Event>) -> EncodedBatch {
        let mut records = Vec::new();
        let mut count = 0;
        for event in events {
            encode_event(event, &mut records);
            count += 1;
        }
        self.encode(count, [records.as_slice()])
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_zigzag(out: &mut Vec<u8>, number: i64) {
    put_varint(out, ((number << 1) ^ (number >> 63)) as u64);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}
