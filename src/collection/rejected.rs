//! Keeping rejected events where their senders can find them, off the path of requests.
//!
//! Best effort: a full channel, a project that sends too many, a server that is away, and the event is
//! only counted. What is kept is bounded for each project, and long events are cut.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::metrics::CollectMetrics;
use super::outcome::Rejection;
use crate::model::{BatchId, Clock, Millis, ProjectId, Random, shard_of};
use crate::storage::server::failed_events::{self, FailedEvent, Stage};
use crate::storage::{Db, Shards, StorageError};

/// Events that wait to be written.
const WAITING_MAX: usize = 1_000;

/// Of one request, and of one project between two writes; the rest would only push older ones out.
pub const REJECTED_KEPT_MAX: usize = 100;

const PAUSE_BETWEEN_WRITES: Duration = Duration::from_millis(500);

/// What is kept of an event's text: enough to see what was sent.
const KEPT_BYTES_MAX: usize = 8 * 1024;

/// Hands rejected events over to the task that writes them.
#[derive(Clone)]
pub struct RejectedEvents {
    waiting: mpsc::Sender<FailedEvent>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    metrics: CollectMetrics,
}

impl RejectedEvents {
    /// Starts the writing task; it ends when the last handle is dropped. `kept` is for each project.
    pub fn start(
        shards: Shards,
        kept: usize,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        metrics: CollectMetrics,
    ) -> Self {
        let (waiting, received) = mpsc::channel(WAITING_MAX);
        tokio::spawn(write_all(received, shards, kept, metrics.clone()));
        Self { waiting, clock, random, metrics }
    }

    /// What would be kept of this event.
    pub fn to_keep(
        &self,
        project_id: ProjectId,
        rejection: &Rejection,
        text: &str,
        received_at: Millis,
    ) -> FailedEvent {
        FailedEvent {
            failed_id: BatchId::time_ordered(&*self.clock, &*self.random),
            project_id,
            stage: Stage::Collect,
            reason: rejection.reason.code().to_owned(),
            detail: rejection.detail.clone(),
            body: Bytes::copy_from_slice(&text.as_bytes()[..text.floor_char_boundary(KEPT_BYTES_MAX)]),
            failed_at: received_at,
        }
    }

    /// Never waits.
    pub fn keep(&self, events: Vec<FailedEvent>) {
        for event in events {
            if self.waiting.try_send(event).is_err() {
                self.metrics.rejected_not_kept.inc();
            }
        }
    }
}

async fn write_all(
    mut received: mpsc::Receiver<FailedEvent>,
    shards: Shards,
    kept: usize,
    metrics: CollectMetrics,
) {
    let mut events = Vec::new();
    while received.recv_many(&mut events, WAITING_MAX).await > 0 {
        let mut by_project: HashMap<ProjectId, Vec<FailedEvent>> = HashMap::new();
        for event in events.drain(..) {
            by_project.entry(event.project_id).or_default().push(event);
        }
        for (project_id, mut failed) in by_project {
            let dropped = failed.len().saturating_sub(REJECTED_KEPT_MAX.min(kept));
            metrics.rejected_not_kept.inc_by(dropped as u64);
            failed.drain(..dropped);
            if failed.is_empty() {
                continue;
            }
            let written = failed.len();
            if let Err(error) = write(&shards, project_id, failed, kept).await {
                metrics.rejected_not_kept.inc_by(written as u64);
                tracing::debug!(error = &error as &dyn std::error::Error, "rejected events were not kept");
            }
        }
        // What gathers meanwhile is the next write.
        tokio::time::sleep(PAUSE_BETWEEN_WRITES).await;
    }
}

async fn write(
    shards: &Shards,
    project_id: ProjectId,
    failed: Vec<FailedEvent>,
    kept: usize,
) -> Result<(), StorageError> {
    // One server for each project, so that the bound holds; readers ask all of them.
    let db: &Db = shards.db_of(shard_of(project_id, "", 1, shards.count()))?;
    failed_events::insert(db, &failed).await?;
    failed_events::delete_beyond(db, project_id, kept).await?;
    Ok(())
}
