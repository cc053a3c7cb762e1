//! The bytes of objects.

use std::ops::Range;

use bytes::Bytes;

use super::STATEMENT_BYTES_MAX;
use crate::model::ObjectId;
use crate::storage::db::statement;
use crate::storage::{Db, Statement, StorageError, Value};
use crate::values;

/// Parts of 128 KiB, up to a megabyte in objects of earlier releases: what one read may answer with.
const PARTS_PER_READ: usize = 16;
/// Parts of an object that is no larger than one answer may be.
const SMALL_PARTS_PER_READ: usize = 256;
/// Rows of slices, which are mostly small.
const SLICE_ROWS_PER_READ: usize = 100;
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
            parts.push((row.u32(0)?, row.shared_bytes(1)?));
        }
    }
    Ok((parts.len() == part_nos.len()).then_some(parts))
}

/// Some bytes of a part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slice {
    pub object_id: ObjectId,
    pub part_no: u32,
    /// Within the part.
    pub bytes: Range<u64>,
}

// A server reads a part whole, whatever is sent of it: so a row has several slices of one part, those that
// it does not need empty. A list that is joined costs it half of what a SELECT for each part would.
static READ_SLICES: Statement = statement!(
    "parts.read_slices",
    mysql: "SELECT place, SUBSTRING(body, s1, n1), SUBSTRING(body, s2, n2), SUBSTRING(body, s3, n3), \
            SUBSTRING(body, s4, n4) FROM ({rows}) AS wanted \
            STRAIGHT_JOIN parts ON parts.object_id = wanted.o AND parts.part_no = wanted.p",
    // STRAIGHT and CROSS: the list first, whatever the server thinks of it.
    sqlite: "SELECT place, SUBSTRING(body, s1, n1), SUBSTRING(body, s2, n2), SUBSTRING(body, s3, n3), \
             SUBSTRING(body, s4, n4) FROM ({rows}) AS wanted \
             CROSS JOIN parts ON parts.object_id = wanted.o AND parts.part_no = wanted.p",
);
const SLICES_OF_PART: &str = "SELECT ? AS place, ? AS s1, ? AS n1, ? AS s2, ? AS n2, ? AS s3, ? AS n3, \
    ? AS s4, ? AS n4, ? AS o, ? AS p";
const SLICES_PER_ROW: usize = 4;

/// The asked bytes in their order; `None` of parts that are missing. Slices of one part should be
/// neighbours.
pub async fn find_slices(db: &Db, slices: &[Slice]) -> Result<Vec<Option<Bytes>>, StorageError> {
    let mut found = vec![None; slices.len()];
    let rows: Vec<Range<usize>> = rows_of(slices).collect();
    let mut next = 0;
    while next < rows.len() {
        let mut bytes = 0;
        let fitting = rows[next..].iter().take(SLICE_ROWS_PER_READ).take_while(|row| {
            let is_first = bytes == 0;
            bytes += slices[(*row).clone()].iter().map(Slice::len).sum::<u64>().max(1);
            is_first || bytes <= STATEMENT_BYTES_MAX as u64
        });
        let wanted = next..next + fitting.count();
        next = wanted.end;
        let mut binds = Vec::with_capacity(wanted.len() * (3 + 2 * SLICES_PER_ROW));
        for row_no in wanted.clone() {
            let row = &slices[rows[row_no].clone()];
            binds.push(Value::from(row_no));
            for column in 0..SLICES_PER_ROW {
                let range = row.get(column).map_or(0..0, |slice| slice.bytes.clone());
                // The first byte is 1.
                binds.extend(values![range.start + 1, range.end - range.start]);
            }
            binds.extend(values![row[0].object_id, row[0].part_no]);
        }
        let sql = READ_SLICES.with_joined_rows(SLICES_OF_PART, " UNION ALL ", wanted.len());
        for row in db.fetch_all(sql, binds).await? {
            let places = rows.get(row.u64(0)? as usize).cloned().unwrap_or_default();
            for (column, place) in places.enumerate() {
                // SQLite says of no bytes that they are null.
                found[place] = Some(row.opt_bytes(column + 1)?.unwrap_or_default().into());
            }
        }
    }
    Ok(found)
}

impl Slice {
    fn len(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }
}

/// Which slices come in one row of an answer.
fn rows_of(slices: &[Slice]) -> impl Iterator<Item = Range<usize>> {
    let mut end = 0;
    let is_same_part = |a: &Slice, b: &Slice| (a.object_id, a.part_no) == (b.object_id, b.part_no);
    slices.chunk_by(is_same_part).flat_map(move |of_part| {
        let start = end;
        end += of_part.len();
        (start..end).step_by(SLICES_PER_ROW).map(move |first| first..(first + SLICES_PER_ROW).min(end))
    })
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
