//! Group commit: events of many requests in one statement, without a timer.
//!
//! Each server has a [`lane`]. While one commit is in flight there, whatever arrives gathers; when it
//! ends, all that has gathered is the next commit: one batch per shard, one statement, autocommit.
//! An idle server commits a lone event at once, a busy one commits hundreds of requests together,
//! and nobody has to guess a delay.
//!
//! **Spill.** Many SDKs never send again after a 503, so refusing is losing. What a server does not
//! take, because it is away or slower than `collection.spill_after_ms`, is committed to the journal of
//! the next server that does, under its own shard; the forwarder (`eventstore/forwarder`) brings it
//! home. A server that failed is left alone for a second, and then one request tries it again. It may
//! have committed after all what another has committed too: events are identified, so both copies
//! count once. Only when no server commits, or a queue is full, the answer is 503.
//!
//! A request is answered after the commits that carry its events, each commit answers for exactly
//! the requests it carried, and no request can cancel one: commits run in tasks of their own.

mod lane;
mod piece;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

pub use piece::{Piece, Pieces};

use self::lane::{Admitted, Lane};
use super::budget::Reserved;
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

    /// Asks the server something that is quickly answered, over a connection that commits do not use.
    fn probe(&self) -> BoxFuture<'static, Result<(), StorageError>>;

    /// How long ago its server last answered anything at all; `None` when it never did.
    fn heard_before(&self) -> Option<Duration>;
}

impl Journal for Server {
    fn insert(&self, batches: Vec<NewBatch>) -> BoxFuture<'static, Result<(), StorageError>> {
        let db = self.commits_db().cloned();
        Box::pin(async move { journal::insert(&db?, batches).await })
    }

    fn probe(&self) -> BoxFuture<'static, Result<(), StorageError>> {
        let db = self.db().cloned();
        Box::pin(async move { db?.now_ms().await.map(drop) })
    }

    fn heard_before(&self) -> Option<Duration> {
        Server::heard_before(self)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct CommitterSettings {
    /// Bytes of records that wait or are being committed, all servers together.
    pub queue_bytes_max: usize,
    /// How long a request waits, and how long a commit may take before its server counts as away.
    pub deadline: Duration,
    /// How long a commit may take while there is another server for its events.
    pub spill_after: Duration,
    /// Commits in flight to one server.
    pub in_flight_max: usize,
}

impl From<&CollectionConfig> for CommitterSettings {
    fn from(config: &CollectionConfig) -> Self {
        Self {
            queue_bytes_max: config.queue_bytes_max as usize,
            deadline: Duration::from_secs(config.commit_secs_max.into()),
            spill_after: Duration::from_millis(config.spill_after_ms.into()),
            in_flight_max: config.commits_in_flight_max as usize,
        }
    }
}

pub struct Committer {
    lanes: Vec<Arc<Lane>>,
    /// Index into `lanes` for each shard.
    lane_of_shard: Vec<usize>,
    deadline: Duration,
    metrics: CollectMetrics,
}

/// Lanes that one request is to try: their servers were away, and it finds out whether they are back. It may
/// use such a lane for all of its pieces, and gives it back when it is refused elsewhere: otherwise requests
/// that touch two servers, both just back, would spend one trial after the other for nothing.
#[derive(Default)]
struct Trials {
    lanes: Vec<usize>,
}

impl Trials {
    fn give_back(&self, lanes: &[Arc<Lane>]) {
        self.lanes.iter().for_each(|&lane_no| lanes[lane_no].give_back_trial());
    }
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
        let can_spill = journals.len() > 1;
        let deadline = settings.deadline;
        let commit_max = if can_spill { deadline.min(settings.spill_after) } else { deadline };
        let settings = CommitterSettings { queue_bytes_max, deadline: commit_max, ..settings };
        let lanes = journals.into_iter().map(|journal| {
            let lane =
                Lane::new(journal, settings, can_spill, clock.clone(), random.clone(), metrics.clone());
            Arc::new(lane)
        });
        Self { lanes: lanes.collect(), lane_of_shard, deadline, metrics: metrics.clone() }
    }

    /// Returns once every piece is committed; an error means that some may be and some may not.
    ///
    /// Refused at once when a queue is full or all servers are known to be away. The caller may stop
    /// waiting at any time: the commits go on.
    pub async fn commit(&self, pieces: Vec<Piece>) -> Result<(), Unavailable> {
        let mut by_lane: Vec<Vec<Piece>> = Vec::new();
        by_lane.resize_with(self.lanes.len(), Vec::new);
        for piece in pieces {
            by_lane[self.lane_of_shard[usize::from(piece.shard_no.0)]].push(piece);
        }
        // First consent for all, then the events: a request that touches two servers is not committed to
        // one of them only to be refused by the other.
        let mut admitted = Vec::new();
        let mut trials = Trials::default();
        for (home, pieces) in by_lane.into_iter().enumerate() {
            if !pieces.is_empty() {
                let place = self.admit(home, 0, bytes_of(&pieces), &mut trials);
                let place = place.inspect_err(|_| trials.give_back(&self.lanes))?;
                admitted.push((home, pieces, place));
            }
        }
        let commits = admitted.into_iter().map(|(home, pieces, place)| self.commit_at(home, pieces, place));
        let committed = async {
            // All to their end: what one server refuses is no reason to leave another's half way.
            for ended in futures_util::future::join_all(commits).await {
                ended?;
            }
            Ok(())
        };
        tokio::time::timeout(self.deadline, committed).await.unwrap_or(Err(Unavailable::CommitTooSlow))
    }

    /// Room at the first server that takes events of `home` now, from the `step`th in turn on.
    fn admit(
        &self,
        home: usize,
        step: usize,
        bytes: usize,
        trials: &mut Trials,
    ) -> Result<(usize, Reserved), Unavailable> {
        let mut refusal = Unavailable::ServerAway;
        for step in step..self.lanes.len() {
            let lane_no = (home + step) % self.lanes.len();
            let is_trial = trials.lanes.contains(&lane_no);
            match self.lanes[lane_no].admit(bytes, is_trial) {
                Ok(Admitted { reserved, is_trial }) => {
                    if is_trial && !trials.lanes.contains(&lane_no) {
                        trials.lanes.push(lane_no);
                    }
                    return Ok((step, reserved));
                }
                Err(Unavailable::ServerAway) => {}
                // A full queue means more than the servers can take, which spilling would only spread.
                Err(other) => {
                    refusal = other;
                    break;
                }
            }
        }
        Err(refusal)
    }

    fn lane(&self, home: usize, step: usize) -> &Arc<Lane> {
        &self.lanes[(home + step) % self.lanes.len()]
    }

    /// Commits the pieces of one home there, or, what it gives back, at the next server in turn.
    async fn commit_at(
        &self,
        home: usize,
        mut pieces: Vec<Piece>,
        mut place: (usize, Reserved),
    ) -> Result<(), Unavailable> {
        loop {
            let (step, reserved) = place;
            let events: u32 = pieces.iter().map(|piece| piece.events).sum();
            let mut returned: Vec<Piece> = Vec::new();
            let mut why = None;
            for answer in self.lane(home, step).submit(pieces, reserved) {
                match answer.await {
                    Ok(Ok(())) => {}
                    Ok(Err(refused)) => {
                        returned.push(refused.piece);
                        why = Some(refused.why);
                    }
                    // It was in a commit that panicked.
                    Err(_) => return Err(Unavailable::CommitFailed("the commit was given up".into())),
                }
            }
            if step > 0 {
                let left: u32 = returned.iter().map(|piece| piece.events).sum();
                self.metrics.spilled_events.inc_by((events - left).into());
            }
            let Some(why) = why else { return Ok(()) };
            // The last word is that of the server which was asked, not of those that nobody asks now.
            place = match self.admit(home, step + 1, bytes_of(&returned), &mut Trials::default()) {
                Ok(place) => place,
                Err(Unavailable::ServerAway) => return Err(why),
                Err(other) => return Err(other),
            };
            pieces = returned;
        }
    }

    /// Takes no more, and returns when nothing is in flight: the last step of a graceful stop.
    pub async fn drain(&self) {
        for lane in &self.lanes {
            lane.drain().await;
        }
    }
}

fn bytes_of(pieces: &[Piece]) -> usize {
    pieces.iter().map(|piece| piece.records.len()).sum()
}

#[cfg(test)]
mod tests;
