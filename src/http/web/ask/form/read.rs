//! The form from an address or from a question's JSON.

use serde_json::Value;

use super::{
    AskForm, BY_EVENT, FILTERS_MAX, FilterForm, GRANULARITIES, Kind, MEASURES, OPERATORS, PARTS_MAX,
    PartForm, number,
};
use crate::http::web::range::Params;

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
pub fn typed(value: &Value) -> Option<String> {
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
