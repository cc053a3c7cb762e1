//! Batches into events: nothing is believed.

use bytes::Bytes;
use bytestring::ByteString;
use zstd::bulk::Decompressor;

use super::{
    BATCH_INFLATED_BYTES_MAX, Batch, FLAG_ANONYMOUS_ID, FLAG_ROUTE, FLAG_TIME_SOURCE, FLAGS_KNOWN,
    FORMAT_VERSION,
};
use crate::model::{
    Event, EventId, ProjectId, Properties, PropertiesError, TimeSource, take_text, take_varint, take_zigzag,
};
use crate::storage::StorageError;

/// What a batch still gives when some of its records are broken.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Salvaged {
    pub batch: Batch,
    pub broken: Vec<BrokenRecord>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokenRecord {
    /// As far as it can be told.
    pub project_id: Option<ProjectId>,
    pub bytes: Vec<u8>,
    pub detail: String,
}

impl BrokenRecord {
    fn new(record: &[u8], error: &StorageError) -> Self {
        let mut reader = Reader::new(record);
        let project_id = reader.byte().and_then(|_| reader.varint()).ok();
        Self {
            project_id: project_id.and_then(|id| u32::try_from(id).ok()).map(ProjectId),
            bytes: record.to_owned(),
            detail: error.to_string(),
        }
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
        let Salvaged { batch, broken } = self.salvage(body)?;
        match broken.into_iter().next() {
            None => Ok(batch),
            Some(record) => Err(corrupt(record.detail)),
        }
    }

    /// The events that can be read and the records that cannot; an error when nothing can be told
    /// apart, because the frame around them is broken.
    pub fn salvage(&mut self, body: &[u8]) -> Result<Salvaged, StorageError> {
        let content = Bytes::from(self.inflate(body)?);
        let mut reader = Reader::new(&content);
        let mut salvaged = Salvaged::default();
        for _ in 0..reader.count(1)? {
            reader.text()?;
        }
        let events = reader.count(RECORD_BYTES_MIN)?;
        salvaged.batch.events.reserve_exact(events);
        for _ in 0..events {
            let rest = reader.rest;
            let Ok(record) = reader.count(1).and_then(|size| reader.take(size)) else {
                // Where the next one begins is not known either.
                salvaged.broken.push(BrokenRecord::new(rest, &corrupt("a record without its end")));
                return Ok(salvaged);
            };
            match Reader::new(record).event(&content) {
                Ok(event) => salvaged.batch.events.push(event),
                Err(error) => salvaged.broken.push(BrokenRecord::new(record, &error)),
            }
        }
        if !reader.rest.is_empty() {
            let left_over = corrupt(format!("{} bytes left over", reader.rest.len()));
            salvaged.broken.push(BrokenRecord::new(reader.rest, &left_over));
        }
        Ok(salvaged)
    }

    fn inflate(&mut self, body: &[u8]) -> Result<Vec<u8>, StorageError> {
        let mut reader = Reader::new(body);
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
    fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// A whole record; its texts and properties stay where they are in `content`.
    fn event(mut self, content: &Bytes) -> Result<Event, StorageError> {
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
        let event = self.shared_text(content)?;
        let distinct_id = self.shared_text(content)?;
        let anonymous_id = match flags & FLAG_ANONYMOUS_ID {
            0 => None,
            _ => Some(self.shared_text(content)?),
        };
        let mut route = Vec::new();
        if flags & FLAG_ROUTE != 0 {
            for _ in 0..self.count(1)? {
                route.push(self.shared_text(content)?);
            }
        }
        let count = self.count(2)?;
        let properties = Properties::read(content.slice_ref(self.rest), count as u32)?;
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
            route,
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
        Ok(take_varint(&mut self.rest)?)
    }

    fn zigzag(&mut self) -> Result<i64, StorageError> {
        Ok(take_zigzag(&mut self.rest)?)
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
        Ok(take_text(&mut self.rest)?)
    }

    fn shared_text(&mut self, content: &Bytes) -> Result<ByteString, StorageError> {
        let size = self.count(1)?;
        let bytes = content.slice_ref(self.take(size)?);
        ByteString::try_from(bytes).map_err(|_| PropertiesError::NotUtf8.into())
    }
}

impl From<PropertiesError> for StorageError {
    fn from(error: PropertiesError) -> Self {
        corrupt(error.to_string())
    }
}

fn corrupt(detail: impl Into<String>) -> StorageError {
    StorageError::corrupt("journal", "body", detail)
}
