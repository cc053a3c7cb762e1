//! Every statement on tickets.
//!
//! A ticket's life is a row in `tickets`; what moves it from state to state is here, and each move
//! is one statement guarded by the state it leaves and, while it runs, by its fence: whoever was
//! slow finds no row to change. The fence grows with every lease. The result lies in
//! `ticket_results` in parts of at most [`PART_BYTES_MAX`], keyed by the fence of the run that
//! wrote them, so a runner that lost its lease can write parts but never have them read.
//!
//! A ticket that was split has rows in `ticket_steps`, which live by the same rules on their own.
//!
//! Times are handed in by the caller, in the control database's clock ([`crate::storage::DatabaseClock`]).

mod erase;
mod finish;
mod maintenance;
mod queue;
mod row;
mod steps;
mod unless_changed;

#[cfg(test)]
mod tests;

pub use finish::{Failure, Finished, PART_BYTES_MAX, SENT_ALONG_BYTES_MAX, TicketResult};
pub use maintenance::{MaintenanceRules, Rescued, Swept};
pub use queue::{InsertAs, Inserted, LeaseRequest, Renewed};
pub use row::{ATTEMPTS_UNLIMITED, NewTicket, ResultRef, TicketProgress, TicketRow, TicketState};
pub use steps::{LeasedStep, STEP_BYTES_MAX, StepOutcome};

use super::super::db::{Statement, statement};
use crate::model::{Millis, ProjectId, TicketId};
use crate::storage::{Db, StorageError, Value};
use crate::values;
use row::{read, select};

/// How many kinds one replica can lease: the statement has that many places.
pub const KINDS_MAX: usize = 8;

/// The queue is counted this far; beyond it a ticket is "at least this far back".
const POSITION_MAX: u32 = 1_000;

static GET: Statement = select!("tickets.get", "WHERE ticket_id = ?");
static GET_OF_PROJECT: Statement =
    select!("tickets.get_of_project", "WHERE ticket_id = ? AND project_id = ?");
static GET_BY_IDEMPOTENCY_KEY: Statement =
    select!("tickets.get_by_idempotency_key", "WHERE project_id = ? AND idempotency_key = ?");
static LIST: Statement =
    select!("tickets.list", "WHERE project_id = ? AND ticket_id < ? ORDER BY ticket_id DESC LIMIT ?");
// The index is named because of the order: in a table that has just grown MariaDB went through all tickets of
// the project by their number, to find twenty that there mostly are not.
static EQUAL: Statement = select!(
    "tickets.equal",
    mysql: "FORCE INDEX (tickets_same) ",
    sqlite: "INDEXED BY tickets_same ",
    "WHERE project_id = ? AND body_hash = ? AND state IN ('queued', 'running', 'succeeded') \
     AND data_version = ? AND ticket_id <> ? ORDER BY ticket_id DESC LIMIT 20",
    ""
);
static POSITION: Statement = statement!(
    "tickets.position",
    "SELECT COUNT(*) FROM (SELECT 1 FROM tickets WHERE state = 'queued' AND (run_after < ? \
     OR (run_after = ? AND ticket_id < ?)) LIMIT 1000) ahead"
);
static COUNT_QUEUED: Statement = statement!(
    "tickets.count_queued",
    "SELECT COUNT(*) FROM (SELECT 1 FROM tickets WHERE state = 'queued' AND project_id = ? LIMIT 10000) open"
);
static DEPTH: Statement = statement!(
    "tickets.depth",
    "SELECT COUNT(*), MIN(created_at) FROM (SELECT created_at FROM tickets WHERE state = 'queued' \
     AND run_after <= ? ORDER BY run_after, ticket_id LIMIT 1000) waiting"
);
static RESULT_PARTS: Statement = statement!(
    "tickets.result_parts",
    "SELECT part_no, body FROM ticket_results WHERE ticket_id = ? AND fence = ? AND part_no >= ? \
     ORDER BY part_no LIMIT ?"
);

/// What makes two tickets equal, and the one that looks.
#[derive(Clone, Copy, Debug)]
pub struct EqualTo {
    pub ticket_id: TicketId,
    pub project_id: ProjectId,
    pub body_hash: [u8; 32],
    pub data_version: [u8; 32],
}

/// The statements on the tickets of one control database.
#[derive(Clone)]
pub struct TicketStore {
    db: Db,
}

impl TicketStore {
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    pub async fn find(&self, ticket: TicketId) -> Result<Option<TicketRow>, StorageError> {
        self.db.fetch_optional(&GET, values![ticket]).await?.as_ref().map(read).transpose()
    }

    pub async fn find_of_project(
        &self,
        project: ProjectId,
        ticket: TicketId,
    ) -> Result<Option<TicketRow>, StorageError> {
        let row = self.db.fetch_optional(&GET_OF_PROJECT, values![ticket, project]).await?;
        row.as_ref().map(read).transpose()
    }

    pub async fn find_by_idempotency_key(
        &self,
        project: ProjectId,
        key: &str,
    ) -> Result<Option<TicketRow>, StorageError> {
        let row = self.db.fetch_optional(&GET_BY_IDEMPOTENCY_KEY, values![project, key]).await?;
        row.as_ref().map(read).transpose()
    }

    /// A project's tickets, youngest first, from the one before `before`.
    pub async fn list(
        &self,
        project: ProjectId,
        before: Option<TicketId>,
        limit: u32,
    ) -> Result<Vec<TicketRow>, StorageError> {
        let before = before.map_or([0xff; 16], |ticket| ticket.0);
        let rows = self.db.fetch_all(&LIST, values![project, before, limit]).await?;
        rows.iter().map(read).collect()
    }

    /// Tickets that ask the same of the same data, youngest first: open ones, and answered ones.
    pub async fn list_equal(&self, to: &EqualTo) -> Result<Vec<TicketRow>, StorageError> {
        let binds = values![to.project_id, to.body_hash, to.data_version, to.ticket_id];
        let rows = self.db.fetch_all(&EQUAL, binds).await?;
        rows.iter().map(read).collect()
    }

    /// How many tickets are ahead of this one, itself included, so 1 is next.
    pub async fn queue_position(&self, ticket: &TicketRow) -> Result<u32, StorageError> {
        let binds = values![ticket.run_after, ticket.run_after, ticket.ticket_id];
        let row = self.db.fetch_optional(&POSITION, binds).await?;
        Ok(row.map_or(Ok(0), |row| row.u32(0))?.min(POSITION_MAX - 1) + 1)
    }

    pub async fn count_queued(&self, project: ProjectId) -> Result<u32, StorageError> {
        self.db.fetch_optional(&COUNT_QUEUED, values![project]).await?.map_or(Ok(0), |row| row.u32(0))
    }

    /// How many tickets could run now (counted up to 1,000), and since when the first one waits.
    pub async fn depth(&self, now: Millis) -> Result<(u32, Option<Millis>), StorageError> {
        match self.db.fetch_optional(&DEPTH, values![now]).await? {
            Some(row) => Ok((row.u32(0)?, row.opt_i64(1)?)),
            None => Ok((0, None)),
        }
    }

    /// The whole result; `None` when parts are missing because it was deleted meanwhile.
    pub async fn read_result(&self, result: &ResultRef) -> Result<Option<Vec<u8>>, StorageError> {
        let mut body = Vec::with_capacity(usize::try_from(result.bytes).unwrap_or(0));
        for part_no in 0..result.parts {
            let binds = values![result.ticket_id, result.fence, part_no, 1_u32];
            match self.db.fetch_optional(&RESULT_PARTS, binds).await? {
                Some(row) if row.u32(0)? == part_no => body.extend_from_slice(&row.bytes(1)?),
                _ => return Ok(None),
            }
        }
        if body.len() as u64 != result.bytes {
            return Err(StorageError::corrupt(
                "ticket_results",
                "body",
                "its length is not the one recorded",
            ));
        }
        Ok(Some(body))
    }
}

/// The kinds as binds for the eight places of an `IN`, the last one repeated.
fn kind_binds(kinds: &[&'static str]) -> Vec<Value> {
    debug_assert!((1..=KINDS_MAX).contains(&kinds.len()));
    (0..KINDS_MAX).map(|n| Value::from(kinds[n.min(kinds.len() - 1)])).collect()
}
