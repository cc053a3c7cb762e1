//! Events into records, records into batches.

use bytestring::ByteString;
use zstd::bulk::Compressor;

use super::{
    BATCH_INFLATED_BYTES_MAX, EncodedBatch, FLAG_ANONYMOUS_ID, FLAG_ROUTE, FORMAT_VERSION, RecordHead,
};
use crate::model::{Event, PropertyRef, put_property, put_text, put_varint, put_zigzag};

/// Level -1 leaves texts without Huffman codes, whose tables take longer than the texts of a small
/// batch: 48 events of a shop take 48 bytes each instead of 45, in two thirds of the time, and inflate
/// in half of it. The journal is short-lived, so a better ratio would cost more than it saves.
const ZSTD_LEVEL: i32 = -1;

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
    encode(head, &event.route, event.properties.len(), records, |records| {
        records.extend_from_slice(event.properties.as_bytes());
    });
}

/// Appends a record. Precondition: properties are sorted by name and finite, as in
/// [`Event::properties`].
pub fn encode_record<'a>(
    head: RecordHead<'a>,
    properties: impl ExactSizeIterator<Item = (&'a str, PropertyRef<'a>)>,
    records: &mut Vec<u8>,
) {
    encode(head, &[], properties.len(), records, |records| {
        for (name, value) in properties {
            put_property(records, name, value);
        }
    });
}

fn encode(
    head: RecordHead<'_>,
    route: &[ByteString],
    properties: usize,
    records: &mut Vec<u8>,
    put_properties: impl FnOnce(&mut Vec<u8>),
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
    put_varint(records, properties as u64);
    put_properties(records);

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
        let mut compressor = Compressor::new(ZSTD_LEVEL).expect("zstd has this level");
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
