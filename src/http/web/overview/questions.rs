//! What the overview asks.

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::{
    analysis::{ProjectSettings, Question},
    http::{ApiError, web::range::Range},
    model::Millis,
};

/// Names in the list of top events.
pub const TOP_EVENTS: usize = 8;

pub struct Questions {
    pub now: Question,
    pub top: Question,
    /// `None` when nothing is compared.
    pub before: Option<Question>,
}

impl Questions {
    pub fn new(range: &Range, zone_name: &str, now: Millis, zone: &TimeZone) -> Result<Self, ApiError> {
        let settings = ProjectSettings::new(zone_name, now);
        let parse = |question: Value| {
            Question::parse(&question, &settings).map_err(|errors| {
                // Only a range can be wrong: years beyond what is supported.
                let detail = errors.first().map_or_else(String::new, |error| error.detail.clone());
                ApiError::malformed(format!("This range cannot be shown: {detail}."))
            })
        };
        let counts = |(from, to): (String, String)| {
            json!({"kind": "trends", "from": from, "to": to, "granularity": range.grain().word(),
                "series": [{"measure": "count"}, {"measure": "persons"}, {"measure": "per_person"}]})
        };
        let (from, to) = range.bounds();
        let top = json!({"kind": "trends", "from": from, "to": to,
            "series": [{"measure": "count"}, {"measure": "persons"}],
            "breakdown": {"event": true, "limit": TOP_EVENTS}});
        Ok(Self {
            now: parse(counts(range.bounds()))?,
            top: parse(top)?,
            before: if range.compare { Some(parse(counts(range.previous_bounds(now, zone)))?) } else { None },
        })
    }

    /// In the order in which their answers are composed.
    pub fn list(&self) -> Vec<&Question> {
        [&self.now, &self.top].into_iter().chain(&self.before).collect()
    }
}
