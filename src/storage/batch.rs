//! The journal's batches: events as bytes, made by collection and read by the sealer.
//!
//! ```text
//! body   = version (1 byte) · inflated size (varint) · zstd frame with a checksum
//! frame  = passed ids: count, then each as text · events: count, then each as a record
//! record = size of the rest (varint) · flags · project (varint) · event id (16 bytes)
//!          · occurred_at (zigzag) · received_at - occurred_at (zigzag)
//!          · event name · distinct id · anonymous id if its flag is set
//!          · properties: count, then each as name, type (1 byte), value
//! text   = length (varint) · UTF-8
//! ```
//!
//! Records stand alone: a request encodes its events before it knows which batch will carry them
//! ([`encode_event`]), the committer only joins and compresses them ([`BatchEncoder`]), and a batch
//! can be bisected or forwarded record by record. Repeated names cost next to nothing after zstd.
//!
//! The passed ids are those a forwarded batch has already been to, so that a circle of links is
//! noticed; a batch that comes from a request has none.

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

use super::StorageError;
use crate::model::{Event, EventId, Millis, ProjectId, PropertyValue, TimeSource};

const FORMAT_VERSION: u8 = 1;

/// Level 1: a third of the size at several hundred MB/s. The journal is short-lived, so a better
/// ratio would cost more than it saves.
const ZSTD_LEVEL: i32 = 1;

/// No batch is larger than this when inflated: what a sealer may have to hold for one row. The
/// committer cuts batches far below it.
pub const BATCH_INFLATED_BYTES_MAX: usize = 16 << 20;

const FLAG_TIME_SOURCE: u8 = 0b0000_0011;
const FLAG_ANONYMOUS_ID: u8 = 0b0000_0100;
const FLAGS_KNOWN: u8 = FLAG_TIME_SOURCE | FLAG_ANONYMOUS_ID;

const TYPE_STRING: u8 = 0;
const TYPE_INTEGER: u8 = 1;
const TYPE_FLOAT: u8 = 2;
const TYPE_FALSE: u8 = 3;
const TYPE_TRUE: u8 = 4;
const TYPE_JSON: u8 = 5;

/// A batch ready for the journal.
#[derive(Clone, Debug)]
pub struct EncodedBatch {
    pub events: u32,
    /// Size of the content once inflated.
    pub inflated_bytes: u32,
    pub body: Bytes,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Batch {
    /// Distinct ids whose pointers this batch has already followed.
    pub passed: Vec<String>,
    pub events: Vec<Event>,
}

/// Everything of an event but its properties, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct RecordHead<'a> {
    pub project_id: ProjectId,
    pub event_id: EventId,
    pub occurred_at: Millis,
    pub received_at: Millis,
    pub time_source: TimeSource,
    pub event: &'a str,
    pub distinct_id: &'a str,
    pub anonymous_id: Option<&'a str>,
}

/// A property's value, borrowed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum RecordValue<'a> {
    String(&'a str),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Json(&'a str),
}

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
    encode_record(head, properties, records);
}

/// Appends a record. Precondition: properties are sorted by name and finite, as in
/// [`Event::properties`].
pub fn encode_record<'a>(
    head: RecordHead<'a>,
    properties: impl ExactSizeIterator<Item = (&'a str, RecordValue<'a>)>,
    records: &mut Vec<u8>,
) {
    // The size goes in front but is known last; most records need the two bytes left for it.
    let start = records.len();
    records.extend_from_slice(&[0, 0]);

    let anonymous_flag = if head.anonymous_id.is_some() { FLAG_ANONYMOUS_ID } else { 0 };
    records.push(head.time_source as u8 | anonymous_flag);
    put_varint(records, u64::from(head.project_id.0));
    records.extend_from_slice(&head.event_id.0);
    put_zigzag(records, head.occurred_at);
    put_zigzag(records, head.received_at.wrapping_sub(head.occurred_at));
    put_text(records, head.event);
    put_text(records, head.distinct_id);
    if let Some(anonymous_id) = head.anonymous_id {
        put_text(records, anonymous_id);
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
    pub fn encode<'r>(
        &mut self,
        events: u32,
        records: impl IntoIterator<Item = &'r [u8]>,
        passed: &[String],
    ) -> EncodedBatch {
        self.content.clear();
        put_varint(&mut self.content, passed.len() as u64);
        for id in passed {
            put_text(&mut self.content, id);
        }
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
        self.encode(count, [records.as_slice()], &[])
    }
}

/// Reads batches. Keeps its decompression context between batches.
pub struct BatchDecoder {
    decompressor: Decompressor<'static>,
}

impl Default for BatchDecoder {
    fn default() -> Self {
        Self { decompressor: Decompressor::new().expect("a zstd context needs only memory") }
    }
}

impl BatchDecoder {
    /// The whole batch, or [`StorageError::Corrupt`]: any byte changed anywhere is noticed, and no
    /// content makes this allocate more than [`BATCH_INFLATED_BYTES_MAX`] and the events in it.
    pub fn decode(&mut self, body: &[u8]) -> Result<Batch, StorageError> {
        let content = self.inflate(body)?;
        let mut reader = Reader { rest: &content };
        let mut batch = Batch::default();
        for _ in 0..reader.count(1)? {
            batch.passed.push(reader.text()?.to_owned());
        }
        let events = reader.count(RECORD_BYTES_MIN)?;
        batch.events.reserve_exact(events);
        for _ in 0..events {
            let size = reader.count(1)?;
            let mut record = Reader { rest: reader.take(size)? };
            batch.events.push(record.event()?);
            record.end()?;
        }
        reader.end()?;
        Ok(batch)
    }

    fn inflate(&mut self, body: &[u8]) -> Result<Vec<u8>, StorageError> {
        let mut reader = Reader { rest: body };
        match reader.byte()? {
            FORMAT_VERSION => {}
            version => return Err(corrupt(format!("format version {version} is not known"))),
        }
        let inflated_bytes = reader.varint()?;
        if inflated_bytes > BATCH_INFLATED_BYTES_MAX as u64 {
            return Err(corrupt(format!(
                "{inflated_bytes} bytes inflated, {BATCH_INFLATED_BYTES_MAX} at most"
            )));
        }
        let content = self
            .decompressor
            .decompress(reader.rest, inflated_bytes as usize)
            .map_err(|error| corrupt(format!("zstd: {error}")))?;
        if content.len() as u64 != inflated_bytes {
            return Err(corrupt(format!("{} bytes inflated, {inflated_bytes} announced", content.len())));
        }
        Ok(content)
    }
}

/// Flags, project, id, two times, two texts and a count.
const RECORD_BYTES_MIN: usize = 24;

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn event(&mut self) -> Result<Event, StorageError> {
        let flags = self.byte()?;
        if flags & !FLAGS_KNOWN != 0 {
            return Err(corrupt(format!("unknown record flags {flags:#010b}")));
        }
        let time_source = TimeSource::from_u8(flags & FLAG_TIME_SOURCE)
            .ok_or_else(|| corrupt(format!("unknown time source in flags {flags:#010b}")))?;
        let project_id = self.varint()?;
        let project_id = ProjectId(
            u32::try_from(project_id).map_err(|_| corrupt(format!("project {project_id} is no u32")))?,
        );
        let event_id = EventId(self.array()?);
        let occurred_at = self.zigzag()?;
        let received_at = occurred_at.wrapping_add(self.zigzag()?);
        let event = self.text()?.to_owned();
        let distinct_id = self.text()?.to_owned();
        let anonymous_id = match flags & FLAG_ANONYMOUS_ID {
            0 => None,
            _ => Some(self.text()?.to_owned()),
        };
        let count = self.count(2)?;
        let mut properties = Vec::with_capacity(count);
        for _ in 0..count {
            properties.push((self.text()?.to_owned(), self.property_value()?));
        }
        Ok(Event {
            project_id,
            distinct_id,
            anonymous_id,
            event,
            event_id,
            occurred_at,
            received_at,
            time_source,
            properties,
        })
    }

    fn property_value(&mut self) -> Result<PropertyValue, StorageError> {
        Ok(match self.byte()? {
            TYPE_STRING => PropertyValue::String(self.text()?.to_owned()),
            TYPE_INTEGER => PropertyValue::Integer(self.zigzag()?),
            TYPE_FLOAT => {
                let number = f64::from_le_bytes(self.array()?);
                if !number.is_finite() {
                    return Err(corrupt("a float that is not finite"));
                }
                PropertyValue::Float(number)
            }
            TYPE_FALSE => PropertyValue::Bool(false),
            TYPE_TRUE => PropertyValue::Bool(true),
            TYPE_JSON => PropertyValue::Json(self.text()?.to_owned()),
            code => return Err(corrupt(format!("unknown property type {code}"))),
        })
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], StorageError> {
        let (head, rest) = self.rest.split_at_checked(size).ok_or_else(|| corrupt("ends too early"))?;
        self.rest = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, StorageError> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StorageError> {
        Ok(self.take(N)?.try_into().expect("take gives what was asked"))
    }

    fn varint(&mut self) -> Result<u64, StorageError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(corrupt("a number of more than 64 bits"))
    }

    fn zigzag(&mut self) -> Result<i64, StorageError> {
        let number = self.varint()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// A number of things of at least `bytes_each` bytes, so that a false one cannot make us
    /// allocate more than the batch's own size.
    fn count(&mut self, bytes_each: usize) -> Result<usize, StorageError> {
        let count = self.varint()?;
        if count > (self.rest.len() / bytes_each) as u64 {
            return Err(corrupt(format!("{count} things announced in {} bytes", self.rest.len())));
        }
        Ok(count as usize)
    }

    fn text(&mut self) -> Result<&'a str, StorageError> {
        let size = self.count(1)?;
        std::str::from_utf8(self.take(size)?).map_err(|_| corrupt("text that is not UTF-8"))
    }

    fn end(&self) -> Result<(), StorageError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(corrupt(format!("{} bytes left over", self.rest.len())))
        }
    }
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
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

fn corrupt(detail: impl Into<String>) -> StorageError {
    StorageError::corrupt("journal", "body", detail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(n: u32) -> Event {
        Event {
            project_id: ProjectId(7),
            distinct_id: format!("user-{n}"),
            anonymous_id: n.is_multiple_of(2).then(|| format!("anon-{n}")),
            event: "order_placed".into(),
            event_id: EventId([n as u8; 16]),
            occurred_at: 1_300_000_000_000 + i64::from(n),
            received_at: 1_700_000_000_000,
            time_source: TimeSource::Client,
            properties: vec![
                ("amount_pence".into(), PropertyValue::Integer(i64::from(n) * 100)),
                ("country".into(), PropertyValue::String("United Kingdom".into())),
                ("first".into(), PropertyValue::Bool(n == 0)),
                ("tags".into(), PropertyValue::Json(r#"["a",1]"#.into())),
                ("weight".into(), PropertyValue::Float(0.1)),
            ],
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
                distinct_id,
                anonymous_id,
                event,
                event_id: EventId(event_id),
                occurred_at,
                received_at,
                time_source: TimeSource::from_u8(time_source).unwrap(),
                properties: properties.into_iter().collect(),
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
            event.properties = vec![("text".into(), PropertyValue::String("x".repeat(size)))];
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
    fn passed_ids_travel_with_the_batch() {
        let mut records = Vec::new();
        encode_event(&sample(1), &mut records);
        let passed = vec!["a".to_owned(), "b".to_owned()];
        let encoded = BatchEncoder::default().encode(1, [records.as_slice()], &passed);
        assert_eq!(BatchDecoder::default().decode(&encoded.body).unwrap().passed, passed);
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
            [("p", RecordValue::Integer(-1)), ("q", RecordValue::Bool(true))].into_iter(),
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
}
