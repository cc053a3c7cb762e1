//! The journal: batches between their commit and their sealing.
//!
//! Collection inserts, the sealer lists, reads and deletes exactly what it read. Ids are ordered by
//! the time of the app that made them, so a smaller id may still appear after a larger one was
//! seen: nothing here deletes by range.

use std::sync::LazyLock;

use crate::model::{BatchId, Millis, ShardNo};
use crate::storage::batch::EncodedBatch;
use crate::storage::db::statement;
use crate::storage::{Db, Read, Row, Sql, Statement, StorageError, Tx, Value};
use crate::values;

/// Rows of one [`insert`]: each count is a prepared statement of its own, and these few fit beside
/// all others in every connection's cache.
pub const INSERT_ROWS_MAX: usize = 32;

/// Bytes of the bodies of one [`insert`]: far below `max_allowed_packet` (16 MiB by default), beyond
/// which the server closes the connection and looks as if it were away.
pub const INSERT_BYTES_MAX: usize = 4 << 20;

/// Ids in one statement. SQLite takes at most 500 parts of a compound SELECT.
const IDS_PER_STATEMENT: usize = 200;

/// A batch on its way in.
#[derive(Clone, Debug)]
pub struct NewBatch {
    pub shard_no: ShardNo,
    pub batch_id: BatchId,
    pub batch: EncodedBatch,
}

/// A batch in the journal, without its body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalEntry {
    pub batch_id: BatchId,
    pub events: u32,
    /// Size of the content once inflated.
    pub inflated_bytes: u32,
    /// By the clock of the server that holds it.
    pub inserted_at: Millis,
}

/// A batch in the journal. Its body is read by [`crate::storage::batch::BatchDecoder`].
#[derive(Clone, Debug)]
pub struct JournalBatch {
    pub entry: JournalEntry,
    pub body: Vec<u8>,
}

/// What waits for the sealer in one shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalBacklog {
    pub shard_no: ShardNo,
    pub batches: u64,
    pub events: u64,
    pub oldest_inserted_at: Millis,
    pub inflated_bytes: u64,
}

/// The same statement for 1 to [`INSERT_ROWS_MAX`] rows, each worth keeping prepared: this is the
/// one statement every event waits for.
static INSERT: LazyLock<Vec<Statement>> = LazyLock::new(|| {
    let kept = |text: String| -> &'static str { text.leak() };
    let columns = "INSERT INTO journal (shard_no, batch_id, events, bytes, inserted_at, body) VALUES ";
    (1..=INSERT_ROWS_MAX)
        .map(|count| {
            let rows = |now: &str| vec![format!("(?, ?, ?, ?, {now}, ?)"); count].join(", ");
            let mysql = rows("CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)");
            let sqlite = rows("CAST(unixepoch('subsec') * 1000 AS INTEGER)");
            Statement {
                name: "journal.insert",
                // A batch that is already there stays as it is. Not INSERT IGNORE, which would also
                // swallow a body cut short.
                mysql: kept(format!(
                    "/* journal.insert */ {columns}{mysql} ON DUPLICATE KEY UPDATE shard_no = VALUES(shard_no)"
                )),
                sqlite: kept(format!("/* journal.insert */ {columns}{sqlite} ON CONFLICT DO NOTHING")),
            }
        })
        .collect()
});

/// Commits batches in one autocommit statement; again with the same ids changes nothing.
///
/// Precondition: 1 to [`INSERT_ROWS_MAX`] batches of [`INSERT_BYTES_MAX`] in all.
pub async fn insert(db: &Db, batches: Vec<NewBatch>) -> Result<(), StorageError> {
    debug_assert!((1..=INSERT_ROWS_MAX).contains(&batches.len()));
    let statement = &INSERT[batches.len() - 1];
    let mut binds = Vec::with_capacity(batches.len() * 5);
    for NewBatch { shard_no, batch_id, batch } in batches {
        binds.extend(values![shard_no, batch_id, batch.events, batch.inflated_bytes, batch.body]);
    }
    db.execute(statement, binds).await?;
    Ok(())
}

static NOW: Statement = statement!(
    "journal.now",
    mysql: "SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
    sqlite: "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)",
);

/// The clock that `inserted_at` is taken from.
pub async fn database_now(db: &Db) -> Result<Millis, StorageError> {
    match db.fetch_optional(&NOW, vec![]).await? {
        Some(row) => row.i64(0),
        None => Err(StorageError::corrupt("journal", "now", "the server does not tell its time")),
    }
}

static INSERT_FORWARDED: Statement = statement!(
    "journal.insert_forwarded",
    mysql: "INSERT INTO journal (shard_no, batch_id, events, bytes, inserted_at, body) VALUES {rows} \
            ON DUPLICATE KEY UPDATE shard_no = VALUES(shard_no)",
    sqlite: "INSERT INTO journal (shard_no, batch_id, events, bytes, inserted_at, body) VALUES {rows} \
             ON CONFLICT DO NOTHING",
);

/// Commits batches of one shard as another server's journal had them, the time of their first insert
/// included: whoever waits for what was committed until then still waits for them.
///
/// Precondition: 1 to [`INSERT_ROWS_MAX`] batches of [`INSERT_BYTES_MAX`] in all, or one.
pub async fn insert_forwarded(
    db: &Db,
    shard_no: ShardNo,
    batches: &[JournalBatch],
) -> Result<(), StorageError> {
    debug_assert!((1..=INSERT_ROWS_MAX).contains(&batches.len()));
    let (sql, binds) = insert_forwarded_sql(shard_no, batches);
    db.execute(sql, binds).await?;
    Ok(())
}

/// The same in a transaction, for any number of batches of at most [`INSERT_BYTES_MAX`] each: they are
/// there when what they replace is gone.
pub async fn insert_forwarded_in(
    tx: &mut Tx,
    shard_no: ShardNo,
    batches: &[JournalBatch],
) -> Result<(), StorageError> {
    let mut rest = batches;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().take(INSERT_ROWS_MAX).take_while(|batch| {
            let is_first = bytes == 0;
            bytes += batch.body.len();
            is_first || bytes <= INSERT_BYTES_MAX
        });
        let (some, later) = rest.split_at(fitting.count());
        let (sql, binds) = insert_forwarded_sql(shard_no, some);
        tx.execute(sql, binds).await?;
        rest = later;
    }
    Ok(())
}

fn insert_forwarded_sql(shard_no: ShardNo, batches: &[JournalBatch]) -> (Sql, Vec<Value>) {
    let mut binds = Vec::with_capacity(batches.len() * 6);
    for JournalBatch { entry, body } in batches {
        let JournalEntry { batch_id, events, inflated_bytes, inserted_at } = *entry;
        binds.extend(values![shard_no, batch_id, events, inflated_bytes, inserted_at, body.clone()]);
    }
    (INSERT_FORWARDED.with_rows("(?, ?, ?, ?, ?, ?)", batches.len()), binds)
}

static LIST_SHARDS: Statement =
    statement!("journal.list_shards", "SELECT DISTINCT shard_no FROM journal ORDER BY shard_no LIMIT 65536");

/// The shards that have batches here, wherever they live.
pub async fn list_shards(db: &Db) -> Result<Vec<ShardNo>, StorageError> {
    let rows = db.fetch_all(&LIST_SHARDS, vec![]).await?;
    rows.iter().map(|row| row.u16(0).map(ShardNo)).collect()
}

static LIST_OLDEST: Statement = statement!(
    "journal.list_oldest",
    // By the other index all that waits would be read and sorted.
    mysql: "SELECT batch_id, events, bytes, inserted_at FROM journal FORCE INDEX (PRIMARY) \
            WHERE shard_no = ? ORDER BY batch_id LIMIT ?",
    sqlite: "SELECT batch_id, events, bytes, inserted_at FROM journal \
             WHERE shard_no = ? ORDER BY batch_id LIMIT ?",
);

/// The batches of a shard, oldest id first.
pub async fn list_oldest(
    db: &Db,
    shard_no: ShardNo,
    limit: usize,
) -> Result<Vec<JournalEntry>, StorageError> {
    let rows = db.fetch_all(&LIST_OLDEST, values![shard_no, limit]).await?;
    rows.iter().map(entry).collect()
}

static LIST_LATEST: Statement = statement!(
    "journal.list_latest",
    "SELECT batch_id, events, bytes, inserted_at, body FROM journal \
     WHERE shard_no = ? ORDER BY batch_id DESC LIMIT ?"
);

/// The newest batches of a shard, newest first: what the live page looks at.
pub async fn list_latest(
    db: &Db,
    shard_no: ShardNo,
    limit: usize,
) -> Result<Vec<JournalBatch>, StorageError> {
    let rows = db.fetch_all(&LIST_LATEST, values![shard_no, limit]).await?;
    rows.iter().map(batch).collect()
}

/// The same together with other reads.
pub fn read_latest(shard_no: ShardNo, limit: usize) -> Read<Vec<JournalBatch>> {
    Read::new(&LIST_LATEST, values![shard_no, limit], |rows| rows.iter().map(batch).collect())
}

static READ: Statement = statement!(
    "journal.read",
    "SELECT batch_id, events, bytes, inserted_at, body FROM journal \
     WHERE shard_no = ? AND batch_id IN ({rows})"
);

/// The named batches, in order of their ids. One that is gone is not an error here: the delete of
/// the closing transaction counts.
pub async fn read(
    db: &Db,
    shard_no: ShardNo,
    batch_ids: &[BatchId],
) -> Result<Vec<JournalBatch>, StorageError> {
    let mut batches = Vec::with_capacity(batch_ids.len());
    for ids in batch_ids.chunks(IDS_PER_STATEMENT) {
        let mut binds = values![shard_no];
        binds.extend(ids.iter().map(|&id| Value::from(id)));
        let rows = db.fetch_all(READ.with_rows("?", ids.len()), binds).await?;
        for row in &rows {
            batches.push(batch(row)?);
        }
    }
    batches.sort_unstable_by_key(|batch| batch.entry.batch_id);
    Ok(batches)
}

// Joined with the list of ids, never `IN (…)`: from about a hundred ids on, MariaDB scans the table for
// an IN in a DELETE and waits behind every insert that is still open. STRAIGHT_JOIN keeps the list
// in front, and no other index may be chosen, so that each id is one look-up by the primary key.
static DELETE: Statement = statement!(
    "journal.delete",
    mysql: "DELETE journal FROM (SELECT * FROM ({rows}) AS listed) AS done STRAIGHT_JOIN journal \
            FORCE INDEX (PRIMARY) ON journal.shard_no = ? AND journal.batch_id = done.batch_id",
    sqlite: "DELETE FROM journal WHERE batch_id IN ({rows}) AND shard_no = ?",
);

/// Deletes exactly these batches; how many were there. The sealer requires all of them.
pub async fn delete(tx: &mut Tx, shard_no: ShardNo, batch_ids: &[BatchId]) -> Result<u64, StorageError> {
    let mut deleted = 0;
    for ids in batch_ids.chunks(IDS_PER_STATEMENT) {
        let mut binds: Vec<Value> = ids.iter().map(|&id| id.into()).collect();
        binds.push(shard_no.into());
        let one = "SELECT ? AS batch_id";
        deleted += tx.execute(DELETE.with_joined_rows(one, " UNION ALL ", ids.len()), binds).await?;
    }
    Ok(deleted)
}

static LIST_WAITING: Statement = statement!(
    "journal.list_waiting",
    "SELECT shard_no, MIN(inserted_at) FROM journal GROUP BY shard_no ORDER BY shard_no LIMIT 65536"
);

/// The shards that have batches here, wherever they live, each with the time of its oldest insert. On
/// MySQL it costs the same however much waits; no body is read on either.
pub async fn list_waiting(db: &Db) -> Result<Vec<(ShardNo, Millis)>, StorageError> {
    waiting(&db.fetch_all(&LIST_WAITING, vec![]).await?)
}

/// The same together with other reads.
pub fn read_waiting() -> Read<Vec<(ShardNo, Millis)>> {
    Read::new(&LIST_WAITING, vec![], waiting)
}

fn waiting(rows: &[Row]) -> Result<Vec<(ShardNo, Millis)>, StorageError> {
    rows.iter().map(|row| Ok((ShardNo(row.u16(0)?), row.i64(1)?))).collect()
}

static BACKLOG: Statement = statement!(
    "journal.backlog",
    "SELECT shard_no, COUNT(*), CAST(SUM(events) AS SIGNED), MIN(inserted_at), CAST(SUM(bytes) AS SIGNED) \
     FROM journal GROUP BY shard_no ORDER BY shard_no LIMIT 65536"
);

/// What waits on one server, by shard. Counts every batch: for those who want to know how many.
pub async fn backlog(db: &Db) -> Result<Vec<JournalBacklog>, StorageError> {
    let rows = db.fetch_all(&BACKLOG, vec![]).await?;
    rows.iter()
        .map(|row| {
            Ok(JournalBacklog {
                shard_no: ShardNo(row.u16(0)?),
                batches: row.u64(1)?,
                events: row.u64(2)?,
                oldest_inserted_at: row.i64(3)?,
                inflated_bytes: row.u64(4)?,
            })
        })
        .collect()
}

fn entry(row: &Row) -> Result<JournalEntry, StorageError> {
    Ok(JournalEntry {
        batch_id: BatchId(row.array(0)?),
        events: row.u32(1)?,
        inflated_bytes: row.u32(2)?,
        inserted_at: row.i64(3)?,
    })
}

fn batch(row: &Row) -> Result<JournalBatch, StorageError> {
    Ok(JournalBatch { entry: entry(row)?, body: row.bytes(4)? })
}
