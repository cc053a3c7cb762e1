use askama::Template;

use super::{Frame, Nav, icon};
use crate::model::Millis;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyKind {
    /// Public, may only send.
    Write,
    /// For servers: read, ask, manage.
    Secret,
}

pub struct KeyRow {
    /// What revoking posts to: `/p/{project}/keys/{id}/revoke`.
    pub id: u64,
    pub kind: KeyKind,
    pub label: String,
    /// The whole write key, since it is public; of a secret key only its first characters.
    pub shown: String,
    pub created_at: Millis,
    pub revoked_at: Option<Millis>,
}

/// A secret key that was made by the request before: shown this once.
pub struct CreatedKey {
    pub kind: KeyKind,
    pub key: String,
}

/// `/p/{id}/keys`; creating posts `kind` (`write` or `secret`) and `label`.
#[derive(Template)]
#[template(path = "keys.html")]
pub struct KeysPage {
    pub frame: Frame,
    pub keys: Vec<KeyRow>,
    pub created: Option<CreatedKey>,
    pub label: String,
    pub label_error: Option<String>,
    /// Whoever looks is an owner.
    pub may_change: bool,
}

impl KeysPage {
    fn active(&self) -> impl Iterator<Item = &KeyRow> {
        self.keys.iter().filter(|key| key.revoked_at.is_none())
    }

    fn revoked(&self) -> Vec<&KeyRow> {
        self.keys.iter().filter(|key| key.revoked_at.is_some()).collect()
    }
}
