use askama::Template;

use super::{Frame, Menus, Nav, Note, Panel, RangeBar, icon};
use crate::http::web::{
    ask::form::{FilterForm, OPERATORS},
    chart, format,
    format::Change,
};

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

pub struct TopRow {
    pub name: String,
    /// Asks about this one.
    pub href: String,
    pub count: u64,
    pub persons: Option<u64>,
}

pub enum TopRows {
    Waiting,
    Ready(Vec<TopRow>),
    /// Why they are not there.
    Failed(String),
}

/// The most frequent names of one kind.
pub struct TopList {
    pub title: &'static str,
    /// The head of its column: "Event", "Source".
    pub of: &'static str,
    pub rows: TopRows,
    /// Asks for all of them.
    pub all_href: String,
}

impl TopList {
    fn bar(&self, row: &TopRow) -> String {
        let TopRows::Ready(rows) = &self.rows else { return String::new() };
        let largest = rows.iter().map(|row| row.count).max().unwrap_or(0);
        chart::rank_bar(row.count as f64, largest as f64)
    }
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
    /// The events first.
    pub lists: Vec<TopList>,
    /// What is counted at all, as a form.
    pub filters: Vec<FilterForm>,
    /// Why the filters cannot be applied.
    pub filter_error: Option<String>,
    pub menus: Menus,
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
        let Some(events) = self.lists.first() else { return false };
        !self.waiting && matches!(&events.rows, TopRows::Ready(rows) if rows.is_empty())
    }

    fn selected(&self, option: impl AsRef<str>, value: impl AsRef<str>) -> &'static str {
        if option.as_ref() == value.as_ref() { " selected" } else { "" }
    }

    fn per(&self) -> &'static str {
        self.range.range.grain().word()
    }
}
