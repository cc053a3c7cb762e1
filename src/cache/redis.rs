//! Redis with a breaker in front: healthy it costs a round trip, dead it costs nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use deadpool_redis::redis::{Cmd, ErrorKind, FromRedisValue, RedisError, cmd};
use deadpool_redis::{Config, Pool, PoolError, Runtime};

use super::CacheAddressError;

/// Between two probes of a Redis that did not answer; each one waits twice as long as the last.
const PROBE_FIRST: Duration = Duration::from_millis(100);
const PROBE_LONGEST: Duration = Duration::from_secs(15);

#[derive(Clone)]
pub(super) struct RedisClient {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    timeout: Duration,
    /// Open means: do not ask, a probe is under way.
    open: AtomicBool,
}

impl RedisClient {
    pub(super) fn open(
        url: &str,
        connections_max: usize,
        timeout: Duration,
    ) -> Result<Self, CacheAddressError> {
        let pool = Config::from_url(url)
            .builder()
            .map_err(|error| CacheAddressError(error.into()))?
            .max_size(connections_max)
            .wait_timeout(Some(timeout))
            .create_timeout(Some(timeout))
            .recycle_timeout(Some(timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| CacheAddressError(error.into()))?;
        Ok(Self { inner: Arc::new(Inner { pool, timeout, open: AtomicBool::new(false) }) })
    }

    pub(super) fn is_well(&self) -> bool {
        !self.inner.open.load(Ordering::Relaxed)
    }

    pub(super) async fn get(&self, name: &str) -> Option<Bytes> {
        self.call::<Option<Vec<u8>>>(cmd("GET").arg(name)).await.flatten().map(Bytes::from)
    }

    pub(super) async fn put(&self, name: &str, value: &Bytes, ttl: Duration) {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut set = cmd("SET");
        set.arg(name).arg(value.as_ref()).arg("PX").arg(ttl_ms);
        self.call::<()>(&set).await;
    }

    pub(super) async fn remove(&self, name: &str) {
        self.call::<()>(cmd("DEL").arg(name)).await;
    }

    pub(super) async fn publish(&self, channel: &str, message: &str) {
        self.call::<()>(cmd("PUBLISH").arg(channel).arg(message)).await;
    }

    /// One command under one timeout for all its steps; `None` when there is no answer.
    async fn call<T: FromRedisValue>(&self, command: &Cmd) -> Option<T> {
        if !self.is_well() {
            return None;
        }
        match tokio::time::timeout(self.inner.timeout, self.inner.ask(command)).await {
            Ok(Ok(answer)) => Some(answer),
            // An answer, if not the one hoped for: out of memory, read-only. Redis itself is there.
            Ok(Err(PoolError::Backend(error))) if is_an_answer(&error) => {
                tracing::debug!(%error, "redis refused a command");
                None
            }
            Ok(Err(error)) => {
                self.trip(&error.to_string());
                None
            }
            Err(_) => {
                self.trip("no answer in time");
                None
            }
        }
    }

    fn trip(&self, why: &str) {
        if self.inner.open.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(redis.error = why, "redis does not answer; going on without it");
        tokio::spawn(probe(Arc::downgrade(&self.inner)));
    }
}

impl Inner {
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, PoolError> {
        let mut connection = self.pool.get().await?;
        Ok(command.query_async(&mut connection).await?)
    }
}

fn is_an_answer(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io | ErrorKind::ClusterConnectionNotFound => false,
        _ => !error.is_unrecoverable_error(),
    }
}

/// Asks in the background until there is an answer, so that no request has to be the one that tries.
async fn probe(inner: Weak<Inner>) {
    let mut pause = PROBE_FIRST;
    loop {
        tokio::time::sleep(pause).await;
        let Some(inner) = inner.upgrade() else { return };
        let ping = cmd("PING");
        if let Ok(Ok(())) = tokio::time::timeout(inner.timeout, inner.ask::<()>(&ping)).await {
            inner.open.store(false, Ordering::Relaxed);
            tracing::info!("redis answers again");
            return;
        }
        pause = PROBE_LONGEST.min(pause * 2);
    }
}
