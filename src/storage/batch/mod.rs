//! The journal's batches: events as bytes, made by collection and read by the sealer.
//!
//! ```text
//! body   = version (1 byte) · inflated size (varint) · zstd frame with a checksum
//! frame  = 0 · events: count, then each as a record
//! record = size of the rest (varint) · flags · project (varint) · event id (16 bytes)
//!          · occurred_at (zigzag) · received_at - occurred_at (zigzag)
//!          · event name · distinct id · anonymous id if its flag is set
//!          · route if its flag is set: count, then each id as text
//!          · properties: count, then as [`Properties`] are written
//! text   = length (varint) · UTF-8
//! ```
//!
//! Records stand alone: a request encodes its events before it knows which batch will carry them
//! ([`encode_event`]), the committer only joins and compresses them ([`BatchEncoder`]), and a batch
//! can be bisected or forwarded record by record. Repeated names cost next to nothing after zstd.
//!
//! Only events that follow links have a route ([`Event::route`]); what comes from a request has none. The
//! 0 in front was to be a route of the whole batch, which no release has written.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use bytes::Bytes;

#[cfg(doc)]
use crate::model::Properties;
use crate::model::{Event, EventId, Millis, ProjectId, TimeSource};

pub use decode::{BatchDecoder, BrokenRecord, Salvaged};
pub use encode::{BatchEncoder, encode_event, encode_record};

const FORMAT_VERSION: u8 = 1;

/// No batch is larger than this when inflated: what a sealer may have to hold for one row. The
/// committer cuts batches far below it.
pub const BATCH_INFLATED_BYTES_MAX: usize = 16 << 20;

const FLAG_TIME_SOURCE: u8 = 0b0000_0011;
const FLAG_ANONYMOUS_ID: u8 = 0b0000_0100;
const FLAG_ROUTE: u8 = 0b0000_1000;
const FLAGS_KNOWN: u8 = FLAG_TIME_SOURCE | FLAG_ANONYMOUS_ID | FLAG_ROUTE;

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
