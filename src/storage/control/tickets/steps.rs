//! The steps of split tickets: a round and shard each, leased on their own.
//!
//! A step is `queued`, `running` under a lease and fence of its own, or settled: `done`, `incomplete`
//! (it could not see everything) or `failed`. Settled steps outlive the run that handed them out, so
//! that the next run of the same ticket finds them; incomplete and failed ones are tried again then.
//! They go with the end of their ticket.

use bytes::Bytes;

use super::queue::LeaseRequest;
use super::{Failure, TicketStore, kind_binds};
use crate::model::{Millis, ShardNo, TicketId};
use crate::storage::db::{Statement, statement};
use crate::storage::{Row, StorageError};
use crate::values;

/// What a step may be given or leave behind: one row within a statement of 4 MiB.
pub const STEP_BYTES_MAX: usize = 3 << 20;
/// Of a step's fence those that count its leases; above them stands the fence of the run that made it.
const FENCE_BITS: u32 = 24;
/// Rows of one INSERT.
const STEPS_PER_INSERT: usize = 500;
/// A ticket has a step a shard, and there are at most so many shards.
const LISTED_MAX: u32 = 65_536;

static DELETE_OTHERS: Statement = statement!(
    "steps.delete_others",
    "DELETE FROM ticket_steps WHERE ticket_id = ? AND round_no = ? AND work <> ?"
);
static INSERT: Statement = statement!(
    "steps.insert",
    mysql: "INSERT INTO ticket_steps (ticket_id, round_no, shard_no, kind, state, work, attempt, fence, \
            leased_by, lease_until, outcome) VALUES {rows} ON DUPLICATE KEY UPDATE shard_no = VALUES(shard_no)",
    sqlite: "INSERT INTO ticket_steps (ticket_id, round_no, shard_no, kind, state, work, attempt, fence, \
             leased_by, lease_until, outcome) VALUES {rows} ON CONFLICT DO NOTHING",
);
static AGAIN: Statement = statement!(
    "steps.again",
    "UPDATE ticket_steps SET state = 'queued', attempt = 0, fence = fence + 1, outcome = NULL \
     WHERE ticket_id = ? AND round_no = ? AND state IN ('incomplete', 'failed')"
);
static HAS_QUEUED: Statement = statement!(
    "steps.has_queued",
    mysql: "SELECT 1 FROM ticket_steps FORCE INDEX (ticket_steps_queue) WHERE state = 'queued' \
            AND kind IN (?,?,?,?,?,?,?,?) LIMIT 1",
    sqlite: "SELECT 1 FROM ticket_steps INDEXED BY ticket_steps_queue WHERE state = 'queued' \
             AND kind IN (?,?,?,?,?,?,?,?) LIMIT 1",
);
// The index is named for the reason that `tickets.lease_select` names its own.
static SELECT_ANY: Statement = statement!(
    "steps.select_any",
    mysql: "SELECT ticket_id, round_no, shard_no, kind, work, attempt, fence FROM ticket_steps \
            FORCE INDEX (ticket_steps_queue) WHERE state = 'queued' AND kind IN (?,?,?,?,?,?,?,?) \
            ORDER BY ticket_id, round_no, shard_no LIMIT 1 FOR UPDATE SKIP LOCKED",
    sqlite: "SELECT ticket_id, round_no, shard_no, kind, work, attempt, fence FROM ticket_steps \
             INDEXED BY ticket_steps_queue WHERE state = 'queued' AND kind IN (?,?,?,?,?,?,?,?) \
             ORDER BY ticket_id, round_no, shard_no LIMIT 1",
);
static SELECT_OF: Statement = statement!(
    "steps.select_of",
    mysql: "SELECT ticket_id, round_no, shard_no, kind, work, attempt, fence FROM ticket_steps \
            FORCE INDEX (ticket_steps_queue) WHERE state = 'queued' AND ticket_id = ? AND round_no = ? \
            ORDER BY shard_no LIMIT 1 FOR UPDATE SKIP LOCKED",
    sqlite: "SELECT ticket_id, round_no, shard_no, kind, work, attempt, fence FROM ticket_steps \
             INDEXED BY ticket_steps_queue WHERE state = 'queued' AND ticket_id = ? AND round_no = ? \
             ORDER BY shard_no LIMIT 1",
);
static LEASE: Statement = statement!(
    "steps.lease",
    "UPDATE ticket_steps SET state = 'running', attempt = attempt + 1, fence = fence + 1, leased_by = ?, \
     lease_until = ? WHERE ticket_id = ? AND round_no = ? AND shard_no = ? AND state = 'queued' AND fence = ?"
);
static RENEW: Statement = statement!(
    "steps.renew",
    "UPDATE ticket_steps SET lease_until = ? \
     WHERE ticket_id = ? AND round_no = ? AND shard_no = ? AND state = 'running' AND fence = ?"
);
static SETTLE: Statement = statement!(
    "steps.settle",
    "UPDATE ticket_steps SET state = ?, outcome = ?, leased_by = NULL, lease_until = NULL \
     WHERE ticket_id = ? AND round_no = ? AND shard_no = ? AND state = 'running' AND fence = ?"
);
static GIVE_BACK: Statement = statement!(
    "steps.give_back",
    "UPDATE ticket_steps SET state = 'queued', attempt = attempt - ?, leased_by = NULL, lease_until = NULL \
     WHERE ticket_id = ? AND round_no = ? AND shard_no = ? AND state = 'running' AND fence = ?"
);
static RESCUE: Statement = statement!(
    "steps.rescue",
    "UPDATE ticket_steps SET state = 'queued', leased_by = NULL, lease_until = NULL \
     WHERE ticket_id = ? AND state = 'running' AND lease_until < ? AND attempt < ?"
);
static GIVE_UP: Statement = statement!(
    "steps.give_up",
    "UPDATE ticket_steps SET state = 'failed', outcome = ?, fence = fence + 1, leased_by = NULL, \
     lease_until = NULL WHERE ticket_id = ? AND state = 'running' AND lease_until < ? AND attempt >= ?"
);
static LIST: Statement = statement!(
    "steps.list",
    "SELECT shard_no, state FROM ticket_steps WHERE ticket_id = ? AND round_no = ? ORDER BY shard_no LIMIT ?"
);
static OUTCOME: Statement = statement!(
    "steps.outcome",
    "SELECT state, outcome FROM ticket_steps WHERE ticket_id = ? AND round_no = ? AND shard_no = ?"
);
static FIND_WORK: Statement = statement!(
    "steps.find_work",
    "SELECT work FROM ticket_steps WHERE ticket_id = ? AND round_no = ? ORDER BY shard_no LIMIT 1"
);
static DELETE: Statement = statement!("steps.delete", "DELETE FROM ticket_steps WHERE ticket_id = ?");

/// A step leased to us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeasedStep {
    pub ticket_id: TicketId,
    pub round_no: u32,
    pub shard_no: ShardNo,
    pub kind: String,
    /// What the run that handed it out wants done.
    pub work: Bytes,
    /// From 1.
    pub attempt: u32,
    pub fence: u64,
}

/// How a step ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StepOutcome {
    Done(Bytes),
    /// The same, without what could not be reached.
    Incomplete(Bytes),
    Failed(Failure),
}

impl TicketStore {
    /// Hands out one step a shard. Those of an earlier run with the same work stay as they are, except
    /// that failed and incomplete ones are queued again. New ones begin with a fence that no step of an
    /// earlier run has had: who still works on one that was deleted settles nothing.
    ///
    /// Precondition: the work has at most [`STEP_BYTES_MAX`] bytes.
    pub async fn insert_steps(
        &self,
        (ticket, ticket_fence): (TicketId, u64),
        kind: &'static str,
        round_no: u32,
        work: &Bytes,
        shards: &[ShardNo],
    ) -> Result<(), StorageError> {
        self.db.execute(&DELETE_OTHERS, values![ticket, round_no, work.clone()]).await?;
        self.db.execute(&AGAIN, values![ticket, round_no]).await?;
        let per_insert = (STEP_BYTES_MAX / work.len().max(1)).clamp(1, STEPS_PER_INSERT);
        for shards in shards.chunks(per_insert) {
            let mut binds = Vec::with_capacity(shards.len() * 6);
            for &shard_no in shards {
                let fence = ticket_fence << FENCE_BITS;
                binds.extend(values![ticket, round_no, shard_no, kind, work.clone(), fence]);
            }
            let row = "(?, ?, ?, ?, 'queued', ?, 0, ?, NULL, NULL, NULL)";
            self.db.execute(INSERT.with_rows(row, shards.len()), binds).await?;
        }
        Ok(())
    }

    /// What was handed out for a round, if anything was.
    pub async fn find_work(&self, ticket: TicketId, round_no: u32) -> Result<Option<Bytes>, StorageError> {
        let row = self.db.fetch_optional(&FIND_WORK, values![ticket, round_no]).await?;
        row.map(|row| row.bytes(0).map(Bytes::from)).transpose()
    }

    /// Leases a step of any ticket, the oldest ticket's first.
    pub async fn lease_step(
        &self,
        lease: LeaseRequest,
        kinds: &[&'static str],
    ) -> Result<Option<LeasedStep>, StorageError> {
        if kinds.is_empty() {
            return Ok(None);
        }
        // A look first: nearly always there is none, and a transaction costs more.
        if self.db.fetch_optional(&HAS_QUEUED, kind_binds(kinds)).await?.is_none() {
            return Ok(None);
        }
        self.lease_selected(&SELECT_ANY, kind_binds(kinds), lease).await
    }

    /// Leases a step of this round of this ticket.
    pub async fn lease_step_of(
        &self,
        lease: LeaseRequest,
        ticket: TicketId,
        round_no: u32,
    ) -> Result<Option<LeasedStep>, StorageError> {
        self.lease_selected(&SELECT_OF, values![ticket, round_no], lease).await
    }

    async fn lease_selected(
        &self,
        select: &'static Statement,
        wanted: Vec<crate::storage::Value>,
        lease: LeaseRequest,
    ) -> Result<Option<LeasedStep>, StorageError> {
        self.db
            .transaction(move |tx| {
                let wanted = wanted.clone();
                Box::pin(async move {
                    let Some(row) = tx.fetch_optional(select, wanted).await? else { return Ok(None) };
                    let mut step = read(&row)?;
                    let mut binds = values![lease.by, lease.until];
                    binds.extend(key(&step));
                    if tx.execute(&LEASE, binds).await? == 0 {
                        return Ok(None);
                    }
                    step.attempt += 1;
                    step.fence += 1;
                    Ok::<_, StorageError>(Some(step))
                })
            })
            .await
    }

    /// False when the step is not ours any more.
    pub async fn renew_step(&self, step: &LeasedStep, until: Millis) -> Result<bool, StorageError> {
        let mut binds = values![until];
        binds.extend(key(step));
        Ok(self.db.execute(&RENEW, binds).await? == 1)
    }

    /// Writes down how it ended; false when the step is not ours any more.
    ///
    /// Precondition: what it leaves has at most [`STEP_BYTES_MAX`] bytes.
    pub async fn settle_step(&self, step: &LeasedStep, outcome: &StepOutcome) -> Result<bool, StorageError> {
        let (state, body) = match outcome {
            StepOutcome::Done(body) => ("done", body.clone()),
            StepOutcome::Incomplete(body) => ("incomplete", body.clone()),
            StepOutcome::Failed(failure) => ("failed", encode(failure)),
        };
        debug_assert!(body.len() <= STEP_BYTES_MAX);
        let mut binds = values![state, body];
        binds.extend(key(step));
        Ok(self.db.execute(&SETTLE, binds).await? == 1)
    }

    /// Back to those who have not run; a step that was interrupted did not fail, so it may keep its
    /// attempt number.
    pub async fn give_back_step(&self, step: &LeasedStep, keeps_attempt: bool) -> Result<bool, StorageError> {
        let mut binds = values![u32::from(keeps_attempt)];
        binds.extend(key(step));
        Ok(self.db.execute(&GIVE_BACK, binds).await? == 1)
    }

    /// Queues the ticket's steps whose runners died; fails those that were tried often enough.
    pub async fn rescue_steps(
        &self,
        ticket: TicketId,
        now: Millis,
        attempts_max: u32,
    ) -> Result<u64, StorageError> {
        let failure = Failure::new("runner_died", format!("its runner died {attempts_max} times"));
        let failed = self.db.execute(&GIVE_UP, values![encode(&failure), ticket, now, attempts_max]).await?;
        let queued = self.db.execute(&RESCUE, values![ticket, now, attempts_max]).await?;
        Ok(failed + queued)
    }

    /// The shards of a round whose steps have settled.
    pub async fn list_settled_steps(
        &self,
        ticket: TicketId,
        round_no: u32,
    ) -> Result<Vec<ShardNo>, StorageError> {
        let rows = self.db.fetch_all(&LIST, values![ticket, round_no, LISTED_MAX]).await?;
        let mut settled = Vec::new();
        for row in &rows {
            if !matches!(row.text(1)?.as_str(), "queued" | "running") {
                settled.push(ShardNo(row.u16(0)?));
            }
        }
        Ok(settled)
    }

    /// What became of one step; `None` while it is open.
    pub async fn find_step_outcome(
        &self,
        ticket: TicketId,
        round_no: u32,
        shard_no: ShardNo,
    ) -> Result<Option<StepOutcome>, StorageError> {
        let row = self.db.fetch_optional(&OUTCOME, values![ticket, round_no, shard_no]).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(match row.text(0)?.as_str() {
            "done" => Some(StepOutcome::Done(row.bytes(1)?.into())),
            "incomplete" => Some(StepOutcome::Incomplete(row.bytes(1)?.into())),
            "failed" => Some(StepOutcome::Failed(decode(&row.bytes(1)?)?)),
            _ => None,
        })
    }

    pub async fn delete_steps(&self, ticket: TicketId) -> Result<(), StorageError> {
        self.db.execute(&DELETE, values![ticket]).await?;
        Ok(())
    }
}

fn key(step: &LeasedStep) -> Vec<crate::storage::Value> {
    values![step.ticket_id, step.round_no, step.shard_no, step.fence]
}

fn read(row: &Row) -> Result<LeasedStep, StorageError> {
    Ok(LeasedStep {
        ticket_id: TicketId(row.array(0)?),
        round_no: row.u32(1)?,
        shard_no: ShardNo(row.u16(2)?),
        kind: row.text(3)?,
        work: row.bytes(4)?.into(),
        attempt: row.u32(5)?,
        fence: row.u64(6)?,
    })
}

/// The code's line, then the detail: codes hold no line breaks.
fn encode(failure: &Failure) -> Bytes {
    format!("{}\n{}", failure.code, failure.stored_detail()).into()
}

fn decode(bytes: &[u8]) -> Result<Failure, StorageError> {
    let text = std::str::from_utf8(bytes).ok().and_then(|text| text.split_once('\n'));
    let (code, detail) =
        text.ok_or_else(|| StorageError::corrupt("ticket_steps", "outcome", "not a code and a detail"))?;
    Ok(Failure::new(code, detail))
}
