//! Members of a project. A project that has owners keeps at least one.

use crate::model::{AccountId, Millis, ProjectId, Role};
use crate::storage::StorageError;
use crate::storage::db::{Db, Row, Statement, statement};
use crate::values;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub account_id: AccountId,
    pub email: String,
    pub role: Role,
    pub added_at: Millis,
    /// The account cannot log in any more.
    pub is_disabled: bool,
}

/// What became of a change or a removal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MembershipChange {
    Done,
    NoMember,
    /// Nothing was changed: nobody would own the project any more.
    LastOwner,
}

static LIST: Statement = statement!(
    "memberships.list",
    "SELECT m.account_id, a.email, m.role, m.created_at, a.disabled_at FROM memberships m \
     JOIN accounts a ON a.account_id = m.account_id \
     WHERE m.project_id = ? ORDER BY a.email LIMIT ?"
);
static ADD: Statement = statement!(
    "memberships.add",
    "INSERT INTO memberships (account_id, project_id, role, created_at) VALUES (?, ?, ?, ?)"
);
// Locked, so that of two owners who remove each other at once only one succeeds. SQLite has one
// writer, which this transaction is.
static LOCK_ROLES: Statement = statement!(
    "memberships.lock_roles",
    mysql: "SELECT account_id, role FROM memberships WHERE project_id = ? ORDER BY account_id FOR UPDATE",
    sqlite: "SELECT account_id, role FROM memberships WHERE project_id = ? ORDER BY account_id",
);
static UPDATE: Statement = statement!(
    "memberships.update",
    "UPDATE memberships SET role = ? WHERE account_id = ? AND project_id = ?"
);
static DELETE: Statement =
    statement!("memberships.remove", "DELETE FROM memberships WHERE account_id = ? AND project_id = ?");

/// The first `limit` by email address.
pub async fn list_members(db: &Db, project_id: ProjectId, limit: u32) -> Result<Vec<Member>, StorageError> {
    let rows = db.fetch_all(&LIST, values![project_id, limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(Member {
                account_id: AccountId(row.u64(0)?),
                email: row.text(1)?,
                role: role_of(row, 2)?,
                added_at: row.i64(3)?,
                is_disabled: row.opt_i64(4)?.is_some(),
            })
        })
        .collect()
}

/// Whether the account was no member before.
pub async fn add_member(
    db: &Db,
    account_id: AccountId,
    project_id: ProjectId,
    role: Role,
    now: Millis,
) -> Result<bool, StorageError> {
    match db.execute(&ADD, values![account_id, project_id, role.as_str(), now]).await {
        Ok(_) => Ok(true),
        Err(StorageError::Conflict { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives a member another role; `None` ends the membership.
pub async fn change_member(
    db: &Db,
    account_id: AccountId,
    project_id: ProjectId,
    role: Option<Role>,
) -> Result<MembershipChange, StorageError> {
    db.transaction(move |tx| {
        Box::pin(async move {
            let rows = tx.fetch_all(&LOCK_ROLES, values![project_id]).await?;
            let mut owners = Vec::new();
            let mut is_member = false;
            for row in &rows {
                let member = AccountId(row.u64(0)?);
                is_member |= member == account_id;
                if role_of(row, 1)? == Role::Owner {
                    owners.push(member);
                }
            }
            if !is_member {
                return Ok(MembershipChange::NoMember);
            }
            if owners == [account_id] && role != Some(Role::Owner) {
                return Ok(MembershipChange::LastOwner);
            }
            match role {
                Some(role) => tx.execute(&UPDATE, values![role.as_str(), account_id, project_id]).await?,
                None => tx.execute(&DELETE, values![account_id, project_id]).await?,
            };
            Ok(MembershipChange::Done)
        })
    })
    .await
}

fn role_of(row: &Row, index: usize) -> Result<Role, StorageError> {
    let text = row.text(index)?;
    Role::parse(&text).ok_or_else(|| StorageError::corrupt("memberships", "role", text))
}
