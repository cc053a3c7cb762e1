//! The form as an address and as a question's JSON, and where a field of that JSON is in the form.

use serde_json::{Map, Value, json};

use super::{AskForm, BY_EVENT, FilterForm, Kind, PropertyTypes, number, takes_property};
use crate::http::web::range::Params;

impl AskForm {
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

    /// The filters for all, as parameters.
    pub fn filter_params(&self) -> Params {
        let mut params = Params::new();
        write_filters(&self.filters, "", &mut |key, value| params.push((key, value.to_owned())));
        params
    }

    /// The filters for all that are filled in, as a question has them.
    pub fn filters_json(&self, types: &dyn Fn(&str) -> PropertyTypes) -> Vec<Value> {
        let complete = self.filters.iter().filter(|filter| !filter.is_draft());
        complete.map(|filter| filter_json(filter, types)).collect()
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

pub(super) fn filter_json(filter: &FilterForm, types: &dyn Fn(&str) -> PropertyTypes) -> Value {
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
