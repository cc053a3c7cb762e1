//! Which project a write key belongs to, without asking the database for every request.
//!
//! A key that was found is believed for [`KeySettings::believed`], asked again by one request at a
//! time when it is older, and kept while the control database does not answer: collection goes on
//! without it, and nobody but that one request waits for it. A key that nobody knows costs at most one look-up; its absence is remembered for a
//! moment, so that guessing costs memory and look-ups a bounded amount, and only for so long that a
//! key just created works at once everywhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};

use super::outcome::{CollectError, Unavailable};
use crate::model::{KeyKind, ProjectId};
use crate::storage::control::keys::find_active_key;
use crate::storage::{Db, StorageError};

pub type KeyHash = [u8; 32];

/// What a valid write key says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteGrant {
    pub project_id: ProjectId,
    /// On how many shards the project lives.
    pub span: u16,
}

/// Where keys are looked up: the control database.
pub trait KeySource: Send + Sync + 'static {
    /// The grant of an active write key with this SHA-256, if there is one.
    fn find_write_key(
        &self,
        key_hash: KeyHash,
    ) -> BoxFuture<'static, Result<Option<WriteGrant>, StorageError>>;
}

/// The control database itself.
impl KeySource for Db {
    fn find_write_key(
        &self,
        key_hash: KeyHash,
    ) -> BoxFuture<'static, Result<Option<WriteGrant>, StorageError>> {
        let db = self.clone();
        Box::pin(async move {
            let found = find_active_key(&db, &key_hash).await?;
            let found = found.filter(|key| key.kind == KeyKind::Write);
            Ok(found.map(|key| WriteGrant { project_id: key.project_id, span: key.span }))
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub struct KeySettings {
    /// How long a look-up is believed. Revoking a key takes that long at most.
    pub believed: Duration,
    /// How long a key stays unknown.
    pub unknown_for: Duration,
    /// How long nobody is asked again after the database did not answer.
    pub retry_after: Duration,
    /// How long a look-up may take.
    pub look_up_max: Duration,
    /// Look-ups of unknown keys in a second.
    pub lookups_per_sec: u32,
    /// Keys remembered, known and unknown each.
    pub remembered_max: usize,
}

impl Default for KeySettings {
    fn default() -> Self {
        Self {
            believed: Duration::from_secs(4),
            unknown_for: Duration::from_secs(1),
            retry_after: Duration::from_secs(1),
            look_up_max: Duration::from_millis(800),
            lookups_per_sec: 100,
            remembered_max: 100_000,
        }
    }
}

/// The longest text that can be a key; anything longer is none, and is not even hashed.
const KEY_BYTES_MAX: usize = 200;

type LookUpError = Box<dyn std::error::Error + Send + Sync>;

pub struct Keys {
    source: Arc<dyn KeySource>,
    settings: KeySettings,
    state: Mutex<State>,
}

struct State {
    known: HashMap<KeyHash, Known>,
    unknown: HashMap<KeyHash, Instant>,
    /// The current second's look-ups of unknown keys.
    second: Instant,
    lookups: u32,
}

#[derive(Clone)]
struct Known {
    grant: WriteGrant,
    believed_until: Instant,
    /// One request at a time asks again; the others use what is known.
    asking: Arc<tokio::sync::Mutex<()>>,
}

enum Cached {
    Believed(WriteGrant),
    Old(Known),
    Unknown,
    Never,
}

impl Keys {
    pub fn new(source: Arc<dyn KeySource>, settings: KeySettings) -> Self {
        let state =
            State { known: HashMap::new(), unknown: HashMap::new(), second: Instant::now(), lookups: 0 };
        Self { source, settings, state: Mutex::new(state) }
    }

    /// The grant of a key as it was sent.
    pub async fn authenticate(&self, key: &str) -> Result<WriteGrant, CollectError> {
        // Only write keys send; a secret key in a client would be a leak, so it is as good as none.
        if !key.starts_with(KeyKind::Write.prefix()) || key.len() > KEY_BYTES_MAX {
            return Err(CollectError::Unauthorized);
        }
        let hash: KeyHash = Sha256::digest(key.as_bytes()).into();
        match self.cached(&hash) {
            Cached::Believed(grant) => Ok(grant),
            Cached::Unknown => Err(CollectError::Unauthorized),
            Cached::Old(known) => self.ask_again(hash, known).await,
            Cached::Never => self.look_up(hash).await,
        }
    }

    fn cached(&self, hash: &KeyHash) -> Cached {
        let now = Instant::now();
        let state = self.lock();
        match state.known.get(hash) {
            Some(known) if now < known.believed_until => return Cached::Believed(known.grant),
            Some(known) => return Cached::Old(known.clone()),
            None => {}
        }
        match state.unknown.get(hash) {
            Some(&until) if now < until => Cached::Unknown,
            _ => Cached::Never,
        }
    }

    async fn ask_again(&self, hash: KeyHash, known: Known) -> Result<WriteGrant, CollectError> {
        let Ok(_asking) = known.asking.try_lock() else {
            // Revocation is at most one look-up later for them; the database may be frozen, and then
            // every event of the project would wait with the one who asks.
            return Ok(known.grant);
        };
        match self.find(hash).await {
            Ok(found) => self.settle(hash, found),
            Err(error) => {
                tracing::warn!(
                    error = &*error as &dyn std::error::Error,
                    "keys cannot be read; known ones stay valid"
                );
                let believed_until = Instant::now() + self.settings.retry_after;
                if let Some(known) = self.lock().known.get_mut(&hash) {
                    known.believed_until = believed_until;
                }
                Ok(known.grant)
            }
        }
    }

    async fn look_up(&self, hash: KeyHash) -> Result<WriteGrant, CollectError> {
        if !self.may_look_up() {
            return Err(CollectError::Unavailable(Unavailable::Keys));
        }
        match self.find(hash).await {
            Ok(found) => self.settle(hash, found),
            Err(error) => {
                tracing::warn!(
                    error = &*error as &dyn std::error::Error,
                    "an unknown key cannot be looked up"
                );
                Err(CollectError::Unavailable(Unavailable::Keys))
            }
        }
    }

    async fn find(&self, hash: KeyHash) -> Result<Option<WriteGrant>, LookUpError> {
        match tokio::time::timeout(self.settings.look_up_max, self.source.find_write_key(hash)).await {
            Ok(found) => found.map_err(LookUpError::from),
            Err(elapsed) => Err(elapsed.into()),
        }
    }

    fn may_look_up(&self) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        if now.duration_since(state.second) >= Duration::from_secs(1) {
            (state.second, state.lookups) = (now, 0);
        }
        state.lookups += 1;
        state.lookups <= self.settings.lookups_per_sec
    }

    /// Remembers what the database said.
    fn settle(&self, hash: KeyHash, found: Option<WriteGrant>) -> Result<WriteGrant, CollectError> {
        let now = Instant::now();
        let mut state = self.lock();
        let Some(grant) = found else {
            state.known.remove(&hash);
            make_room(&mut state.unknown, self.settings.remembered_max, |&until| now < until);
            state.unknown.insert(hash, now + self.settings.unknown_for);
            return Err(CollectError::Unauthorized);
        };
        state.unknown.remove(&hash);
        let believed_until = now + self.settings.believed;
        match state.known.get_mut(&hash) {
            Some(known) => (known.grant, known.believed_until) = (grant, believed_until),
            None => {
                make_room(&mut state.known, self.settings.remembered_max, |known| now < known.believed_until);
                state.known.insert(hash, Known { grant, believed_until, asking: Arc::default() });
            }
        }
        Ok(grant)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock can panic")
    }
}

/// Drops what is out of date when a table is full, and everything when that is not enough.
fn make_room<V>(table: &mut HashMap<KeyHash, V>, entries_max: usize, is_current: impl Fn(&V) -> bool) {
    if table.len() >= entries_max {
        table.retain(|_, entry| is_current(entry));
    }
    if table.len() >= entries_max {
        table.clear();
    }
}

/// The one key of a request: header, then query, then body. None, and two that differ, are the same
/// to whoever guesses.
pub fn one_key<'k>(candidates: impl IntoIterator<Item = Option<&'k str>>) -> Result<&'k str, CollectError> {
    let mut found: Option<&str> = None;
    for key in candidates.into_iter().flatten() {
        match found {
            Some(other) if other != key => return Err(CollectError::Unauthorized),
            _ => found = Some(key),
        }
    }
    found.ok_or(CollectError::Unauthorized)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A control database with one key, that can be revoked and can go away.
    #[derive(Default)]
    struct FakeSource {
        lookups: AtomicU32,
        is_revoked: AtomicU32,
        is_away: AtomicU32,
    }

    const GRANT: WriteGrant = WriteGrant { project_id: ProjectId(7), span: 4 };

    impl KeySource for FakeSource {
        fn find_write_key(
            &self,
            key_hash: KeyHash,
        ) -> BoxFuture<'static, Result<Option<WriteGrant>, StorageError>> {
            self.lookups.fetch_add(1, Ordering::SeqCst);
            let is_known = key_hash == <KeyHash>::from(Sha256::digest(b"wk_good"));
            let found = (is_known && self.is_revoked.load(Ordering::SeqCst) == 0).then_some(GRANT);
            let is_away = self.is_away.load(Ordering::SeqCst) > 0;
            Box::pin(async move {
                tokio::task::yield_now().await;
                if is_away { Err(StorageError::Refused("away".into())) } else { Ok(found) }
            })
        }
    }

    fn keys(settings: KeySettings) -> (Arc<FakeSource>, Keys) {
        let source = Arc::new(FakeSource::default());
        (source.clone(), Keys::new(source, settings))
    }

    /// Nothing is believed: every use asks again.
    const NEVER_BELIEVED: KeySettings = KeySettings {
        believed: Duration::ZERO,
        unknown_for: Duration::from_secs(60),
        retry_after: Duration::from_secs(60),
        look_up_max: Duration::from_secs(60),
        lookups_per_sec: 1_000_000,
        remembered_max: 1_000,
    };

    fn is_unauthorized(result: Result<WriteGrant, CollectError>) -> bool {
        matches!(result, Err(CollectError::Unauthorized))
    }

    fn is_unavailable(result: Result<WriteGrant, CollectError>) -> bool {
        matches!(result, Err(CollectError::Unavailable(Unavailable::Keys)))
    }

    #[tokio::test]
    async fn a_known_key_is_looked_up_once() {
        let (source, keys) = keys(KeySettings { believed: Duration::from_secs(60), ..NEVER_BELIEVED });
        for _ in 0..100 {
            assert_eq!(keys.authenticate("wk_good").await.unwrap(), GRANT);
        }
        assert_eq!(source.lookups.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_revoked_key_ends_when_it_is_asked_again() {
        let (source, keys) = keys(NEVER_BELIEVED);
        assert!(keys.authenticate("wk_good").await.is_ok());
        source.is_revoked.store(1, Ordering::SeqCst);
        assert!(is_unauthorized(keys.authenticate("wk_good").await));
    }

    #[tokio::test]
    async fn what_is_no_write_key_is_never_looked_up() {
        let (source, keys) = keys(NEVER_BELIEVED);
        for key in ["", "sk_secret", "good", "wk\0_good", &format!("wk_{}", "x".repeat(1 << 20))] {
            assert!(is_unauthorized(keys.authenticate(key).await));
        }
        assert_eq!(source.lookups.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn an_unknown_key_costs_one_look_up() {
        let (source, keys) = keys(NEVER_BELIEVED);
        for _ in 0..100 {
            assert!(is_unauthorized(keys.authenticate("wk_bad").await));
        }
        assert_eq!(source.lookups.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn look_ups_of_unknown_keys_are_limited_and_known_keys_unharmed() {
        let (source, keys) = keys(KeySettings { lookups_per_sec: 10, ..NEVER_BELIEVED });
        assert!(keys.authenticate("wk_good").await.is_ok());
        let mut refused = 0;
        for n in 0..50 {
            refused += u32::from(is_unavailable(keys.authenticate(&format!("wk_{n}")).await));
        }
        // A new second may have begun in between.
        assert!(refused >= 30, "{refused}");
        assert!(source.lookups.load(Ordering::SeqCst) <= 21);
        assert!(keys.authenticate("wk_good").await.is_ok());
    }

    #[tokio::test]
    async fn known_keys_outlive_the_control_database() {
        let (source, keys) = keys(NEVER_BELIEVED);
        assert!(keys.authenticate("wk_good").await.is_ok());
        source.is_away.store(1, Ordering::SeqCst);
        for _ in 0..10 {
            assert!(keys.authenticate("wk_good").await.is_ok());
        }
        // Asked once, then left in peace.
        assert_eq!(source.lookups.load(Ordering::SeqCst), 2);
        assert!(is_unavailable(keys.authenticate("wk_other").await));
    }

    /// A control database that takes questions and never answers.
    struct FrozenSource {
        is_frozen: AtomicU32,
    }

    impl KeySource for FrozenSource {
        fn find_write_key(&self, _: KeyHash) -> BoxFuture<'static, Result<Option<WriteGrant>, StorageError>> {
            match self.is_frozen.load(Ordering::SeqCst) {
                0 => Box::pin(std::future::ready(Ok(Some(GRANT)))),
                _ => Box::pin(std::future::pending()),
            }
        }
    }

    #[tokio::test]
    async fn nobody_waits_behind_a_look_up_that_hangs() {
        let source = Arc::new(FrozenSource { is_frozen: AtomicU32::new(0) });
        let look_up_max = Duration::from_millis(200);
        let keys = Arc::new(Keys::new(source.clone(), KeySettings { look_up_max, ..NEVER_BELIEVED }));
        assert!(keys.authenticate("wk_good").await.is_ok());
        source.is_frozen.store(1, Ordering::SeqCst);
        let mut asks = Box::pin(keys.authenticate("wk_good"));
        // The one who asks waits for the answer that does not come, the next one does not.
        tokio::select! {
            biased;
            _ = &mut asks => panic!("nobody has answered"),
            next = keys.authenticate("wk_good") => assert_eq!(next.unwrap(), GRANT),
        }
        assert!(asks.await.is_ok());
        assert!(is_unavailable(keys.authenticate("wk_other").await));
    }

    #[tokio::test]
    async fn memory_for_unknown_keys_is_bounded() {
        let (_, keys) = keys(NEVER_BELIEVED);
        for n in 0..5_000 {
            assert!(is_unauthorized(keys.authenticate(&format!("wk_{n}")).await));
        }
        assert!(keys.lock().unknown.len() <= 1_000);
    }

    #[test]
    fn two_keys_that_differ_are_none() {
        let ok = |candidates: [Option<&str>; 3]| one_key(candidates).map(str::to_owned).ok();
        assert_eq!(ok([Some("a"), None, None]).as_deref(), Some("a"));
        assert_eq!(ok([None, None, Some("c")]).as_deref(), Some("c"));
        assert_eq!(ok([Some("a"), Some("a"), Some("a")]).as_deref(), Some("a"));
        assert_eq!(ok([Some("a"), None, Some("b")]), None);
        assert_eq!(ok([None, None, None]), None);
    }
}
