use askama::Template;

use super::{Commands, Frame, Nav, Note, icon};
use crate::{http::web::format, model::Millis};

pub struct StepPersonRow {
    pub distinct_id: String,
    /// `None` for times beyond the calendar.
    pub reached_at: Option<Millis>,
}

/// Where the list stands.
pub enum StepPersonsState {
    Waiting {
        /// Markup of the progress bar.
        progress: String,
        text: String,
        ticket_href: String,
    },
    Failed {
        detail: String,
        ticket_href: Option<String>,
        again_href: String,
    },
    Listed {
        total: u64,
        /// In the answer; fewer than `total` when it was limited.
        listed: usize,
        /// Of this page.
        rows: Vec<StepPersonRow>,
        /// The place of the first row, counted from 1.
        first: usize,
        newer_href: Option<String>,
        older_href: Option<String>,
        /// "Answered in 120 ms".
        facts: Vec<String>,
        ticket_href: String,
        /// The whole answer as a file.
        csv_href: String,
    },
}

/// `/p/{id}/ask/persons`.
#[derive(Template)]
#[template(path = "step_persons.html")]
pub struct StepPersonsPage {
    pub frame: Frame,
    /// "a → b within 7 days".
    pub funnel_words: String,
    pub range_words: String,
    /// Counted from 1.
    pub step: usize,
    pub is_dropped: bool,
    pub step_label: String,
    /// What the step is called whose time is shown.
    pub reached_label: String,
    pub funnel_href: String,
    pub reached_href: String,
    /// `None` for the first step, before which nobody drops out.
    pub dropped_href: Option<String>,
    /// While it waits: the same page, naming the ticket that is already there.
    pub refresh_href: String,
    /// While it waits: where the page hears of changes.
    pub events_href: String,
    pub notes: Vec<Note>,
    pub commands: Commands,
    pub state: StepPersonsState,
}

impl StepPersonsPage {
    fn is_waiting(&self) -> bool {
        matches!(self.state, StepPersonsState::Waiting { .. })
    }

    fn heading(&self) -> String {
        match self.is_dropped {
            true => format!("Dropped out before step {}", self.step),
            false => format!("Reached step {}", self.step),
        }
    }

    /// "312 persons".
    fn counted(&self, total: &u64) -> String {
        format::counted(*total, "person", "persons")
    }

    /// What they did, as the end of a sentence that begins with how many they are.
    fn did(&self) -> String {
        match self.is_dropped {
            true => format!("reached {} and did not go on to {}", self.reached_label, self.step_label),
            false => format!("reached {}", self.step_label),
        }
    }
}
