use askama::Template;

use super::{Frame, Nav, Note, icon};
use crate::http::web::format;

/// What a number of days would delete.
pub struct RetentionPreview {
    pub days: u32,
    /// `2026-10-30`, as the form sends it back.
    pub kept_from: String,
    /// `30 Oct 2026`.
    pub kept_from_words: String,
    pub events: u64,
    pub events_before: u64,
    pub persons: u64,
    pub persons_before: u64,
}

/// `/p/{id}/retention`.
#[derive(Template)]
#[template(path = "retention.html")]
pub struct RetentionPage {
    pub frame: Frame,
    /// `None`: events are kept for ever.
    pub current: Option<u32>,
    pub kept_from_words: Option<String>,
    /// The field of the form.
    pub typed: String,
    pub days_error: Option<String>,
    pub notes: Vec<Note>,
    pub preview: Option<RetentionPreview>,
    /// For ever was asked for, which needs no preview.
    pub wants_all: bool,
    pub confirm_error: Option<&'static str>,
    pub saved: bool,
    /// Whoever looks is an owner.
    pub may_change: bool,
}

impl RetentionPreview {
    fn events_words(&self) -> String {
        words(self.events_before, self.events, "event", "events")
    }

    fn persons_words(&self) -> String {
        words(self.persons_before, self.persons, "person", "persons")
    }
}

/// "1,204 of 3,000 persons (40 %)".
fn words(part: u64, whole: u64, one: &str, many: &str) -> String {
    let share = format::percent(part as f64, whole as f64);
    format!("{} of {} ({share})", format::thousands(part), format::counted(whole, one, many))
}
