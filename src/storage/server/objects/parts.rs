//! The bytes of objects.

use std::ops::Range;

use bytes::Bytes;

use super::STATEMENT_BYTES_MAX;
use crate::model::ObjectId;
use crate::storage::db::statement;
use crate::storage::{Db, Statement, StorageError, Value};
use crate::values;

/// Parts of at most 1 MiB: what one read may answer with.
const PARTS_PER_READ: usize = 4;
/// Parts of an object that is no larger than one answer may be.
const SMALL_PARTS_PER_READ: usize = 256;
/// Slices of at most a part each, and mostly far smaller.
const SLICES_PER_READ: usize = 100;
/// Headers are some kilobytes each; one of 500 columns may reach a few hundred.
const HEADERS_PER_READ: usize = 16;

static READ_PARTS: Statement = statement!(
    "parts.read",
    "SELECT part_no, body FROM parts WHERE object_id = ? AND part_no IN ({rows}) ORDER BY part_no"
);

/// The asked parts of an object. `None` when one is missing: the object has been deleted since it
/// was listed, and the caller makes a new list.
pub async fn find_parts(
    db: &Db,
    object_id: ObjectId,
    part_nos: &[u32],
) -> Result<Option<Vec<(u32, Bytes)>>, StorageError> {
    find_parts_of(db, object_id, u64::MAX, part_nos).await
}

/// The same when all of the object's bytes are known: a small one is read with one statement.
pub async fn find_parts_of(
    db: &Db,
    object_id: ObjectId,
    object_bytes: u64,
    part_nos: &[u32],
) -> Result<Option<Vec<(u32, Bytes)>>, StorageError> {
    let fits = object_bytes <= STATEMENT_BYTES_MAX as u64;
    let per_read = if fits { SMALL_PARTS_PER_READ } else { PARTS_PER_READ };
    let mut parts = Vec::with_capacity(part_nos.len());
    for wanted in part_nos.chunks(per_read) {
        let mut binds = values![object_id];
        binds.extend(wanted.iter().map(|&part_no| Value::from(part_no)));
        for row in db.fetch_all(READ_PARTS.with_rows("?", wanted.len()), binds).await? {
            parts.push((row.u32(0)?, Bytes::from(row.bytes(1)?)));
        }
    }
    Ok((parts.len() == part_nos.len()).then_some(parts))
}

// A blob is read whole by its server, but only the slice is sent and copied.
static READ_SLICES: Statement = statement!("parts.read_slices", "{rows}");
const READ_SLICE: &str =
    "SELECT ? AS place, SUBSTRING(body, ?, ?) FROM parts WHERE object_id = ? AND part_no = ?";

/// The asked bytes of parts, in this order; each range lies within its part. `None` when a part is missing.
pub async fn find_slices(
    db: &Db,
    object_id: ObjectId,
    slices: &[(u32, Range<u64>)],
) -> Result<Option<Vec<Bytes>>, StorageError> {
    let mut found = vec![Bytes::new(); slices.len()];
    let mut rows = 0;
    let mut places = 0..slices.len();
    while !places.is_empty() {
        let mut bytes = 0;
        let fitting = places.clone().take(SLICES_PER_READ).take_while(|&place| {
            let is_first = bytes == 0;
            bytes += (slices[place].1.end - slices[place].1.start).max(1);
            is_first || bytes <= STATEMENT_BYTES_MAX as u64
        });
        let wanted = places.start..places.start + fitting.count();
        places.start = wanted.end;
        let mut binds = Vec::with_capacity(wanted.len() * 5);
        for place in wanted.clone() {
            let (part_no, range) = &slices[place];
            // The first byte is 1.
            binds.extend(values![place, range.start + 1, range.end - range.start, object_id, *part_no]);
        }
        let sql = READ_SLICES.with_joined_rows(READ_SLICE, " UNION ALL ", wanted.len());
        for row in db.fetch_all(sql, binds).await? {
            let place = row.u64(0)? as usize;
            if let Some(slice) = found.get_mut(place) {
                // SQLite says of no bytes that they are null.
                *slice = row.opt_bytes(1)?.unwrap_or_default().into();
                rows += 1;
            }
        }
    }
    Ok((rows == slices.len()).then_some(found))
}

static READ_HEADERS: Statement = statement!(
    "parts.read_headers",
    "SELECT object_id, body FROM parts WHERE part_no = 0 AND object_id IN ({rows})"
);

/// Part 0 of many objects, in any order, without those that have been deleted.
pub async fn find_headers(db: &Db, object_ids: &[ObjectId]) -> Result<Vec<(ObjectId, Bytes)>, StorageError> {
    let mut headers = Vec::with_capacity(object_ids.len());
    for wanted in object_ids.chunks(HEADERS_PER_READ) {
        let binds = wanted.iter().map(|&object_id| Value::from(object_id)).collect();
        for row in db.fetch_all(READ_HEADERS.with_rows("?", wanted.len()), binds).await? {
            headers.push((ObjectId(row.array(0)?), Bytes::from(row.bytes(1)?)));
        }
    }
    Ok(headers)
}
