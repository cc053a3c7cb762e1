//! Few rows of several objects: one statement reads what is missing of all of them, and they are decoded on
//! as many threads as half of the cores are, since mostly two such reads are on their way: a thread for each
//! object would cost more than it decodes.

use std::sync::LazyLock;

use super::format::{FormatError, ObjectReader, PartSet, Want};
use super::object_cache::OpenObject;
use super::scan::ScanError;
use crate::model::ObjectId;
use crate::storage::Db;
use crate::storage::server::objects::{self, Slice};

/// An object with what was read of it so far.
#[derive(Clone)]
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
    let mut wanted: Vec<(usize, Reading, Want)> = Vec::new();
    for (place, (reading, want)) in readings.iter().zip(wants).enumerate() {
        let want = want.filter(|_| !reading.is_gone);
        wanted.extend(want.map(|want| (place, reading.clone(), want)));
    }
    let mut tasks = Vec::new();
    let per_task = wanted.len().div_ceil(*THREADS).max(1);
    while !wanted.is_empty() {
        let some: Vec<_> = wanted.drain(..per_task.min(wanted.len())).collect();
        tasks.push(tokio::task::spawn_blocking(move || {
            let decoded = some.into_iter().map(|(place, reading, want)| {
                let decoded = decode(&reading.reader, &want, &reading.parts);
                decoded.map(|decoded| (place, decoded)).map_err(|error| reading.unreadable(error))
            });
            decoded.collect::<Result<Vec<_>, _>>()
        }));
    }
    let mut decoded: Vec<Option<T>> = readings.iter().map(|_| None).collect();
    for task in tasks {
        for (place, of_object) in task.await?? {
            decoded[place] = Some(of_object);
        }
    }
    Ok(decoded)
}

/// Half of the cores.
static THREADS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)));

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
