//! What may be forgotten at any moment: copies that make answers faster, and wake-ups that make
//! them sooner. Nothing a promise rests on is only here; the database has it all.
//!
//! * [`Cache`] keeps values behind typed keys ([`CacheKey`]): in Redis, in this process's memory, or
//!   not at all. Every call that cannot be served is a miss, quickly: each step has a timeout, and
//!   after the first failure a breaker answers without asking until a probe finds Redis well again.
//! * [`Wakeups`] tells who waits that something changed: in this process directly, in others through
//!   Redis. A message may be lost, so whoever waits also polls.

mod memory;
mod redis;
mod wakeups;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::model::Clock;
use memory::MemoryCache;
use redis::RedisClient;
pub use wakeups::{Wakeup, Wakeups};

/// A larger value is not worth keeping: it would push everything else out.
const VALUE_BYTES_MAX: usize = 2 << 20;

/// A key that knows what its value is.
pub trait CacheKey: Sync {
    type Value: Send;
    /// Part of every key of this type, in the field's words, with a version when the form changes.
    const NAME: &'static str;
    const TTL: Duration;
    fn id(&self) -> String;
    fn encode(value: &Self::Value) -> Bytes;
    /// `None` for bytes of another version: a miss.
    fn decode(bytes: Bytes) -> Option<Self::Value>;
}

#[derive(Clone)]
pub struct CacheSettings {
    /// `redis://…`; `None` keeps everything in this process.
    pub redis: Option<String>,
    /// Keeps installations that share a Redis apart: begin it with the installation's id.
    pub namespace: String,
    pub redis_connections_max: usize,
    /// The longest one call may take before it is a miss.
    pub redis_timeout: Duration,
    /// Without Redis; 0 keeps nothing.
    pub memory_bytes_max: usize,
}

/// The address of the cache is not one.
#[derive(Debug, thiserror::Error)]
#[error("the address of Redis cannot be used")]
pub struct CacheAddressError(#[source] pub(crate) Box<dyn std::error::Error + Send + Sync>);

#[derive(Clone)]
pub struct Cache {
    kept: Kept,
    namespace: Arc<str>,
    wakeups: Wakeups,
}

#[derive(Clone)]
enum Kept {
    Redis(RedisClient),
    Memory(Arc<MemoryCache>),
    Off,
}

impl Cache {
    /// Does not connect: a Redis that is away must not keep weir from starting.
    pub fn open(settings: &CacheSettings, clock: Arc<dyn Clock>) -> Result<Self, CacheAddressError> {
        let namespace: Arc<str> = settings.namespace.as_str().into();
        let (kept, wakeups) = match &settings.redis {
            Some(url) => {
                let client = RedisClient::open(url, settings.redis_connections_max, settings.redis_timeout)?;
                let wakeups = Wakeups::through_redis(url, &namespace, client.clone())?;
                (Kept::Redis(client), wakeups)
            }
            None if settings.memory_bytes_max > 0 => {
                let memory = MemoryCache::new(settings.memory_bytes_max, clock);
                (Kept::Memory(Arc::new(memory)), Wakeups::in_process())
            }
            None => (Kept::Off, Wakeups::in_process()),
        };
        Ok(Self { kept, namespace, wakeups })
    }

    /// Keeps nothing, and wakes only in this process.
    pub fn off() -> Self {
        Self { kept: Kept::Off, namespace: "".into(), wakeups: Wakeups::in_process() }
    }

    pub fn wakeups(&self) -> &Wakeups {
        &self.wakeups
    }

    pub async fn get<K: CacheKey>(&self, key: &K) -> Option<K::Value> {
        let name = self.name(key);
        let bytes = match &self.kept {
            Kept::Redis(client) => client.get(&name).await,
            Kept::Memory(memory) => memory.get(&name),
            Kept::Off => None,
        };
        bytes.and_then(K::decode)
    }

    /// Call it after the commit, never before: the database is what is true.
    pub async fn put<K: CacheKey>(&self, key: &K, value: &K::Value) {
        let bytes = K::encode(value);
        if bytes.len() > VALUE_BYTES_MAX {
            return;
        }
        let name = self.name(key);
        match &self.kept {
            Kept::Redis(client) => client.put(&name, &bytes, K::TTL).await,
            Kept::Memory(memory) => memory.put(name, bytes, K::TTL),
            Kept::Off => {}
        }
    }

    /// May fail silently: a value that must not be seen any more needs a key that says so.
    pub async fn remove<K: CacheKey>(&self, key: &K) {
        let name = self.name(key);
        match &self.kept {
            Kept::Redis(client) => client.remove(&name).await,
            Kept::Memory(memory) => memory.remove(&name),
            Kept::Off => {}
        }
    }

    /// Forgets all that is kept in this process, after an erasure. What is in Redis is shared, and whoever
    /// erases removes it there.
    pub fn forget_memory(&self) {
        if let Kept::Memory(memory) = &self.kept {
            memory.clear();
        }
    }

    /// Asks Redis now; `None` without Redis.
    pub async fn probe(&self) -> Option<bool> {
        if let Kept::Redis(client) = &self.kept {
            client.get("probe").await;
        }
        self.redis_is_well()
    }

    /// Whether Redis is in use and answering; `None` without Redis.
    pub fn redis_is_well(&self) -> Option<bool> {
        match &self.kept {
            Kept::Redis(client) => Some(client.is_well()),
            Kept::Memory(_) | Kept::Off => None,
        }
    }

    fn name<K: CacheKey>(&self, key: &K) -> String {
        format!("weir:{}:{}:{}", self.namespace, K::NAME, key.id())
    }
}

#[cfg(test)]
mod tests;
