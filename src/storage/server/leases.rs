//! Leases: one worker a shard and task, by the clock of the server that holds the shard.
//!
//! Whoever takes a lease raises its fence; a closing transaction checks, with the row locked, that
//! the fence is still its own, so a worker that slept through its lease changes nothing when it
//! wakes up.

use crate::model::{ReplicaId, ShardNo};
use crate::storage::db::statement;
use crate::storage::{Db, Statement, StorageError, Tx};
use crate::values;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LeaseTask {
    Seal,
    Compact,
}

impl LeaseTask {
    pub fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Compact => "compact",
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
    mysql: "UPDATE shard_leases SET holder = ?, fence = fence + 1, connection_id = CONNECTION_ID(), \
            expires_at = CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) + ? \
            WHERE shard_no = ? AND task = ? AND moved_to IS NULL \
            AND expires_at < CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
    sqlite: "UPDATE shard_leases SET holder = ?, fence = fence + 1, connection_id = NULL, \
             expires_at = CAST(unixepoch('subsec') * 1000 AS INTEGER) + ? \
             WHERE shard_no = ? AND task = ? AND moved_to IS NULL \
             AND expires_at < CAST(unixepoch('subsec') * 1000 AS INTEGER)",
);

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
    let take = || db.execute(&TAKE, values![holder, lease_ms, shard_no, task.name()]);
    let mut taken = take().await?;
    if taken == 0 {
        // The row may never have been made; making it changes nothing when it is there.
        db.execute(&CREATE, values![shard_no, task.name()]).await?;
        taken = take().await?;
    }
    if taken == 0 {
        return Ok(None);
    }
    let row = db.fetch_optional(&READ_FENCE, values![shard_no, task.name(), holder]).await?;
    row.map(|row| Ok(Lease { shard_no, task, holder, fence: row.i64(0)? })).transpose()
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
    "UPDATE shard_leases SET expires_at = 0 WHERE shard_no = ? AND task = ? AND holder = ? AND fence = ?"
);

/// Lets somebody else take it at once.
pub async fn release(db: &Db, lease: &Lease) -> Result<(), StorageError> {
    let binds = values![lease.shard_no, lease.task.name(), lease.holder, lease.fence];
    db.execute(&RELEASE, binds).await?;
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
