//! Which events a series or a funnel step looks at.

use serde_json::{Value, json};

use super::fields::{Fields, Problems, all, read_list, read_text, shorten};
use super::{QuestionErrorCode as Code, QuestionLimits};
use crate::model::is_counted_as_every_event;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EventSelector {
    /// All but those that only say who somebody is (`$identify`, `$alias`, `$group`).
    Every,
    /// One or more names, each once, in the order asked.
    Named(Vec<String>),
}

impl EventSelector {
    /// Reads `event` or `events` of a series or step.
    pub(super) fn read(
        fields: &mut Fields<'_>,
        limits: &QuestionLimits,
        problems: &mut Problems,
    ) -> Option<Self> {
        let (one, several) = (fields.find("event"), fields.find("events"));
        let (event, events) = (fields.path("event"), fields.path("events"));
        match (one, several) {
            (None, None) => Some(Self::Every),
            (Some(value), None) => Some(Self::Named(vec![read_event_name(&event, value, limits, problems)?])),
            (None, Some(value)) => {
                let list = read_list(&events, value, limits.events_max, problems)?;
                if list.is_empty() {
                    let detail = "the list is empty; leave `events` out to ask for every event";
                    problems.report(&events, Code::TooFew, detail);
                }
                let names = list.iter().map(|(path, value)| read_event_name(path, value, limits, problems));
                let mut names = all(names.collect())?;
                let mut seen = std::collections::HashSet::new();
                names.retain(|name| seen.insert(name.clone()));
                Some(Self::Named(names))
            }
            (Some(_), Some(_)) => {
                let detail = "`event` and `events` are both there; give one of them";
                problems.report(&events, Code::ConflictingFields, detail);
                None
            }
        }
    }

    pub fn matches(&self, event: &str) -> bool {
        match self {
            Self::Every => is_counted_as_every_event(event),
            Self::Named(names) => names.iter().any(|name| name == event),
        }
    }

    /// The names, or `None` for every event.
    pub fn names(&self) -> Option<&[String]> {
        match self {
            Self::Every => None,
            Self::Named(names) => Some(names),
        }
    }

    /// What an answer calls a series or step.
    pub fn label(&self) -> String {
        match self {
            Self::Every => "every event".to_owned(),
            Self::Named(names) => names.join(", "),
        }
    }

    /// The field of the canonical form; `None` for every event.
    pub(super) fn to_field(&self) -> Option<(&'static str, Value)> {
        match self {
            Self::Every => None,
            Self::Named(names) => match names.as_slice() {
                [name] => Some(("event", json!(name))),
                names => Some(("events", json!(names))),
            },
        }
    }
}

fn read_event_name(
    path: &str,
    value: &Value,
    limits: &QuestionLimits,
    problems: &mut Problems,
) -> Option<String> {
    let name = read_text(path, value, problems)?;
    let (chars, max) = (name.chars().count(), limits.event_name_chars_max);
    if name.is_empty() {
        problems.report(path, Code::InvalidValue, "an event name is not empty");
    } else if chars > max {
        let detail =
            format!("`{}` has {chars} characters, more than the {max} of an event name", shorten(name));
        problems.report(path, Code::TooLong, detail);
    }
    Some(name.to_owned())
}

/// A property's name: that of a nested value is dotted, as `address.city`.
pub(super) fn read_property(
    path: &str,
    value: &Value,
    limits: &QuestionLimits,
    problems: &mut Problems,
) -> Option<String> {
    let name = read_text(path, value, problems)?;
    let max = limits.property_name_bytes_max;
    if name.is_empty() {
        problems.report(path, Code::InvalidValue, "a property name is not empty");
    } else if name.len() > max {
        let detail =
            format!("`{}` has {} bytes, more than the {max} of a property name", shorten(name), name.len());
        problems.report(path, Code::TooLong, detail);
    }
    Some(name.to_owned())
}
