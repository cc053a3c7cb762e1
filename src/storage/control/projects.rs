//! Projects and who is a member of which.

use super::keys::{self, InsertKey};
use crate::model::{AccountId, Millis, ProjectId, Role, kept_from};
use crate::storage::db::{Db, Row, Statement, Tx, statement};
use crate::storage::{StorageError, Value};
use crate::values;

/// More projects than one installation's switcher or list could show.
pub const PROJECTS_LISTED_MAX: u32 = 1_000;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Project {
    pub project_id: ProjectId,
    pub name: String,
    /// An IANA name that was valid when it was stored.
    pub time_zone: String,
    /// Over how many shards the project's persons are spread, 1 up to the number of shards.
    pub span: u16,
    pub created_at: Millis,
    /// For how many days events are kept; `None`: for ever.
    pub retention_days: Option<u32>,
    /// Raised by every erasure, once all shards mask the person.
    pub erasure_epoch: i64,
}

impl Project {
    /// The first instant that is kept; `None`: all are.
    pub fn kept_from(&self, now: Millis) -> Option<Millis> {
        self.retention_days.map(|days| kept_from(days, now))
    }
}

#[derive(Clone, Debug)]
pub struct InsertProject {
    pub name: String,
    pub time_zone: String,
    pub span: u16,
    /// Becomes the first owner. Without one, only administrators see the project.
    pub owner: Option<AccountId>,
    pub keys: Vec<InsertKey>,
    pub created_at: Millis,
}

#[cfg(test)]
impl InsertProject {
    /// Of nobody and without keys.
    pub fn over(span: u16) -> Self {
        Self {
            name: "p".to_owned(),
            time_zone: "UTC".to_owned(),
            span,
            owner: None,
            keys: Vec::new(),
            created_at: 1,
        }
    }
}

static INSERT: Statement = statement!(
    "projects.insert",
    "INSERT INTO projects (name, time_zone, span, created_at) VALUES (?, ?, ?, ?)"
);
static UPDATE: Statement = statement!(
    "projects.update",
    "UPDATE projects SET name = ?, time_zone = ? WHERE project_id = ? AND archived_at IS NULL"
);
static FIND: Statement = statement!(
    "projects.find",
    "SELECT project_id, name, time_zone, span, created_at, retention_days, erasure_epoch FROM projects \
     WHERE project_id = ? AND archived_at IS NULL"
);
static LIST: Statement = statement!(
    "projects.list",
    "SELECT project_id, name, time_zone, span, created_at, retention_days, erasure_epoch FROM projects \
     WHERE archived_at IS NULL ORDER BY project_id LIMIT ?"
);
static LIST_OF_ACCOUNT: Statement = statement!(
    "projects.list_of_account",
    "SELECT p.project_id, p.name, p.time_zone, p.span, p.created_at, p.retention_days, \
     p.erasure_epoch, m.role FROM memberships m \
     JOIN projects p ON p.project_id = m.project_id \
     WHERE m.account_id = ? AND p.archived_at IS NULL ORDER BY p.project_id LIMIT ?"
);
static FIND_ROLE: Statement = statement!(
    "memberships.find_role",
    "SELECT role FROM memberships WHERE account_id = ? AND project_id = ?"
);
static SET_ROLE: Statement = statement!(
    "memberships.set_role",
    mysql: "INSERT INTO memberships (account_id, project_id, role, created_at) VALUES (?, ?, ?, ?) \
            ON DUPLICATE KEY UPDATE role = VALUES(role)",
    sqlite: "INSERT INTO memberships (account_id, project_id, role, created_at) VALUES (?, ?, ?, ?) \
             ON CONFLICT (account_id, project_id) DO UPDATE SET role = excluded.role",
);

/// Creates the project with its keys and its owner, all or nothing.
pub async fn create_project(db: &Db, project: InsertProject) -> Result<ProjectId, StorageError> {
    db.transaction(move |tx| {
        let project = project.clone();
        Box::pin(async move { insert_project(tx, project).await })
    })
    .await
}

/// The same inside a transaction that does more.
pub async fn insert_project(tx: &mut Tx, project: InsertProject) -> Result<ProjectId, StorageError> {
    let InsertProject { name, time_zone, span, owner, keys, created_at } = project;
    let key = tx.insert(&INSERT, values![name, time_zone, span, created_at]).await?;
    let project_id = u32::try_from(key)
        .map(ProjectId)
        .map_err(|_| StorageError::corrupt("projects", "project_id", "more than 32 bits"))?;
    for key in keys {
        keys::insert_key(tx, project_id, key).await?;
    }
    if let Some(owner) = owner {
        tx.execute(&SET_ROLE, role_values(owner, project_id, Role::Owner, created_at)).await?;
    }
    Ok(project_id)
}

/// Whether there was such a project.
pub async fn update_project(
    db: &Db,
    project_id: ProjectId,
    name: &str,
    time_zone: &str,
) -> Result<bool, StorageError> {
    Ok(db.execute(&UPDATE, values![name, time_zone, project_id]).await? > 0)
}

static SET_RETENTION: Statement = statement!(
    "projects.set_retention",
    "UPDATE projects SET retention_days = ? WHERE project_id = ? AND archived_at IS NULL"
);

/// For how many days events are kept from now on; `None`: for ever.
pub async fn set_retention(db: &Db, project_id: ProjectId, days: Option<u32>) -> Result<(), StorageError> {
    db.execute(&SET_RETENTION, values![days.map(i64::from), project_id]).await?;
    Ok(())
}

static LIST_RETENTIONS: Statement = statement!(
    "projects.list_retentions",
    "SELECT project_id, retention_days FROM projects WHERE retention_days IS NOT NULL \
     ORDER BY project_id LIMIT 1000000"
);

/// The projects that do not keep their events for ever.
pub async fn list_retentions(db: &Db) -> Result<Vec<(ProjectId, u32)>, StorageError> {
    let rows = db.fetch_all(&LIST_RETENTIONS, vec![]).await?;
    rows.iter().map(|row| Ok((ProjectId(row.u32(0)?), row.u32(1)?))).collect()
}

static RAISE_ERASURE_EPOCH: Statement = statement!(
    "projects.raise_erasure_epoch",
    "UPDATE projects SET erasure_epoch = erasure_epoch + 1 WHERE project_id = ?"
);
static SUM_ERASURE_EPOCHS: Statement = statement!(
    "projects.sum_erasure_epochs",
    "SELECT CAST(COALESCE(SUM(erasure_epoch), 0) AS SIGNED) FROM projects"
);

/// Tells all replicas that something they may have in memory is not to be there any more, and keeps tickets out
/// whose runs began before (`control/tickets/unless_changed.rs`).
pub async fn raise_erasure_epoch(db: &Db, project_id: ProjectId) -> Result<(), StorageError> {
    db.execute(&RAISE_ERASURE_EPOCH, values![project_id]).await?;
    Ok(())
}

/// Rises whenever that of any project does.
pub async fn sum_erasure_epochs(db: &Db) -> Result<i64, StorageError> {
    db.fetch_optional(&SUM_ERASURE_EPOCHS, vec![]).await?.map_or(Ok(0), |row| row.i64(0))
}

pub async fn find_project(db: &Db, project_id: ProjectId) -> Result<Option<Project>, StorageError> {
    db.fetch_optional(&FIND, values![project_id]).await?.as_ref().map(project_of).transpose()
}

/// The oldest `limit` projects.
pub async fn list_projects(db: &Db, limit: u32) -> Result<Vec<Project>, StorageError> {
    db.fetch_all(&LIST, values![limit]).await?.iter().map(project_of).collect()
}

/// The oldest project, read inside a transaction.
pub async fn find_first_project(tx: &mut Tx) -> Result<Option<Project>, StorageError> {
    tx.fetch_optional(&LIST, values![1_u32]).await?.as_ref().map(project_of).transpose()
}

pub async fn list_projects_of(db: &Db, account_id: AccountId) -> Result<Vec<(Project, Role)>, StorageError> {
    let rows = db.fetch_all(&LIST_OF_ACCOUNT, values![account_id, PROJECTS_LISTED_MAX]).await?;
    rows.iter().map(|row| Ok((project_of(row)?, role_of(row, 7)?))).collect()
}

pub async fn find_role(
    db: &Db,
    account_id: AccountId,
    project_id: ProjectId,
) -> Result<Option<Role>, StorageError> {
    let row = db.fetch_optional(&FIND_ROLE, values![account_id, project_id]).await?;
    row.map(|row| role_of(&row, 0)).transpose()
}

/// Makes the account a member, or changes the role it has.
pub async fn set_role(
    db: &Db,
    account_id: AccountId,
    project_id: ProjectId,
    role: Role,
    now: Millis,
) -> Result<(), StorageError> {
    db.execute(&SET_ROLE, role_values(account_id, project_id, role, now)).await?;
    Ok(())
}

fn role_values(account_id: AccountId, project_id: ProjectId, role: Role, now: Millis) -> Vec<Value> {
    values![account_id, project_id, role.as_str(), now]
}

fn role_of(row: &Row, index: usize) -> Result<Role, StorageError> {
    let text = row.text(index)?;
    Role::parse(&text).ok_or_else(|| StorageError::corrupt("memberships", "role", text))
}

/// Of the first columns, in the order of [`FIND`].
pub(super) fn project_of(row: &Row) -> Result<Project, StorageError> {
    Ok(Project {
        project_id: ProjectId(row.u32(0)?),
        name: row.text(1)?,
        time_zone: row.text(2)?,
        span: row.u16(3)?,
        created_at: row.i64(4)?,
        retention_days: row.opt_i64(5)?.map(|days| days as u32),
        erasure_epoch: row.i64(6)?,
    })
}
