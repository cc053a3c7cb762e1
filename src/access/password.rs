//! Passwords: argon2id, on blocking threads, a few at a time.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::SaltString;
use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;

use crate::model::Random;

/// Shorter ones are guessed; NIST SP 800-63B asks for 8 at least.
pub const PASSWORD_CHARS_MIN: usize = 10;
/// Hashing reads all of it, so it must end somewhere.
pub const PASSWORD_BYTES_MAX: usize = 1_000;

/// OWASP's first choice for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Each needs 19 MiB and a core for about 20 ms: two at once are 100 log-ins a second.
const AT_ONCE_MAX: usize = 2;
/// Longer than this in the queue and the answer is "busy".
const QUEUE_WAIT: Duration = Duration::from_secs(5);

/// Too many passwords are being judged: try again shortly.
#[derive(Debug, thiserror::Error)]
#[error("too many passwords are being checked")]
pub struct PasswordBusy;

pub struct Passwords {
    permits: Arc<Semaphore>,
    /// Judged in place of an account that does not exist, so that both take equally long.
    dummy: String,
}

impl Passwords {
    pub fn new(random: &dyn Random) -> Self {
        // The text need not be a hash of anything: comparing with it costs the same and never fits.
        let mut salt = [0; 16];
        random.fill(&mut salt);
        let salt = SaltString::encode_b64(&salt).expect("16 bytes are a salt");
        let output = "A".repeat(43);
        let dummy = format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${output}");
        Self { permits: Arc::new(Semaphore::new(AT_ONCE_MAX)), dummy }
    }

    /// The PHC text of a new hash.
    pub async fn hash(&self, password: String, random: &dyn Random) -> Result<String, PasswordBusy> {
        let mut salt = [0; 16];
        random.fill(&mut salt);
        self.run(move || {
            let salt = SaltString::encode_b64(&salt).expect("16 bytes are a salt");
            let hash = argon2().hash_password(password.as_bytes(), &salt);
            hash.expect("the parameters and the salt are valid").to_string()
        })
        .await
    }

    /// Whether the password fits. `None` for an account that does not exist takes equally long and
    /// never fits.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, PasswordBusy> {
        let exists = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.dummy.clone());
        let fits = self.run(move || match PasswordHash::new(&hash) {
            Ok(hash) => argon2().verify_password(password.as_bytes(), &hash).is_ok(),
            Err(error) => {
                tracing::error!(%error, "a stored password hash is unreadable");
                false
            }
        });
        Ok(fits.await? && exists)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordBusy> {
        let permit = tokio::time::timeout(QUEUE_WAIT, self.permits.clone().acquire_owned()).await;
        let permit = permit.map_err(|_| PasswordBusy)?.expect("the semaphore is never closed");
        // The permit goes along: a caller that stops waiting does not free the place early.
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        done.await.map_err(|_| PasswordBusy)
    }
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the parameters are within bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SeededRandom;

    #[tokio::test]
    async fn only_the_right_password_of_an_existing_account_fits() {
        let random = SeededRandom::new(1);
        let passwords = Passwords::new(&random);
        let hash = passwords.hash("correct horse".to_owned(), &random).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        for (name, password, hash, fits) in [
            ("right", "correct horse", Some(hash.clone()), true),
            ("wrong", "correct horsf", Some(hash), false),
            ("no account", "correct horse", None, false),
            ("unreadable", "correct horse", Some("x".to_owned()), false),
        ] {
            assert_eq!(passwords.verify(password.to_owned(), hash).await.unwrap(), fits, "{name}");
        }
        // The dummy must be readable, or an unknown account would answer sooner.
        assert!(PasswordHash::new(&passwords.dummy).is_ok());
    }
}
