use askama::Template;

use super::{Frame, Nav, icon};
use crate::model::Millis;

pub struct LiveRow {
    pub event_id: String,
    pub event: String,
    pub distinct_id: String,
    pub occurred_at: Millis,
    pub received_at: Millis,
    /// Sorted by name; values as people read them (a string without quotes, JSON for the rest).
    pub properties: Vec<(String, String)>,
}

impl LiveRow {
    /// The first few properties on one line.
    pub(super) fn summary(&self) -> String {
        let shown: Vec<String> =
            self.properties.iter().take(5).map(|(name, value)| format!("{name}: {value}")).collect();
        shown.join(" · ")
    }
}

/// What `?event=` and `?distinct_id=` ask for; empty is everything.
#[derive(Clone, Default, Debug)]
pub struct LiveFilter {
    pub event: String,
    pub distinct_id: String,
}

impl LiveFilter {
    fn is_set(&self) -> bool {
        !self.event.is_empty() || !self.distinct_id.is_empty()
    }
}

/// `/p/{id}/live`: what arrived last, newest first, refreshed every few seconds.
#[derive(Template)]
#[template(path = "live.html")]
pub struct LivePage {
    pub frame: Frame,
    pub filter: LiveFilter,
    /// Event names to suggest in the filter.
    pub event_names: Vec<String>,
    pub rows: Vec<LiveRow>,
    /// The most rows the page shows.
    pub rows_max: usize,
    /// One sentence for each server that did not answer.
    pub missing: Vec<String>,
}
