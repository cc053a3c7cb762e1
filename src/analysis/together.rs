//! Several shards of a question at once.
//!
//! Passing over a shard costs something however few rows it has: a thread has to begin, and what it found
//! has to be put together with the others. So shards with few rows are passed over in groups, each on one
//! thread; and where it does not matter which persons rows are of, as if all were of one shard.

use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio::sync::Semaphore;

use super::completeness::Basis;
use super::kernels::Cancel;
use super::plan::{Partial, Plan, Round};
use super::question_kind::{QuestionKind, SMALL_ROWS_MAX, ShardRead};
use super::room::ROWS_LARGE;
use super::split::scan_request;
use crate::eventstore::RowBlock;
use crate::eventstore::scan::Listing;
use crate::model::{ProjectId, ServerId, ShardNo};
use crate::tickets::{RunError, retry};

/// The rows of each of some shards.
pub(super) type ShardBlocks = Vec<Arc<Vec<RowBlock>>>;

/// Of the rows that each core would have if all had as many, what a group may have: shards are not quite alike,
/// and one group more than there are cores would leave all but one of them idle in the end.
const OF_A_CORE_PERCENT: u64 = 112;
/// More in a group would cost little less, and wait for more room.
const GROUP_ROWS_MAX: u64 = 2 * ROWS_LARGE;

/// Shards after the first round.
#[derive(Default)]
pub(super) struct PassedGroup {
    pub away: Vec<ShardNo>,
    pub rows: u64,
    /// That were read.
    pub bytes: u64,
    pub partials: Vec<Partial>,
    /// Only when another round follows.
    pub blocks: Option<ShardBlocks>,
}

/// What of a question is the same for all groups.
pub(super) struct Reading<'r> {
    pub project_id: ProjectId,
    pub basis: &'r Basis,
    pub plan: &'r Arc<Plan>,
    pub round: &'r Round,
    pub cancel: &'r Cancel,
    /// For each shard that is read.
    pub permits: &'r Semaphore,
}

impl QuestionKind {
    /// Reads what is listed of these shards and passes over their rows: one group is read while another is
    /// counted. `None` when something that was listed is gone.
    pub(super) async fn read_group(
        &self,
        reading: &Reading<'_>,
        group: &[&Listing],
    ) -> Result<Option<PassedGroup>, RunError> {
        let Reading { project_id, basis, plan, round, cancel, permits } = *reading;
        let request = scan_request(project_id, &plan.reads(), basis.kept_from);
        let rows = group.iter().map(|listing| listing.rows_to_read()).sum();
        let counted =
            || group.iter().map(|listing| self.scanner.rows_at_hand(&request, listing).counted).sum();
        let _room = self.room.enter(rows, counted).await;
        let read = async |listing: &Listing| {
            let _permit = permits.acquire().await.map_err(retry)?;
            self.read_rows(&request, listing).await
        };
        let reads = try_join_all(group.iter().map(|listing| Box::pin(read(listing)))).await?;
        let mut passed = PassedGroup::default();
        let mut blocks = Vec::with_capacity(group.len());
        let mut read_shards = Vec::with_capacity(group.len());
        for (listing, read) in group.iter().zip(reads) {
            match read {
                ShardRead::Rows(rows) => {
                    read_shards.push((listing.shard_no, rows.rows()));
                    passed.bytes += rows.bytes;
                    blocks.push(Arc::new(rows.blocks));
                }
                ShardRead::Away => passed.away.push(listing.shard_no),
                ShardRead::Outrun => return Ok(None),
            }
        }
        passed.rows = read_shards.iter().map(|(_, rows)| rows).sum();
        // Kept while another round may follow, which then need not read them again.
        passed.blocks = (plan.rounds() > 1).then(|| blocks.clone());
        passed.partials = self.pass(plan, round, blocks, cancel).await?;
        if plan.names_persons() {
            let partials = std::mem::take(&mut passed.partials);
            let name = async |(shard_no, rows): (ShardNo, u64), partial| {
                let _permit = permits.acquire().await.map_err(retry)?;
                let named = self.named(shard_no, project_id, plan, partial).await?;
                Ok::<_, RunError>((shard_no, rows, named))
            };
            let names = read_shards.into_iter().zip(partials);
            let names = names.map(|(shard, partial)| Box::pin(name(shard, partial)));
            for (shard_no, rows, named) in try_join_all(names).await? {
                match named {
                    Some(partial) => passed.partials.push(partial),
                    None => {
                        passed.away.push(shard_no);
                        passed.rows -= rows;
                    }
                }
            }
        }
        Ok(Some(passed))
    }

    /// Passes over the rows of some shards: one partial answer of each, or one of all.
    pub(super) async fn pass(
        &self,
        plan: &Arc<Plan>,
        round: &Round,
        shards: ShardBlocks,
        cancel: &Cancel,
    ) -> Result<Vec<Partial>, RunError> {
        let rows: usize = shards.iter().flat_map(|blocks| &**blocks).map(|block| block.row_count()).sum();
        let (plan, round, cancel) = (plan.clone(), round.clone(), cancel.clone());
        let work = move || {
            if shards.len() > 1 && !plan.tells_persons_apart() {
                let all: Vec<RowBlock> = shards.iter().flat_map(|blocks| blocks.iter().cloned()).collect();
                return plan.run(&round, &all, &cancel).map(|partial| vec![partial]);
            }
            shards.iter().map(|blocks| plan.run(&round, blocks, &cancel)).collect()
        };
        self.compute(rows <= SMALL_ROWS_MAX, work).await
    }
}

/// Shards of one server, so that what is known of them is not kept back by another, as many as have so many rows
/// together that all cores have something to do.
pub(super) fn groups_of(
    listings: &[Listing],
    server_of: impl Fn(ShardNo) -> ServerId,
    cores: usize,
) -> Vec<Vec<&Listing>> {
    let rows: u64 = listings.iter().map(Listing::rows_to_read).sum();
    let of_a_core = rows / cores as u64 * OF_A_CORE_PERCENT / 100;
    let rows_max = of_a_core.clamp(SMALL_ROWS_MAX as u64, GROUP_ROWS_MAX);
    let mut by_server: Vec<(ServerId, &Listing)> =
        listings.iter().map(|listing| (server_of(listing.shard_no), listing)).collect();
    // In the order of their first shards.
    let servers: Vec<ServerId> = by_server.iter().map(|(server_id, _)| *server_id).collect();
    by_server.sort_by_key(|(of, _)| servers.iter().position(|server_id| server_id == of));
    let mut groups = Vec::new();
    for of_server in by_server.chunk_by(|(server_id, _), (next, _)| server_id == next) {
        let (mut group, mut rows_of_group) = (Vec::new(), 0);
        for (_, listing) in of_server {
            let rows = listing.rows_to_read();
            if !group.is_empty() && rows_of_group + rows > rows_max {
                groups.push(std::mem::take(&mut group));
                rows_of_group = 0;
            }
            group.push(*listing);
            rows_of_group += rows;
        }
        groups.push(group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(rows: &[u64], servers: u16, cores: usize) -> Vec<Vec<u16>> {
        let listings: Vec<Listing> =
            (0..).zip(rows).map(|(shard_no, rows)| Listing::of_rows(ShardNo(shard_no), *rows)).collect();
        let server_of = |shard_no: ShardNo| ServerId([(servers - shard_no.0 % servers) as u8; 16]);
        let groups = groups_of(&listings, server_of, cores);
        groups.iter().map(|group| group.iter().map(|listing| listing.shard_no.0).collect()).collect()
    }

    fn sizes(rows: &[u64], cores: usize) -> Vec<usize> {
        groups(rows, 1, cores).iter().map(Vec::len).collect()
    }

    #[test]
    fn few_rows_are_one_group_and_many_as_many_as_keep_the_cores_busy() {
        assert_eq!(sizes(&[], 2), [] as [usize; 0]);
        assert_eq!(sizes(&[1_250; 16], 2), [16]);
        assert_eq!(sizes(&[125_000; 16], 2), [8, 8]);
        let alike: Vec<u64> = (0..16).map(|shard| 125_000 + shard * 7_919 % 16 * 500).collect();
        assert_eq!(sizes(&alike, 2).len(), 2);
        assert_eq!(sizes(&alike, 4).len(), 4);
        assert_eq!(sizes(&[600_000; 16], 2), [3, 3, 3, 3, 3, 1]);
        assert_eq!(sizes(&[1_100_000; 4], 2), [1; 4], "two are many");
        assert_eq!(sizes(&[600_000, 100_000, 100_000, 400_000, 0, 2_500_000, 3], 2), [5, 1, 1]);
        assert_eq!(sizes(&[250_000; 64], 2), [8; 8]);
        assert_eq!(sizes(&[0, 0, 0], 64), [3]);
    }

    #[test]
    fn a_group_is_of_one_server() {
        assert_eq!(groups(&[10; 7], 3, 2), [vec![0, 3, 6], vec![1, 4], vec![2, 5]]);
    }
}
