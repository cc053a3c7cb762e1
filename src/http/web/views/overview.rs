use askama::Template;

use super::{Frame, Nav, Note, Panel, RangeBar, icon};
use crate::http::web::{chart, format, format::Change};

/// A number at the top of the page.
pub struct Figure {
    pub label: String,
    /// `None` while it is still counted.
    pub value: Option<String>,
    /// Against the previous period; `None` when nothing is compared or not yet known.
    pub change: Option<Change>,
    /// The previous period's own value.
    pub before: Option<String>,
}

pub struct TopEvent {
    pub name: String,
    /// Asks about this event.
    pub href: String,
    pub count: u64,
    pub persons: Option<u64>,
}

/// `/p/{id}/overview`.
#[derive(Template)]
#[template(path = "overview.html")]
pub struct OverviewPage {
    pub frame: Frame,
    pub range: RangeBar,
    pub notes: Vec<Note>,
    pub figures: Vec<Figure>,
    pub events: Panel,
    pub persons: Panel,
    /// `None` while they are still counted.
    pub top_events: Option<Vec<TopEvent>>,
    /// Something is still counted: the page brings itself up to date.
    pub waiting: bool,
    /// Where it looks: the same page, naming the tickets that are already there.
    pub refresh_href: String,
    /// The project has no event at all yet.
    pub first_event_awaited: bool,
}

impl OverviewPage {
    /// Everything is counted, and there is nothing.
    pub fn counts_nothing(&self) -> bool {
        !self.waiting && self.top_events.as_ref().is_some_and(Vec::is_empty)
    }

    fn per(&self) -> &'static str {
        self.range.range.grain().word()
    }

    fn top_count(&self) -> f64 {
        let counts = self.top_events.iter().flatten().map(|event| event.count);
        counts.max().unwrap_or(0) as f64
    }

    fn bar(&self, event: &TopEvent) -> String {
        chart::rank_bar(event.count as f64, self.top_count())
    }
}
