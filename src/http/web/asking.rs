//! A page's question as a ticket: submitted, waited for a little, and read.
//!
//! A page that shows what is still running brings itself up to date under an address that names its
//! tickets, so that looking again does not ask again.

use std::time::Duration;

use serde_json::Value;

use super::{chart, format};
use crate::{
    analysis::{Answer, Completeness, Question},
    http::{ApiError, extract::ProjectPage},
    model::TicketId,
    tickets::{Submit, SubmitError, Ticket, TicketError, TicketState, Tickets, WaitFor},
};

/// As registered in app.rs.
const QUESTION: &str = "question";

/// A page waits this long before it shows that it waits. A question over a small project is
/// answered in a fraction of it.
pub const PAGE_WAIT: Duration = Duration::from_secs(3);

/// Where one question of a page stands.
pub enum Outcome {
    Waiting(Ticket),
    Answered(Ticket, Box<Answer>, Completeness),
    /// Final, without an answer. No ticket when it was not even taken.
    Failed {
        ticket: Option<Ticket>,
        detail: String,
    },
}

impl Outcome {
    pub fn ticket(&self) -> Option<&Ticket> {
        match self {
            Self::Waiting(ticket) | Self::Answered(ticket, ..) => Some(ticket),
            Self::Failed { ticket, .. } => ticket.as_ref(),
        }
    }
}

/// Who asks: `page` says where, so that the list of tickets can leave out what nobody typed.
pub struct Asking<'a> {
    pub tickets: &'a Tickets,
    pub project: &'a ProjectPage,
    pub page: &'static str,
    pub wait: Duration,
}

impl Asking<'_> {
    /// Asks, or looks at the ticket that was made for this very question before.
    pub async fn ask(&self, question: &Question, earlier: Option<TicketId>) -> Result<Outcome, ApiError> {
        let body = question.asked();
        if let Some(ticket) = self.find_earlier(earlier, question).await? {
            if ticket.state.is_final() {
                return self.read(ticket).await;
            }
            let (project_id, ticket_id) = (ticket.project_id, ticket.ticket_id);
            return match self.tickets.wait(project_id, ticket_id, WaitFor::End, self.wait).await {
                Ok(ticket) => self.read(ticket).await,
                Err(error) => failed(Some(ticket), error),
            };
        }
        let account = self.project.session.account_id;
        let submit = Submit {
            project_id: self.project.project_id(),
            let_in_with: Some(self.project.project.clone()),
            kind: QUESTION.to_owned(),
            body,
            idempotency_key: None,
            created_by: format!("{}:{account}", self.page),
        };
        match self.tickets.submit_to_wait(submit, self.wait).await {
            Ok(submitted) => {
                let ticket = submitted.ticket.clone();
                match self.tickets.wait_for_end(submitted, self.wait).await {
                    Ok(ticket) => self.read(ticket).await,
                    Err(error) => failed(Some(ticket), error),
                }
            }
            Err(SubmitError::Storage(error)) => Err(error.into()),
            Err(SubmitError::Invalid(invalid)) => {
                let first = invalid.errors.first().map(|(_, detail)| detail.clone());
                Ok(Outcome::Failed { ticket: None, detail: first.unwrap_or(invalid.detail) })
            }
            Err(error @ SubmitError::TooManyQueued { .. }) => {
                let detail =
                    format!("{}. Try again when some of them are done.", capitalised(&error.to_string()));
                Ok(Outcome::Failed { ticket: None, detail })
            }
            Err(error @ (SubmitError::UnknownKind(_) | SubmitError::IdempotencyKeyReused)) => {
                Err(ApiError::internal(error))
            }
        }
    }

    /// The ticket, as long as it is this project's and asks the same.
    async fn find_earlier(
        &self,
        ticket: Option<TicketId>,
        question: &Question,
    ) -> Result<Option<Ticket>, ApiError> {
        let Some(ticket_id) = ticket else {
            return Ok(None);
        };
        match self.tickets.get(self.project.project_id(), ticket_id).await {
            Ok(ticket) => {
                let body: Option<Value> = serde_json::from_slice(&ticket.body).ok();
                let same = ticket.kind == QUESTION && body == Some(question.canonical());
                Ok(same.then_some(ticket))
            }
            Err(
                TicketError::NotFound
                | TicketError::Gone
                | TicketError::NoResult
                | TicketError::NotCancellable,
            ) => Ok(None),
            Err(TicketError::Storage(error)) => Err(error.into()),
        }
    }

    async fn read(&self, ticket: Ticket) -> Result<Outcome, ApiError> {
        match ticket.state {
            TicketState::Queued | TicketState::Running | TicketState::Cancelling => {
                Ok(Outcome::Waiting(ticket))
            }
            TicketState::Succeeded => match self.tickets.result(&ticket).await {
                Ok(body) => {
                    let answer = serde_json::from_slice(&body).map_err(ApiError::internal)?;
                    let completeness = serde_json::from_slice(&body).map_err(ApiError::internal)?;
                    Ok(Outcome::Answered(ticket, Box::new(answer), completeness))
                }
                Err(error) => failed(Some(ticket), error),
            },
            TicketState::Failed => {
                let detail = ticket.error.as_ref().map(|error| error.detail.clone());
                let detail = detail.unwrap_or_else(|| "It failed for an unknown reason.".to_owned());
                Ok(Outcome::Failed { ticket: Some(ticket), detail })
            }
            TicketState::Cancelled => {
                Ok(Outcome::Failed { ticket: Some(ticket), detail: "It was cancelled.".to_owned() })
            }
        }
    }
}

fn failed(ticket: Option<Ticket>, error: TicketError) -> Result<Outcome, ApiError> {
    match error {
        TicketError::Storage(error) => Err(error.into()),
        TicketError::NotFound | TicketError::Gone | TicketError::NoResult | TicketError::NotCancellable => {
            Ok(Outcome::Failed { ticket, detail: "Its answer has expired.".to_owned() })
        }
    }
}

/// Where a page hears of changes to a ticket, beginning with the state that it shows. What is said
/// there is only that something is new: the page fetches itself, so that all words come from here.
pub fn events_href(ticket: &Ticket) -> String {
    let (ticket_id, project_id, seen) = (ticket.ticket_id, ticket.project_id, ticket.version());
    format!("/api/v1/tickets/{ticket_id}/events?project={project_id}&result=false&seen={seen:016x}")
}

/// A running ticket's bar and the sentence beside it.
pub fn progress(ticket: &Ticket) -> (String, String) {
    let progress = ticket.progress;
    let total = u64::from(progress.shards_total);
    let text = match (ticket.state, ticket.queue_position) {
        (TicketState::Queued, Some(1)) => "Next in the queue".to_owned(),
        (TicketState::Queued, Some(position)) => {
            format!("{} before it in the queue", format::thousands(position - 1))
        }
        (TicketState::Cancelling, _) => "Stopping".to_owned(),
        _ if total > 0 => {
            let rows = match progress.rows_total {
                0 => String::new(),
                rows => format!(
                    ", {} of {} events",
                    format::thousands(progress.rows_done),
                    format::thousands(rows)
                ),
            };
            format!("{} of {total} shards{rows}", progress.shards_done)
        }
        _ => "Running".to_owned(),
    };
    let bar = match progress.rows_total {
        0 => chart::progress_bar(u64::from(progress.shards_done), total),
        rows => chart::progress_bar(progress.rows_done, rows),
    };
    (bar, text)
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
