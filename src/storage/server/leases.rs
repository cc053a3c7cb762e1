//! Leases: one worker a shard and task, by the clock of the server that holds the shard.
//!
//! Whoever takes a lease raises its fence; a closing transaction checks, with the row locked, that
//! the fence is still its own, so a worker that slept through its lease changes nothing when it
//! wakes up.
//!
//! A holder that freezes inside its closing transaction keeps the row locked for as long as the server
//! believes in its connection. So the number of that connection is written down before the
//! transaction begins ([`enter`]) and taken out by the transaction itself ([`leave`]); whoever finds
//! an expired lease with a number in it ends that connection, and with it the transaction. SQLite
//! knows no connections to end: there the lock goes when its process does.

use std::time::Duration;

use crate::model::{ReplicaId, ShardNo};
use crate::storage::db::statement;
use crate::storage::{Db, Statement, StorageError, Tx, Value};
use crate::values;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LeaseTask {
    Seal,
    Compact,
    /// Of a shard that lives elsewhere: its batches here go home.
    Forward,
}

impl LeaseTask {
    pub fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Compact => "compact",
            Self::Forward => "forward",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    pub shard_no: ShardNo,
    pub task: LeaseTask,
    pub holder: ReplicaId,
    pub fence: i64,
}

static CREATE: Statement = statement!(
    "leases.create",
    mysql: "INSERT INTO shard_leases (shard_no, task, holder, fence, connection_id, expires_at, moved_to, map_version) \
            VALUES (?, ?, NULL, 0, NULL, 0, NULL, 1) ON DUPLICATE KEY UPDATE shard_no = shard_no",
    sqlite: "INSERT INTO shard_leases (shard_no, task, holder, fence, connection_id, expires_at, moved_to, map_version) \
             VALUES (?, ?, NULL, 0, NULL, 0, NULL, 1) ON CONFLICT DO NOTHING",
);

static TAKE: Statement = statement!(
    "leases.take",
    mysql: "UPDATE shard_leases SET holder = ?, fence = fence + 1, connection_id = NULL, \
            expires_at = CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) + ? \
            WHERE shard_no = ? AND task = ? AND moved_to IS NULL \
            AND expires_at < CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
    sqlite: "UPDATE shard_leases SET holder = ?, fence = fence + 1, connection_id = NULL, \
             expires_at = CAST(unixepoch('subsec') * 1000 AS INTEGER) + ? \
             WHERE shard_no = ? AND task = ? AND moved_to IS NULL \
             AND expires_at < CAST(unixepoch('subsec') * 1000 AS INTEGER)",
);

static PEEK: Statement = statement!(
    "leases.peek",
    mysql: "SELECT expires_at < CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED), connection_id \
            FROM shard_leases WHERE shard_no = ? AND task = ?",
    sqlite: "SELECT expires_at < CAST(unixepoch('subsec') * 1000 AS INTEGER), connection_id \
             FROM shard_leases WHERE shard_no = ? AND task = ?",
);

// Only a connection of our own that waits for its client: the number may be another's by now.
static FIND_FROZEN: Statement = statement!(
    "leases.find_frozen",
    mysql: "SELECT command = 'Sleep' FROM information_schema.processlist WHERE id = ? AND db = DATABASE()",
    sqlite: "SELECT ? WHERE 0",
);
static KILL: Statement = statement!("leases.kill", mysql: "KILL ?", sqlite: "SELECT ? WHERE 0");

static READ_FENCE: Statement = statement!(
    "leases.read_fence",
    "SELECT fence FROM shard_leases WHERE shard_no = ? AND task = ? AND holder = ?"
);

/// Takes a lease that nobody holds; `None` when somebody does.
pub async fn find_lease(
    db: &Db,
    shard_no: ShardNo,
    task: LeaseTask,
    holder: ReplicaId,
    lease_ms: u64,
) -> Result<Option<Lease>, StorageError> {
    match db.fetch_optional(&PEEK, values![shard_no, task.name()]).await? {
        // The row may never have been made; making it changes nothing when it is there.
        None => {
            db.execute(&CREATE, values![shard_no, task.name()]).await?;
        }
        Some(row) if !row.bool(0)? => return Ok(None),
        Some(row) => {
            if let Some(connection_id) = row.opt_i64(1)? {
                end_frozen(db, shard_no, connection_id).await?;
            }
        }
    }
    if db.execute(&TAKE, values![holder, lease_ms, shard_no, task.name()]).await? == 0 {
        return Ok(None);
    }
    let row = db.fetch_optional(&READ_FENCE, values![shard_no, task.name(), holder]).await?;
    row.map(|row| Ok(Lease { shard_no, task, holder, fence: row.i64(0)? })).transpose()
}

/// How often a connection that works is looked at again, and how long lies between: the server has
/// answered a statement some time before it calls its connection asleep.
const LOOKS: u32 = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Ends the connection in which a former holder stopped between [`enter`] and [`leave`].
async fn end_frozen(db: &Db, shard_no: ShardNo, connection_id: i64) -> Result<(), StorageError> {
    for look in 0.. {
        match db.fetch_optional(&FIND_FROZEN, values![connection_id]).await? {
            None => return Ok(()),
            Some(row) if row.bool(0)? => break,
            Some(_) if look == LOOKS => return Ok(()),
            Some(_) => tokio::time::sleep(BETWEEN_LOOKS).await,
        }
    }
    match db.execute(&KILL, values![connection_id]).await {
        Ok(_) => tracing::warn!(
            shard.no = shard_no.0,
            connection.id = connection_id,
            "the connection of a holder that did not finish in time was ended"
        ),
        // It has ended by itself meanwhile.
        Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "nothing to end"),
    }
    Ok(())
}

static ENTER: Statement = statement!(
    "leases.enter",
    mysql: "UPDATE shard_leases SET connection_id = CONNECTION_ID(), \
            expires_at = CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) + ? \
            WHERE shard_no = ? AND task = ? AND holder = ? AND fence = ?",
    sqlite: "UPDATE shard_leases SET expires_at = CAST(unixepoch('subsec') * 1000 AS INTEGER) + ? \
             WHERE shard_no = ? AND task = ? AND holder = ? AND fence = ?",
);
static LEAVE: Statement = statement!(
    "leases.leave",
    "UPDATE shard_leases SET connection_id = NULL WHERE shard_no = ? AND task = ? AND holder = ? AND fence = ?"
);

/// What comes before a closing transaction, on its connection and committed by itself: renews the
/// lease and says where the transaction runs. For [`Db::transaction_after`].
pub fn enter(lease: &Lease, lease_ms: u64) -> (&'static Statement, Vec<Value>) {
    (&ENTER, values![lease_ms, lease.shard_no, lease.task.name(), lease.holder, lease.fence])
}

/// The last step of a closing transaction.
pub async fn leave(tx: &mut Tx, lease: &Lease) -> Result<(), StorageError> {
    let binds = values![lease.shard_no, lease.task.name(), lease.holder, lease.fence];
    tx.execute(&LEAVE, binds).await?;
    Ok(())
}

static RENEW: Statement = statement!(
    "leases.renew",
    mysql: "UPDATE shard_leases SET expires_at = CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) + ? \
            WHERE shard_no = ? AND task = ? AND holder = ? AND fence = ?",
    sqlite: "UPDATE shard_leases SET expires_at = CAST(unixepoch('subsec') * 1000 AS INTEGER) + ? \
             WHERE shard_no = ? AND task = ? AND holder = ? AND fence = ?",
);

/// Makes a lease last `lease_ms` from now; false when it is somebody else's by now.
pub async fn renew(db: &Db, lease: &Lease, lease_ms: u64) -> Result<bool, StorageError> {
    let binds = values![lease_ms, lease.shard_no, lease.task.name(), lease.holder, lease.fence];
    Ok(db.execute(&RENEW, binds).await? == 1)
}

static RELEASE: Statement = statement!(
    "leases.release",
    "UPDATE shard_leases SET expires_at = 0, connection_id = NULL \
     WHERE shard_no = ? AND task = ? AND holder = ? AND fence = ?"
);

/// Lets somebody else take it at once.
pub async fn release(db: &Db, lease: &Lease) -> Result<(), StorageError> {
    let binds = values![lease.shard_no, lease.task.name(), lease.holder, lease.fence];
    db.execute(&RELEASE, binds).await?;
    Ok(())
}

static TAKE_AWAY: Statement = statement!(
    "leases.take_away",
    "UPDATE shard_leases SET holder = NULL, fence = fence + 1, connection_id = NULL, expires_at = 0 \
     WHERE shard_no = ? AND task = ?"
);

/// In a transaction: ends the lease of whoever holds it, so that what they do now comes to nothing and
/// whoever takes it next starts with nothing remembered. Nobody closes anything under this lease until
/// the transaction ends.
///
/// Precondition: [`create`] was called.
pub async fn take_away(tx: &mut Tx, shard_no: ShardNo, task: LeaseTask) -> Result<(), StorageError> {
    tx.execute(&TAKE_AWAY, values![shard_no, task.name()]).await?;
    Ok(())
}

/// Makes the row of a lease that nobody has taken yet.
pub async fn create(db: &Db, shard_no: ShardNo, task: LeaseTask) -> Result<(), StorageError> {
    db.execute(&CREATE, values![shard_no, task.name()]).await?;
    Ok(())
}

static LOCK_FENCE: Statement = statement!(
    "leases.lock_fence",
    mysql: "SELECT fence FROM shard_leases WHERE shard_no = ? AND task = ? AND holder = ? FOR UPDATE",
    // BEGIN IMMEDIATE has locked the whole file already.
    sqlite: "SELECT fence FROM shard_leases WHERE shard_no = ? AND task = ? AND holder = ?",
);

/// In a closing transaction: whether the lease is still the caller's, which it then stays until the
/// transaction ends.
pub async fn is_held(tx: &mut Tx, lease: &Lease) -> Result<bool, StorageError> {
    let binds = values![lease.shard_no, lease.task.name(), lease.holder];
    match tx.fetch_optional(&LOCK_FENCE, binds).await? {
        Some(row) => Ok(row.i64(0)? == lease.fence),
        None => Ok(false),
    }
}
