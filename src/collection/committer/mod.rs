//! Group commit: events of many requests in one statement, without a timer.
//!
//! Each server has a [`lane`]. While one commit is in flight there, whatever arrives gathers; when it
//! ends, all that has gathered is the next commit: one batch per shard, one statement, autocommit.
//! An idle server commits a lone event at once, a busy one commits hundreds of requests together,
//! and nobody has to guess a delay.
//!
//! A request is answered after the commits that carry its events, each commit answers for exactly
//! the requests it carried, and no request can cancel one: commits run in tasks of their own.

mod lane;
mod piece;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

pub use piece::{Piece, Pieces};

use self::lane::Lane;
use super::metrics::CollectMetrics;
use super::outcome::Unavailable;
use crate::config::CollectionConfig;
use crate::model::{Clock, Random};
use crate::storage::server::journal::{self, NewBatch};
use crate::storage::{Server, Shards, StorageError};

/// Where one server's batches go.
pub trait Journal: Send + Sync + 'static {
    /// All of them or none; again with the same ids changes nothing.
    fn insert(&self, batches: Vec<NewBatch>) -> BoxFuture<'static, Result<(), StorageError>>;
}

impl Journal for Server {
    fn insert(&self, batches: Vec<NewBatch>) -> BoxFuture<'static, Result<(), StorageError>> {
        let db = self.commits_db().cloned();
        Box::pin(async move { journal::insert(&db?, batches).await })
    }
}

#[derive(Clone, Copy, Debug)]
pub struct CommitterSettings {
    /// Bytes of records that wait or are being committed, all servers together.
    pub queue_bytes_max: usize,
    /// How long a request waits, and how long a commit may take before its server counts as away.
    pub deadline: Duration,
    /// Commits in flight to one server.
    pub in_flight_max: usize,
}

impl From<&CollectionConfig> for CommitterSettings {
    fn from(config: &CollectionConfig) -> Self {
        Self {
            queue_bytes_max: config.queue_bytes_max as usize,
            deadline: Duration::from_secs(config.commit_secs_max.into()),
            in_flight_max: config.commits_in_flight_max as usize,
        }
    }
}

pub struct Committer {
    lanes: Vec<Arc<Lane>>,
    /// Index into `lanes` for each shard.
    lane_of_shard: Vec<usize>,
    deadline: Duration,
}

impl Committer {
    pub fn new(
        shards: &Shards,
        settings: CommitterSettings,
        clock: &Arc<dyn Clock>,
        random: &Arc<dyn Random>,
        metrics: &CollectMetrics,
    ) -> Self {
        let servers = shards.servers();
        let journals = servers.iter().map(|server| server.clone() as Arc<dyn Journal>).collect();
        let lane_of_shard = shards
            .all()
            .map(|shard_no| {
                let home = shards.server_of(shard_no).server_id;
                servers.iter().position(|server| server.server_id == home).expect("the map names its servers")
            })
            .collect();
        Self::over(journals, lane_of_shard, settings, clock, random, metrics)
    }

    /// `lane_of_shard` holds the index of a journal for each shard.
    pub fn over(
        journals: Vec<Arc<dyn Journal>>,
        lane_of_shard: Vec<usize>,
        settings: CommitterSettings,
        clock: &Arc<dyn Clock>,
        random: &Arc<dyn Random>,
        metrics: &CollectMetrics,
    ) -> Self {
        // A share each, so that one server's trouble cannot take the others' memory.
        let queue_bytes_max = settings.queue_bytes_max / journals.len().max(1);
        let settings = CommitterSettings { queue_bytes_max, ..settings };
        let lanes = journals.into_iter().map(|journal| {
            Arc::new(Lane::new(journal, settings, clock.clone(), random.clone(), metrics.clone()))
        });
        Self { lanes: lanes.collect(), lane_of_shard, deadline: settings.deadline }
    }

    /// Returns once every piece is committed; an error means that some may be and some may not.
    ///
    /// Refused at once when a queue is full or a server is known to be away. The caller may stop
    /// waiting at any time: the commits go on.
    pub async fn commit(&self, pieces: Vec<Piece>) -> Result<(), Unavailable> {
        let mut by_lane: Vec<Vec<Piece>> = Vec::new();
        by_lane.resize_with(self.lanes.len(), Vec::new);
        for piece in pieces {
            by_lane[self.lane_of_shard[usize::from(piece.shard_no.0)]].push(piece);
        }
        // First every lane's consent, then the events: a request that touches two servers is not
        // committed to one of them only to be refused by the other.
        let mut admitted = Vec::new();
        for (lane, pieces) in self.lanes.iter().zip(by_lane) {
            if !pieces.is_empty() {
                let bytes = pieces.iter().map(|piece| piece.records.len()).sum();
                admitted.push((lane, pieces, lane.admit(bytes)?));
            }
        }
        let mut answers: Vec<oneshot::Receiver<Result<(), Unavailable>>> = Vec::new();
        for (lane, pieces, reserved) in admitted {
            lane.submit(pieces, reserved, &mut answers);
        }
        let waiting = async {
            for answer in answers {
                // A sender that is gone without a word was in a commit that panicked.
                answer.await.unwrap_or(Err(Unavailable::CommitFailed("the commit was given up".into())))?;
            }
            Ok(())
        };
        tokio::time::timeout(self.deadline, waiting).await.unwrap_or(Err(Unavailable::CommitTooSlow))
    }

    /// Takes no more, and returns when nothing is in flight: the last step of a graceful stop.
    pub async fn drain(&self) {
        for lane in &self.lanes {
            lane.drain().await;
        }
    }
}

#[cfg(test)]
mod tests;
