//! A store with collection and sealers in this process: what `weir import` and `weir demo` fill it
//! with.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Context;
use crate::app;
use crate::collection::{Collector, CollectorParts};
use crate::eventstore::sealer::Sealer;
use crate::model::ReplicaId;
use crate::storage::Storage;
use crate::storage::server::journal::{self, JournalBacklog};
use crate::telemetry::Metrics;

/// How often the journal is looked at while it is waited for.
const SEALED_LOOK: Duration = Duration::from_millis(100);
/// Without a single event less in the journal, the wait is given up.
const STUCK_AFTER: Duration = Duration::from_secs(120);

pub struct Filling {
    pub storage: Storage,
    pub collector: Collector,
    stop: watch::Sender<bool>,
    sealing: JoinHandle<()>,
}

impl Filling {
    /// Sealers run from here on; a running `weir serve` may have the leases, and then it seals.
    pub async fn open(context: &Context) -> anyhow::Result<Self> {
        let storage = context.open_storage().await?;
        let metrics = Metrics::default();
        let holder = ReplicaId::random(&*context.random);
        let (clock, random) = (context.clock.clone(), context.random.clone());
        let seal_context = app::seal_context(&context.config, &storage, holder, clock, random);
        let parallel = context.config.sealing.parallel_shards as usize;
        let sealer = Arc::new(Sealer::new(seal_context, storage.shards.clone(), parallel, &metrics));
        let parts = CollectorParts {
            shards: storage.shards.clone(),
            keys: Arc::new(storage.control.clone()),
            config: context.config.collection.clone(),
            clock: context.clock.clone(),
            random: context.random.clone(),
        };
        let collector = Collector::start(parts, &metrics);
        let (stop, stopped) = watch::channel(false);
        let forwarder = Arc::new(app::forwarder(&context.config, holder, &storage, &metrics));
        let sealing = tokio::spawn(async move {
            tokio::join!(sealer.run(stopped.clone()), forwarder.run(stopped));
        });
        Ok(Self { storage, collector, stop, sealing })
    }

    /// Returns when everything that is committed now has left the journals, whoever seals it.
    /// `progress` sees how many events wait; those that others send meanwhile are not waited for.
    pub async fn wait_until_sealed(&self, mut progress: impl FnMut(u64)) -> anyhow::Result<()> {
        let mut servers = Vec::new();
        for server in self.storage.shards.servers() {
            let db = server.db()?;
            servers.push((db, journal::database_now(db).await?));
        }
        let mut least = u64::MAX;
        let mut less_at = tokio::time::Instant::now();
        loop {
            let mut waiting = 0;
            for (db, committed_until) in &servers {
                waiting += events_until(&journal::backlog(db).await?, *committed_until);
            }
            progress(waiting);
            if waiting == 0 {
                return Ok(());
            }
            if waiting < least {
                (least, less_at) = (waiting, tokio::time::Instant::now());
            }
            anyhow::ensure!(
                less_at.elapsed() < STUCK_AFTER,
                "{waiting} events are committed but nothing seals them for {STUCK_AFTER:?}; they are safe, and \
                 will count once a sealer gets through: look at the logs of weir serve"
            );
            tokio::time::sleep(SEALED_LOOK).await;
        }
    }

    /// Gives the leases back, so that others need not wait for them to run out.
    pub async fn close(self) {
        self.collector.drain().await;
        // Nobody listens when the sealers have ended already.
        let _ = self.stop.send(true);
        let _ = self.sealing.await;
        self.storage.close().await;
    }
}

/// Events of shards whose oldest batch is not younger than `until`.
fn events_until(backlog: &[JournalBacklog], until: i64) -> u64 {
    backlog.iter().filter(|shard| shard.oldest_inserted_at <= until).map(|shard| shard.events).sum()
}
