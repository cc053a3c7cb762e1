//! Making, finding and revoking keys.

use std::sync::Arc;

use super::{Access, hash_token, token};
use crate::model::{AccountId, KeyId, KeyKind, Millis, ProjectId, Random};
use crate::storage::StorageError;
use crate::storage::control::keys::{self, InsertKey, ProjectKey};
use crate::storage::control::projects::Project;

/// A key just made; a secret one is shown now and never again.
pub struct CreatedKey {
    pub key_id: KeyId,
    pub kind: KeyKind,
    pub key: String,
}

pub const KEY_LABEL_CHARS_MAX: usize = 100;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// What is wrong with it, in words.
    #[error("{0}")]
    Label(String),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Access {
    pub async fn create_key(
        &self,
        project_id: ProjectId,
        kind: KeyKind,
        label: &str,
        created_by: Option<AccountId>,
    ) -> Result<CreatedKey, KeyError> {
        let label = check_label(label)?;
        let (key, insert) = make_key(kind, label, created_by, self.clock.now_ms(), &*self.random);
        let key_id = keys::create_key(&self.storage.control, project_id, insert).await?;
        Ok(CreatedKey { key_id, kind, key })
    }

    pub async fn list_keys(&self, project_id: ProjectId) -> Result<Vec<ProjectKey>, StorageError> {
        keys::list_keys(&self.storage.control, project_id).await
    }

    /// Whether there was such a key and it was still active.
    pub async fn revoke_key(&self, project_id: ProjectId, key_id: KeyId) -> Result<bool, StorageError> {
        let now = self.clock.now_ms();
        let revoked = keys::revoke_key(&self.storage.control, project_id, key_id, now).await?;
        self.secret_keys.forget_where(|_, known| known.as_ref().is_some_and(|(known, _)| *known == key_id));
        Ok(revoked)
    }

    /// The project of a secret key. A write key leads nowhere here.
    pub async fn find_secret_key(&self, key: &str) -> Result<Option<(KeyId, Arc<Project>)>, StorageError> {
        if !key.starts_with(KeyKind::Secret.prefix()) {
            return Ok(None);
        }
        let key_hash = hash_token(key);
        let now = self.clock.now_ms();
        if let Some(known) = self.secret_keys.find(&key_hash, now) {
            return Ok(known);
        }
        let found = keys::find_key_with_project(&self.storage.control, KeyKind::Secret, &key_hash).await?;
        let found = found.map(|(key_id, project)| (key_id, Arc::new(project)));
        self.secret_keys.keep(key_hash, found.clone(), now);
        Ok(found)
    }
}

fn check_label(text: &str) -> Result<&str, KeyError> {
    let label = text.trim();
    let chars = label.chars().count();
    if label.is_empty() {
        let fix = "Give the key a label, so that it can be told from others later.";
        return Err(KeyError::Label(fix.to_owned()));
    }
    if chars > KEY_LABEL_CHARS_MAX {
        return Err(KeyError::Label(format!(
            "The label has {chars} characters; it may have at most {KEY_LABEL_CHARS_MAX}."
        )));
    }
    Ok(label)
}

/// The newest write key that is still active, among keys listed newest first.
pub fn find_write_key(keys: &[ProjectKey]) -> Option<&ProjectKey> {
    keys.iter().find(|key| key.kind == KeyKind::Write && key.revoked_at.is_none())
}

/// The key itself and what is stored of it.
pub(super) fn make_key(
    kind: KeyKind,
    name: &str,
    created_by: Option<AccountId>,
    now: Millis,
    random: &dyn Random,
) -> (String, InsertKey) {
    let key = token::make_key(kind, random);
    let shown = match kind {
        KeyKind::Write => key.clone(),
        KeyKind::Secret => format!("sk_…{}", &key[key.len() - 4..]),
    };
    let insert = InsertKey {
        kind,
        key_hash: hash_token(&key),
        shown,
        name: name.to_owned(),
        created_by,
        created_at: now,
    };
    (key, insert)
}
