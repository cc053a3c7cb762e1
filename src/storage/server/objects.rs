//! The catalogue of runs and segments, and their parts.
//!
//! An object begins as `building` (nobody reads it), becomes `live` in the transaction that also
//! removes what it replaces, and `retired` when something replaces it; it is deleted after a grace
//! period, so that a reader who listed it before can still read its parts.

use bytes::Bytes;

use crate::model::{Millis, ObjectId, ProjectId, ShardNo};
use crate::storage::db::statement;
use crate::storage::{Db, Row, Statement, StorageError, Tx, Value};
use crate::values;

/// Bytes of parts in one statement, in either direction.
const STATEMENT_BYTES_MAX: usize = 4 << 20;
/// Parts of at most 1 MiB: what one read may answer with.
const PARTS_PER_READ: usize = 4;
/// Parts of an object that is no larger than one answer may be.
const SMALL_PARTS_PER_READ: usize = 256;
/// Headers are some kilobytes each; one of 500 columns may reach a few hundred.
const HEADERS_PER_READ: usize = 16;
/// Objects that one statement changes.
const OBJECTS_PER_STATEMENT: usize = 200;
/// More live objects than this in one shard is a broken compaction, not a catalogue.
const OBJECTS_MAX: usize = 100_000;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ObjectKind {
    Run,
    Segment,
}

/// A run or a segment that is being written.
#[derive(Clone, Debug)]
pub struct NewObject {
    pub object_id: ObjectId,
    pub shard_no: ShardNo,
    /// `None`: a run, with rows of any project.
    pub project_id: Option<ProjectId>,
    pub events: u64,
    pub min_at: Millis,
    pub max_at: Millis,
    pub day_from: i32,
    pub day_to: i32,
    pub tier: u32,
    pub mask_version: i64,
    /// Encoded by the event store: what pruning, menus and compaction need to know.
    pub facts: Bytes,
    pub parts: Vec<Bytes>,
}

/// A catalogue row.
#[derive(Clone, Debug)]
pub struct ObjectRow {
    pub object_id: ObjectId,
    pub kind: ObjectKind,
    pub shard_no: ShardNo,
    pub project_id: Option<ProjectId>,
    pub events: u64,
    pub bytes: u64,
    pub parts: u32,
    pub min_at: Millis,
    pub max_at: Millis,
    pub tier: u32,
    pub mask_version: i64,
    pub facts: Vec<u8>,
    pub created_at: Millis,
}

static INSERT_RUN: Statement = statement!(
    "runs.insert",
    "INSERT INTO runs (shard_no, run_id, state, events, bytes, parts, min_at, max_at, mask_version, \
     directory, created_at, retired_at) VALUES (?, ?, 'building', ?, ?, ?, ?, ?, ?, ?, ?, NULL)"
);
static INSERT_SEGMENT: Statement = statement!(
    "segments.insert",
    "INSERT INTO segments (shard_no, segment_id, project_id, state, day_from, day_to, min_at, max_at, \
     events, bytes, parts, tier, mask_version, facts, created_at, retired_at) \
     VALUES (?, ?, ?, 'building', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)"
);
static INSERT_PARTS: Statement =
    statement!("parts.insert", "INSERT INTO parts (object_id, part_no, body) VALUES {rows}");

/// Writes the `building` row and the parts, each statement on its own. What is left of it when the
/// writer dies is given up by [`abandon`].
pub async fn upload(db: &Db, object: NewObject, now: Millis) -> Result<(), StorageError> {
    let bytes: usize = object.parts.iter().map(Bytes::len).sum();
    let parts = object.parts.len();
    match object.project_id {
        None => {
            let binds = values![
                object.shard_no,
                object.object_id,
                object.events,
                bytes,
                parts,
                object.min_at,
                object.max_at,
                object.mask_version,
                object.facts,
                now
            ];
            db.execute(&INSERT_RUN, binds).await?;
        }
        Some(project_id) => {
            let binds = values![
                object.shard_no,
                object.object_id,
                project_id,
                object.day_from,
                object.day_to,
                object.min_at,
                object.max_at,
                object.events,
                bytes,
                parts,
                object.tier,
                object.mask_version,
                object.facts,
                now
            ];
            db.execute(&INSERT_SEGMENT, binds).await?;
        }
    }
    let (mut binds, mut rows, mut waiting) = (Vec::new(), 0, 0);
    for (part_no, part) in object.parts.into_iter().enumerate() {
        if rows > 0 && waiting + part.len() > STATEMENT_BYTES_MAX {
            db.execute(INSERT_PARTS.with_rows("(?, ?, ?)", rows), std::mem::take(&mut binds)).await?;
            (rows, waiting) = (0, 0);
        }
        waiting += part.len();
        rows += 1;
        binds.extend(values![object.object_id, part_no, part]);
    }
    if rows > 0 {
        db.execute(INSERT_PARTS.with_rows("(?, ?, ?)", rows), binds).await?;
    }
    Ok(())
}

static MAKE_RUN_LIVE: Statement = statement!(
    "runs.make_live",
    "UPDATE runs SET state = 'live' WHERE shard_no = ? AND run_id = ? AND state = 'building'"
);
static MAKE_SEGMENT_LIVE: Statement = statement!(
    "segments.make_live",
    "UPDATE segments SET state = 'live' WHERE shard_no = ? AND segment_id = ? AND state = 'building'"
);

/// In the closing transaction: the object counts from now on. False when it is not `building` any
/// more, and then the transaction must not be committed.
pub async fn make_live(
    tx: &mut Tx,
    kind: ObjectKind,
    shard_no: ShardNo,
    object_id: ObjectId,
) -> Result<bool, StorageError> {
    let statement = match kind {
        ObjectKind::Run => &MAKE_RUN_LIVE,
        ObjectKind::Segment => &MAKE_SEGMENT_LIVE,
    };
    Ok(tx.execute(statement, values![shard_no, object_id]).await? == 1)
}

static MAKE_RUNS_LIVE: Statement = statement!(
    "runs.make_all_live",
    mysql: "UPDATE (SELECT * FROM ({rows}) AS listed) AS done STRAIGHT_JOIN runs \
            ON runs.shard_no = ? AND runs.run_id = done.object_id \
            SET runs.state = 'live' WHERE runs.state = 'building'",
    sqlite: "UPDATE runs SET state = 'live' WHERE run_id IN ({rows}) AND shard_no = ? AND state = 'building'",
);
static MAKE_SEGMENTS_LIVE: Statement = statement!(
    "segments.make_all_live",
    mysql: "UPDATE (SELECT * FROM ({rows}) AS listed) AS done STRAIGHT_JOIN segments \
            ON segments.shard_no = ? AND segments.segment_id = done.object_id \
            SET segments.state = 'live' WHERE segments.state = 'building'",
    sqlite: "UPDATE segments SET state = 'live' \
             WHERE segment_id IN ({rows}) AND shard_no = ? AND state = 'building'",
);

/// The same for many at once: a merge of old runs may make thousands of segments, and the
/// transaction that closes it must stay short. False when one of them is not `building` any more.
pub async fn make_all_live(
    tx: &mut Tx,
    kind: ObjectKind,
    shard_no: ShardNo,
    object_ids: &[ObjectId],
) -> Result<bool, StorageError> {
    let statement = match kind {
        ObjectKind::Run => &MAKE_RUNS_LIVE,
        ObjectKind::Segment => &MAKE_SEGMENTS_LIVE,
    };
    let mut made = 0;
    for ids in object_ids.chunks(OBJECTS_PER_STATEMENT) {
        let mut binds: Vec<Value> = ids.iter().map(|&id| id.into()).collect();
        binds.push(shard_no.into());
        let one = "SELECT ? AS object_id";
        made += tx.execute(statement.with_joined_rows(one, " UNION ALL ", ids.len()), binds).await?;
    }
    Ok(made == object_ids.len() as u64)
}

static RETIRE_RUN: Statement = statement!(
    "runs.retire",
    "UPDATE runs SET state = 'retired', retired_at = ? WHERE shard_no = ? AND run_id = ? AND state = 'live'"
);
static RETIRE_SEGMENT: Statement = statement!(
    "segments.retire",
    "UPDATE segments SET state = 'retired', retired_at = ? \
     WHERE shard_no = ? AND segment_id = ? AND state = 'live'"
);

/// In the closing transaction: the object has been replaced. False when it was not `live`, and then
/// the transaction must not be committed.
pub async fn retire(
    tx: &mut Tx,
    kind: ObjectKind,
    shard_no: ShardNo,
    object_id: ObjectId,
    now: Millis,
) -> Result<bool, StorageError> {
    let statement = match kind {
        ObjectKind::Run => &RETIRE_RUN,
        ObjectKind::Segment => &RETIRE_SEGMENT,
    };
    Ok(tx.execute(statement, values![now, shard_no, object_id]).await? == 1)
}

static LIST_RUNS: Statement = statement!(
    "runs.list_live",
    "SELECT run_id, events, bytes, parts, min_at, max_at, mask_version, directory, created_at FROM runs \
     WHERE shard_no = ? AND state = 'live' ORDER BY run_id LIMIT ?"
);

/// The live runs of a shard, of all projects.
pub async fn list_runs(db: &Db, shard_no: ShardNo) -> Result<Vec<ObjectRow>, StorageError> {
    runs(shard_no, &db.fetch_all(&LIST_RUNS, values![shard_no, OBJECTS_MAX]).await?)
}

/// The same within a snapshot.
pub async fn list_runs_in(tx: &mut Tx, shard_no: ShardNo) -> Result<Vec<ObjectRow>, StorageError> {
    runs(shard_no, &tx.fetch_all(&LIST_RUNS, values![shard_no, OBJECTS_MAX]).await?)
}

fn runs(shard_no: ShardNo, rows: &[Row]) -> Result<Vec<ObjectRow>, StorageError> {
    rows.iter()
        .map(|row| {
            Ok(ObjectRow {
                object_id: ObjectId(row.array(0)?),
                kind: ObjectKind::Run,
                shard_no,
                project_id: None,
                events: row.u64(1)?,
                bytes: row.u64(2)?,
                parts: row.u32(3)?,
                min_at: row.i64(4)?,
                max_at: row.i64(5)?,
                tier: 0,
                mask_version: row.i64(6)?,
                facts: row.bytes(7)?,
                created_at: row.i64(8)?,
            })
        })
        .collect()
}

static LIST_RUNS_BARE: Statement = statement!(
    "runs.list_live_bare",
    "SELECT run_id, events, bytes, parts, min_at, max_at, mask_version, created_at FROM runs \
     WHERE shard_no = ? AND state = 'live' ORDER BY run_id LIMIT ?"
);

/// The live runs of a shard without their directories, which may be large.
pub async fn list_runs_bare(db: &Db, shard_no: ShardNo) -> Result<Vec<ObjectRow>, StorageError> {
    let rows = db.fetch_all(&LIST_RUNS_BARE, values![shard_no, OBJECTS_MAX]).await?;
    rows.iter()
        .map(|row| {
            Ok(ObjectRow {
                object_id: ObjectId(row.array(0)?),
                kind: ObjectKind::Run,
                shard_no,
                project_id: None,
                events: row.u64(1)?,
                bytes: row.u64(2)?,
                parts: row.u32(3)?,
                min_at: row.i64(4)?,
                max_at: row.i64(5)?,
                tier: 0,
                mask_version: row.i64(6)?,
                facts: Vec::new(),
                created_at: row.i64(7)?,
            })
        })
        .collect()
}

static LIST_SEGMENTS: Statement = statement!(
    "segments.list_live",
    "SELECT segment_id, project_id, events, bytes, parts, min_at, max_at, tier, mask_version, facts, \
     created_at FROM segments WHERE shard_no = ? AND project_id = ? AND state = 'live' \
     AND max_at >= ? AND min_at < ? ORDER BY segment_id LIMIT ?"
);

fn segment_binds(shard_no: ShardNo, project_id: ProjectId, from: Millis, to: Millis) -> Vec<Value> {
    values![shard_no, project_id, from, to, OBJECTS_MAX]
}

/// The live segments of a project with rows in `[from, to)`.
pub async fn list_segments(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    from: Millis,
    to: Millis,
) -> Result<Vec<ObjectRow>, StorageError> {
    segments(shard_no, &db.fetch_all(&LIST_SEGMENTS, segment_binds(shard_no, project_id, from, to)).await?)
}

/// The same within a snapshot.
pub async fn list_segments_in(
    tx: &mut Tx,
    shard_no: ShardNo,
    project_id: ProjectId,
    from: Millis,
    to: Millis,
) -> Result<Vec<ObjectRow>, StorageError> {
    segments(shard_no, &tx.fetch_all(&LIST_SEGMENTS, segment_binds(shard_no, project_id, from, to)).await?)
}

static LIST_ALL_SEGMENTS: Statement = statement!(
    "segments.list_all_live",
    "SELECT segment_id, project_id, events, bytes, parts, min_at, max_at, tier, mask_version, created_at \
     FROM segments WHERE shard_no = ? AND state = 'live' ORDER BY project_id, min_at, segment_id LIMIT ?"
);

/// The live segments of all projects of a shard, without their facts: what compaction chooses from.
/// Sorted by project and first row in time.
pub async fn list_all_segments(db: &Db, shard_no: ShardNo) -> Result<Vec<ObjectRow>, StorageError> {
    let rows = db.fetch_all(&LIST_ALL_SEGMENTS, values![shard_no, OBJECTS_MAX]).await?;
    rows.iter()
        .map(|row| {
            Ok(ObjectRow {
                object_id: ObjectId(row.array(0)?),
                kind: ObjectKind::Segment,
                shard_no,
                project_id: Some(ProjectId(row.u32(1)?)),
                events: row.u64(2)?,
                bytes: row.u64(3)?,
                parts: row.u32(4)?,
                min_at: row.i64(5)?,
                max_at: row.i64(6)?,
                tier: row.u32(7)?,
                mask_version: row.i64(8)?,
                facts: Vec::new(),
                created_at: row.i64(9)?,
            })
        })
        .collect()
}

static SEGMENT_FACTS: Statement =
    statement!("segments.facts", "SELECT facts FROM segments WHERE shard_no = ? AND segment_id = ?");
static RUN_FACTS: Statement =
    statement!("runs.directory", "SELECT directory FROM runs WHERE shard_no = ? AND run_id = ?");

/// The facts that the bare lists leave out.
pub async fn find_facts(
    db: &Db,
    kind: ObjectKind,
    shard_no: ShardNo,
    object_id: ObjectId,
) -> Result<Option<Vec<u8>>, StorageError> {
    let statement = match kind {
        ObjectKind::Run => &RUN_FACTS,
        ObjectKind::Segment => &SEGMENT_FACTS,
    };
    let row = db.fetch_optional(statement, values![shard_no, object_id]).await?;
    row.map(|row| row.bytes(0)).transpose()
}

fn segments(shard_no: ShardNo, rows: &[Row]) -> Result<Vec<ObjectRow>, StorageError> {
    rows.iter()
        .map(|row| {
            Ok(ObjectRow {
                object_id: ObjectId(row.array(0)?),
                kind: ObjectKind::Segment,
                shard_no,
                project_id: Some(ProjectId(row.u32(1)?)),
                events: row.u64(2)?,
                bytes: row.u64(3)?,
                parts: row.u32(4)?,
                min_at: row.i64(5)?,
                max_at: row.i64(6)?,
                tier: row.u32(7)?,
                mask_version: row.i64(8)?,
                facts: row.bytes(9)?,
                created_at: row.i64(10)?,
            })
        })
        .collect()
}

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

static ABANDON_RUNS: Statement = statement!(
    "runs.abandon",
    "UPDATE runs SET state = 'retired', retired_at = ? \
     WHERE shard_no = ? AND state = 'building' AND created_at < ?"
);
static ABANDON_SEGMENTS: Statement = statement!(
    "segments.abandon",
    "UPDATE segments SET state = 'retired', retired_at = ? \
     WHERE shard_no = ? AND state = 'building' AND created_at < ?"
);
static LIST_RETIRED_RUNS: Statement = statement!(
    "runs.list_retired",
    "SELECT run_id FROM runs WHERE shard_no = ? AND state = 'retired' AND retired_at < ? LIMIT 200"
);
static LIST_RETIRED_SEGMENTS: Statement = statement!(
    "segments.list_retired",
    "SELECT segment_id FROM segments WHERE shard_no = ? AND state = 'retired' AND retired_at < ? LIMIT 200"
);
static DELETE_PARTS: Statement = statement!("parts.delete", "DELETE FROM parts WHERE object_id = ?");
static DELETE_RUN: Statement =
    statement!("runs.delete", "DELETE FROM runs WHERE shard_no = ? AND run_id = ? AND state = 'retired'");
static DELETE_SEGMENT: Statement = statement!(
    "segments.delete",
    "DELETE FROM segments WHERE shard_no = ? AND segment_id = ? AND state = 'retired'"
);

/// Gives up what nobody has finished since `built_before`: its builder died, or will find that its
/// object is no longer `building`.
pub async fn abandon(
    db: &Db,
    shard_no: ShardNo,
    built_before: Millis,
    now: Millis,
) -> Result<u64, StorageError> {
    let runs = db.execute(&ABANDON_RUNS, values![now, shard_no, built_before]).await?;
    let segments = db.execute(&ABANDON_SEGMENTS, values![now, shard_no, built_before]).await?;
    Ok(runs + segments)
}

/// Deletes up to 400 objects that were retired before `retired_before`; how many. The catalogue row
/// goes last, so that an interrupted deletion is taken up again.
pub async fn delete_retired(db: &Db, shard_no: ShardNo, retired_before: Millis) -> Result<u64, StorageError> {
    let mut deleted = 0;
    for (list, delete) in [(&LIST_RETIRED_RUNS, &DELETE_RUN), (&LIST_RETIRED_SEGMENTS, &DELETE_SEGMENT)] {
        for row in &db.fetch_all(list, values![shard_no, retired_before]).await? {
            let object_id = ObjectId(row.array(0)?);
            db.execute(&DELETE_PARTS, values![object_id]).await?;
            deleted += db.execute(delete, values![shard_no, object_id]).await?;
        }
    }
    Ok(deleted)
}
