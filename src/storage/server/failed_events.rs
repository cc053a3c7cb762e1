//! Events that do not count, with the reason: rejected on arrival, or found broken while sealing.

use bytes::Bytes;

use crate::model::{BatchId, Millis, ProjectId};
use crate::storage::db::statement;
use crate::storage::{Db, Row, Sql, Statement, StorageError, Tx, Value};
use crate::values;

/// Rows of one insert, seven binds each.
const INSERT_ROWS_MAX: usize = 500;
/// Ids in one statement. SQLite takes at most 500 parts of a compound SELECT.
const IDS_PER_STATEMENT: usize = 200;
/// What the column holds.
const DETAIL_CHARS_MAX: usize = 1_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    Collect,
    Seal,
}

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Self::Collect => "collect",
            Self::Seal => "seal",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FailedEvent {
    /// Time-ordered.
    pub failed_id: BatchId,
    pub project_id: ProjectId,
    pub stage: Stage,
    /// One of the closed lists of reasons, as in metrics and answers.
    pub reason: String,
    pub detail: String,
    /// What was sent, as far as it was kept.
    pub body: Bytes,
    pub failed_at: Millis,
}

static INSERT: Statement = statement!(
    "failed_events.insert",
    "INSERT INTO failed_events (failed_id, project_id, stage, reason, detail, body, failed_at) VALUES {rows}"
);

fn inserts(failed: &[FailedEvent]) -> impl Iterator<Item = (Sql, Vec<Value>)> {
    failed.chunks(INSERT_ROWS_MAX).map(|chunk| {
        let mut binds = Vec::with_capacity(chunk.len() * 7);
        for event in chunk {
            let detail: String = event.detail.chars().take(DETAIL_CHARS_MAX).collect();
            binds.extend(values![
                event.failed_id,
                event.project_id,
                event.stage.name(),
                event.reason.as_str(),
                detail,
                event.body.clone(),
                event.failed_at
            ]);
        }
        (INSERT.with_rows("(?, ?, ?, ?, ?, ?, ?)", chunk.len()), binds)
    })
}

pub async fn insert(db: &Db, failed: &[FailedEvent]) -> Result<(), StorageError> {
    for (sql, binds) in inserts(failed) {
        db.execute(sql, binds).await?;
    }
    Ok(())
}

/// The same in a transaction.
pub async fn insert_in(tx: &mut Tx, failed: &[FailedEvent]) -> Result<(), StorageError> {
    for (sql, binds) in inserts(failed) {
        tx.execute(sql, binds).await?;
    }
    Ok(())
}

static LIST: Statement = statement!(
    "failed_events.list",
    "SELECT failed_id, stage, reason, detail, body, failed_at FROM failed_events \
     WHERE project_id = ? ORDER BY failed_id DESC LIMIT ?"
);

/// The newest of a project on one server, newest first.
pub async fn list_latest(
    db: &Db,
    project_id: ProjectId,
    limit: usize,
) -> Result<Vec<FailedEvent>, StorageError> {
    let rows = db.fetch_all(&LIST, values![project_id, limit]).await?;
    rows.iter().map(|row| failed_of(row, project_id)).collect()
}

static LIST_PAGE: Statement = statement!(
    "failed_events.list_page",
    "SELECT failed_id, stage, reason, detail, body, failed_at FROM failed_events \
     WHERE project_id = ? AND failed_id < ? AND (? = '' OR reason = ?) ORDER BY failed_id DESC LIMIT ?"
);
static COUNT_BY_REASON: Statement = statement!(
    "failed_events.count_by_reason",
    "SELECT reason, COUNT(*) FROM failed_events WHERE project_id = ? \
     GROUP BY reason ORDER BY reason LIMIT 100"
);

/// The newest before `before` that have the reason (all of them: `None`), newest first.
pub async fn list_page(
    db: &Db,
    project_id: ProjectId,
    reason: Option<&str>,
    before: BatchId,
    limit: usize,
) -> Result<Vec<FailedEvent>, StorageError> {
    let reason = reason.unwrap_or_default();
    let rows = db.fetch_all(&LIST_PAGE, values![project_id, before, reason, reason, limit]).await?;
    rows.iter().map(|row| failed_of(row, project_id)).collect()
}

/// How many of the project's are kept on one server, by reason.
pub async fn count_by_reason(db: &Db, project_id: ProjectId) -> Result<Vec<(String, u64)>, StorageError> {
    let rows = db.fetch_all(&COUNT_BY_REASON, values![project_id]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.u64(1)?))).collect()
}

fn failed_of(row: &Row, project_id: ProjectId) -> Result<FailedEvent, StorageError> {
    Ok(FailedEvent {
        failed_id: BatchId(row.array(0)?),
        project_id,
        stage: if row.text(1)? == Stage::Seal.name() { Stage::Seal } else { Stage::Collect },
        reason: row.text(2)?,
        detail: row.text(3)?,
        body: row.bytes(4)?.into(),
        failed_at: row.i64(5)?,
    })
}

// Joined with the list, as `journal.delete` is and for the same reason.
static DELETE: Statement = statement!(
    "failed_events.delete",
    mysql: "DELETE failed_events FROM (SELECT * FROM ({rows}) AS listed) AS done STRAIGHT_JOIN failed_events \
            ON failed_events.failed_id = done.failed_id",
    sqlite: "DELETE FROM failed_events WHERE failed_id IN ({rows})",
);

/// Deletes these; how many there were.
pub async fn delete(db: &Db, failed_ids: &[BatchId]) -> Result<u64, StorageError> {
    let mut deleted = 0;
    for some in failed_ids.chunks(IDS_PER_STATEMENT) {
        let binds: Vec<Value> = some.iter().map(|&id| id.into()).collect();
        let rows = DELETE.with_joined_rows("SELECT ? AS failed_id", " UNION ALL ", some.len());
        deleted += db.execute(rows, binds).await?;
    }
    Ok(deleted)
}

static FIND_NTH: Statement = statement!(
    "failed_events.find_nth",
    "SELECT failed_id FROM failed_events WHERE project_id = ? ORDER BY failed_id DESC LIMIT 1 OFFSET ?"
);
static DELETE_OLDER: Statement = statement!(
    "failed_events.delete_older",
    "DELETE FROM failed_events WHERE project_id = ? AND failed_id <= ?"
);

/// Keeps the newest `kept` of a project on one server; how many went.
pub async fn delete_beyond(db: &Db, project_id: ProjectId, kept: usize) -> Result<u64, StorageError> {
    match db.fetch_optional(&FIND_NTH, values![project_id, kept]).await? {
        None => Ok(0),
        Some(row) => {
            let oldest: [u8; 16] = row.array(0)?;
            db.execute(&DELETE_OLDER, values![project_id, oldest]).await
        }
    }
}
