//! Events that are committed but wait at another server than their own, and what they mean for an
//! answer.
//!
//! While a server is away its events are committed to the journals of others. A question cannot see
//! them, so its answer is only as new as the oldest of them. What a server that is away has in its own
//! journal for others nobody can tell: the answer is then partial, and as old as the last time that
//! server was heard.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::question_kind::QuestionKind;
use crate::model::{Millis, ServerId, ShardNo};
use crate::storage::server::journal;
use crate::storage::{Server, StorageError};

/// A server that takes longer to say what waits there counts as away.
const LISTING_MAX: Duration = Duration::from_secs(2);

/// Up to when each server is known to have held nothing that belongs elsewhere.
pub(super) type Heard = HashMap<ServerId, Millis>;

/// What an answer must say about events that it could not see.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Elsewhere {
    /// Nothing older waits elsewhere.
    as_of_max: Option<Millis>,
    /// Servers that did not say what waits there.
    pub(super) silent: BTreeSet<ServerId>,
}

impl Elsewhere {
    pub(super) fn limit(&self, as_of: Option<Millis>) -> Option<Millis> {
        as_of.into_iter().chain(self.as_of_max).min()
    }

    fn add(&mut self, as_of: Millis) {
        self.as_of_max = Some(self.as_of_max.map_or(as_of, |max| max.min(as_of)));
    }
}

impl QuestionKind {
    /// Looks through all servers' journals for batches of these shards that are not at home.
    pub(super) async fn elsewhere(&self, shards: &[ShardNo]) -> Result<Elsewhere, StorageError> {
        let mut found = Elsewhere::default();
        // One server has no elsewhere.
        if self.shards.servers().len() < 2 {
            return Ok(found);
        }
        let looks = self.shards.servers().iter().map(|server| self.foreign_batches(server));
        let looks = futures_util::future::join_all(looks).await;
        for (server, look) in self.shards.servers().iter().zip(looks) {
            let mut heard = self.heard.lock().expect("no holder of this lock can panic");
            match look? {
                Some(foreign) => {
                    let oldest = foreign.iter().map(|(_, oldest)| *oldest).min();
                    heard.insert(server.server_id, oldest.unwrap_or_else(|| self.clock.now_ms()));
                    let of_these = foreign.iter().filter(|(shard_no, _)| shards.contains(shard_no));
                    of_these.for_each(|(_, oldest)| found.add(*oldest));
                }
                None => {
                    found.silent.insert(server.server_id);
                    heard.get(&server.server_id).into_iter().for_each(|as_of| found.add(*as_of));
                }
            }
        }
        Ok(found)
    }

    /// Shards that do not live on the server but have batches there, with the time of the oldest;
    /// `None` when it does not say.
    async fn foreign_batches(&self, server: &Server) -> Result<Option<Vec<(ShardNo, Millis)>>, StorageError> {
        let Ok(db) = server.db() else { return Ok(None) };
        let waiting = match tokio::time::timeout(LISTING_MAX, journal::list_waiting(db)).await {
            Ok(Ok(waiting)) => waiting,
            Ok(Err(error)) if !error.is_transient() => return Err(error),
            Ok(Err(_)) | Err(_) => return Ok(None),
        };
        let foreign = waiting.into_iter().filter(|(shard_no, _)| {
            shard_no.0 < self.shards.count() && self.shards.server_of(*shard_no).server_id != server.server_id
        });
        Ok(Some(foreign.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_old_as_what_waits_elsewhere() {
        let limited = |as_of_max: Option<Millis>, as_of: Option<Millis>| {
            Elsewhere { as_of_max, silent: BTreeSet::new() }.limit(as_of)
        };
        assert_eq!(limited(None, Some(1_000)), Some(1_000));
        assert_eq!(limited(Some(400), Some(1_000)), Some(400));
        assert_eq!(limited(Some(4_000), Some(1_000)), Some(1_000));
        assert_eq!(limited(Some(400), None), Some(400));
    }
}
