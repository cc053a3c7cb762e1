//! The question as a form: flat parameters of an address on one side, the question's JSON on the
//! other. Every question made with the form is a link; a JSON question that has parts which the
//! form cannot show ([`AskForm::from_json`] gives `None`) stays JSON.
//!
//! | parameter | means |
//! |---|---|
//! | `kind` | `trends` or `funnel` |
//! | `s0.event` (repeatable), `s0.measure`, `s0.property` | the first series or step; no event is every event |
//! | `s0.f0.property`, `s0.f0.op`, `s0.f0.value` | its first filter; `f0.…` is one for all |
//! | `by`, `limit` | the breakdown: `$event` for the event, else a property |
//! | `granularity`, `window` | |
//! | `do` | an edit: `add-s`, `del-s-1`, `up-s-1`, `down-s-1`, `add-e-1`, `add-f`, `del-f-0`, `add-sf-1`, `del-sf-1-0` |

mod read;
mod write;

pub use read::typed as shown_value;

use serde_json::Value;

/// As many as a form can show; a question may have more.
const PARTS_MAX: usize = 20;
const FILTERS_MAX: usize = 20;

/// The breakdown by event. No property can be meant: it would be asked for in JSON.
pub const BY_EVENT: &str = "$event";

pub const MEASURES: [(&str, &str); 11] = [
    ("count", "Count of"),
    ("persons", "Persons with"),
    ("per_person", "Events per person of"),
    ("sum", "Sum of"),
    ("avg", "Average of"),
    ("median", "Median of"),
    ("min", "Minimum of"),
    ("max", "Maximum of"),
    ("p90", "90th percentile of"),
    ("p95", "95th percentile of"),
    ("p99", "99th percentile of"),
];

pub const OPERATORS: [(&str, &str); 12] = [
    ("eq", "is"),
    ("ne", "is not"),
    ("in", "is one of"),
    ("not_in", "is none of"),
    ("contains", "contains"),
    ("not_contains", "does not contain"),
    ("gt", "is above"),
    ("gte", "is at least"),
    ("lt", "is below"),
    ("lte", "is at most"),
    ("is_set", "is set"),
    ("is_not_set", "is not set"),
];

pub const GRANULARITIES: [(&str, &str); 5] =
    [("hour", "hour"), ("day", "day"), ("week", "week"), ("month", "month"), ("none", "whole range")];

/// The measures that are taken of a property.
pub fn takes_property(measure: &str) -> bool {
    !matches!(measure, "count" | "persons" | "per_person")
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Trends,
    Funnel,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Trends => "trends",
            Self::Funnel => "funnel",
        }
    }
}

/// A series or a step.
#[derive(Clone, PartialEq, Debug)]
pub struct PartForm {
    /// Any of these; none is every event. An empty one is a choice not made yet.
    pub events: Vec<String>,
    pub measure: String,
    pub property: String,
    pub filters: Vec<FilterForm>,
}

impl PartForm {
    fn empty() -> Self {
        Self {
            events: vec![String::new()],
            measure: "count".into(),
            property: String::new(),
            filters: Vec::new(),
        }
    }

    fn named_events(&self) -> Vec<&str> {
        self.events.iter().map(String::as_str).filter(|name| !name.is_empty()).collect()
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct FilterForm {
    pub property: String,
    pub op: String,
    /// As typed; of `in` and `not_in` separated by commas.
    pub value: String,
}

impl FilterForm {
    fn empty() -> Self {
        Self { property: String::new(), op: "eq".into(), value: String::new() }
    }

    pub fn takes_value(&self) -> bool {
        !matches!(self.op.as_str(), "is_set" | "is_not_set")
    }

    /// Still being filled in, so it does not take part yet.
    fn is_draft(&self) -> bool {
        self.property.is_empty() || (self.takes_value() && self.value.trim().is_empty())
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct AskForm {
    pub kind: Kind,
    pub parts: Vec<PartForm>,
    pub filters: Vec<FilterForm>,
    pub by: String,
    pub limit: String,
    pub granularity: String,
    /// Of a funnel; empty is no limit.
    pub window: String,
}

/// Which types a property's values have, for reading what was typed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct PropertyTypes {
    pub text: bool,
    pub number: bool,
    pub boolean: bool,
}

impl AskForm {
    /// One press of a button; what it names may be gone already.
    fn edit(&mut self, edit: &str) {
        let mut words = edit.split('-');
        let (verb, what) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let numbers: Vec<usize> = words.filter_map(|word| word.parse().ok()).collect();
        let at = numbers.first().copied().unwrap_or(usize::MAX);
        let second = numbers.get(1).copied().unwrap_or(usize::MAX);
        match (verb, what) {
            ("add", "s") if self.parts.len() < PARTS_MAX => self.parts.push(PartForm::empty()),
            ("del", "s") if at < self.parts.len() && self.parts.len() > 1 => {
                self.parts.remove(at);
            }
            ("up", "s") if (1..self.parts.len()).contains(&at) => self.parts.swap(at, at - 1),
            ("down", "s") if at < self.parts.len().saturating_sub(1) => self.parts.swap(at, at + 1),
            ("add", "e") if at < self.parts.len() => self.parts[at].events.push(String::new()),
            ("add", "f") if self.filters.len() < FILTERS_MAX => self.filters.push(FilterForm::empty()),
            ("del", "f") if at < self.filters.len() => {
                self.filters.remove(at);
            }
            ("add", "sf") if at < self.parts.len() && self.parts[at].filters.len() < FILTERS_MAX => {
                self.parts[at].filters.push(FilterForm::empty());
            }
            ("del", "sf") if at < self.parts.len() && second < self.parts[at].filters.len() => {
                self.parts[at].filters.remove(second);
            }
            _ => {}
        }
        let least = if self.kind == Kind::Funnel { 2 } else { 1 };
        while self.parts.len() < least {
            self.parts.push(PartForm::empty());
        }
    }

    /// A step without an event is still being chosen; a series without one counts every event.
    fn counts(&self, part: &PartForm) -> bool {
        self.kind == Kind::Trends || !part.named_events().is_empty()
    }

    /// For each series or step of the JSON its number in the form.
    fn places(&self) -> Vec<usize> {
        (0..self.parts.len()).filter(|number| self.counts(&self.parts[*number])).collect()
    }

    /// What the next choice is, while the question cannot be asked yet.
    pub fn next_choice(&self) -> Option<&'static str> {
        if self.kind == Kind::Funnel && self.places().len() < 2 {
            return Some("Choose the events of at least two steps");
        }
        let no_property = |part: &PartForm| takes_property(&part.measure) && part.property.is_empty();
        if self.kind == Kind::Trends && self.parts.iter().any(no_property) {
            return Some("Choose the property to measure");
        }
        None
    }
}

fn number(text: &str) -> Option<Value> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Number(_)) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
