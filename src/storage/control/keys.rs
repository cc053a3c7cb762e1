//! A project's keys. Found by hash only; a write key, which is public, is also kept as it is.

use super::TokenHash;
use super::projects::{self, Project};
use crate::model::{AccountId, KeyId, KeyKind, Millis, ProjectId};
use crate::storage::StorageError;
use crate::storage::db::{Db, Read, Reads, Row, Statement, Tx, statement};
use crate::values;

/// A project with more keys than this shows the newest.
const KEYS_LISTED_MAX: u32 = 500;

#[derive(Clone, Debug)]
pub struct InsertKey {
    pub kind: KeyKind,
    pub key_hash: TokenHash,
    /// What pages may show: a whole write key, the end of a secret one.
    pub shown: String,
    pub name: String,
    pub created_by: Option<AccountId>,
    pub created_at: Millis,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProjectKey {
    pub key_id: KeyId,
    pub project_id: ProjectId,
    pub kind: KeyKind,
    pub shown: String,
    pub name: String,
    pub created_at: Millis,
    pub revoked_at: Option<Millis>,
}

/// What a key that is not revoked leads to: enough to route an event without another look-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ActiveKey {
    pub key_id: KeyId,
    pub project_id: ProjectId,
    pub kind: KeyKind,
    pub span: u16,
}

static INSERT: Statement = statement!(
    "project_keys.insert",
    "INSERT INTO project_keys (project_id, kind, key_hash, shown, name, created_by, created_at) \
     VALUES (?, ?, ?, ?, ?, ?, ?)"
);
static FIND_ACTIVE: Statement = statement!(
    "project_keys.find_active",
    "SELECT k.key_id, k.project_id, k.kind, p.span, k.key_hash FROM project_keys k \
     JOIN projects p ON p.project_id = k.project_id \
     WHERE k.key_hash = ? AND k.revoked_at IS NULL AND p.archived_at IS NULL"
);
static FIND_WITH_PROJECT: Statement = statement!(
    "project_keys.find_with_project",
    "SELECT p.project_id, p.name, p.time_zone, p.span, p.created_at, p.retention_days, p.erasure_epoch, \
     k.key_id FROM project_keys k JOIN projects p ON p.project_id = k.project_id \
     WHERE k.key_hash = ? AND k.kind = ? AND k.revoked_at IS NULL AND p.archived_at IS NULL"
);
static LIST_ACTIVE: Statement = statement!(
    "project_keys.list_active",
    "SELECT k.key_id, k.project_id, k.kind, p.span, k.key_hash FROM project_keys k \
     JOIN projects p ON p.project_id = k.project_id \
     WHERE k.key_id > ? AND k.kind = ? AND k.revoked_at IS NULL AND p.archived_at IS NULL \
     ORDER BY k.key_id LIMIT ?"
);
static LIST: Statement = statement!(
    "project_keys.list",
    "SELECT key_id, project_id, kind, shown, name, created_at, revoked_at FROM project_keys \
     WHERE project_id = ? ORDER BY key_id DESC LIMIT ?"
);
static REVOKE: Statement = statement!(
    "project_keys.revoke",
    "UPDATE project_keys SET revoked_at = ? WHERE project_id = ? AND key_id = ? AND revoked_at IS NULL"
);

pub async fn create_key(db: &Db, project_id: ProjectId, key: InsertKey) -> Result<KeyId, StorageError> {
    db.transaction(move |tx| {
        let key = key.clone();
        Box::pin(async move { insert_key(tx, project_id, key).await })
    })
    .await
}

/// The same inside a transaction that does more.
pub async fn insert_key(tx: &mut Tx, project_id: ProjectId, key: InsertKey) -> Result<KeyId, StorageError> {
    let InsertKey { kind, key_hash, shown, name, created_by, created_at } = key;
    let binds = values![project_id, kind.as_str(), key_hash, shown, name, created_by, created_at];
    Ok(KeyId(tx.insert(&INSERT, binds).await?))
}

/// The key with this hash, unless it or its project is gone.
pub async fn find_active_key(db: &Db, key_hash: &TokenHash) -> Result<Option<ActiveKey>, StorageError> {
    let row = db.fetch_optional(&FIND_ACTIVE, values![*key_hash]).await?;
    row.map(|row| active_of(&row)).transpose()
}

/// The key of this kind with this hash and its project, unless one of them is gone. As one message, without the
/// preparing that a statement takes on each of many connections: a caller waits for it.
pub async fn find_key_with_project(
    db: &Db,
    kind: KeyKind,
    key_hash: &TokenHash,
) -> Result<Option<(KeyId, Project)>, StorageError> {
    let found = |rows: &[Row]| {
        rows.first().map(|row| Ok((KeyId(row.u64(7)?), projects::project_of(row)?))).transpose()
    };
    let mut reads = Reads::default();
    let place = reads.add(Read::new(&FIND_WITH_PROJECT, values![*key_hash, kind.as_str()], found));
    db.read_in_order(reads).await?.get(place)
}

/// Active keys of a kind in order of their ids, `limit` of those after `after`: how a replica
/// refreshes all that it knows.
pub async fn list_active_keys(
    db: &Db,
    kind: KeyKind,
    after: KeyId,
    limit: u32,
) -> Result<Vec<(TokenHash, ActiveKey)>, StorageError> {
    let rows = db.fetch_all(&LIST_ACTIVE, values![after, kind.as_str(), limit]).await?;
    rows.iter().map(|row| Ok((row.array(4)?, active_of(row)?))).collect()
}

/// A project's keys, the newest first, revoked ones too.
pub async fn list_keys(db: &Db, project_id: ProjectId) -> Result<Vec<ProjectKey>, StorageError> {
    db.fetch_all(&LIST, values![project_id, KEYS_LISTED_MAX]).await?.iter().map(key_of).collect()
}

/// The same inside a transaction that does more.
pub async fn list_keys_in(tx: &mut Tx, project_id: ProjectId) -> Result<Vec<ProjectKey>, StorageError> {
    tx.fetch_all(&LIST, values![project_id, KEYS_LISTED_MAX]).await?.iter().map(key_of).collect()
}

/// Whether there was such a key and it was still active.
pub async fn revoke_key(
    db: &Db,
    project_id: ProjectId,
    key_id: KeyId,
    now: Millis,
) -> Result<bool, StorageError> {
    Ok(db.execute(&REVOKE, values![now, project_id, key_id]).await? > 0)
}

fn kind_of(row: &Row) -> Result<KeyKind, StorageError> {
    let text = row.text(2)?;
    KeyKind::parse(&text).ok_or_else(|| StorageError::corrupt("project_keys", "kind", text))
}

fn active_of(row: &Row) -> Result<ActiveKey, StorageError> {
    Ok(ActiveKey {
        key_id: KeyId(row.u64(0)?),
        project_id: ProjectId(row.u32(1)?),
        kind: kind_of(row)?,
        span: row.u16(3)?,
    })
}

fn key_of(row: &Row) -> Result<ProjectKey, StorageError> {
    Ok(ProjectKey {
        key_id: KeyId(row.u64(0)?),
        project_id: ProjectId(row.u32(1)?),
        kind: kind_of(row)?,
        shown: row.text(3)?,
        name: row.text(4)?,
        created_at: row.i64(5)?,
        revoked_at: row.opt_i64(6)?,
    })
}
