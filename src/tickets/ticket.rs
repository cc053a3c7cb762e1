//! A ticket as callers see it.

use bytes::Bytes;

use super::{Failure, TicketProgress, TicketState};
use crate::model::{Millis, ProjectId, TicketId, hash64};
use crate::storage::control::tickets::{ResultRef, TicketRow};

/// A ticket as its project sees it.
#[derive(Clone, PartialEq, Debug)]
pub struct Ticket {
    pub ticket_id: TicketId,
    pub project_id: ProjectId,
    pub kind: String,
    pub state: TicketState,
    /// Canonical JSON text.
    pub body: Vec<u8>,
    pub created_by: String,
    pub attempt: u32,
    pub progress: TicketProgress,
    /// 1 is next; only while it is queued.
    pub queue_position: Option<u32>,
    pub as_of: Option<Millis>,
    pub partial: bool,
    /// Only when it failed.
    pub error: Option<Failure>,
    pub result_bytes: Option<u64>,
    pub created_at: Millis,
    pub started_at: Option<Millis>,
    pub finished_at: Option<Millis>,
    pub expires_at: Millis,
    /// It runs until it succeeds.
    pub is_owed: bool,
    pub(super) result: Option<ResultRef>,
    /// The result itself, when it was handed over.
    pub(super) at_hand: Option<Bytes>,
}

/// Tickets of a project, youngest first.
#[derive(Clone, PartialEq, Debug)]
pub struct TicketPage {
    pub tickets: Vec<Ticket>,
    /// Hand it in as `before` for the next page; `None` at the end.
    pub next: Option<TicketId>,
}

/// What one who waits is waiting for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitFor {
    End,
    /// Anything that differs from this [`Ticket::version`].
    Change(u64),
}

impl Ticket {
    /// One that has succeeded, for tests of what is shown of it.
    #[cfg(test)]
    pub fn succeeded() -> Self {
        Self {
            ticket_id: TicketId([1; 16]),
            project_id: ProjectId(1),
            kind: "question".to_owned(),
            state: TicketState::Succeeded,
            body: Vec::new(),
            created_by: String::new(),
            attempt: 1,
            progress: TicketProgress::default(),
            queue_position: None,
            as_of: None,
            partial: false,
            error: None,
            result_bytes: None,
            created_at: 0,
            started_at: Some(1),
            finished_at: Some(2),
            expires_at: 3,
            is_owed: false,
            result: None,
            at_hand: None,
        }
    }

    pub(super) fn from_row(row: TicketRow, queue_position: Option<u32>) -> Self {
        let is_owed = row.is_owed();
        let error = match row.state {
            TicketState::Failed => row.error.map(|(code, detail)| Failure { code, detail }),
            _ => None,
        };
        Self {
            is_owed,
            ticket_id: row.ticket_id,
            project_id: row.project_id,
            kind: row.kind,
            state: row.state,
            body: row.body,
            created_by: row.created_by,
            attempt: row.attempt,
            progress: row.progress,
            queue_position,
            as_of: row.as_of,
            partial: row.partial,
            error,
            result_bytes: row.result.map(|result| result.bytes),
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            expires_at: row.expires_at,
            result: row.result,
            at_hand: None,
        }
    }

    /// The same as long as nothing that can be seen has changed.
    pub fn version(&self) -> u64 {
        let progress = self.progress;
        let seen = format!(
            "{} {} {} {} {} {} {} {:?} {:?} {}",
            self.ticket_id,
            self.state.as_str(),
            self.attempt,
            progress.shards_done,
            progress.shards_total,
            progress.rows_done,
            progress.rows_total,
            self.queue_position,
            self.started_at,
            self.expires_at,
        );
        hash64(seen.as_bytes())
    }

    pub(super) fn has_come(&self, wait_for: WaitFor) -> bool {
        self.state.is_final()
            || match wait_for {
                WaitFor::End => false,
                WaitFor::Change(seen) => self.version() != seen,
            }
    }
}
