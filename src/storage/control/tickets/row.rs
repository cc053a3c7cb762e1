//! A ticket as it lies in the table.

use super::LeaseRequest;
use crate::model::{Millis, ProjectId, ReplicaId, TicketId};
use crate::storage::{Row, StorageError, Value};
use crate::values;

/// Where a ticket is in its life; who leaves each state is written in `tickets/mod.rs`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TicketState {
    Queued,
    Running,
    Cancelling,
    Succeeded,
    Failed,
    Cancelled,
}

impl TicketState {
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Cancelling, Self::Succeeded, Self::Failed, Self::Cancelled];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub(super) fn from_column(text: &str) -> Result<Self, StorageError> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| StorageError::corrupt("tickets", "state", format!("{text:?}")))
    }

    /// A final state never changes.
    pub fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Running | Self::Cancelling => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TicketProgress {
    pub shards_done: u32,
    pub shards_total: u32,
    pub rows_done: u64,
    pub rows_total: u64,
}

/// As `attempts_max`: the ticket is owed. It is tried until it succeeds, however often it fails, is
/// interrupted, or takes its runner with it, and nobody cancels it.
pub const ATTEMPTS_UNLIMITED: u32 = i32::MAX as u32;

/// Where a result's parts are: with the ticket whose run wrote them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResultRef {
    pub ticket_id: TicketId,
    pub fence: u64,
    pub bytes: u64,
    pub parts: u32,
}

/// What a submission brings. Canonical: equal questions have equal `body` and so equal `body_hash`.
#[derive(Clone, Debug)]
pub struct NewTicket {
    pub ticket_id: TicketId,
    pub project_id: ProjectId,
    pub kind: &'static str,
    pub body: Vec<u8>,
    pub body_hash: [u8; 32],
    /// Of the request as it was sent: the same idempotency key must come with the same request.
    pub request_hash: [u8; 32],
    /// What state of the data it asks; `None` when its result may not be shared.
    pub data_version: Option<[u8; 32]>,
    pub idempotency_key: Option<String>,
    pub created_by: String,
    pub attempts_max: u32,
    pub created_at: Millis,
    /// When it fails, if nothing has ended it before.
    pub overdue_at: Millis,
}

#[derive(Clone, PartialEq, Debug)]
pub struct TicketRow {
    pub ticket_id: TicketId,
    pub project_id: ProjectId,
    pub kind: String,
    pub state: TicketState,
    pub body: Vec<u8>,
    pub body_hash: [u8; 32],
    pub request_hash: [u8; 32],
    pub data_version: Option<[u8; 32]>,
    pub idempotency_key: Option<String>,
    pub created_by: String,
    /// The number of the current or last run, from 1; 0 before the first.
    pub attempt: u32,
    pub attempts_max: u32,
    pub runner_deaths: u32,
    pub fence: u64,
    pub leased_by: Option<ReplicaId>,
    pub lease_until: Option<Millis>,
    pub run_after: Millis,
    pub progress: TicketProgress,
    pub as_of: Option<Millis>,
    pub partial: bool,
    pub error: Option<(String, String)>,
    pub result: Option<ResultRef>,
    pub waits_for: Option<TicketId>,
    pub created_at: Millis,
    pub started_at: Option<Millis>,
    pub finished_at: Option<Millis>,
    /// When a final ticket's result goes; before that, when the ticket fails as overdue.
    pub expires_at: Millis,
    pub sweep_at: Millis,
}

impl TicketRow {
    pub fn is_owed(&self) -> bool {
        self.attempts_max == ATTEMPTS_UNLIMITED
    }
}

/// A SELECT of all columns in the order that [`read`] expects.
macro_rules! select {
    ($name:literal, $rest:literal) => {
        select!($name, mysql: "", sqlite: "", $rest, "")
    };
    ($name:literal, mysql: $mysql:literal, sqlite: $sqlite:literal, $rest:literal, $mysql_end:literal) => {
        $crate::storage::Statement {
            name: $name,
            mysql: select!(@text $name, $mysql, $rest, $mysql_end),
            sqlite: select!(@text $name, $sqlite, $rest, ""),
        }
    };
    (@text $name:literal, $hint:literal, $rest:literal, $end:literal) => {
        concat!(
            "/* ", $name, " */ SELECT ticket_id, project_id, kind, state, body, body_hash, data_version, ",
            "idempotency_key, created_by, attempt, attempts_max, runner_deaths, fence, leased_by, lease_until, ",
            "run_after, shards_done, shards_total, rows_done, rows_total, as_of, partial, error_code, ",
            "error_detail, result_bytes, result_parts, result_ticket, result_fence, waits_for, created_at, ",
            "started_at, finished_at, expires_at, sweep_at, request_hash FROM tickets ",
            $hint, $rest, $end
        )
    };
}
pub(super) use select;

/// An INSERT of all columns, in the order of [`insert_binds`]; `$from` gives their values.
macro_rules! insert {
    ($name:literal, $from:expr) => {
        insert!($name, $from, mysql_end: "")
    };
    ($name:literal, $from:expr, mysql_end: $end:literal) => {
        $crate::storage::Statement {
            name: $name,
            mysql: insert!(@text $name, $from, $end),
            sqlite: insert!(@text $name, $from, ""),
        }
    };
    (@text $name:literal, $from:expr, $end:literal) => {
        concat!(
            "/* ", $name, " */ INSERT INTO tickets (ticket_id, project_id, kind, state, body, body_hash, ",
            "data_version, idempotency_key, created_by, attempt, attempts_max, runner_deaths, fence, leased_by, ",
            "lease_until, run_after, shards_done, shards_total, rows_done, rows_total, as_of, partial, ",
            "error_code, error_detail, result_bytes, result_parts, result_ticket, result_fence, waits_for, ",
            "created_at, started_at, finished_at, expires_at, sweep_at, request_hash) ", $from, $end
        )
    };
}
pub(super) use insert;

pub(super) fn read(row: &Row) -> Result<TicketRow, StorageError> {
    let bytes16 = |index: usize| -> Result<Option<[u8; 16]>, StorageError> {
        match row.opt_bytes(index)? {
            Some(_) => row.array(index).map(Some),
            None => Ok(None),
        }
    };
    let result = match (row.opt_i64(24)?, row.opt_i64(25)?, bytes16(26)?) {
        (Some(_), Some(_), Some(ticket)) => Some(ResultRef {
            ticket_id: TicketId(ticket),
            fence: row.u64(27)?,
            bytes: row.u64(24)?,
            parts: row.u32(25)?,
        }),
        _ => None,
    };
    Ok(TicketRow {
        ticket_id: TicketId(row.array(0)?),
        project_id: ProjectId(row.u32(1)?),
        kind: row.text(2)?,
        state: TicketState::from_column(&row.text(3)?)?,
        body: row.bytes(4)?,
        body_hash: row.array(5)?,
        request_hash: row.array(34)?,
        data_version: match row.opt_bytes(6)? {
            Some(_) => Some(row.array(6)?),
            None => None,
        },
        idempotency_key: row.opt_text(7)?,
        created_by: row.text(8)?,
        attempt: row.u32(9)?,
        attempts_max: row.u32(10)?,
        runner_deaths: row.u32(11)?,
        fence: row.u64(12)?,
        leased_by: bytes16(13)?.map(ReplicaId),
        lease_until: row.opt_i64(14)?,
        run_after: row.i64(15)?,
        progress: TicketProgress {
            shards_done: row.u32(16)?,
            shards_total: row.u32(17)?,
            rows_done: row.u64(18)?,
            rows_total: row.u64(19)?,
        },
        as_of: row.opt_i64(20)?,
        partial: row.bool(21)?,
        error: row
            .opt_text(22)?
            .map(|code| Ok::<_, StorageError>((code, row.opt_text(23)?.unwrap_or_default())))
            .transpose()?,
        result,
        waits_for: bytes16(28)?.map(TicketId),
        created_at: row.i64(29)?,
        started_at: row.opt_i64(30)?,
        finished_at: row.opt_i64(31)?,
        expires_at: row.i64(32)?,
        sweep_at: row.i64(33)?,
    })
}

/// The binds of an INSERT of all columns, in the order of the table.
pub(super) fn insert_binds(ticket: &TicketRow) -> Vec<Value> {
    let (error_code, error_detail) = ticket.error.clone().unzip();
    let result = ticket.result;
    values![
        ticket.ticket_id,
        ticket.project_id,
        ticket.kind.as_str(),
        ticket.state.as_str(),
        ticket.body.clone(),
        ticket.body_hash,
        ticket.data_version,
        ticket.idempotency_key.clone(),
        ticket.created_by.as_str(),
        ticket.attempt,
        ticket.attempts_max,
        ticket.runner_deaths,
        ticket.fence,
        ticket.leased_by,
        ticket.lease_until,
        ticket.run_after,
        ticket.progress.shards_done,
        ticket.progress.shards_total,
        ticket.progress.rows_done,
        ticket.progress.rows_total,
        ticket.as_of,
        ticket.partial,
        error_code,
        error_detail,
        result.map(|result| result.bytes),
        result.map(|result| result.parts),
        result.map(|result| result.ticket_id),
        result.map(|result| result.fence),
        ticket.waits_for,
        ticket.created_at,
        ticket.started_at,
        ticket.finished_at,
        ticket.expires_at,
        ticket.sweep_at,
        ticket.request_hash,
    ]
}

impl NewTicket {
    /// The row in its first run, by the replica that takes it in.
    pub fn leased(&self, lease: LeaseRequest) -> TicketRow {
        TicketRow {
            state: TicketState::Running,
            attempt: 1,
            fence: 1,
            leased_by: Some(lease.by),
            lease_until: Some(lease.until),
            started_at: Some(lease.now),
            ..self.queued()
        }
    }

    /// The row in its first state, queued and free to run.
    pub(super) fn queued(&self) -> TicketRow {
        TicketRow {
            ticket_id: self.ticket_id,
            project_id: self.project_id,
            kind: self.kind.to_owned(),
            state: TicketState::Queued,
            body: self.body.clone(),
            body_hash: self.body_hash,
            request_hash: self.request_hash,
            data_version: self.data_version,
            idempotency_key: self.idempotency_key.clone(),
            created_by: self.created_by.clone(),
            attempt: 0,
            attempts_max: self.attempts_max,
            runner_deaths: 0,
            fence: 0,
            leased_by: None,
            lease_until: None,
            run_after: self.created_at,
            progress: TicketProgress::default(),
            as_of: None,
            partial: false,
            error: None,
            result: None,
            waits_for: None,
            created_at: self.created_at,
            started_at: None,
            finished_at: None,
            expires_at: self.overdue_at,
            sweep_at: self.overdue_at,
        }
    }
}
