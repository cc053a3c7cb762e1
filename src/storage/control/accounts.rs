//! Accounts: who can log in.

use crate::model::{AccountId, Millis};
use crate::storage::StorageError;
use crate::storage::db::{Db, Row, Statement, Tx, statement};
use crate::values;

#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    pub account_id: AccountId,
    /// Lower case.
    pub email: String,
    pub name: String,
    /// argon2id in its PHC text form.
    pub password_hash: String,
    /// Sees and owns every project.
    pub is_admin: bool,
    pub disabled_at: Option<Millis>,
}

#[derive(Clone)]
pub struct InsertAccount {
    pub email: String,
    pub name: String,
    pub password_hash: String,
    pub is_admin: bool,
    pub created_at: Millis,
}

static INSERT: Statement = statement!(
    "accounts.insert",
    "INSERT INTO accounts (email, name, password_hash, is_admin, created_at, password_changed_at) \
     VALUES (?, ?, ?, ?, ?, ?)"
);
static FIND_BY_EMAIL: Statement = statement!(
    "accounts.find_by_email",
    "SELECT account_id, email, name, password_hash, is_admin, disabled_at FROM accounts WHERE email = ?"
);
static FIND: Statement = statement!(
    "accounts.find",
    "SELECT account_id, email, name, password_hash, is_admin, disabled_at FROM accounts \
     WHERE account_id = ?"
);
static FIND_ANY: Statement = statement!("accounts.find_any", "SELECT account_id FROM accounts LIMIT 1");
static SET_PASSWORD: Statement = statement!(
    "accounts.set_password",
    "UPDATE accounts SET password_hash = ?, password_changed_at = ? WHERE account_id = ?"
);
static DELETE_SESSIONS: Statement =
    statement!("accounts.delete_sessions", "DELETE FROM sessions WHERE account_id = ?");

/// [`StorageError::Conflict`] when the email is taken.
pub async fn create_account(db: &Db, account: InsertAccount) -> Result<AccountId, StorageError> {
    db.transaction(move |tx| {
        let account = account.clone();
        Box::pin(async move { insert_account(tx, account).await })
    })
    .await
}

/// The same inside a transaction that does more.
pub async fn insert_account(tx: &mut Tx, account: InsertAccount) -> Result<AccountId, StorageError> {
    let InsertAccount { email, name, password_hash, is_admin, created_at } = account;
    let binds = values![email, name, password_hash, is_admin, created_at, created_at];
    Ok(AccountId(tx.insert(&INSERT, binds).await?))
}

pub async fn find_account_by_email(db: &Db, email: &str) -> Result<Option<Account>, StorageError> {
    db.fetch_optional(&FIND_BY_EMAIL, values![email]).await?.as_ref().map(account_of).transpose()
}

pub async fn find_account(db: &Db, account_id: AccountId) -> Result<Option<Account>, StorageError> {
    db.fetch_optional(&FIND, values![account_id]).await?.as_ref().map(account_of).transpose()
}

pub async fn has_accounts(db: &Db) -> Result<bool, StorageError> {
    Ok(db.fetch_optional(&FIND_ANY, vec![]).await?.is_some())
}

/// Sets the password and ends every session of the account: whoever knew the old one is out.
pub async fn set_password(
    db: &Db,
    account_id: AccountId,
    password_hash: String,
    now: Millis,
) -> Result<(), StorageError> {
    db.transaction(move |tx| {
        let password_hash = password_hash.clone();
        Box::pin(async move {
            tx.execute(&SET_PASSWORD, values![password_hash, now, account_id]).await?;
            tx.execute(&DELETE_SESSIONS, values![account_id]).await?;
            Ok(())
        })
    })
    .await
}

fn account_of(row: &Row) -> Result<Account, StorageError> {
    Ok(Account {
        account_id: AccountId(row.u64(0)?),
        email: row.text(1)?,
        name: row.text(2)?,
        password_hash: row.text(3)?,
        is_admin: row.bool(4)?,
        disabled_at: row.opt_i64(5)?,
    })
}
