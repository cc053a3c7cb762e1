//! Into the queue, out of it under a lease, and back into it.

use super::row::{insert, insert_binds, read, select};
use super::{NewTicket, TicketProgress, TicketRow, TicketState, TicketStore, kind_binds};
use crate::model::{Millis, ReplicaId, TicketId};
use crate::storage::db::{Statement, statement};
use crate::storage::{Row, StorageError};
use crate::values;

static INSERT: Statement = insert!(
    "tickets.insert",
    "VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
);
// The index is named because it covers the order: with any other plan SKIP LOCKED locks all it
// sorts, one worker holds the whole queue and the others starve (seen on MariaDB 10.11).
pub(super) static LEASE_SELECT: Statement = select!(
    "tickets.lease_select",
    mysql: "FORCE INDEX (tickets_queue) ",
    sqlite: "INDEXED BY tickets_queue ",
    "WHERE state = 'queued' AND run_after <= ? AND kind IN (?,?,?,?,?,?,?,?) \
     ORDER BY run_after, ticket_id LIMIT 1",
    " FOR UPDATE SKIP LOCKED"
);
static LEASE: Statement = statement!(
    "tickets.lease",
    "UPDATE tickets SET state = 'running', attempt = attempt + 1, fence = fence + 1, leased_by = ?, \
     lease_until = ?, started_at = ?, waits_for = NULL, shards_done = 0, shards_total = 0, rows_done = 0, \
     rows_total = 0 WHERE ticket_id = ? AND state = 'queued' AND fence = ?"
);
static HAS_RUNNABLE: Statement = statement!(
    "tickets.has_runnable",
    mysql: "SELECT 1 FROM tickets FORCE INDEX (tickets_queue) WHERE state = 'queued' AND run_after <= ? \
            AND kind IN (?,?,?,?,?,?,?,?) LIMIT 1",
    sqlite: "SELECT 1 FROM tickets INDEXED BY tickets_queue WHERE state = 'queued' AND run_after <= ? \
             AND kind IN (?,?,?,?,?,?,?,?) LIMIT 1",
);
static HEARTBEAT: Statement = statement!(
    "tickets.heartbeat",
    "UPDATE tickets SET lease_until = ?, shards_done = ?, shards_total = ?, rows_done = ?, rows_total = ? \
     WHERE ticket_id = ? AND fence = ? AND leased_by = ? AND state = 'running'"
);
static STATE: Statement = statement!("tickets.state", "SELECT state, fence FROM tickets WHERE ticket_id = ?");
static RETRY: Statement = statement!(
    "tickets.retry",
    "UPDATE tickets SET state = 'queued', run_after = ?, leased_by = NULL, lease_until = NULL, \
     error_code = ?, error_detail = ? WHERE ticket_id = ? AND fence = ? AND state = 'running' \
     AND attempt < attempts_max"
);
// The attempt number goes back by one and the next lease raises it again: a ticket that we
// interrupted did not fail.
static GIVE_BACK: Statement = statement!(
    "tickets.give_back",
    "UPDATE tickets SET state = 'queued', attempt = attempt - 1, run_after = ?, waits_for = ?, \
     leased_by = NULL, lease_until = NULL WHERE ticket_id = ? AND fence = ? AND state = 'running'"
);

/// Who leases, and how long the lease is good without a heartbeat.
#[derive(Clone, Copy, Debug)]
pub struct LeaseRequest {
    pub by: ReplicaId,
    pub now: Millis,
    pub until: Millis,
}

/// How a submission enters the table.
#[derive(Clone, Debug)]
pub enum InsertAs<'a> {
    /// For whoever has a free slot.
    Queued,
    /// Already leased to the replica that took it.
    Leased(LeaseRequest),
    /// Behind an equal ticket that is still open, and free to run from `run_after` should that one
    /// never end.
    Waiting { waits_for: TicketId, run_after: Millis },
    /// Answered by the result of an equal ticket.
    Answered { by: &'a TicketRow },
}

#[derive(Clone, PartialEq, Debug)]
pub enum Inserted {
    Ticket(TicketRow),
    /// The project has used this idempotency key before, for this ticket.
    Earlier(TicketRow),
}

/// What a heartbeat found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Renewed {
    Yes,
    /// Somebody asked for it to be cancelled; the lease was not renewed.
    Cancelling,
    /// The ticket is not ours any more.
    Lost,
}

impl TicketStore {
    pub async fn insert(&self, ticket: &NewTicket, r#as: InsertAs<'_>) -> Result<Inserted, StorageError> {
        let mut row = match r#as {
            InsertAs::Leased(lease) => ticket.leased(lease),
            InsertAs::Queued | InsertAs::Waiting { .. } | InsertAs::Answered { .. } => ticket.queued(),
        };
        match r#as {
            InsertAs::Queued | InsertAs::Leased(_) => {}
            InsertAs::Waiting { waits_for, run_after } => {
                row.waits_for = Some(waits_for);
                row.run_after = run_after;
            }
            InsertAs::Answered { by } => {
                row.state = TicketState::Succeeded;
                row.result = by.result;
                row.as_of = by.as_of;
                row.partial = by.partial;
                row.progress = by.progress;
                row.data_version = by.data_version;
                row.started_at = Some(ticket.created_at);
                row.finished_at = Some(ticket.created_at);
                // The parts go when the ticket that wrote them expires.
                row.expires_at = by.expires_at;
                row.sweep_at = by.sweep_at;
            }
        }
        match self.db.execute(&INSERT, insert_binds(&row)).await {
            Ok(_) => Ok(Inserted::Ticket(row)),
            Err(conflict @ StorageError::Conflict { .. }) => {
                let Some(key) = &ticket.idempotency_key else { return Err(conflict) };
                match self.find_by_idempotency_key(ticket.project_id, key).await? {
                    Some(earlier) => Ok(Inserted::Earlier(earlier)),
                    None => Err(conflict),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Leases the ticket that has waited longest, of the kinds that this replica knows.
    pub async fn lease_next(
        &self,
        lease: LeaseRequest,
        kinds: &[&'static str],
    ) -> Result<Option<TicketRow>, StorageError> {
        if kinds.is_empty() {
            return Ok(None);
        }
        let mut wanted = values![lease.now];
        wanted.extend(kind_binds(kinds));
        // A look first: an idle replica must not queue for SQLite's one writer every second.
        if self.db.fetch_optional(&HAS_RUNNABLE, wanted.clone()).await?.is_none() {
            return Ok(None);
        }
        self.db
            .transaction(move |tx| {
                let wanted = wanted.clone();
                Box::pin(async move {
                    let Some(row) = tx.fetch_optional(&LEASE_SELECT, wanted).await? else { return Ok(None) };
                    let mut ticket = read(&row)?;
                    let binds = values![lease.by, lease.until, lease.now, ticket.ticket_id, ticket.fence];
                    if tx.execute(&LEASE, binds).await? == 0 {
                        return Ok(None);
                    }
                    ticket.state = TicketState::Running;
                    ticket.attempt += 1;
                    ticket.fence += 1;
                    ticket.leased_by = Some(lease.by);
                    ticket.lease_until = Some(lease.until);
                    ticket.started_at = Some(lease.now);
                    ticket.waits_for = None;
                    ticket.progress = TicketProgress::default();
                    Ok(Some(ticket))
                })
            })
            .await
    }

    /// Renews the lease and shows the progress, as long as the ticket runs under this fence.
    pub async fn heartbeat(
        &self,
        ticket: &TicketRow,
        until: Millis,
        progress: TicketProgress,
    ) -> Result<Renewed, StorageError> {
        let binds = values![
            until,
            progress.shards_done,
            progress.shards_total,
            progress.rows_done,
            progress.rows_total,
            ticket.ticket_id,
            ticket.fence,
            ticket.leased_by,
        ];
        if self.db.execute(&HEARTBEAT, binds).await? == 1 {
            return Ok(Renewed::Yes);
        }
        Ok(match self.state_under(ticket).await? {
            Some(TicketState::Cancelling) => Renewed::Cancelling,
            _ => Renewed::Lost,
        })
    }

    /// The state, if the ticket's fence is still the one it was leased under.
    pub(super) async fn state_under(&self, leased: &TicketRow) -> Result<Option<TicketState>, StorageError> {
        let row = self.db.fetch_optional(&STATE, values![leased.ticket_id]).await?;
        match row {
            Some(row) if row.u64(1)? == leased.fence => state_of(&row).map(Some),
            _ => Ok(None),
        }
    }

    /// Back into the queue until `run_after`; false when it is not ours any more, is being
    /// cancelled, or has no attempt left.
    pub async fn retry(
        &self,
        ticket: &TicketRow,
        run_after: Millis,
        error: &super::Failure,
    ) -> Result<bool, StorageError> {
        let binds =
            values![run_after, error.code.as_str(), error.stored_detail(), ticket.ticket_id, ticket.fence];
        Ok(self.db.execute(&RETRY, binds).await? == 1)
    }

    /// Back into the queue with the attempt number kept: because this replica stops, or because an
    /// equal ticket is already running and this one waits for it.
    pub async fn give_back(
        &self,
        ticket: &TicketRow,
        run_after: Millis,
        waits_for: Option<TicketId>,
    ) -> Result<bool, StorageError> {
        let binds = values![run_after, waits_for, ticket.ticket_id, ticket.fence];
        Ok(self.db.execute(&GIVE_BACK, binds).await? == 1)
    }
}

fn state_of(row: &Row) -> Result<TicketState, StorageError> {
    TicketState::from_column(&row.text(0)?)
}
