//! What a project keeps no longer: events that come too late, and persons who are left without any.
//!
//! Persons are deleted here and not by compaction, because only the worker that holds the sealer's lease
//! gives them events: with nothing left in the journal, nobody can get one between the look and the
//! deletion. Their rows go first, by compaction, so that an erasure that comes meanwhile still finds whose
//! they are; and no move of the shard is open, since it needs the names of what it copies.

use std::time::Duration;

use tokio::time::Instant;

use super::pass::ShardMemory;
use super::{SealContext, SealError};
use crate::eventstore::format::ObjectFacts;
use crate::eventstore::retention::Cuts;
use crate::model::{Event, LINK_EVENT, Millis, PersonNo, ProjectId, ShardNo};
use crate::storage::server::lapsed::{self, LAPSED_AT_ONCE_MAX, REJECTED_AT_ONCE};
use crate::storage::server::leases::{self, Lease};
use crate::storage::server::{links, objects, persons};
use crate::storage::{Db, StorageError};

/// Numbers of persons that one step looks at, so that no pass waits long for it.
const NUMBERS_PER_STEP: PersonNo = 20_000;
/// Projects without anybody here that one step passes over.
const EMPTY_PROJECTS_PER_STEP: usize = 200;
/// How long a sweep waits for compaction, a move, or the end of what made it fail.
const REST: Duration = Duration::from_secs(10);

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
    rests_until: Option<Instant>,
}

impl Sweep {
    /// Whether there is something to look at: with every midnight, and when a project's days change.
    pub fn is_due(&mut self, cuts: &Cuts) -> bool {
        if self.cuts != *cuts {
            let changed = cuts.iter().filter(|(project_id, cut)| self.cuts.get(project_id) != Some(cut));
            let mut left: Vec<_> = changed.map(|(&project_id, &cut)| (project_id, cut)).collect();
            // What an earlier day has left undone.
            let undone = self.left.iter().filter(|(project_id, cut)| cuts.get(project_id) == Some(cut));
            left.extend(undone.copied());
            *self = Self { cuts: cuts.clone(), left, ..Self::default() };
        }
        self.is_under_way()
    }

    pub fn is_under_way(&self) -> bool {
        !self.left.is_empty() && self.rests_until.is_none_or(|until| until <= Instant::now())
    }

    pub fn rest(&mut self) {
        self.rests_until = Some(Instant::now() + REST);
    }

    /// Another replica holds the lease, and looks for itself.
    pub fn leave(&mut self) {
        self.left.clear();
    }
}

/// A bounded step under the sealer's lease, when the journal has nothing left for the shard; how many
/// persons were deleted. `sweeps_server`: whether this shard looks after what belongs to its server.
pub async fn sweep(
    context: &SealContext,
    db: &Db,
    lease: &Lease,
    memory: &mut ShardMemory,
    sweep: &mut Sweep,
    sweeps_server: bool,
) -> Result<u64, SealError> {
    if !sweep.is_under_way() {
        return Ok(0);
    }
    let shard_no = lease.shard_no;
    if !links::list_moving(db, shard_no, 1).await?.is_empty() {
        sweep.rest();
        return Ok(0);
    }
    for _ in 0..EMPTY_PROJECTS_PER_STEP {
        let Some(&(project_id, kept_from)) = sweep.left.last() else { return Ok(0) };
        if sweeps_server && lapsed::delete_rejected(db, project_id, kept_from).await? == REJECTED_AT_ONCE {
            return Ok(0);
        }
        let end = persons::get_counters(db, shard_no, project_id).await?.next_person_no;
        if end > 0 {
            return sweep_project(context, db, lease, memory, sweep, (project_id, kept_from, end)).await;
        }
        sweep.left.pop();
    }
    Ok(0)
}

async fn sweep_project(
    context: &SealContext,
    db: &Db,
    lease: &Lease,
    memory: &mut ShardMemory,
    sweep: &mut Sweep,
    (project_id, kept_from, end): (ProjectId, Millis, PersonNo),
) -> Result<u64, SealError> {
    let shard_no = lease.shard_no;
    // At every step: when the project's days have become more since the sweep began, somebody may have got
    // a row that is older than what it was begun for.
    if has_old_rows(db, shard_no, project_id, kept_from).await? {
        // Others need not wait for it.
        sweep.left.rotate_right(1);
        sweep.next = 0;
        sweep.rest();
        return Ok(0);
    }
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

async fn has_old_rows(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    kept_from: Millis,
) -> Result<bool, SealError> {
    let segments = objects::list_segments(db, shard_no, project_id, Millis::MIN, kept_from).await?;
    if !segments.is_empty() {
        return Ok(true);
    }
    for run in objects::list_runs(db, shard_no).await?.into_iter().filter(|run| run.min_at < kept_from) {
        let object_id = run.object_id;
        let facts = ObjectFacts::from_bytes(&run.facts)
            .map_err(|source| SealError::Unreadable { object_id, source })?;
        if facts.slice_of(project_id).is_some_and(|slice| slice.occurred_min < kept_from) {
            return Ok(true);
        }
    }
    Ok(false)
}
