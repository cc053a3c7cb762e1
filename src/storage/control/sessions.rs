//! Sessions of signed-in accounts, and the counters that slow down guessing.

use super::TokenHash;
use crate::model::{AccountId, Millis};
use crate::storage::StorageError;
use crate::storage::db::{Db, Statement, Tx, statement};
use crate::values;

/// Expired rows deleted in one statement.
const EXPIRED_DELETED_MAX: u32 = 1_000;

/// A session with what pages need to know about its account.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionRow {
    pub account_id: AccountId,
    pub email: String,
    pub is_admin: bool,
    pub csrf_token: [u8; 32],
    pub created_at: Millis,
    pub seen_at: Millis,
    /// The end whatever happens; being idle ends a session earlier.
    pub expires_at: Millis,
}

#[derive(Clone)]
pub struct InsertSession {
    pub token_hash: TokenHash,
    pub account_id: AccountId,
    pub csrf_token: [u8; 32],
    pub created_at: Millis,
    pub expires_at: Millis,
}

static INSERT: Statement = statement!(
    "sessions.insert",
    "INSERT INTO sessions (token_hash, account_id, csrf_token, created_at, seen_at, expires_at) \
     VALUES (?, ?, ?, ?, ?, ?)"
);
static FIND: Statement = statement!(
    "sessions.find",
    "SELECT s.account_id, a.email, a.is_admin, s.csrf_token, s.created_at, s.seen_at, s.expires_at \
     FROM sessions s JOIN accounts a ON a.account_id = s.account_id \
     WHERE s.token_hash = ? AND a.disabled_at IS NULL"
);
static TOUCH: Statement =
    statement!("sessions.touch", "UPDATE sessions SET seen_at = ? WHERE token_hash = ? AND seen_at < ?");
static DELETE: Statement = statement!("sessions.delete", "DELETE FROM sessions WHERE token_hash = ?");
static DELETE_OF_ACCOUNT: Statement =
    statement!("sessions.delete_of_account", "DELETE FROM sessions WHERE account_id = ?");
static DELETE_EXPIRED: Statement = statement!(
    "sessions.delete_expired",
    mysql: "DELETE FROM sessions WHERE expires_at < ? LIMIT ?",
    sqlite: "DELETE FROM sessions WHERE token_hash IN \
             (SELECT token_hash FROM sessions WHERE expires_at < ? LIMIT ?)",
);

pub async fn create_session(db: &Db, session: InsertSession) -> Result<(), StorageError> {
    let InsertSession { token_hash, account_id, csrf_token, created_at, expires_at } = session;
    let binds = values![token_hash, account_id, csrf_token, created_at, created_at, expires_at];
    db.execute(&INSERT, binds).await?;
    Ok(())
}

/// Also a session that has expired: the caller holds the clock.
pub async fn find_session(db: &Db, token_hash: &TokenHash) -> Result<Option<SessionRow>, StorageError> {
    let Some(row) = db.fetch_optional(&FIND, values![*token_hash]).await? else { return Ok(None) };
    Ok(Some(SessionRow {
        account_id: AccountId(row.u64(0)?),
        email: row.text(1)?,
        is_admin: row.bool(2)?,
        csrf_token: row.array(3)?,
        created_at: row.i64(4)?,
        seen_at: row.i64(5)?,
        expires_at: row.i64(6)?,
    }))
}

/// Notes that the session was used; never moves `seen_at` back.
pub async fn touch_session(db: &Db, token_hash: &TokenHash, now: Millis) -> Result<(), StorageError> {
    db.execute(&TOUCH, values![now, *token_hash, now]).await?;
    Ok(())
}

pub async fn delete_session(db: &Db, token_hash: &TokenHash) -> Result<(), StorageError> {
    db.execute(&DELETE, values![*token_hash]).await?;
    Ok(())
}

pub async fn delete_sessions_of(db: &Db, account_id: AccountId) -> Result<u64, StorageError> {
    db.execute(&DELETE_OF_ACCOUNT, values![account_id]).await
}

pub async fn delete_expired_sessions(db: &Db, now: Millis) -> Result<u64, StorageError> {
    db.execute(&DELETE_EXPIRED, values![now, EXPIRED_DELETED_MAX]).await
}

/// How many failures a subject may have before it has to wait.
#[derive(Clone, Copy, Debug)]
pub struct ThrottleLimit {
    pub failures_max: u32,
    pub window_ms: Millis,
    pub block_ms: Millis,
}

static FIND_FAILURES: Statement =
    statement!("login_failures.find", "SELECT failures, blocked_until FROM login_failures WHERE subject = ?");
// A window is over when it is old or when its block has ended; the next attempt opens a new one.
static END_WINDOW: Statement = statement!(
    "login_failures.end_window",
    "UPDATE login_failures SET failures = 0, window_started_at = ?, blocked_until = 0 \
     WHERE subject = ? AND (window_started_at <= ? OR (blocked_until > 0 AND blocked_until <= ?))"
);
static COUNT_FAILURE: Statement = statement!(
    "login_failures.count",
    mysql: "INSERT INTO login_failures (subject, failures, window_started_at, blocked_until) \
            VALUES (?, 1, ?, 0) ON DUPLICATE KEY UPDATE failures = failures + 1",
    sqlite: "INSERT INTO login_failures (subject, failures, window_started_at, blocked_until) \
             VALUES (?, 1, ?, 0) ON CONFLICT (subject) DO UPDATE SET failures = failures + 1",
);
static BLOCK: Statement = statement!(
    "login_failures.block",
    "UPDATE login_failures SET blocked_until = ? \
     WHERE subject = ? AND failures >= ? AND blocked_until = 0"
);
static FORGIVE_FAILURE: Statement = statement!(
    "login_failures.forgive",
    "UPDATE login_failures SET failures = failures - 1 WHERE subject = ? AND failures > 0"
);
static CLEAR_FAILURES: Statement =
    statement!("login_failures.clear", "DELETE FROM login_failures WHERE subject = ?");
static DELETE_OLD_FAILURES: Statement = statement!(
    "login_failures.delete_old",
    mysql: "DELETE FROM login_failures WHERE window_started_at < ? AND blocked_until < ? LIMIT ?",
    sqlite: "DELETE FROM login_failures WHERE subject IN (SELECT subject FROM login_failures \
             WHERE window_started_at < ? AND blocked_until < ? LIMIT ?)",
);

/// Counts an attempt as failed before it is judged, so that attempts made together cannot all pass.
/// Gives the time until which the subject is blocked when this attempt must not be judged at all.
pub async fn count_attempt(
    db: &Db,
    subject: TokenHash,
    limit: ThrottleLimit,
    now: Millis,
) -> Result<Option<Millis>, StorageError> {
    db.transaction(move |tx| {
        Box::pin(async move {
            tx.execute(&END_WINDOW, values![now, subject, now - limit.window_ms, now]).await?;
            if let Some((_, blocked_until)) = find_failures(tx, subject).await?
                && blocked_until > now
            {
                return Ok(Some(blocked_until));
            }
            tx.execute(&COUNT_FAILURE, values![subject, now]).await?;
            let block = values![now + limit.block_ms, subject, limit.failures_max];
            tx.execute(&BLOCK, block).await?;
            // The attempt that reaches the limit is still judged; those counted after it are not.
            let counted = find_failures(tx, subject).await?;
            Ok(counted.filter(|(failures, _)| *failures > limit.failures_max).map(|(_, until)| until))
        })
    })
    .await
}

async fn find_failures(tx: &mut Tx, subject: TokenHash) -> Result<Option<(u32, Millis)>, StorageError> {
    let row = tx.fetch_optional(&FIND_FAILURES, values![subject]).await?;
    row.map(|row| Ok((row.u32(0)?, row.i64(1)?))).transpose()
}

/// Takes back one counted attempt that turned out to be right.
pub async fn forgive_failure(db: &Db, subject: &TokenHash) -> Result<(), StorageError> {
    db.execute(&FORGIVE_FAILURE, values![*subject]).await?;
    Ok(())
}

pub async fn clear_failures(db: &Db, subject: &TokenHash) -> Result<(), StorageError> {
    db.execute(&CLEAR_FAILURES, values![*subject]).await?;
    Ok(())
}

/// Removes counters whose window began and whose block ended before `before`.
pub async fn delete_old_failures(db: &Db, before: Millis) -> Result<u64, StorageError> {
    db.execute(&DELETE_OLD_FAILURES, values![before, before, EXPIRED_DELETED_MAX]).await
}
