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
use crate::model::{ServerId, ShardNo};
use crate::storage::Shards;

/// How often the lists are read before the caller is told to try later.
const ATTEMPTS: u32 = 5;

/// What these shards hold of a project, in their order. Those whose server does not say are not there.
///
/// `settle`: no longer than `sealing.move_settle_ms`; zero where nobody moves.
pub async fn list_shards(
    shards: &Shards,
    of: &[ShardNo],
    request: &ScanRequest,
    settle: Duration,
) -> Result<Vec<Listing>, ScanError> {
    let mut before: Option<Vec<Listing>> = None;
    for _ in 0..ATTEMPTS {
        let began = Instant::now();
        let listed = list_once(shards, of, request).await?;
        if settle.is_zero() || began.elapsed() <= settle {
            return Ok(listed);
        }
        match before {
            Some(before) if mask_versions(&before) == mask_versions(&listed) => return Ok(before),
            _ => before = Some(listed),
        }
    }
    Err(ScanError::Outrun)
}

fn mask_versions(listings: &[Listing]) -> Vec<(ShardNo, i64)> {
    listings.iter().map(|listing| (listing.shard_no, listing.mask_version)).collect()
}

async fn list_once(
    shards: &Shards,
    of: &[ShardNo],
    request: &ScanRequest,
) -> Result<Vec<Listing>, ScanError> {
    let mut by_server: BTreeMap<ServerId, Vec<ShardNo>> = BTreeMap::new();
    for &shard_no in of {
        by_server.entry(shards.server_of(shard_no).server_id).or_default().push(shard_no);
    }
    let servers: Vec<_> = by_server.values().map(|of| list_server(shards, of, request)).collect();
    let listed: Result<Vec<Vec<Listing>>, ScanError> = join_all(servers).await.into_iter().collect();
    let mut listed = listed?.concat();
    listed.sort_by_key(|listing| listing.shard_no);
    Ok(listed)
}

/// Precondition: at least one shard, all of one server.
async fn list_server(
    shards: &Shards,
    of: &[ShardNo],
    request: &ScanRequest,
) -> Result<Vec<Listing>, ScanError> {
    let listed = match shards.db_of(of[0]) {
        Ok(db) => Listing::read_shards(db, of, request).await,
        Err(error) => Err(error.into()),
    };
    match listed {
        Err(ScanError::Storage(error)) if error.is_transient() => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(shards = ?of, error, "shards are away; the answer is partial");
            Ok(Vec::new())
        }
        listed => listed,
    }
}
