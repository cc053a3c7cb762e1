//! The lists of all shards of a project, so close together that nobody is in two of them.
//!
//! A person who is linked moves from one shard to another, and the rows come there no sooner than
//! `move_settle_ms` after they were masked where they were. Lists that were read within that time cannot
//! show both. When it took longer, they are read once more: if no mask was set in between, the first
//! ones were good.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{Listing, ScanError, ScanRequest};
use crate::eventstore::object_cache::ObjectCache;
use crate::model::{ServerId, ShardNo};
use crate::storage::Shards;

/// How often the lists are read before the caller is told to try later.
const ATTEMPTS: u32 = 5;

/// What these shards hold of a project, in their order. Those whose server does not say are not there.
///
/// `settle`: no longer than `sealing.move_settle_ms`, or persons may be in two lists. With zero they may,
/// and nothing is looked at.
pub async fn list_shards(
    shards: &Shards,
    known: &ObjectCache,
    of: &[ShardNo],
    request: &ScanRequest,
    settle: Duration,
) -> Result<Vec<Listing>, ScanError> {
    let mut of = of.to_vec();
    let mut before: Option<Vec<Listing>> = None;
    for _ in 0..ATTEMPTS {
        let servers = list_servers(shards, known, &of, request).await?;
        let took = time_between(&servers);
        let mut listed: Vec<Listing> = servers.into_iter().flat_map(|server| server.listings).collect();
        listed.sort_by_key(|listing| listing.shard_no);
        if settle.is_zero() || took <= settle {
            return Ok(listed);
        }
        // A server that is away has been waited for once.
        of = listed.iter().map(|listing| listing.shard_no).collect();
        match before {
            Some(before) if mask_versions(&before) == mask_versions(&listed) => return Ok(before),
            _ => before = Some(listed),
        }
    }
    Err(ScanError::Outrun)
}

/// What one server answered, and when it can have looked.
struct ListedServer {
    began: Instant,
    ended: Instant,
    listings: Vec<Listing>,
}

/// How far apart the lists can be; those of one server are of one moment, however long it took.
fn time_between(servers: &[ListedServer]) -> Duration {
    let first = servers.iter().map(|server| server.began).min();
    let last = servers.iter().map(|server| server.ended).max();
    match (first, last) {
        (Some(first), Some(last)) if servers.len() > 1 => last - first,
        _ => Duration::ZERO,
    }
}

fn mask_versions(listings: &[Listing]) -> Vec<(ShardNo, i64)> {
    listings.iter().map(|listing| (listing.shard_no, listing.mask_version)).collect()
}

/// Those that answer.
async fn list_servers(
    shards: &Shards,
    known: &ObjectCache,
    of: &[ShardNo],
    request: &ScanRequest,
) -> Result<Vec<ListedServer>, ScanError> {
    let mut by_server: BTreeMap<ServerId, Vec<ShardNo>> = BTreeMap::new();
    for &shard_no in of {
        by_server.entry(shards.server_of(shard_no).server_id).or_default().push(shard_no);
    }
    let servers: Vec<_> = by_server.values().map(|of| list_server(shards, known, of, request)).collect();
    join_all(servers).await.into_iter().filter_map(Result::transpose).collect()
}

/// Precondition: at least one shard, all of one server.
async fn list_server(
    shards: &Shards,
    known: &ObjectCache,
    of: &[ShardNo],
    request: &ScanRequest,
) -> Result<Option<ListedServer>, ScanError> {
    let began = Instant::now();
    let listed = match shards.db_of(of[0]) {
        Ok(db) => Listing::read_shards(db, known, of, request).await,
        Err(error) => Err(error.into()),
    };
    match listed {
        Ok(listings) => Ok(Some(ListedServer { began, ended: Instant::now(), listings })),
        Err(ScanError::Storage(error)) if error.is_transient() => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(shards = ?of, error, "shards are away; the answer is partial");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_that_answer_take_time_and_one_is_of_one_moment() {
        let now = Instant::now();
        let server = |began: u64, ended: u64| ListedServer {
            began: now + Duration::from_secs(began),
            ended: now + Duration::from_secs(ended),
            listings: Vec::new(),
        };
        assert_eq!(time_between(&[]), Duration::ZERO);
        assert_eq!(time_between(&[server(0, 9)]), Duration::ZERO);
        assert_eq!(time_between(&[server(1, 2), server(0, 1), server(1, 4)]), Duration::from_secs(4));
    }
}
