//! The first account, made when there is none, so that a new installation can be logged in to.

use super::{Access, AccountError, find_write_key, keys::make_key, token};
use crate::model::{KeyKind, ProjectId};
use crate::storage::StorageError;
use crate::storage::control::accounts::{self, InsertAccount, has_accounts};
use crate::storage::control::keys::{insert_key, list_keys_in};
use crate::storage::control::projects::{InsertProject, find_first_project, insert_project};

/// Not an address that mail could reach: it only names who set weir up.
const FIRST_EMAIL: &str = "admin@weir.local";
const FIRST_PROJECT: &str = "My project";

/// For the terminal, once. Never log it.
pub struct FirstAccount {
    pub email: String,
    pub password: String,
    pub project_id: ProjectId,
    pub write_key: String,
}

impl Access {
    /// Creates the first account when there is none, and a project with a write key when there is
    /// none. Of replicas that start together one gets the account, the others `None`.
    pub async fn ensure_first_account(&self) -> Result<Option<FirstAccount>, AccountError> {
        if has_accounts(&self.storage.control).await? {
            return Ok(None);
        }
        let password = token::make_password(&*self.random);
        let account = InsertAccount {
            email: FIRST_EMAIL.to_owned(),
            name: String::new(),
            password_hash: self.passwords.hash(password.clone(), &*self.random).await?,
            is_admin: true,
            created_at: self.clock.now_ms(),
        };
        let (key, insert) =
            make_key(KeyKind::Write, "First write key", None, self.clock.now_ms(), &*self.random);
        let project = InsertProject {
            name: FIRST_PROJECT.to_owned(),
            time_zone: "UTC".to_owned(),
            span: self.storage.shards.count(),
            owner: None,
            keys: vec![],
            created_at: self.clock.now_ms(),
        };
        let made = self.storage.control.transaction(move |tx| {
            let (account, project) = (account.clone(), project.clone());
            let (key, insert) = (key.clone(), insert.clone());
            Box::pin(async move {
                // First of all the unique email: whoever comes second fails here and changes nothing.
                accounts::insert_account(tx, account).await?;
                let project_id = match find_first_project(tx).await? {
                    Some(project) => project.project_id,
                    None => insert_project(tx, project).await?,
                };
                let keys = list_keys_in(tx, project_id).await?;
                if let Some(existing) = find_write_key(&keys) {
                    return Ok((project_id, existing.shown.clone()));
                }
                insert_key(tx, project_id, insert).await?;
                Ok::<_, StorageError>((project_id, key))
            })
        });
        match made.await {
            Ok((project_id, write_key)) => {
                Ok(Some(FirstAccount { email: FIRST_EMAIL.to_owned(), password, project_id, write_key }))
            }
            Err(StorageError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
