//! What the overview asks.

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::{
    analysis::{ProjectSettings, Question},
    eventstore::scan::ProjectMenu,
    http::web::range::Range,
    model::Millis,
};

/// Names in the list of top events.
pub const TOP_EVENTS: usize = 8;
/// Lists beside that of the events: each is a question.
const LISTS_MAX: usize = 2;

/// What a list beside the charts is of: the first of these properties that the project has.
const LISTS: [(&str, &str, &[&str]); 3] = [
    ("Top sources", "Source", &["source", "utm_source", "$utm_source", "$referrer", "referrer"]),
    ("Top pages", "Page", &["path", "$path", "page", "$url", "url"]),
    ("Top countries", "Country", &["country", "$country"]),
];

pub struct List {
    pub title: &'static str,
    pub of: &'static str,
    pub property: &'static str,
    pub question: Question,
}

pub struct Questions {
    pub now: Question,
    pub top: Question,
    pub lists: Vec<List>,
    /// `None` when nothing is compared.
    pub before: Option<Question>,
}

/// For which days, in whose zone, and of which events.
pub struct Asked<'a> {
    pub range: &'a Range,
    pub now: Millis,
    pub zone: &'a TimeZone,
    pub zone_name: &'a str,
    /// As a question has them.
    pub filters: Vec<Value>,
    pub menu: &'a ProjectMenu,
}

impl Questions {
    /// Fails with what is wrong, in words: a filter's value, or years beyond what is supported.
    pub fn new(asked: &Asked) -> Result<Self, String> {
        let Asked { range, now, zone, zone_name, filters, menu } = asked;
        let settings = ProjectSettings::new(zone_name, *now);
        let parse = |mut question: Value| {
            if !filters.is_empty() {
                question["filters"] = json!(filters);
            }
            Question::parse(&question, &settings)
                .map_err(|errors| errors.first().map_or_else(String::new, |error| error.detail.clone()))
        };
        let counts = |(from, to): (String, String)| {
            json!({"kind": "trends", "from": from, "to": to, "granularity": range.grain().word(),
                "series": [{"measure": "count"}, {"measure": "persons"}, {"measure": "per_person"}]})
        };
        let (from, to) = range.bounds();
        let top = |breakdown: Value| {
            json!({"kind": "trends", "from": from, "to": to,
                "series": [{"measure": "count"}, {"measure": "persons"}], "breakdown": breakdown})
        };
        let known = |property: &&&str| menu.properties.contains_key(**property);
        let mut lists = Vec::new();
        for (title, of, properties) in LISTS {
            let Some(property) = properties.iter().find(known) else { continue };
            let question = parse(top(json!({"property": property, "limit": TOP_EVENTS})))?;
            lists.push(List { title, of, property, question });
        }
        lists.truncate(LISTS_MAX);
        Ok(Self {
            now: parse(counts(range.bounds()))?,
            top: parse(top(json!({"event": true, "limit": TOP_EVENTS})))?,
            lists,
            before: if range.compare {
                Some(parse(counts(range.previous_bounds(*now, zone)))?)
            } else {
                None
            },
        })
    }

    /// In the order in which their answers are composed.
    pub fn list(&self) -> Vec<&Question> {
        let lists = self.lists.iter().map(|list| &list.question);
        [&self.now, &self.top].into_iter().chain(lists).chain(&self.before).collect()
    }
}
