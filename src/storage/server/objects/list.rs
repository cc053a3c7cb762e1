//! What is live.
//!
//! All lists have the same columns in the same order; a run has no project and no tier.

use std::sync::LazyLock;

use super::{ObjectKind, ObjectRow, Pair};
use crate::model::{Millis, ObjectId, ProjectId, ShardNo};
use crate::storage::db::{OfShards, statement};
use crate::storage::{Db, Read, Row, Statement, StorageError, Tx, Value};
use crate::values;

/// More live objects than this in one shard is a broken compaction, not a catalogue. Lists that
/// answers and duplicates are found by fail there: one that is cut would silently lose rows.
const OBJECTS_MAX: usize = 100_000;

static LIST_RUNS: LazyLock<OfShards> = LazyLock::new(|| {
    OfShards::new(
        "runs.list_live",
        "SELECT run_id, 0, events, bytes, parts, min_at, max_at, 0, mask_version, created_at, directory, \
         shard_no FROM runs WHERE shard_no IN ({shards}) AND state = 'live' ORDER BY shard_no, run_id LIMIT ?",
    )
});

fn runs_of(shards: &[ShardNo]) -> (&'static Statement, Vec<Value>) {
    let (statement, mut binds) = LIST_RUNS.with(shards);
    binds.push((OBJECTS_MAX * shards.len()).into());
    (statement, binds)
}

/// The live runs of a shard, of all projects.
pub async fn list_runs(db: &Db, shard_no: ShardNo) -> Result<Vec<ObjectRow>, StorageError> {
    let (statement, binds) = runs_of(&[shard_no]);
    all_objects(ObjectKind::Run, &[shard_no], &db.fetch_all(statement, binds).await?, Facts::Listed)
}

/// The same of several shards, within a snapshot; in the order of their numbers.
///
/// Precondition: 1 to [`SHARDS_PER_STATEMENT`](crate::storage::db::SHARDS_PER_STATEMENT) shards.
pub async fn list_runs_in(tx: &mut Tx, shards: &[ShardNo]) -> Result<Vec<ObjectRow>, StorageError> {
    let (statement, binds) = runs_of(shards);
    all_objects(ObjectKind::Run, shards, &tx.fetch_all(statement, binds).await?, Facts::Listed)
}

static LIST_SEGMENTS: LazyLock<OfShards> = LazyLock::new(|| {
    OfShards::new(
        "segments.list_live",
        "SELECT segment_id, project_id, events, bytes, parts, min_at, max_at, tier, mask_version, \
         created_at, facts, shard_no FROM segments WHERE shard_no IN ({shards}) AND project_id = ? \
         AND state = 'live' AND max_at >= ? AND min_at < ? ORDER BY shard_no, segment_id LIMIT ?",
    )
});

fn segments_of(
    shards: &[ShardNo],
    project_id: ProjectId,
    from: Millis,
    to: Millis,
) -> (&'static Statement, Vec<Value>) {
    let (statement, mut binds) = LIST_SEGMENTS.with(shards);
    binds.extend(values![project_id, from, to, OBJECTS_MAX * shards.len()]);
    (statement, binds)
}

/// The live segments of a project with rows in `[from, to)`.
pub async fn list_segments(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    from: Millis,
    to: Millis,
) -> Result<Vec<ObjectRow>, StorageError> {
    let (statement, binds) = segments_of(&[shard_no], project_id, from, to);
    all_objects(ObjectKind::Segment, &[shard_no], &db.fetch_all(statement, binds).await?, Facts::Listed)
}

/// The same of several shards, within a snapshot; in the order of their numbers.
///
/// Precondition: 1 to [`SHARDS_PER_STATEMENT`](crate::storage::db::SHARDS_PER_STATEMENT) shards.
pub async fn list_segments_in(
    tx: &mut Tx,
    shards: &[ShardNo],
    project_id: ProjectId,
    from: Millis,
    to: Millis,
) -> Result<Vec<ObjectRow>, StorageError> {
    let (statement, binds) = segments_of(shards, project_id, from, to);
    all_objects(ObjectKind::Segment, shards, &tx.fetch_all(statement, binds).await?, Facts::Listed)
}

static LIST_RUNS_BARE: LazyLock<OfShards> = LazyLock::new(|| {
    OfShards::new(
        "runs.list_live_bare_of",
        "SELECT run_id, 0, events, bytes, parts, min_at, max_at, 0, mask_version, created_at, shard_no \
         FROM runs WHERE shard_no IN ({shards}) AND state = 'live' AND max_at >= ? AND min_at < ? \
         ORDER BY shard_no, run_id LIMIT ?",
    )
});

static LIST_SEGMENTS_BARE: LazyLock<OfShards> = LazyLock::new(|| {
    OfShards::new(
        "segments.list_live_bare_of",
        "SELECT segment_id, project_id, events, bytes, parts, min_at, max_at, tier, mask_version, \
         created_at, shard_no FROM segments WHERE shard_no IN ({shards}) AND project_id = ? \
         AND state = 'live' AND max_at >= ? AND min_at < ? ORDER BY shard_no, segment_id LIMIT ?",
    )
});

/// The live runs of any project with rows in `[from, to)`, without their directories.
///
/// Precondition: 1 to [`SHARDS_PER_STATEMENT`](crate::storage::db::SHARDS_PER_STATEMENT) shards.
pub fn read_runs(shards: &[ShardNo], from: Millis, to: Millis) -> Read<Vec<ObjectRow>> {
    let (statement, mut binds) = LIST_RUNS_BARE.with(shards);
    binds.extend(values![from, to, OBJECTS_MAX * shards.len()]);
    let shards = shards.to_vec();
    Read::new(statement, binds, move |rows| all_objects(ObjectKind::Run, &shards, rows, Facts::LeftOut))
}

/// The live segments of a project with rows in `[from, to)`, without their facts.
///
/// Precondition: 1 to [`SHARDS_PER_STATEMENT`](crate::storage::db::SHARDS_PER_STATEMENT) shards.
pub fn read_segments(
    shards: &[ShardNo],
    project_id: ProjectId,
    from: Millis,
    to: Millis,
) -> Read<Vec<ObjectRow>> {
    let (statement, mut binds) = LIST_SEGMENTS_BARE.with(shards);
    binds.extend(values![project_id, from, to, OBJECTS_MAX * shards.len()]);
    let shards = shards.to_vec();
    Read::new(statement, binds, move |rows| all_objects(ObjectKind::Segment, &shards, rows, Facts::LeftOut))
}

static LIST_BARE: Pair = Pair {
    run: statement!(
        "runs.list_live_bare",
        "SELECT run_id, 0, events, bytes, parts, min_at, max_at, 0, mask_version, created_at \
         FROM runs WHERE shard_no = ? AND state = 'live' ORDER BY run_id LIMIT ?"
    ),
    segment: statement!(
        "segments.list_live_bare",
        "SELECT segment_id, project_id, events, bytes, parts, min_at, max_at, tier, mask_version, \
         created_at FROM segments WHERE shard_no = ? AND state = 'live' \
         ORDER BY project_id, min_at, segment_id LIMIT ?"
    ),
};

/// The live runs of a shard without their directories, which may be large.
pub async fn list_runs_bare(db: &Db, shard_no: ShardNo) -> Result<Vec<ObjectRow>, StorageError> {
    list_bare(db, ObjectKind::Run, shard_no).await
}

/// The live segments of all projects of a shard, without their facts: what compaction chooses from.
/// Sorted by project and first row in time.
pub async fn list_all_segments(db: &Db, shard_no: ShardNo) -> Result<Vec<ObjectRow>, StorageError> {
    list_bare(db, ObjectKind::Segment, shard_no).await
}

async fn list_bare(db: &Db, kind: ObjectKind, shard_no: ShardNo) -> Result<Vec<ObjectRow>, StorageError> {
    objects(kind, shard_no, &db.fetch_all(LIST_BARE.of(kind), values![shard_no, OBJECTS_MAX]).await?)
}

static LIST_BELOW: Pair = Pair {
    run: statement!(
        "runs.list_below",
        "SELECT run_id, 0, events, bytes, parts, min_at, max_at, 0, mask_version, created_at, directory, \
         state FROM runs WHERE shard_no = ? AND mask_version < ? ORDER BY mask_version, run_id LIMIT ?"
    ),
    segment: statement!(
        "segments.list_below",
        "SELECT segment_id, project_id, events, bytes, parts, min_at, max_at, tier, mask_version, \
         created_at, facts, state FROM segments WHERE shard_no = ? AND mask_version < ? \
         ORDER BY mask_version, segment_id LIMIT ?"
    ),
};

/// An object in any state.
#[derive(Clone, Debug)]
pub struct ObjectInState {
    pub object: ObjectRow,
    pub is_live: bool,
}

/// Objects that do not obey all masks up to a version, whatever their state: those that are being
/// written and those that wait to be deleted hold rows too. The least obedient first.
pub async fn list_below(
    db: &Db,
    shard_no: ShardNo,
    version: i64,
    limit: usize,
) -> Result<Vec<ObjectInState>, StorageError> {
    let mut listed = Vec::new();
    for kind in [ObjectKind::Run, ObjectKind::Segment] {
        let rows = db.fetch_all(LIST_BELOW.of(kind), values![shard_no, version, limit]).await?;
        for (object, row) in objects(kind, shard_no, &rows)?.into_iter().zip(&rows) {
            listed.push(ObjectInState { object, is_live: row.text(11)? == "live" });
        }
    }
    listed.sort_by_key(|listed| (listed.object.mask_version, listed.object.object_id));
    listed.truncate(limit);
    Ok(listed)
}

static FACTS: Pair = Pair {
    run: statement!("runs.directory", "SELECT directory FROM runs WHERE shard_no = ? AND run_id = ?"),
    segment: statement!("segments.facts", "SELECT facts FROM segments WHERE shard_no = ? AND segment_id = ?"),
};

/// The facts that the bare lists leave out.
pub async fn find_facts(
    db: &Db,
    kind: ObjectKind,
    shard_no: ShardNo,
    object_id: ObjectId,
) -> Result<Option<Vec<u8>>, StorageError> {
    let row = db.fetch_optional(FACTS.of(kind), values![shard_no, object_id]).await?;
    row.map(|row| row.bytes(0)).transpose()
}

static FACTS_OF: Pair = Pair {
    run: statement!("runs.directories", "SELECT run_id, directory FROM runs WHERE {rows}"),
    segment: statement!("segments.facts_of", "SELECT segment_id, facts FROM segments WHERE {rows}"),
};
const THIS_RUN: &str = "(shard_no = ? AND run_id = ?)";
const THIS_SEGMENT: &str = "(shard_no = ? AND segment_id = ?)";

/// Facts may be large where many projects share a run.
const FACTS_PER_READ: usize = 64;

/// The same of several objects in any order, without those that have been deleted.
pub async fn find_facts_of(
    db: &Db,
    kind: ObjectKind,
    objects: &[(ShardNo, ObjectId)],
) -> Result<Vec<(ObjectId, Vec<u8>)>, StorageError> {
    let this = match kind {
        ObjectKind::Run => THIS_RUN,
        ObjectKind::Segment => THIS_SEGMENT,
    };
    let mut found = Vec::with_capacity(objects.len());
    for wanted in objects.chunks(FACTS_PER_READ) {
        let binds = wanted.iter().flat_map(|&(shard_no, object_id)| values![shard_no, object_id]).collect();
        let sql = FACTS_OF.of(kind).with_joined_rows(this, " OR ", wanted.len());
        for row in db.fetch_all(sql, binds).await? {
            found.push((ObjectId(row.array(0)?), row.bytes(1)?));
        }
    }
    Ok(found)
}

/// Whether a list has the facts of its objects.
#[derive(Clone, Copy, PartialEq)]
enum Facts {
    Listed,
    LeftOut,
}

/// Of lists that end with the number of the shard.
fn all_objects(
    kind: ObjectKind,
    shards: &[ShardNo],
    rows: &[Row],
    facts: Facts,
) -> Result<Vec<ObjectRow>, StorageError> {
    if rows.len() >= OBJECTS_MAX * shards.len() {
        let (table, column) = match kind {
            ObjectKind::Run => ("runs", "run_id"),
            ObjectKind::Segment => ("segments", "segment_id"),
        };
        let detail =
            format!("the shards {shards:?} have {} or more: compaction is not keeping up", rows.len());
        return Err(StorageError::corrupt(table, column, detail));
    }
    let shard_no = match facts {
        Facts::Listed => 11,
        Facts::LeftOut => 10,
    };
    rows.iter().map(|row| object(kind, ShardNo(row.u16(shard_no)?), row, facts)).collect()
}

fn objects(kind: ObjectKind, shard_no: ShardNo, rows: &[Row]) -> Result<Vec<ObjectRow>, StorageError> {
    let facts = |row: &Row| if row.columns() > 10 { Facts::Listed } else { Facts::LeftOut };
    rows.iter().map(|row| object(kind, shard_no, row, facts(row))).collect()
}

fn object(kind: ObjectKind, shard_no: ShardNo, row: &Row, facts: Facts) -> Result<ObjectRow, StorageError> {
    let project_id = match kind {
        ObjectKind::Run => None,
        ObjectKind::Segment => Some(ProjectId(row.u32(1)?)),
    };
    Ok(ObjectRow {
        object_id: ObjectId(row.array(0)?),
        kind,
        shard_no,
        project_id,
        events: row.u64(2)?,
        bytes: row.u64(3)?,
        parts: row.u32(4)?,
        min_at: row.i64(5)?,
        max_at: row.i64(6)?,
        tier: row.u32(7)?,
        mask_version: row.i64(8)?,
        created_at: row.i64(9)?,
        facts: if facts == Facts::Listed { row.bytes(10)? } else { Vec::new() },
    })
}
