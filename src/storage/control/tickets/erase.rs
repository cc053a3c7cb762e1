//! What an erasure does to the tickets of its project: nothing that was computed before it can be
//! published or read after it, and none goes on naming the person.

use super::row::{read, select};
use super::{Failure, TicketRow, TicketState, TicketStore};
use crate::model::{Millis, ProjectId, TicketId};
use crate::storage::StorageError;
use crate::storage::db::{Statement, statement};
use crate::values;

static LIST_KEPT: Statement = select!(
    "tickets.list_kept",
    "WHERE project_id = ? AND ticket_id > ? AND (LENGTH(body) > 0 OR result_ticket IS NOT NULL) \
     ORDER BY ticket_id LIMIT ?"
);
// As `tickets.give_back`, but from outside of the run: with another fence, whatever that run still
// writes is never read.
static RUN_AGAIN: Statement = statement!(
    "tickets.run_again",
    "UPDATE tickets SET state = 'queued', attempt = attempt - 1, fence = fence + 1, run_after = ?, \
     leased_by = NULL, lease_until = NULL WHERE ticket_id = ? AND fence = ? AND state = 'running'"
);
static EXPIRE: Statement = statement!(
    "tickets.expire",
    "UPDATE tickets SET body = ?, idempotency_key = NULL, data_version = NULL, error_detail = NULL, \
     expires_at = ?, sweep_at = ? WHERE ticket_id = ? AND state IN ('succeeded', 'failed', 'cancelled')"
);
static FORGET_RESULT: Statement = statement!(
    "tickets.forget_result",
    "UPDATE tickets SET result_bytes = NULL, result_parts = NULL, result_ticket = NULL, result_fence = NULL \
     WHERE ticket_id = ? AND expires_at <= ? AND state IN ('succeeded', 'failed', 'cancelled')"
);
static DELETE_PARTS_BELOW: Statement =
    statement!("tickets.delete_parts_below", "DELETE FROM ticket_results WHERE ticket_id = ? AND fence < ?");
static REPLACE_BODY: Statement = statement!(
    "tickets.replace_body",
    "UPDATE tickets SET body = ?, body_hash = ?, \
     idempotency_key = CASE WHEN ? THEN NULL ELSE idempotency_key END \
     WHERE ticket_id = ? AND fence = ? AND leased_by = ? AND state = 'running'"
);

impl TicketStore {
    /// Tickets of a project that still say what they asked or what came of it, from the one after
    /// `after`, oldest first.
    pub async fn list_kept(
        &self,
        project: ProjectId,
        after: Option<TicketId>,
        limit: u32,
    ) -> Result<Vec<TicketRow>, StorageError> {
        let after = after.map_or([0; 16], |ticket| ticket.0);
        let rows = self.db.fetch_all(&LIST_KEPT, values![project, after, limit]).await?;
        rows.iter().map(read).collect()
    }

    /// Takes a running ticket from its runner and lets it run again; false when it has ended or was
    /// taken from it already.
    pub async fn run_again(&self, ticket: &TicketRow, run_after: Millis) -> Result<bool, StorageError> {
        let binds = values![run_after, ticket.ticket_id, ticket.fence];
        if self.db.execute(&RUN_AGAIN, binds).await? == 0 {
            return Ok(false);
        }
        // What its steps have found so far was found before.
        self.delete_steps(ticket.ticket_id).await?;
        self.delete_parts_below(ticket.ticket_id, ticket.fence + 1).await?;
        Ok(true)
    }

    /// Ends an open ticket, whoever runs it; the tickets that waited for it, `None` when it had ended.
    pub async fn end_with(
        &self,
        ticket: &TicketRow,
        failure: &Failure,
        now: Millis,
    ) -> Result<Option<Vec<TicketId>>, StorageError> {
        let settled = match ticket.state {
            TicketState::Cancelling => self.cancel_from(ticket, ticket.state, now, now).await?,
            _ => self.fail_from(ticket, ticket.state, failure, now, now).await?,
        };
        self.delete_steps(ticket.ticket_id).await?;
        Ok(settled)
    }

    /// Lets a final ticket expire now: what it asked and the parts of its result go at once. Where its
    /// result was is kept until [`Self::forget_result`], since copies of it may turn up in caches.
    pub async fn expire(
        &self,
        ticket: TicketId,
        now: Millis,
        gone_for_ms: Millis,
    ) -> Result<(), StorageError> {
        let binds = values![Vec::<u8>::new(), now, now + gone_for_ms, ticket];
        if self.db.execute(&EXPIRE, binds).await? == 1 {
            self.delete_parts_below(ticket, u64::MAX >> 1).await?;
            self.delete_steps(ticket).await?;
        }
        Ok(())
    }

    pub async fn forget_result(&self, ticket: TicketId, now: Millis) -> Result<(), StorageError> {
        self.db.execute(&FORGET_RESULT, values![ticket, now]).await?;
        Ok(())
    }

    /// Deletes what runs under earlier fences have left.
    pub async fn delete_parts_below(&self, ticket: TicketId, fence: u64) -> Result<(), StorageError> {
        self.db.execute(&DELETE_PARTS_BELOW, values![ticket, fence]).await?;
        Ok(())
    }

    /// Replaces the body of a ticket that runs under our lease: what its next run, on whatever replica,
    /// is to know. False when it is not ours any more. `forget_key`: its idempotency key goes too.
    pub async fn replace_body(
        &self,
        ticket: &TicketRow,
        body: &[u8],
        body_hash: [u8; 32],
        forget_key: bool,
    ) -> Result<bool, StorageError> {
        let binds =
            values![body.to_vec(), body_hash, forget_key, ticket.ticket_id, ticket.fence, ticket.leased_by];
        Ok(self.db.execute(&REPLACE_BODY, binds).await? == 1)
    }
}
