//! What a server holds, shard by shard, for operators and estimates. Counts come from the catalogue
//! alone.

use crate::model::{Millis, ReplicaId, ShardNo};
use crate::storage::db::statement;
use crate::storage::{Db, Statement, StorageError};

/// A lease that somebody holds now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldLease {
    pub shard_no: ShardNo,
    /// As [`super::leases::LeaseTask`] names it.
    pub task: String,
    pub holder: ReplicaId,
    pub fence: i64,
    /// How long it is good without being renewed.
    pub expires_in_ms: Millis,
}

/// Live objects of one kind in one shard.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ObjectCount {
    pub objects: u64,
    pub events: u64,
    pub bytes: u64,
}

static VERSION: Statement = statement!(
    "overview.version",
    mysql: "SELECT VERSION()",
    sqlite: "SELECT 'SQLite ' || sqlite_version()",
);

/// As the server names itself, such as `10.11.6-MariaDB`.
pub async fn version(db: &Db) -> Result<String, StorageError> {
    match db.fetch_optional(&VERSION, vec![]).await? {
        Some(row) => row.text(0),
        None => Err(StorageError::corrupt("overview", "version", "the server does not tell its version")),
    }
}

static HELD_LEASES: Statement = statement!(
    "overview.held_leases",
    mysql: "SELECT shard_no, task, holder, fence, expires_at - CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) \
            FROM shard_leases WHERE holder IS NOT NULL \
            AND expires_at > CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) \
            ORDER BY shard_no, task LIMIT 200000",
    sqlite: "SELECT shard_no, task, holder, fence, expires_at - CAST(unixepoch('subsec') * 1000 AS INTEGER) \
             FROM shard_leases WHERE holder IS NOT NULL \
             AND expires_at > CAST(unixepoch('subsec') * 1000 AS INTEGER) \
             ORDER BY shard_no, task LIMIT 200000",
);

pub async fn list_held_leases(db: &Db) -> Result<Vec<HeldLease>, StorageError> {
    let rows = db.fetch_all(&HELD_LEASES, vec![]).await?;
    rows.iter()
        .map(|row| {
            Ok(HeldLease {
                shard_no: ShardNo(row.u16(0)?),
                task: row.text(1)?,
                holder: ReplicaId(row.array(2)?),
                fence: row.i64(3)?,
                expires_in_ms: row.i64(4)?,
            })
        })
        .collect()
}

static COUNT_RUNS: Statement = statement!(
    "overview.count_runs",
    "SELECT shard_no, COUNT(*), CAST(SUM(events) AS SIGNED), CAST(SUM(bytes) AS SIGNED) FROM runs \
     WHERE state = 'live' GROUP BY shard_no ORDER BY shard_no LIMIT 65536"
);
static COUNT_SEGMENTS: Statement = statement!(
    "overview.count_segments",
    "SELECT shard_no, COUNT(*), CAST(SUM(events) AS SIGNED), CAST(SUM(bytes) AS SIGNED) FROM segments \
     WHERE state = 'live' GROUP BY shard_no ORDER BY shard_no LIMIT 65536"
);

pub async fn count_runs(db: &Db) -> Result<Vec<(ShardNo, ObjectCount)>, StorageError> {
    count(db, &COUNT_RUNS).await
}

pub async fn count_segments(db: &Db) -> Result<Vec<(ShardNo, ObjectCount)>, StorageError> {
    count(db, &COUNT_SEGMENTS).await
}

async fn count(db: &Db, statement: &'static Statement) -> Result<Vec<(ShardNo, ObjectCount)>, StorageError> {
    let rows = db.fetch_all(statement, vec![]).await?;
    rows.iter()
        .map(|row| {
            let count = ObjectCount { objects: row.u64(1)?, events: row.u64(2)?, bytes: row.u64(3)? };
            Ok((ShardNo(row.u16(0)?), count))
        })
        .collect()
}

/// Objects of one kind in one state, whatever their shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateCount {
    /// `building`, `live` or `retired`.
    pub state: String,
    pub count: ObjectCount,
}

static COUNT_RUN_STATES: Statement = statement!(
    "overview.count_run_states",
    "SELECT state, COUNT(*), CAST(SUM(events) AS SIGNED), CAST(SUM(bytes) AS SIGNED) FROM runs \
     GROUP BY state ORDER BY state LIMIT 16"
);
static COUNT_SEGMENT_STATES: Statement = statement!(
    "overview.count_segment_states",
    "SELECT state, COUNT(*), CAST(SUM(events) AS SIGNED), CAST(SUM(bytes) AS SIGNED) FROM segments \
     GROUP BY state ORDER BY state LIMIT 16"
);

pub async fn count_run_states(db: &Db) -> Result<Vec<StateCount>, StorageError> {
    count_states(db, &COUNT_RUN_STATES).await
}

pub async fn count_segment_states(db: &Db) -> Result<Vec<StateCount>, StorageError> {
    count_states(db, &COUNT_SEGMENT_STATES).await
}

async fn count_states(db: &Db, statement: &'static Statement) -> Result<Vec<StateCount>, StorageError> {
    let rows = db.fetch_all(statement, vec![]).await?;
    rows.iter()
        .map(|row| {
            let count = ObjectCount { objects: row.u64(1)?, events: row.u64(2)?, bytes: row.u64(3)? };
            Ok(StateCount { state: row.text(0)?, count })
        })
        .collect()
}

static HISTORY_LENGTH: Statement = statement!(
    "overview.history_length",
    mysql: "SELECT CAST(`count` AS SIGNED) FROM information_schema.innodb_metrics \
            WHERE name = 'trx_rseg_history_len'",
    sqlite: "SELECT 0 WHERE FALSE",
);

/// Changes that the server has not purged yet; the longer the list, the slower it reads what is often
/// deleted, as the journal is. `None` where there is none, or where the user may not see it.
pub async fn find_history_length(db: &Db) -> Result<Option<u64>, StorageError> {
    match db.fetch_optional(&HISTORY_LENGTH, vec![]).await {
        Ok(row) => row.map(|row| row.u64(0)).transpose(),
        // Only users with the right PROCESS see it.
        Err(StorageError::Query { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
