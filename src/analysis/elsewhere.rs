//! Events that are committed but wait at another server than their own, and what they mean for an
//! answer.
//!
//! While a server is away its events are committed to the journals of others. A question cannot see
//! them, so its answer is only as new as the oldest of them. What a server that is away has in its own
//! journal for others nobody can tell: the answer is then partial, and as old as the last time that
//! server was heard.

use std::collections::HashMap;
use std::time::Duration;

use super::question_kind::QuestionKind;
use crate::model::{Millis, ServerId, ShardNo};
use crate::storage::server::journal;
use crate::storage::{Server, StorageError};
use crate::tickets::TicketOutput;

/// A server that takes longer to say what waits there counts as away.
const LISTING_MAX: Duration = Duration::from_secs(2);

/// Up to when each server is known to have held nothing that belongs elsewhere.
pub(super) type Heard = HashMap<ServerId, Millis>;

/// What an answer must say about events that it could not see.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Elsewhere {
    /// Nothing older waits elsewhere.
    as_of_max: Option<Millis>,
    /// A server did not say what waits there.
    is_unknown: bool,
}

impl Elsewhere {
    pub(super) fn limit(self, mut output: TicketOutput) -> TicketOutput {
        if let Some(max) = self.as_of_max {
            output.as_of = Some(output.as_of.map_or(max, |as_of| as_of.min(max)));
        }
        if self.is_unknown {
            output.partial = true;
            // Not to be shared with whoever asks when it is back.
            output.data_version = None;
        }
        output
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
                    found.is_unknown = true;
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
        let backlog = match tokio::time::timeout(LISTING_MAX, journal::backlog(db)).await {
            Ok(Ok(backlog)) => backlog,
            Ok(Err(error)) if !error.is_transient() => return Err(error),
            Ok(Err(_)) | Err(_) => return Ok(None),
        };
        let foreign = backlog.iter().filter(|entry| {
            entry.shard_no.0 < self.shards.count()
                && self.shards.server_of(entry.shard_no).server_id != server.server_id
        });
        Ok(Some(foreign.map(|entry| (entry.shard_no, entry.oldest_inserted_at)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_old_as_what_waits_elsewhere_and_partial_when_nobody_knows() {
        let output = || TicketOutput {
            body: "{}".into(),
            as_of: Some(1_000),
            partial: false,
            data_version: Some([1; 32]),
        };
        let limited = |elsewhere: Elsewhere| {
            let output = elsewhere.limit(output());
            (output.as_of, output.partial, output.data_version.is_some())
        };
        assert_eq!(limited(Elsewhere::default()), (Some(1_000), false, true));
        let waiting = Elsewhere { as_of_max: Some(400), is_unknown: false };
        assert_eq!(limited(waiting), (Some(400), false, true));
        let newer = Elsewhere { as_of_max: Some(4_000), is_unknown: false };
        assert_eq!(limited(newer), (Some(1_000), false, true));
        let unknown = Elsewhere { as_of_max: Some(900), is_unknown: true };
        assert_eq!(limited(unknown), (Some(900), true, false));
    }
}
