//! Few rows of several objects: one statement reads what is missing of all of them, and each is decoded
//! on a thread of its own.

use futures_util::future::try_join_all;

use super::format::{FormatError, ObjectReader, PartSet, Want};
use super::object_cache::OpenObject;
use super::scan::ScanError;
use crate::model::ObjectId;
use crate::storage::Db;
use crate::storage::server::objects::{self, Slice};

/// An object with what was read of it so far.
pub struct Reading {
    object_id: ObjectId,
    reader: ObjectReader,
    parts: PartSet,
    header_bytes: u64,
    /// It was deleted meanwhile: its rows are in another object.
    pub is_gone: bool,
}

impl Reading {
    pub fn new(opened: OpenObject) -> Self {
        let OpenObject { object_id, reader, bytes_read } = opened;
        Self { object_id, reader, parts: PartSet::default(), header_bytes: bytes_read, is_gone: false }
    }

    pub fn bytes_read(&self) -> u64 {
        self.header_bytes + self.parts.bytes() as u64
    }

    fn unreadable(&self, source: FormatError) -> ScanError {
        ScanError::Format { object_id: self.object_id, source }
    }
}

/// Decodes what is wanted of each object, if anything is; `None` of those that are gone too.
pub async fn read_each<T: Send + 'static>(
    db: &Db,
    readings: &mut [Reading],
    wants: Vec<Option<Want>>,
    decode: fn(&ObjectReader, &Want, &PartSet) -> Result<T, FormatError>,
) -> Result<Vec<Option<T>>, ScanError> {
    debug_assert_eq!(readings.len(), wants.len());
    fetch(db, readings, &wants).await?;
    let decoded = readings.iter().zip(wants).map(|(reading, want)| async move {
        let Some(want) = want.filter(|_| !reading.is_gone) else { return Ok(None) };
        let (reader, parts) = (reading.reader.clone(), reading.parts.clone());
        let decoded = tokio::task::spawn_blocking(move || decode(&reader, &want, &parts)).await?;
        decoded.map(Some).map_err(|error| reading.unreadable(error))
    });
    try_join_all(decoded).await
}

/// Adds what of the parts is wanted and not yet there.
async fn fetch(db: &Db, readings: &mut [Reading], wants: &[Option<Want>]) -> Result<(), ScanError> {
    let mut slices = Vec::new();
    let mut places = Vec::new();
    for (place, (reading, want)) in readings.iter().zip(wants).enumerate() {
        let Some(want) = want.as_ref().filter(|_| !reading.is_gone) else { continue };
        let missing = reading.reader.slices_for(want, &reading.parts);
        for part in missing.map_err(|error| reading.unreadable(error))? {
            slices.push(Slice {
                object_id: reading.object_id,
                part_no: part.part_no,
                bytes: part.start..part.end,
            });
            places.push((place, part));
        }
    }
    let found = objects::find_slices(db, &slices).await?;
    for ((place, part), bytes) in places.into_iter().zip(found) {
        let reading = &mut readings[place];
        match bytes {
            Some(bytes) => reading.parts.insert_slice(part, bytes),
            None => reading.is_gone = true,
        }
    }
    Ok(())
}
