//! What events come to, as the reference implementation sees them: each counted once, properties flat.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use crate::reference::Fact;

/// Events with an id and a timestamp, as they are sent. The same person, id and UTC day is one
/// event, and the first content counts. Ids that `$identify` links are one person; events link no id
/// to two others, nor in a circle.
pub fn facts(events: &[Value]) -> Vec<Fact> {
    let links: HashMap<&str, &str> = events
        .iter()
        .filter(|event| event["event"] == "$identify")
        .filter_map(|event| Some((event["anonymous_id"].as_str()?, event["distinct_id"].as_str()?)))
        .collect();
    let mut seen = HashSet::new();
    let mut facts = Vec::new();
    for event in events {
        let text =
            |name: &str| event[name].as_str().unwrap_or_else(|| panic!("{name} of {event}")).to_owned();
        let at: jiff::Timestamp = text("timestamp").parse().unwrap();
        let mut person = event["distinct_id"].as_str().or(event["user_id"].as_str()).unwrap();
        while let Some(target) = links.get(person) {
            person = target;
        }
        let person = person.to_owned();
        let day = at.as_millisecond().div_euclid(86_400_000);
        if !seen.insert((person.clone(), text("id"), day)) {
            continue;
        }
        let mut properties = BTreeMap::new();
        flatten("", &event["properties"], &mut properties);
        facts.push(Fact { person, event: text("event"), at: at.as_millisecond(), properties });
    }
    facts
}

/// Nested members get dotted names.
fn flatten(prefix: &str, value: &Value, properties: &mut BTreeMap<String, Value>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Object(members) if !members.is_empty() => flatten(&name, value, properties),
            Value::Null => {}
            _ => {
                properties.insert(name, value.clone());
            }
        }
    }
}
