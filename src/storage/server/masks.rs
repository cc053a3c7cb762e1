//! Persons whose rows do not count: moved away or erased.
//!
//! A mask belongs to a person of a project in a shard, never to a run or segment: rows of a masked
//! person may come from the journal at any time, and a question must leave them all out.
//!
//! Every run and segment records a version: its rows obey all masks up to it. A mask goes when all of
//! the shard's objects are at its version or above it.

use std::sync::LazyLock;

use crate::model::{FastSet, Millis, PersonNo, ProjectId, ShardNo};
use crate::storage::db::{OfShards, statement};
use crate::storage::{Db, Read, Row, Statement, StorageError, Tx, Value};
use crate::values;

/// The reason of a person who was erased; any other is that of one who moved.
pub const ERASED: &str = "erased";

/// Persons named in one statement. SQLite takes at most 500 parts of a compound SELECT.
const PERSONS_PER_STATEMENT: usize = 200;

/// Masks go when compaction has rewritten what they hide; this many at once would be a fault.
const MASKS_MAX: usize = 1_000_000;

static LIST: LazyLock<OfShards> = LazyLock::new(|| {
    OfShards::new(
        "masks.list",
        "SELECT shard_no, person_no FROM masks WHERE shard_no IN ({shards}) AND project_id = ? \
         ORDER BY shard_no, person_no LIMIT ?",
    )
});

/// The masked persons of a project in several shards, by shard and number.
///
/// Precondition: 1 to [`SHARDS_PER_STATEMENT`](crate::storage::db::SHARDS_PER_STATEMENT) shards.
pub fn read_masks(shards: &[ShardNo], project_id: ProjectId) -> Read<Vec<(ShardNo, PersonNo)>> {
    let (statement, mut binds) = LIST.with(shards);
    let masks_max = MASKS_MAX * shards.len();
    binds.extend(values![project_id, masks_max]);
    Read::new(statement, binds, move |rows| {
        if rows.len() >= masks_max {
            let detail = "more masks than compaction ever leaves";
            return Err(StorageError::corrupt("masks", "person_no", detail));
        }
        rows.iter().map(|row| Ok((ShardNo(row.u16(0)?), row.u32(1)?))).collect()
    })
}

// Versions are the shard's, so that they say of a run, which has rows of many projects, whether it
// was written before or after. Project 0 is nobody's.
static RAISE_SHARD: Statement = statement!(
    "masks.raise_shard",
    mysql: "INSERT INTO project_shards (shard_no, project_id, next_person_no, next_id_no, data_version, \
            mask_version, erasure_epoch) VALUES (?, 0, 0, 0, 0, 1, 0) \
            ON DUPLICATE KEY UPDATE mask_version = mask_version + 1",
    sqlite: "INSERT INTO project_shards (shard_no, project_id, next_person_no, next_id_no, data_version, \
             mask_version, erasure_epoch) VALUES (?, 0, 0, 0, 0, 1, 0) \
             ON CONFLICT DO UPDATE SET mask_version = mask_version + 1",
);
static READ_SHARD: Statement = statement!(
    "masks.read_shard",
    "SELECT mask_version FROM project_shards WHERE shard_no = ? AND project_id = 0"
);
static RAISE: Statement = statement!(
    "project_shards.raise_masks",
    "UPDATE project_shards SET mask_version = ?, data_version = data_version + 1 \
     WHERE shard_no = ? AND project_id = ?"
);
static INSERT: Statement = statement!(
    "masks.insert",
    mysql: "INSERT INTO masks (shard_no, project_id, person_no, version, reason, masked_at) \
            VALUES (?, ?, ?, ?, ?, ?) \
            ON DUPLICATE KEY UPDATE version = VALUES(version), reason = VALUES(reason)",
    sqlite: "INSERT INTO masks (shard_no, project_id, person_no, version, reason, masked_at) \
             VALUES (?, ?, ?, ?, ?, ?) \
             ON CONFLICT DO UPDATE SET version = excluded.version, reason = excluded.reason",
);

/// Hides a person's rows from the next question on, and raises the project's mask and data versions.
pub async fn insert(
    tx: &mut Tx,
    shard_no: ShardNo,
    project_id: ProjectId,
    person_no: PersonNo,
    reason: &str,
    now: Millis,
) -> Result<(), StorageError> {
    insert_all(tx, shard_no, project_id, &[person_no], reason, now).await?;
    Ok(())
}

/// The same for several persons under one version, which is the answer.
pub async fn insert_all(
    tx: &mut Tx,
    shard_no: ShardNo,
    project_id: ProjectId,
    person_nos: &[PersonNo],
    reason: &str,
    now: Millis,
) -> Result<i64, StorageError> {
    // First, since it locks the shard's row: no two masks get the same version.
    tx.execute(&RAISE_SHARD, values![shard_no]).await?;
    let row = tx.fetch_optional(&READ_SHARD, values![shard_no]).await?;
    let version = row.map_or(Ok(0), |row| row.i64(0))?;
    tx.execute(&RAISE, values![version, shard_no, project_id]).await?;
    for &person_no in person_nos {
        tx.execute(&INSERT, values![shard_no, project_id, person_no, version, reason, now]).await?;
    }
    Ok(version)
}

/// The versions of a shard: of its latest mask, and of its latest erasure.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ShardVersions {
    pub masks: i64,
    pub erasures: i64,
}

static READ_VERSIONS: Statement = statement!(
    "masks.read_versions",
    "SELECT mask_version, erasure_epoch FROM project_shards WHERE shard_no = ? AND project_id = 0"
);

/// All zero for a shard without masks. Rows that are written from now on obey all masks up to this
/// version, as long as whoever writes them reads what it needs to know after this.
pub async fn read_versions(db: &Db, shard_no: ShardNo) -> Result<ShardVersions, StorageError> {
    versions(db.fetch_optional(&READ_VERSIONS, values![shard_no]).await?)
}

fn versions(row: Option<Row>) -> Result<ShardVersions, StorageError> {
    row.map_or(Ok(ShardVersions::default()), |row| {
        Ok(ShardVersions { masks: row.i64(0)?, erasures: row.i64(1)? })
    })
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mask {
    pub project_id: ProjectId,
    pub person_no: PersonNo,
    pub version: i64,
    pub is_erased: bool,
    /// Its rows are still to be copied to another person, and must stay until then.
    pub is_moving: bool,
}

/// Everything about a shard's masks, at one point in time.
#[derive(Clone, Default, Debug)]
pub struct ShardMasks {
    pub version: i64,
    /// By project and person.
    pub masks: Vec<Mask>,
    /// The least version of any run or segment, those that are being built or deleted too.
    pub least_of_objects: Option<i64>,
}

static LIST_OF_SHARD: Statement = statement!(
    "masks.list_of_shard",
    "SELECT project_id, person_no, version, reason FROM masks WHERE shard_no = ? AND version > ? \
     ORDER BY project_id, person_no LIMIT ?"
);
static LIST_MOVING: Statement = statement!(
    "masks.list_moving",
    "SELECT project_id, person_no FROM moves WHERE shard_no = ? AND state = 'moving' LIMIT 1000000"
);
static LEAST_OF_OBJECTS: Statement = statement!(
    "masks.least_of_objects",
    "SELECT MIN(mask_version) FROM (SELECT mask_version FROM runs WHERE shard_no = ? \
     UNION ALL SELECT mask_version FROM segments WHERE shard_no = ?) AS objects"
);

/// The masks of a shard above a version.
pub async fn read_shard(db: &Db, shard_no: ShardNo, above: i64) -> Result<ShardMasks, StorageError> {
    db.snapshot(move |tx| {
        Box::pin(async move {
            let version = versions(tx.fetch_optional(&READ_VERSIONS, values![shard_no]).await?)?.masks;
            let rows = tx.fetch_all(&LIST_OF_SHARD, values![shard_no, above, MASKS_MAX]).await?;
            if rows.len() == MASKS_MAX {
                return Err(StorageError::corrupt(
                    "masks",
                    "person_no",
                    "more masks than compaction ever leaves",
                ));
            }
            let mut moving = FastSet::default();
            for row in tx.fetch_all(&LIST_MOVING, values![shard_no]).await? {
                moving.insert((ProjectId(row.u32(0)?), row.u32(1)?));
            }
            let mut masks = Vec::with_capacity(rows.len());
            for row in &rows {
                let (project_id, person_no) = (ProjectId(row.u32(0)?), row.u32(1)?);
                masks.push(Mask {
                    project_id,
                    person_no,
                    version: row.i64(2)?,
                    is_erased: row.text(3)? == ERASED,
                    is_moving: moving.contains(&(project_id, person_no)),
                });
            }
            let least = tx.fetch_optional(&LEAST_OF_OBJECTS, values![shard_no, shard_no]).await?;
            let least_of_objects = least.map_or(Ok(None), |row| row.opt_i64(0))?;
            Ok(ShardMasks { version, masks, least_of_objects })
        })
    })
    .await
}

// Joined with the list, as `journal.delete` is and for the same reason.
static DELETE: Statement = statement!(
    "masks.delete",
    mysql: "DELETE masks FROM (SELECT * FROM ({rows}) AS listed) AS done STRAIGHT_JOIN masks \
            ON masks.shard_no = ? AND masks.project_id = ? AND masks.person_no = done.person_no \
            AND masks.version <= ?",
    sqlite: "DELETE FROM masks WHERE person_no IN ({rows}) AND shard_no = ? AND project_id = ? AND version <= ?",
);

/// Takes masks away that hide nothing any more, unless they have been set again meanwhile; how many.
pub async fn delete(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    person_nos: &[PersonNo],
    up_to: i64,
) -> Result<u64, StorageError> {
    let mut deleted = 0;
    for some in person_nos.chunks(PERSONS_PER_STATEMENT) {
        let mut binds: Vec<Value> = some.iter().map(|&person_no| person_no.into()).collect();
        binds.extend(values![shard_no, project_id, up_to]);
        let rows = DELETE.with_joined_rows("SELECT ? AS person_no", " UNION ALL ", some.len());
        deleted += db.execute(rows, binds).await?;
    }
    Ok(deleted)
}

static FIND_VERSIONS: Statement = statement!(
    "masks.find_versions",
    "SELECT person_no, version FROM masks WHERE shard_no = ? AND project_id = ? AND person_no IN ({rows})"
);

/// The versions of those of the persons that are masked, in any order.
pub async fn find_versions(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    person_nos: &[PersonNo],
) -> Result<Vec<(PersonNo, i64)>, StorageError> {
    let mut found = Vec::new();
    for some in person_nos.chunks(PERSONS_PER_STATEMENT) {
        let mut binds = values![shard_no, project_id];
        binds.extend(some.iter().map(|&person_no| Value::from(person_no)));
        for row in db.fetch_all(FIND_VERSIONS.with_rows("?", some.len()), binds).await? {
            found.push((row.u32(0)?, row.i64(1)?));
        }
    }
    Ok(found)
}
