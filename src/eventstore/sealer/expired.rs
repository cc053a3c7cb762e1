//! What a project keeps no longer: events that come too late, and persons who are left without any.
//!
//! Persons are deleted here and not by compaction, because only the worker that holds the sealer's lease
//! gives them events: nobody can get one between the look and the deletion.

use super::pass::ShardMemory;
use super::{SealContext, SealError};
use crate::eventstore::retention::Cuts;
use crate::model::{Event, LINK_EVENT, Millis, PersonNo, ProjectId};
use crate::storage::server::lapsed::{self, LAPSED_AT_ONCE_MAX};
use crate::storage::server::leases::{self, Lease};
use crate::storage::server::persons;
use crate::storage::{Db, StorageError};

/// Numbers of persons that one step looks at, so that no pass waits long for it.
const NUMBERS_PER_STEP: PersonNo = 20_000;
/// Rejected events that one step deletes.
const REJECTED_PER_STEP: u64 = 1_000;

/// Takes out what is older than its project keeps; how many. Links stay: who belongs to whom is no
/// event.
pub async fn drop_expired(
    context: &SealContext,
    db: &Db,
    events: &mut Vec<Event>,
) -> Result<u64, StorageError> {
    if events.is_empty() || !context.retention.is_any() {
        return Ok(0);
    }
    let cuts = context.retention.cuts(db.now_ms().await?);
    let before = events.len();
    events.retain(|event| {
        let cut = cuts.get(&event.project_id);
        event.event == LINK_EVENT || cut.is_none_or(|&kept_from| event.occurred_at >= kept_from)
    });
    Ok((before - events.len()) as u64)
}

/// How far a worker has looked through the persons of its shard.
#[derive(Default)]
pub struct Sweep {
    /// What it was begun for.
    cuts: Cuts,
    left: Vec<(ProjectId, Millis)>,
    next: PersonNo,
}

impl Sweep {
    /// Whether there is something to look at: with every midnight, and when a project's days change.
    pub fn is_due(&mut self, cuts: &Cuts) -> bool {
        if self.cuts != *cuts {
            *self = Self { cuts: cuts.clone(), left: cuts.clone().into_iter().collect(), next: 0 };
        }
        !self.left.is_empty()
    }

    pub fn is_under_way(&self) -> bool {
        !self.left.is_empty()
    }

    /// Another replica holds the lease, and looks for itself.
    pub fn leave(&mut self) {
        self.left.clear();
    }
}

/// A bounded step under the sealer's lease; how many persons were deleted.
pub async fn sweep(
    context: &SealContext,
    db: &Db,
    lease: &Lease,
    memory: &mut ShardMemory,
    sweep: &mut Sweep,
) -> Result<u64, SealError> {
    let Some(&(project_id, kept_from)) = sweep.left.last() else { return Ok(0) };
    let shard_no = lease.shard_no;
    if lapsed::delete_rejected(db, project_id, kept_from).await? == REJECTED_PER_STEP {
        return Ok(0);
    }
    let end = persons::get_counters(db, shard_no, project_id).await?.next_person_no;
    let numbers = sweep.next..end.min(sweep.next.saturating_add(NUMBERS_PER_STEP));
    let mut next = numbers.end;
    let found = lapsed::list_lapsed(db, shard_no, project_id, numbers, kept_from).await?;
    if let (LAPSED_AT_ONCE_MAX, Some(last)) = (found.len(), found.last()) {
        next = last + 1;
    }
    let deleted = found.len() as u64;
    if !found.is_empty() {
        let lease = *lease;
        db.transaction_after(leases::enter(&lease, context.lease_ms), move |tx| {
            let found = found.clone();
            Box::pin(async move {
                if !leases::is_held(tx, &lease).await? {
                    return Err(SealError::LeaseLost);
                }
                lapsed::delete_in(tx, shard_no, project_id, &found).await?;
                leases::leave(tx, &lease).await?;
                Ok(())
            })
        })
        .await?;
        memory.forget_persons();
    }
    sweep.next = next;
    if next >= end {
        sweep.left.pop();
        sweep.next = 0;
    }
    Ok(deleted)
}
