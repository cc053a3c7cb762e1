//! The forwarder: batches that wait in the journal of a server where their shard does not live.
//!
//! Collection commits an event to another server when its own does not take it. Its batch keeps its
//! shard and its id, so that the shard map, read at the time of forwarding, says where it belongs: the
//! same holds for a shard that has moved to another server in the meantime.
//!
//! One task per server looks at the shards that its journal holds, and while the home of one answers,
//! takes the shard's `forward` lease on the server where the batches wait, and moves them step by step:
//!
//! 1. insert them at home, under the same ids and with the time of their first insert;
//! 2. in one short transaction that checks the lease's fence, delete here exactly those batches.
//!
//! A death in between leaves them in both places and they are inserted again: still in the home's
//! journal, they are the same rows; sealed already, the sealer finds every one of their events stored.
//! So nothing is lost at any point, and an event counts once however often its batch is moved.
//!
//! A reader who wants to know what is still on its way looks at the other servers' journals first and
//! at the home last: a batch that it finds nowhere on its way is then at home in its list.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{each_server, failpoint};
use crate::model::{ReplicaId, ShardNo};
use crate::storage::server::journal::{self, INSERT_BYTES_MAX, INSERT_ROWS_MAX, JournalBatch, JournalEntry};
use crate::storage::server::leases::{self, Lease, LeaseTask};
use crate::storage::{AsStorageError, Db, Server, Shards, StorageError};
use crate::telemetry::Metrics;

/// Steps of one shard under one lease before the next shard has its turn.
const STEPS_PER_TURN: usize = 64;
/// The longest rest after failures: a server that comes back is seen soon.
const FAILURE_REST_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// Somebody else forwards this shard by now. What was inserted at home is inserted again, once.
    #[error("another process forwards the shard")]
    Overtaken,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl AsStorageError for ForwardError {
    fn as_storage_error(&self) -> Option<&StorageError> {
        match self {
            Self::Storage(error) => Some(error),
            Self::Overtaken => None,
        }
    }
}

#[derive(Clone)]
struct ForwardMetrics {
    batches: prometheus::IntCounter,
    events: prometheus::IntCounter,
    failures: prometheus::IntCounter,
}

impl ForwardMetrics {
    fn new(metrics: &Metrics) -> Self {
        Self {
            batches: metrics.counter("weir_forward_batches_total", "Batches brought to their own server."),
            events: metrics.counter("weir_forward_events_total", "Events in those batches."),
            failures: metrics.counter("weir_forward_failures_total", "Rounds in which forwarding failed."),
        }
    }
}

pub struct Forwarder {
    holder: ReplicaId,
    shards: Shards,
    lease_ms: u64,
    idle: Duration,
    metrics: ForwardMetrics,
}

impl Forwarder {
    pub fn new(holder: ReplicaId, shards: Shards, lease_ms: u64, idle: Duration, metrics: &Metrics) -> Self {
        Self { holder, shards, lease_ms, idle, metrics: ForwardMetrics::new(metrics) }
    }

    /// Runs until `stop` turns true. With one server there is nowhere to forward to.
    pub async fn run(self: Arc<Self>, stop: watch::Receiver<bool>) {
        if self.shards.servers().len() < 2 {
            return;
        }
        each_server(&self.shards, |server| self.clone().run_server(server, stop.clone())).await;
    }

    async fn run_server(self: Arc<Self>, server: Arc<Server>, mut stop: watch::Receiver<bool>) {
        let mut failures = 0_u32;
        while !*stop.borrow() {
            let rest = match self.forward_server(&server).await {
                Ok(moved) => {
                    failures = 0;
                    if moved > 0 { Duration::ZERO } else { self.idle }
                }
                Err(error) => {
                    failures += 1;
                    self.metrics.failures.inc();
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(server.id = %server.server_id, error, "forwarding failed; trying again");
                    (self.idle * failures.min(10)).min(FAILURE_REST_MAX)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                _ = stop.changed() => {}
            }
        }
    }

    /// One look at a server's journal; how many batches have gone home.
    pub async fn forward_server(&self, server: &Server) -> Result<u64, ForwardError> {
        let here = server.db()?;
        let mut moved = 0;
        let mut away = Vec::new();
        let mut failed = None;
        for shard_no in journal::list_shards(here).await? {
            // A shard that the map does not know is kept for whoever mends the map.
            if shard_no.0 >= self.shards.count() {
                continue;
            }
            let home = self.shards.server_of(shard_no);
            if home.server_id == server.server_id || away.contains(&home.server_id) {
                continue;
            }
            let forwarded = match home.db() {
                Ok(home) => self.forward_shard(here, home, shard_no).await,
                Err(error) => Err(error.into()),
            };
            match forwarded {
                Ok(batches) => moved += batches,
                Err(ForwardError::Overtaken) => {}
                // Whichever of the two it is: other shards of that home would wait for it as well.
                Err(error) => {
                    away.push(home.server_id);
                    failed = Some(error);
                }
            }
        }
        match failed {
            // A home that is away is what batches wait here for, and no failure of forwarding.
            Some(ForwardError::Storage(error)) if !error.is_transient() => Err(error.into()),
            _ => Ok(moved),
        }
    }

    async fn forward_shard(&self, here: &Db, home: &Db, shard_no: ShardNo) -> Result<u64, ForwardError> {
        let taken = leases::find_lease(here, shard_no, LeaseTask::Forward, self.holder, self.lease_ms);
        let Some(lease) = taken.await? else { return Ok(0) };
        let mut moved = 0;
        let mut result = Ok(());
        for _ in 0..STEPS_PER_TURN {
            match self.step(here, home, &lease).await {
                Ok(0) => break,
                Ok(batches) => moved += batches,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        leases::release(here, &lease).await?;
        if moved > 0 {
            tracing::info!(shard.no = shard_no.0, batches = moved, "batches were forwarded to their server");
        }
        result.map(|()| moved)
    }

    /// Moves as many batches as one statement carries; how many.
    async fn step(&self, here: &Db, home: &Db, lease: &Lease) -> Result<u64, ForwardError> {
        let shard_no = lease.shard_no;
        let entries = journal::list_oldest(here, shard_no, INSERT_ROWS_MAX).await?;
        let batches = fitting(journal::read(here, shard_no, &ids(&entries)).await?);
        if batches.is_empty() {
            return Ok(0);
        }
        journal::insert_forwarded(home, shard_no, &batches).await?;
        failpoint::hit("forward.after_insert");
        let entries: Vec<JournalEntry> = batches.iter().map(|batch| batch.entry).collect();
        let (lease, batch_ids) = (*lease, ids(&entries));
        here.transaction_after(leases::enter(&lease, self.lease_ms), move |tx| {
            let batch_ids = batch_ids.clone();
            Box::pin(async move {
                let is_held = leases::is_held(tx, &lease).await?;
                if !is_held || journal::delete(tx, shard_no, &batch_ids).await? != batch_ids.len() as u64 {
                    return Err(ForwardError::Overtaken);
                }
                leases::leave(tx, &lease).await?;
                Ok(())
            })
        })
        .await?;
        failpoint::hit("forward.after_delete");
        self.metrics.batches.inc_by(entries.len() as u64);
        self.metrics.events.inc_by(entries.iter().map(|entry| u64::from(entry.events)).sum());
        Ok(entries.len() as u64)
    }
}

fn ids(entries: &[JournalEntry]) -> Vec<crate::model::BatchId> {
    entries.iter().map(|entry| entry.batch_id).collect()
}

/// The first batches, as many as one statement carries, at least one.
fn fitting(mut batches: Vec<JournalBatch>) -> Vec<JournalBatch> {
    let mut bytes = 0;
    let fitting = batches.iter().take_while(|batch| {
        let is_first = bytes == 0;
        bytes += batch.body.len();
        is_first || bytes <= INSERT_BYTES_MAX
    });
    let count = fitting.count();
    batches.truncate(count);
    batches
}

#[cfg(test)]
mod tests;
