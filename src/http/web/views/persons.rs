use askama::Template;

use super::{Frame, LiveRow, Nav, Note, icon};
use crate::{http::web::format, model::Millis};

/// `/p/{id}/persons`: who was here last, and a way to any other.
#[derive(Template)]
#[template(path = "persons.html")]
pub struct PersonsPage {
    pub frame: Frame,
    pub notes: Vec<Note>,
    /// The latest event of each.
    pub persons: Vec<LiveRow>,
}

/// What a person's events say about them.
pub struct Profile {
    pub distinct_ids: Vec<String>,
    /// Of the events that were read.
    pub first_at: Millis,
    pub last_at: Millis,
    pub events: usize,
    /// The most frequent first.
    pub top: Vec<(String, usize)>,
    /// The latest value of each property, by name.
    pub properties: Vec<(String, String)>,
    /// What events have set about them, by name.
    pub traits: Vec<(String, String)>,
    /// The UTC day of the first event, also of those that were not read.
    pub first_day: Option<String>,
}

/// `/p/{id}/persons/erase?id=…`.
#[derive(Template)]
#[template(path = "person_erase.html")]
pub struct ErasePersonPage {
    pub frame: Frame,
    pub id: String,
    /// Kept when it was something else.
    pub typed: String,
    pub error: Option<&'static str>,
}

/// `/p/{id}/persons?id=…`.
#[derive(Template)]
#[template(path = "person.html")]
pub struct PersonPage {
    pub frame: Frame,
    /// As it was asked for.
    pub id: String,
    /// `None`: nothing of this id ever arrived.
    pub profile: Option<Profile>,
    /// Newest first.
    pub rows: Vec<LiveRow>,
    /// There are older ones.
    pub more: bool,
    pub may_erase: bool,
}

impl PersonPage {
    /// The rows of each day, newest first, with the day as it is headed.
    fn days(&self) -> Vec<(String, &[LiveRow])> {
        let day = |row: &LiveRow| format::zoned(row.occurred_at, &self.frame.time_zone).date();
        let days = self.rows.chunk_by(|a, b| day(a) == day(b));
        days.map(|rows| (format::day_month_year(day(&rows[0])), rows)).collect()
    }
}
