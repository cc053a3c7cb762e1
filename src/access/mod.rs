//! Who may do what: accounts that log in, their sessions, projects with members, and keys.
//!
//! [`Access`] is the way in. It holds what is asked on every request (sessions, roles, secret keys)
//! for [`KNOWN_MS_MAX`] at most, so that a revocation made by any replica counts everywhere within
//! five seconds; what this replica revokes itself counts at once. Passwords are judged in
//! [`Passwords`], a few at a time. Knows no HTTP and no cookies.

mod accounts;
mod first_start;
mod keys;
mod known;
mod login;
mod members;
mod password;
mod projects;
mod token;

use std::sync::Arc;

pub use accounts::{AccountError, ChangePasswordError, CreateAccount};
pub use first_start::FirstAccount;
pub use keys::{CreatedKey, KeyError, find_write_key};
pub use login::{LoginError, NewSession, Session};
pub use members::{AddedMember, MEMBERS_MAX, MemberError};
pub use password::{PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN, PasswordBusy, Passwords};
pub use projects::{CreateProject, CreatedProject, Membership, ProjectError, RETENTION_DAYS};
pub use token::hash_token;

use crate::model::{AccountId, Clock, KeyId, Millis, ProjectId, Random};
use crate::storage::Storage;
use crate::storage::control::TokenHash;
use crate::storage::control::projects::Project;
use known::Known;

/// How long an answer of the control database is believed. Below the promised five seconds, with
/// room for a slow query and a request in flight.
pub const KNOWN_MS_MAX: Millis = 3_000;

/// Entries of each kind that are kept; beyond that the oldest knowledge goes.
const KNOWN_ENTRIES_MAX: usize = 10_000;

pub struct Access {
    storage: Storage,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    passwords: Passwords,
    sessions: Known<TokenHash, Option<Session>>,
    memberships: Known<(AccountId, ProjectId), Option<Membership>>,
    projects_of: Known<AccountId, Arc<[Membership]>>,
    secret_keys: Known<TokenHash, Option<(KeyId, Arc<Project>)>>,
}

impl Access {
    pub fn new(storage: Storage, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self {
            storage,
            passwords: Passwords::new(&*random),
            clock,
            random,
            sessions: Known::new(KNOWN_MS_MAX, KNOWN_ENTRIES_MAX),
            memberships: Known::new(KNOWN_MS_MAX, KNOWN_ENTRIES_MAX),
            projects_of: Known::new(KNOWN_MS_MAX, KNOWN_ENTRIES_MAX),
            secret_keys: Known::new(KNOWN_MS_MAX, KNOWN_ENTRIES_MAX),
        }
    }
}
