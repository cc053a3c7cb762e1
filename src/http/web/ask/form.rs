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

use serde_json::{Map, Value, json};

use crate::http::web::range::Params;

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
    /// What the address asks for; nothing at all asks for every event per day.
    pub fn read(params: &Params, default_granularity: &str) -> Self {
        let kind = match find(params, "kind") {
            Some("funnel") => Kind::Funnel,
            _ => Kind::Trends,
        };
        let mut parts = Vec::new();
        for number in 0..PARTS_MAX {
            let prefix = format!("s{number}.");
            if !params.iter().any(|(key, _)| key.starts_with(&prefix)) {
                break;
            }
            let mut events: Vec<String> =
                values(params, &format!("{prefix}event")).map(str::to_owned).collect();
            if events.is_empty() {
                events.push(String::new());
            }
            let word = |name: &str| find(params, &format!("{prefix}{name}")).unwrap_or_default().to_owned();
            let measure = word("measure");
            let known = MEASURES.iter().any(|(name, _)| *name == measure);
            parts.push(PartForm {
                events,
                measure: if known { measure } else { "count".into() },
                property: word("property"),
                filters: read_filters(params, &prefix),
            });
        }
        let least = if kind == Kind::Funnel { 2 } else { 1 };
        while parts.len() < least {
            parts.push(PartForm::empty());
        }
        let granularity = find(params, "granularity").unwrap_or(default_granularity);
        let known = GRANULARITIES.iter().any(|(word, _)| *word == granularity);
        let mut form = Self {
            kind,
            parts,
            filters: read_filters(params, ""),
            by: find(params, "by").unwrap_or_default().to_owned(),
            limit: find(params, "limit").unwrap_or("10").to_owned(),
            granularity: if known { granularity } else { default_granularity }.to_owned(),
            window: match params.iter().find(|(key, _)| key == "window") {
                Some((_, window)) => window.clone(),
                None => "7d".to_owned(),
            },
        };
        if let Some(edit) = find(params, "do") {
            form.edit(edit);
        }
        form
    }

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

    /// The parameters that lead back here, without the range.
    pub fn params(&self) -> Params {
        let mut params = Params::new();
        let mut push = |key: String, value: &str| params.push((key, value.to_owned()));
        push("kind".into(), self.kind.word());
        for (number, part) in self.parts.iter().enumerate() {
            for event in &part.events {
                push(format!("s{number}.event"), event);
            }
            if self.kind == Kind::Trends {
                push(format!("s{number}.measure"), &part.measure);
                if takes_property(&part.measure) {
                    push(format!("s{number}.property"), &part.property);
                }
            }
            write_filters(&part.filters, &format!("s{number}."), &mut push);
        }
        write_filters(&self.filters, "", &mut push);
        match self.kind {
            Kind::Trends => {
                push("granularity".into(), &self.granularity);
                if !self.by.is_empty() {
                    push("by".into(), &self.by);
                    push("limit".into(), &self.limit);
                }
            }
            Kind::Funnel => push("window".into(), &self.window),
        }
        params
    }

    /// The question, without what is still being filled in. Its errors name fields of the JSON;
    /// [`AskForm::places`] says where these stand in the form.
    pub fn to_json(&self, from: &str, to: &str, types: &dyn Fn(&str) -> PropertyTypes) -> Value {
        let mut question = Map::new();
        question.insert("kind".into(), json!(self.kind.word()));
        question.insert("from".into(), json!(from));
        question.insert("to".into(), json!(to));
        let filters = |list: &[FilterForm]| -> Vec<Value> {
            list.iter().filter(|filter| !filter.is_draft()).map(|filter| filter_json(filter, types)).collect()
        };
        let mut parts = Vec::new();
        for part in self.parts.iter().filter(|part| self.counts(part)) {
            let mut entry = Map::new();
            match part.named_events().as_slice() {
                [] => {}
                [name] => drop(entry.insert("event".into(), json!(name))),
                names => drop(entry.insert("events".into(), json!(names))),
            }
            if self.kind == Kind::Trends {
                entry.insert("measure".into(), json!(part.measure));
                if takes_property(&part.measure) && !part.property.is_empty() {
                    entry.insert("property".into(), json!(part.property));
                }
            }
            let list = filters(&part.filters);
            if !list.is_empty() {
                entry.insert("filters".into(), Value::Array(list));
            }
            parts.push(Value::Object(entry));
        }
        let list = filters(&self.filters);
        match self.kind {
            Kind::Trends => {
                if self.granularity != "none" {
                    question.insert("granularity".into(), json!(self.granularity));
                }
                question.insert("series".into(), Value::Array(parts));
                if !self.by.is_empty() {
                    let limit: Value =
                        self.limit.trim().parse::<u64>().map_or_else(|_| json!(self.limit), |n| json!(n));
                    let breakdown = match self.by.as_str() {
                        BY_EVENT => json!({"event": true, "limit": limit}),
                        property => json!({"property": property, "limit": limit}),
                    };
                    question.insert("breakdown".into(), breakdown);
                }
            }
            Kind::Funnel => {
                if !self.window.is_empty() {
                    question.insert("window".into(), json!(self.window));
                }
                question.insert("steps".into(), Value::Array(parts));
            }
        }
        if !list.is_empty() {
            question.insert("filters".into(), Value::Array(list));
        }
        Value::Object(question)
    }

    /// A step without an event is still being chosen; a series without one counts every event.
    fn counts(&self, part: &PartForm) -> bool {
        self.kind == Kind::Trends || !part.named_events().is_empty()
    }

    /// For each series or step of the JSON its number in the form.
    fn places(&self) -> Vec<usize> {
        (0..self.parts.len()).filter(|number| self.counts(&self.parts[*number])).collect()
    }

    /// Where in the form a field of the JSON is, such as `s1.f0.value` for
    /// `series[1].filters[0].value`; empty for what belongs to no field.
    pub fn place_of(&self, field: &str) -> String {
        let (head, rest) = field.split_once('.').unwrap_or((field, ""));
        let (name, number) = match head.split_once('[') {
            Some((name, number)) => (name, number.trim_end_matches(']').parse::<usize>().ok()),
            None => (head, None),
        };
        let filter = |filters: &[FilterForm], prefix: &str, at: usize| {
            let at = (0..filters.len()).filter(|n| !filters[*n].is_draft()).nth(at).unwrap_or(0);
            format!("{prefix}f{at}.{}", if rest.ends_with("property") { "property" } else { "value" })
        };
        match (name, number) {
            ("series" | "steps", Some(at)) => {
                let Some(at) = self.places().get(at).copied() else {
                    return String::new();
                };
                if let Some(inner) = rest.strip_prefix("filters[") {
                    let inner = inner.split(']').next().and_then(|n| n.parse().ok()).unwrap_or(0);
                    return filter(&self.parts[at].filters, &format!("s{at}."), inner);
                }
                format!("s{at}.{}", if rest == "property" { "property" } else { "event" })
            }
            ("filters", Some(at)) => filter(&self.filters, "", at),
            ("from" | "to", _) => "range".to_owned(),
            ("granularity" | "window", _) => name.to_owned(),
            ("breakdown", _) => if rest == "limit" { "limit" } else { "by" }.to_owned(),
            _ => String::new(),
        }
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

    /// The form that shows this question, when it can show all of it. The range is not looked at.
    pub fn from_json(question: &Value) -> Option<Self> {
        let fields = question.as_object()?;
        let kind = match fields.get("kind")?.as_str()? {
            "trends" => Kind::Trends,
            "funnel" => Kind::Funnel,
            _ => return None,
        };
        let known: &[&str] = match kind {
            Kind::Trends => {
                &["kind", "from", "to", "time_zone", "granularity", "series", "filters", "breakdown"]
            }
            Kind::Funnel => &["kind", "from", "to", "time_zone", "window", "order", "steps", "filters"],
        };
        if fields.keys().any(|key| !known.contains(&key.as_str())) {
            return None;
        }
        let list = fields.get(if kind == Kind::Trends { "series" } else { "steps" })?.as_array()?;
        if list.is_empty() || list.len() > PARTS_MAX {
            return None;
        }
        let parts = list.iter().map(part_from_json).collect::<Option<Vec<_>>>()?;
        let (by, limit) = match fields.get("breakdown") {
            None => (String::new(), "10".to_owned()),
            Some(breakdown) => {
                let limit = breakdown.get("limit").map_or_else(|| "10".to_owned(), Value::to_string);
                match (breakdown.get("event"), breakdown.get("property").and_then(Value::as_str)) {
                    (Some(Value::Bool(true)), None) => (BY_EVENT.to_owned(), limit),
                    (None, Some(property)) if property != BY_EVENT => (property.to_owned(), limit),
                    _ => return None,
                }
            }
        };
        let text = |name: &str, default: &str| match fields.get(name) {
            None => Some(default.to_owned()),
            Some(value) => value.as_str().map(str::to_owned),
        };
        Some(Self {
            kind,
            parts,
            filters: filters_from_json(fields.get("filters"))?,
            by,
            limit,
            granularity: text("granularity", "none")?,
            window: text("window", "")?,
        })
    }
}

fn find<'a>(params: &'a Params, name: &str) -> Option<&'a str> {
    values(params, name).find(|value| !value.is_empty())
}

fn values<'a>(params: &'a Params, name: &str) -> impl Iterator<Item = &'a str> {
    params.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn read_filters(params: &Params, prefix: &str) -> Vec<FilterForm> {
    let mut filters = Vec::new();
    for number in 0..FILTERS_MAX {
        let start = format!("{prefix}f{number}.");
        if !params.iter().any(|(key, _)| key.starts_with(&start)) {
            break;
        }
        let word = |name: &str| find(params, &format!("{start}{name}")).unwrap_or_default().to_owned();
        let op = word("op");
        let known = OPERATORS.iter().any(|(name, _)| *name == op);
        filters.push(FilterForm {
            property: word("property"),
            op: if known { op } else { "eq".into() },
            value: word("value"),
        });
    }
    filters
}

fn write_filters(filters: &[FilterForm], prefix: &str, push: &mut dyn FnMut(String, &str)) {
    for (number, filter) in filters.iter().enumerate() {
        push(format!("{prefix}f{number}.property"), &filter.property);
        push(format!("{prefix}f{number}.op"), &filter.op);
        if filter.takes_value() {
            push(format!("{prefix}f{number}.value"), &filter.value);
        }
    }
}

fn filter_json(filter: &FilterForm, types: &dyn Fn(&str) -> PropertyTypes) -> Value {
    let property = filter.property.as_str();
    let types = types(property);
    let value = match filter.op.as_str() {
        "is_set" | "is_not_set" => return json!({"property": property, "op": filter.op}),
        "in" | "not_in" => filter
            .value
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| scalar(part, types))
            .collect(),
        "contains" | "not_contains" => json!(filter.value),
        "gt" | "gte" | "lt" | "lte" => number(filter.value.trim()).unwrap_or_else(|| json!(filter.value)),
        _ => scalar(&filter.value, types),
    };
    json!({"property": property, "op": filter.op, "value": value})
}

/// What was typed, as the type that the property has. Quotes make it text whatever it looks like.
fn scalar(typed: &str, types: PropertyTypes) -> Value {
    let trimmed = typed.trim();
    if trimmed.len() >= 2
        && trimmed.starts_with('"')
        && trimmed.ends_with('"')
        && let Ok(Value::String(text)) = serde_json::from_str(trimmed)
    {
        return json!(text);
    }
    let unknown = types == PropertyTypes::default();
    let only_text = types.text && !types.number && !types.boolean;
    match trimmed {
        "true" | "false" if types.boolean || unknown => json!(trimmed == "true"),
        _ if only_text => json!(typed),
        _ => number(trimmed).unwrap_or_else(|| json!(typed)),
    }
}

fn number(text: &str) -> Option<Value> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Number(_)) => Some(value),
        _ => None,
    }
}

fn part_from_json(part: &Value) -> Option<PartForm> {
    let fields = part.as_object()?;
    let known = ["event", "events", "measure", "property", "filters"];
    if fields.keys().any(|key| !known.contains(&key.as_str())) {
        return None;
    }
    let events = match (fields.get("event"), fields.get("events")) {
        (None, None) => vec![String::new()],
        (Some(event), None) => vec![event.as_str()?.to_owned()],
        (None, Some(events)) => {
            events.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<_>>()?
        }
        (Some(_), Some(_)) => return None,
    };
    let text = |name: &str, default: &str| match fields.get(name) {
        None => Some(default.to_owned()),
        Some(value) => value.as_str().map(str::to_owned),
    };
    Some(PartForm {
        events,
        measure: text("measure", "count")?,
        property: text("property", "")?,
        filters: filters_from_json(fields.get("filters"))?,
    })
}

fn filters_from_json(filters: Option<&Value>) -> Option<Vec<FilterForm>> {
    let Some(filters) = filters else {
        return Some(Vec::new());
    };
    let list = filters.as_array()?;
    if list.len() > FILTERS_MAX {
        return None;
    }
    list.iter()
        .map(|filter| {
            let property = filter.get("property")?.as_str()?.to_owned();
            let op = filter.get("op")?.as_str()?.to_owned();
            let value = match filter.get("value") {
                None => String::new(),
                Some(Value::Array(values)) => {
                    let shown = values.iter().map(typed).collect::<Option<Vec<_>>>()?;
                    // A comma inside a value would be read as two values.
                    if shown.iter().any(|text| text.contains(',')) {
                        return None;
                    }
                    shown.join(", ")
                }
                Some(Value::String(text)) if op.ends_with("contains") => text.clone(),
                Some(value) => typed(value)?,
            };
            Some(FilterForm { property, op, value })
        })
        .collect()
}

/// A value as a person types it; text that would be read as something else in quotes.
fn typed(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => {
            let ambiguous = number(text.trim()).is_some()
                || matches!(text.trim(), "true" | "false")
                || text.starts_with('"')
                || text.trim() != text;
            Some(if ambiguous { value.to_string() } else { text.clone() })
        }
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
