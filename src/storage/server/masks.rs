//! Persons whose rows do not count: moved away or erased.
//!
//! A mask belongs to a person of a project in a shard, never to a run or segment: rows of a masked
//! person may come from the journal at any time, and a question must leave them all out.

use crate::model::{Millis, PersonNo, ProjectId, ShardNo};
use crate::storage::db::statement;
use crate::storage::{Statement, StorageError, Tx};
use crate::values;

/// Masks go when compaction has rewritten what they hide; this many at once would be a fault.
const MASKS_MAX: usize = 1_000_000;

static LIST: Statement = statement!(
    "masks.list",
    "SELECT person_no FROM masks WHERE shard_no = ? AND project_id = ? ORDER BY person_no LIMIT ?"
);

/// The masked persons of a project in a shard, ascending.
pub async fn list_in(
    tx: &mut Tx,
    shard_no: ShardNo,
    project_id: ProjectId,
) -> Result<Vec<PersonNo>, StorageError> {
    let rows = tx.fetch_all(&LIST, values![shard_no, project_id, MASKS_MAX]).await?;
    if rows.len() == MASKS_MAX {
        return Err(StorageError::corrupt("masks", "person_no", "more masks than compaction ever leaves"));
    }
    rows.iter().map(|row| row.u32(0)).collect()
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
    // First, since it locks the shard's row: no two masks get the same version.
    tx.execute(&RAISE_SHARD, values![shard_no]).await?;
    let row = tx.fetch_optional(&READ_SHARD, values![shard_no]).await?;
    let version = row.map_or(Ok(0), |row| row.i64(0))?;
    tx.execute(&RAISE, values![version, shard_no, project_id]).await?;
    tx.execute(&INSERT, values![shard_no, project_id, person_no, version, reason, now]).await?;
    Ok(())
}
