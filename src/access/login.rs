//! Logging in and out, and the sessions in between.

use std::net::IpAddr;

use sha2::{Digest, Sha256};

use super::{Access, PasswordBusy, hash_token, token};
use crate::model::{AccountId, DAY_MS, Millis};
use crate::storage::StorageError;
use crate::storage::control::TokenHash;
use crate::storage::control::accounts::find_account_by_email;
use crate::storage::control::sessions::{
    self, InsertSession, SessionRow, ThrottleLimit, clear_failures, count_attempt, forgive_failure,
};

/// A session ends after this much time without a request …
const SESSION_IDLE_MS: Millis = 7 * DAY_MS;
/// … and after this much time in any case.
const SESSION_MS_MAX: Millis = 30 * DAY_MS;
/// `seen_at` is written at most this often: a page view must not cost a write.
const SESSION_TOUCH_MS: Millis = 5 * 60_000;

const THROTTLE_MS: Millis = 15 * 60_000;
/// Of one address at one account: 960 guesses a day. Nobody else's wrong passwords keep the account's
/// owner out, and a colleague's do not keep an office out.
const SENDER_LIMIT: ThrottleLimit =
    ThrottleLimit { failures_max: 10, window_ms: THROTTLE_MS, block_ms: THROTTLE_MS };
/// At one account from whatever number of addresses: 9,600 guesses a day at most.
const ACCOUNT_LIMIT: ThrottleLimit =
    ThrottleLimit { failures_max: 100, window_ms: THROTTLE_MS, block_ms: THROTTLE_MS };
/// Of one address at whatever number of accounts. More than a large office mistypes, whose people all
/// share an address: a correct log-in takes its count back.
const ADDRESS_LIMIT: ThrottleLimit =
    ThrottleLimit { failures_max: 1_000, window_ms: THROTTLE_MS, block_ms: THROTTLE_MS };
/// Of the current password, by who holds a session.
const CHANGE_LIMIT: ThrottleLimit = SENDER_LIMIT;

/// A signed-in account, as long as its session lasts.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    pub account_id: AccountId,
    pub email: String,
    pub is_admin: bool,
    pub csrf_token: [u8; 32],
    pub token_hash: TokenHash,
    pub expires_at: Millis,
}

/// A session just made. The token goes into the cookie and is stored nowhere else.
pub struct NewSession {
    pub token: String,
    pub session: Session,
}

#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// One answer for a wrong password, an unknown account and a disabled one.
    #[error("the email or the password is wrong")]
    Wrong,
    /// Too many attempts for this account or from this address.
    #[error("too many attempts")]
    Throttled { retry_after_secs: u32 },
    #[error(transparent)]
    Busy(#[from] PasswordBusy),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Access {
    /// Judges a password and opens a session. Always a new one, so that a token planted before the
    /// log-in is worth nothing after it.
    pub async fn log_in(
        &self,
        email: &str,
        password: &str,
        address: IpAddr,
    ) -> Result<NewSession, LoginError> {
        let email = email.trim().to_lowercase();
        let account = find_account_by_email(&self.storage.control, &email).await?;
        let account = account.filter(|account| account.disabled_at.is_none());
        let hash = account.as_ref().map(|account| account.password_hash.clone());
        let address = block_of(address);
        // With the hash of the password: a new one begins a new count, from wherever it is used.
        let known = hash.as_deref().unwrap_or_default();
        let sender_subject = subject("sender", &format!("{address}\0{email}\0{known}"));
        let address_subject = subject("address", &address);
        let account_subject = subject("account", &email);
        for (subject, limit) in [
            (sender_subject, SENDER_LIMIT),
            (address_subject, ADDRESS_LIMIT),
            (account_subject, ACCOUNT_LIMIT),
        ] {
            if let Some(retry_after_secs) = self.count_attempt(subject, limit).await? {
                return Err(LoginError::Throttled { retry_after_secs });
            }
        }

        let fits = self.passwords.verify(password.to_owned(), hash).await?;
        let (true, Some(account)) = (fits, account) else { return Err(LoginError::Wrong) };

        clear_failures(&self.storage.control, &sender_subject).await?;
        clear_failures(&self.storage.control, &account_subject).await?;
        forgive_failure(&self.storage.control, &address_subject).await?;
        Ok(self.open_session(account.account_id, account.email, account.is_admin).await?)
    }

    /// The seconds to wait when this attempt must not be judged at all.
    async fn count_attempt(
        &self,
        subject: TokenHash,
        limit: ThrottleLimit,
    ) -> Result<Option<u32>, StorageError> {
        let now = self.clock.now_ms();
        let until = count_attempt(&self.storage.control, subject, limit, now).await?;
        Ok(until.map(|until| (until - now).div_euclid(1_000).clamp(1, 3_600) as u32))
    }

    /// Who holds a session can guess no faster than who has none, and keeps nobody from logging in.
    pub(super) async fn count_change(&self, email: &str) -> Result<Option<u32>, StorageError> {
        self.count_attempt(subject("change", email), CHANGE_LIMIT).await
    }

    pub(super) async fn open_session(
        &self,
        account_id: AccountId,
        email: String,
        is_admin: bool,
    ) -> Result<NewSession, StorageError> {
        let now = self.clock.now_ms();
        let token = token::make_session_token(&*self.random);
        let mut csrf_token = [0; 32];
        self.random.fill(&mut csrf_token);
        let token_hash = hash_token(&token);
        let expires_at = now + SESSION_MS_MAX;
        let row = InsertSession { token_hash, account_id, csrf_token, created_at: now, expires_at };
        sessions::create_session(&self.storage.control, row).await?;
        let session = Session { account_id, email, is_admin, csrf_token, token_hash, expires_at };
        Ok(NewSession { token, session })
    }

    /// The session of a cookie's token, unless it has ended.
    pub async fn find_session(&self, token: &str) -> Result<Option<Session>, StorageError> {
        let token_hash = hash_token(token);
        let now = self.clock.now_ms();
        if let Some(known) = self.sessions.find(&token_hash, now) {
            return Ok(known.filter(|session| session.expires_at > now));
        }
        let row = sessions::find_session(&self.storage.control, &token_hash).await?;
        let row = row.filter(|row| row.expires_at > now && row.seen_at + SESSION_IDLE_MS > now);
        if row.as_ref().is_some_and(|row| row.seen_at + SESSION_TOUCH_MS <= now) {
            sessions::touch_session(&self.storage.control, &token_hash, now).await?;
        }
        let session = row.map(|row| Session::from_row(token_hash, row));
        self.sessions.keep(token_hash, session.clone(), now);
        Ok(session)
    }

    pub async fn log_out(&self, session: &Session) -> Result<(), StorageError> {
        sessions::delete_session(&self.storage.control, &session.token_hash).await?;
        self.sessions.forget(&session.token_hash);
        Ok(())
    }

    /// Ends every session of the account, this one too.
    pub async fn log_out_everywhere(&self, account_id: AccountId) -> Result<(), StorageError> {
        sessions::delete_sessions_of(&self.storage.control, account_id).await?;
        self.forget_sessions_of(account_id);
        Ok(())
    }

    pub(super) fn forget_sessions_of(&self, account_id: AccountId) {
        self.sessions
            .forget_where(|_, known| known.as_ref().is_some_and(|session| session.account_id == account_id));
    }

    /// Deletes what has expired: some rows, so call it now and then.
    pub async fn delete_expired(&self) -> Result<(), StorageError> {
        let now = self.clock.now_ms();
        sessions::delete_expired_sessions(&self.storage.control, now).await?;
        sessions::delete_old_failures(&self.storage.control, now - THROTTLE_MS).await?;
        Ok(())
    }

    /// Ends the waiting of an account whose password was proven or reset by an operator.
    pub(super) async fn clear_throttle(&self, email: &str) -> Result<(), StorageError> {
        clear_failures(&self.storage.control, &subject("change", email)).await?;
        clear_failures(&self.storage.control, &subject("account", email)).await
    }
}

impl Session {
    fn from_row(token_hash: TokenHash, row: SessionRow) -> Self {
        let SessionRow { account_id, email, is_admin, csrf_token, expires_at, .. } = row;
        Self { account_id, email, is_admin, csrf_token, token_hash, expires_at }
    }
}

/// Addresses and emails are counted as hashes: the table tells nobody who tried.
fn subject(kind: &str, text: &str) -> TokenHash {
    Sha256::digest(format!("{kind}\0{text}").as_bytes()).into()
}

/// One IPv4 address, or the /64 that one IPv6 customer has to himself.
fn block_of(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("{:x?}", &v6.segments()[..4]),
    }
}
