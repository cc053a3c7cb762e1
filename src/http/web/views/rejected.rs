use askama::Template;

use super::{Frame, Nav, icon};
use crate::{http::web::format, model::Millis};

/// One reason and how many of the kept rejected events have it.
pub struct ReasonCount {
    pub code: String,
    pub count: u64,
}

pub struct RejectedRow {
    pub received_at: Millis,
    /// The reason's code, `event_name`.
    pub code: String,
    /// The reason in words, as the sender was told.
    pub detail: String,
    /// Empty when the event had none.
    pub event: String,
    /// Empty when the event had none.
    pub distinct_id: String,
    /// What was sent, cut by the store; empty when it was not kept.
    pub body: String,
}

/// `/p/{id}/rejected`, filtered by `?reason=`.
#[derive(Template)]
#[template(path = "rejected.html")]
pub struct RejectedPage {
    pub frame: Frame,
    /// Which servers are left out, in words.
    pub missing: Option<String>,
    pub reasons: Vec<ReasonCount>,
    pub reason: Option<String>,
    pub rows: Vec<RejectedRow>,
    /// The most rejected events that are kept per project.
    pub kept_max: u64,
    /// The address of the next page, when there is one.
    pub older_href: Option<String>,
}

impl RejectedPage {
    fn total(&self) -> u64 {
        self.reasons.iter().map(|reason| reason.count).sum()
    }

    fn is_selected(&self, reason: &ReasonCount) -> bool {
        self.reason.as_deref() == Some(&reason.code)
    }
}
