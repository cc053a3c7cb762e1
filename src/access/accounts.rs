//! Making accounts and changing their passwords.

use super::password::{PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN};
use super::{Access, NewSession, PasswordBusy, Session, token};
use crate::model::AccountId;
use crate::storage::StorageError;
use crate::storage::control::accounts::{self, InsertAccount, find_account, find_account_by_email};

/// What mail allows.
pub const EMAIL_BYTES_MAX: usize = 254;
/// Of a text that is no address, this much is shown.
const SHOWN_CHARS_MAX: usize = 100;

pub struct CreateAccount {
    pub email: String,
    /// `None`: one is made and given back.
    pub password: Option<String>,
    /// Sees and owns every project.
    pub is_admin: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error(
        "{0:?} is no email address; it needs a name, an @ and a host, and has at most {EMAIL_BYTES_MAX} bytes"
    )]
    Email(String),
    #[error("there is already an account with the email {0}")]
    EmailTaken(String),
    #[error("there is no account with the email {0}")]
    Unknown(String),
    #[error("{0}")]
    Password(String),
    #[error(transparent)]
    Busy(#[from] PasswordBusy),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

#[derive(Debug, thiserror::Error)]
pub enum ChangePasswordError {
    #[error("the current password is wrong")]
    Current,
    /// Too many wrong ones, here or at log-in.
    #[error("too many attempts")]
    Throttled { retry_after_secs: u32 },
    /// What is wrong with the new one, in words.
    #[error("{0}")]
    New(String),
    #[error(transparent)]
    Busy(#[from] PasswordBusy),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Access {
    /// The new account, and the password that was made when none was given.
    pub async fn create_account(
        &self,
        create: CreateAccount,
    ) -> Result<(AccountId, Option<String>), AccountError> {
        let email = check_email(&create.email)?;
        let (password, made) = self.given_or_made(create.password)?;
        let password_hash = self.passwords.hash(password, &*self.random).await?;
        let account = InsertAccount {
            name: String::new(),
            email: email.clone(),
            password_hash,
            is_admin: create.is_admin,
            created_at: self.clock.now_ms(),
        };
        match accounts::create_account(&self.storage.control, account).await {
            Ok(account_id) => Ok((account_id, made)),
            Err(StorageError::Conflict { .. }) => Err(AccountError::EmailTaken(email)),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets a password without knowing the old one, ends the account's sessions and its waiting.
    pub async fn reset_password(
        &self,
        email: &str,
        password: Option<String>,
    ) -> Result<Option<String>, AccountError> {
        let email = email.trim().to_lowercase();
        let account = find_account_by_email(&self.storage.control, &email).await?;
        let Some(account) = account else { return Err(AccountError::Unknown(email)) };
        let (password, made) = self.given_or_made(password)?;
        let hash = self.passwords.hash(password, &*self.random).await?;
        let now = self.clock.now_ms();
        accounts::set_password(&self.storage.control, account.account_id, hash, now).await?;
        self.forget_sessions_of(account.account_id);
        self.clear_throttle(&email).await?;
        Ok(made)
    }

    /// Changes the password of who is signed in. All sessions end; a new one is given back.
    pub async fn change_password(
        &self,
        session: &Session,
        current: &str,
        new: &str,
    ) -> Result<NewSession, ChangePasswordError> {
        check_password(new).map_err(ChangePasswordError::New)?;
        if let Some(retry_after_secs) = self.count_change(&session.email).await? {
            return Err(ChangePasswordError::Throttled { retry_after_secs });
        }
        let account = find_account(&self.storage.control, session.account_id).await?;
        let hash = account.map(|account| account.password_hash);
        if !self.passwords.verify(current.to_owned(), hash).await? {
            return Err(ChangePasswordError::Current);
        }
        self.clear_throttle(&session.email).await?;
        let hash = self.passwords.hash(new.to_owned(), &*self.random).await?;
        let now = self.clock.now_ms();
        accounts::set_password(&self.storage.control, session.account_id, hash, now).await?;
        self.forget_sessions_of(session.account_id);
        Ok(self.open_session(session.account_id, session.email.clone(), session.is_admin).await?)
    }

    /// The password to set, and the same again when it was made here and must be shown.
    fn given_or_made(&self, given: Option<String>) -> Result<(String, Option<String>), AccountError> {
        match given {
            Some(password) => {
                check_password(&password).map_err(AccountError::Password)?;
                Ok((password, None))
            }
            None => {
                let made = token::make_password(&*self.random);
                Ok((made.clone(), Some(made)))
            }
        }
    }
}

/// The address in lower case. Whether mail reaches it, only mail can tell.
fn check_email(text: &str) -> Result<String, AccountError> {
    let email = text.trim().to_lowercase();
    // Legal only between quotes, which nobody's address has.
    let odd = |c: char| c.is_whitespace() || c.is_control() || "<>()[],;:\\\"".contains(c);
    let shaped = email
        .split_once('@')
        .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !host.contains('@'));
    if shaped && !email.contains(odd) && email.len() <= EMAIL_BYTES_MAX {
        return Ok(email);
    }
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    Err(AccountError::Email(shown))
}

fn check_password(password: &str) -> Result<(), String> {
    let chars = password.chars().count();
    if chars < PASSWORD_CHARS_MIN {
        return Err(format!("The password has {chars} characters; it needs at least {PASSWORD_CHARS_MIN}."));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(format!(
            "The password has {} bytes; it may have at most {PASSWORD_BYTES_MAX}.",
            password.len()
        ));
    }
    Ok(())
}
