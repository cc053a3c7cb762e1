//! One request's way through collection.

use std::sync::Arc;
use std::time::Duration;

use super::budget::{Budget, Reserved};
use super::cardinality::Cardinality;
use super::committer::{Committer, CommitterSettings, Piece, Pieces};
use super::keys::{KeySettings, KeySource, Keys, WriteGrant, one_key};
use super::metrics::CollectMetrics;
use super::outcome::{CollectError, Collected, RejectedEvent, Rejection};
use super::payload::{self, Body, BodyError, BodyLimits, Encoding};
use super::protocols::native::NativeBody;
use super::protocols::{Begun, Document, Reading};
use super::rejected::{REJECTED_KEPT_MAX, RejectedEvents};
use super::timestamp::Now;
use super::validate::Judge;
use crate::config::CollectionConfig;
use crate::model::{Clock, Random, shard_of};
use crate::storage::Shards;
use crate::storage::server::failed_events::FailedEvent;
use crate::telemetry::Metrics;

/// Bodies from this size on are read on a thread of their own: a megabyte of JSON takes
/// milliseconds, and every other request of the same worker would wait for them.
const READ_APART_BYTES: usize = 64 * 1024;

/// The same for compressed bodies, which grow about tenfold.
const INFLATE_APART_BYTES: usize = 8 * 1024;

/// What a [`Collector`] is made of.
pub struct CollectorParts {
    pub shards: Shards,
    pub keys: Arc<dyn KeySource>,
    pub config: CollectionConfig,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
}

/// Shared by all requests; clones are cheap.
#[derive(Clone)]
pub struct Collector {
    inner: Arc<Inner>,
}

struct Inner {
    shards: u16,
    keys: Keys,
    limits: CollectionConfig,
    committer: Committer,
    cardinality: Cardinality,
    rejected: RejectedEvents,
    bodies: Budget,
    keyless_bodies: Budget,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    metrics: CollectMetrics,
}

impl Collector {
    /// Needs a tokio runtime: it starts the task that keeps rejected events.
    pub fn start(parts: CollectorParts, metrics: &Metrics) -> Self {
        let CollectorParts { shards, keys, config, clock, random } = parts;
        let metrics = CollectMetrics::new(metrics);
        let committer = Committer::new(&shards, CommitterSettings::from(&config), &clock, &random, &metrics);
        let rejected = RejectedEvents::start(
            shards.clone(),
            config.rejected_kept_max as usize,
            clock.clone(),
            random.clone(),
            metrics.clone(),
        );
        let key_settings = KeySettings {
            believed: Duration::from_secs(config.key_refresh_secs.into()),
            ..KeySettings::default()
        };
        let inner = Inner {
            shards: shards.count(),
            keys: Keys::new(keys, key_settings),
            cardinality: Cardinality::new(
                config.event_names_max as usize,
                config.property_names_max as usize,
            ),
            bodies: Budget::with_gauge(config.bodies_bytes_max as usize, metrics.body_bytes.clone()),
            keyless_bodies: Budget::with_gauge(
                config.keyless_bodies_bytes_max as usize,
                metrics.body_bytes.clone(),
            ),
            limits: config,
            committer,
            rejected,
            clock,
            random,
            metrics,
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn metrics(&self) -> &CollectMetrics {
        &self.inner.metrics
    }

    /// The memory that bodies in flight share.
    pub fn bodies(&self) -> &Budget {
        &self.inner.bodies
    }

    /// The memory that bodies of senders share who have not shown a key before them.
    pub fn keyless_bodies(&self) -> &Budget {
        &self.inner.keyless_bodies
    }

    pub fn body_limits(&self) -> BodyLimits {
        let limits = &self.inner.limits;
        BodyLimits {
            compressed_bytes_max: limits.compressed_bytes_max as usize,
            plain_bytes_max: limits.body_bytes_max as usize,
            deadline: Duration::from_secs(limits.body_secs_max.into()),
        }
    }

    /// Seconds after which another try may succeed, for errors that another try may cure. Spread over a
    /// few, so that those who were refused together do not come back together.
    pub fn retry_after_secs(&self, error: &CollectError) -> Option<u32> {
        let least = match error {
            CollectError::Unavailable(unavailable) => unavailable.retry_after_secs(),
            CollectError::Body(BodyError::OutOfMemory(_)) => 1,
            _ => return None,
        };
        Some(least + (self.inner.random.next_u64() % 3) as u32)
    }

    pub async fn authenticate(&self, key: &str) -> Result<WriteGrant, CollectError> {
        self.inner.keys.authenticate(key).await
    }

    /// Reads, judges and commits a body, in the protocol that began with its head.
    pub async fn collect(&self, body: Body, begun: Begun) -> Result<Collected, CollectError> {
        let Begun { key, reading } = begun;
        let collector = self.clone();
        let text =
            apart_if(body.encoding != Encoding::Identity && body.bytes.len() >= INFLATE_APART_BYTES, {
                let collector = collector.clone();
                move || collector.inflate(body)
            })
            .await?;
        let key = match key {
            Some(key) => key,
            None => body_key(&text, &*reading)?,
        };
        let grant = self.authenticate(&key).await?;
        let read = apart_if(text.as_str().len() >= READ_APART_BYTES, move || {
            let document = reading.open(text.as_str())?;
            one_key([Some(key.as_str()), document.key()])?;
            collector.read_events(grant, &*document)
        })
        .await?;
        self.commit(read).await
    }

    /// The same for lines of NDJSON whose sender needs no key: what `weir import` reads from files.
    pub async fn collect_lines(&self, grant: WriteGrant, lines: String) -> Result<Collected, CollectError> {
        let collector = self.clone();
        let read = apart_if(lines.len() >= READ_APART_BYTES, move || {
            collector.read_events(grant, &NativeBody::of_lines(&lines))
        })
        .await?;
        self.commit(read).await
    }

    /// Takes no more events and returns when all that were taken are committed.
    pub async fn drain(&self) {
        self.inner.committer.drain().await;
    }

    fn inflate(&self, mut body: Body) -> Result<PlainText, CollectError> {
        let bytes_max = self.inner.limits.body_bytes_max as usize;
        let bytes = payload::inflate(body.encoding, body.bytes, bytes_max, &mut body.reserved)?;
        Ok(PlainText { text: payload::into_text(bytes)?, _reserved: body.reserved })
    }

    fn read_events(&self, grant: WriteGrant, document: &dyn Document) -> Result<ReadEvents, CollectError> {
        let inner = &*self.inner;
        let received_at = inner.clock.now_ms();
        let judge = Judge {
            project_id: grant.project_id,
            now: Now { received_at, future_ms_max: i64::from(inner.limits.future_secs_max) * 1_000 },
            limits: &inner.limits,
            cardinality: &inner.cardinality,
            clock: &*inner.clock,
            random: &*inner.random,
        };
        // A project may be older than the number of shards it was created with.
        let span = grant.span.clamp(1, inner.shards);
        let records_max = inner.limits.body_bytes_max as usize;
        let mut pieces = Pieces::default();
        let mut collected = Collected::default();
        let mut rejected = Vec::new();
        let mut index = 0;
        document.read_events(&inner.limits, &mut |raw| {
            let text = raw.text;
            match judge.validate(raw) {
                Ok(event) if pieces.bytes() <= records_max => {
                    let home = |id: &str| shard_of(grant.project_id, id, span, inner.shards);
                    pieces.push(home(&event.distinct_id), |records| event.encode(&judge, records));
                    if let Some(linked_id) = event.linked_id() {
                        pieces.push(home(linked_id), |records| event.encode_link(linked_id, &judge, records));
                    }
                    collected.accepted += 1;
                }
                // Refused as a whole below.
                Ok(_) => {}
                Err(rejection) => {
                    if rejected.len() < REJECTED_KEPT_MAX {
                        rejected.push(inner.rejected.to_keep(
                            grant.project_id,
                            &rejection,
                            text,
                            received_at,
                        ));
                    }
                    let Rejection { reason, detail } = rejection;
                    collected.rejected.push(RejectedEvent { index, code: reason, detail });
                }
            }
            index += 1;
        })?;
        // Long names of nested objects are repeated for each property, so what is small as JSON can
        // be large when it is flat.
        if pieces.bytes() > records_max {
            return Err(CollectError::TooLargeWhenFlat { limit: records_max });
        }
        Ok(ReadEvents { pieces: pieces.into_vec(), collected, rejected })
    }

    async fn commit(&self, read: ReadEvents) -> Result<Collected, CollectError> {
        let ReadEvents { pieces, collected, rejected } = read;
        let metrics = &self.inner.metrics;
        let accepted = collected.accepted as u64;
        if !pieces.is_empty()
            && let Err(unavailable) = self.inner.committer.commit(pieces).await
        {
            // The whole request is sent again, its rejected events too.
            metrics.retried(accepted + collected.rejected.len() as u64);
            return Err(CollectError::Unavailable(unavailable));
        }
        metrics.accepted(accepted);
        for event in &collected.rejected {
            metrics.rejected(event.code, 1);
        }
        // Only now: a request that is refused as a whole is sent again, its rejected events too.
        metrics.rejected_not_kept.inc_by((collected.rejected.len() - rejected.len()) as u64);
        self.inner.rejected.keep(rejected);
        Ok(collected)
    }
}

/// An inflated body and its share of memory.
struct PlainText {
    text: String,
    _reserved: Reserved,
}

impl PlainText {
    fn as_str(&self) -> &str {
        &self.text
    }
}

/// What is left of a request when its body is read.
struct ReadEvents {
    pieces: Vec<Piece>,
    collected: Collected,
    /// Some of the rejected events as they will be shown to their sender.
    rejected: Vec<FailedEvent>,
}

fn body_key(text: &PlainText, reading: &dyn Reading) -> Result<String, CollectError> {
    let document = reading.open(text.as_str())?;
    document.key().map(str::to_owned).ok_or(CollectError::Unauthorized)
}

/// Runs work on this thread when it is short, else on one where nobody waits behind it.
async fn apart_if<T: Send + 'static>(is_long: bool, work: impl FnOnce() -> T + Send + 'static) -> T {
    if !is_long {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // Only when the runtime itself is shutting down: nobody is left to hear an answer.
        Err(_) => std::future::pending().await,
    }
}
