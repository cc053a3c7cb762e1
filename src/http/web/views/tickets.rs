use askama::Template;

use super::{Frame, Nav, Note, icon};
use crate::{http::web::format, model::Millis};

/// A ticket in a list and at the top of its own page.
pub struct TicketRow {
    pub id: String,
    /// The question in words.
    pub title: String,
    pub kind: String,
    /// `queued`, `running`, `cancelling`, `succeeded`, `failed`, `cancelled`.
    pub state: &'static str,
    pub created_at: Millis,
    pub started_at: Option<Millis>,
    pub finished_at: Option<Millis>,
    /// Markup of the progress bar while it runs.
    pub progress: Option<String>,
    pub progress_text: String,
}

impl TicketRow {
    fn badge(&self) -> &'static str {
        match self.state {
            "succeeded" => "badge good",
            "failed" => "badge bad",
            "running" | "cancelling" => "badge busy",
            _ => "badge",
        }
    }

    fn took(&self) -> Option<String> {
        match self.finished_at? - self.started_at? {
            0 if self.state == "succeeded" => Some("at once".to_owned()),
            millis => Some(format::duration(millis)),
        }
    }

    fn is_final(&self) -> bool {
        matches!(self.state, "succeeded" | "failed" | "cancelled")
    }
}

/// `/p/{id}/tickets`.
#[derive(Template)]
#[template(path = "tickets.html")]
pub struct TicketsPage {
    pub frame: Frame,
    pub tickets: Vec<TicketRow>,
    pub older_href: Option<String>,
    /// Those that the overview asks are shown too.
    pub all: bool,
    /// The list with, or without, those.
    pub other_href: String,
}

impl TicketsPage {
    fn any_open(&self) -> bool {
        self.tickets.iter().any(|ticket| !ticket.is_final())
    }
}

/// `/p/{id}/tickets/{ticket}`; cancelling posts to `…/cancel`.
#[derive(Template)]
#[template(path = "ticket.html")]
pub struct TicketPage {
    pub frame: Frame,
    pub ticket: TicketRow,
    pub notes: Vec<Note>,
    pub attempt: u32,
    /// How many tickets are before it.
    pub queue_position: Option<u64>,
    pub as_of: Option<Millis>,
    pub expires_at: Option<Millis>,
    pub question_heading: &'static str,
    /// The question as JSON, indented; of an erasure whom it is about, and later the receipt.
    pub question: String,
    /// Shows the answer, asked again from the same data or read from this ticket.
    pub answer_href: Option<String>,
    pub can_cancel: bool,
    /// Until its end: where it says that it has changed.
    pub events_href: Option<String>,
}
