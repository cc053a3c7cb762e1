//! Example values of properties, out of events that somebody has just read.
//!
//! Nothing is kept, so nothing has to be erased. And a value is an example of a property only when
//! several ids carry it: names, addresses, secrets and everything else that belongs to one person never
//! are, whatever the property is called.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::model::{Event, PropertyRef};

/// So many distinct ids must have sent a value.
const IDS_MIN: usize = 3;
const EXAMPLES_MAX: usize = 5;
/// Longer texts say nothing in a list.
const TEXT_CHARS_MAX: usize = 100;

/// By property the values that most ids carry, the most frequent first.
pub fn examples_of(events: &[Event]) -> BTreeMap<&str, Vec<PropertyRef<'_>>> {
    // Values by what they look like: a float is no key of a map.
    let mut carriers: BTreeMap<&str, HashMap<String, (PropertyRef<'_>, HashSet<&str>)>> = BTreeMap::new();
    for event in events {
        for (name, value) in &event.properties {
            if !is_short(value) {
                continue;
            }
            let of_property = carriers.entry(name).or_default();
            let (_, ids) = of_property.entry(format!("{value:?}")).or_insert_with(|| (value, HashSet::new()));
            ids.insert(&event.distinct_id);
        }
    }
    let mut examples = BTreeMap::new();
    for (name, values) in carriers {
        let mut common: Vec<_> = values.into_iter().filter(|(_, (_, ids))| ids.len() >= IDS_MIN).collect();
        common.sort_by(|(a, (_, x)), (b, (_, y))| (Reverse(x.len()), a).cmp(&(Reverse(y.len()), b)));
        common.truncate(EXAMPLES_MAX);
        if !common.is_empty() {
            examples.insert(name, common.into_iter().map(|(_, (value, _))| value).collect());
        }
    }
    examples
}

fn is_short(value: PropertyRef<'_>) -> bool {
    match value {
        PropertyRef::String(text) => text.chars().nth(TEXT_CHARS_MAX).is_none(),
        PropertyRef::Integer(_) | PropertyRef::Float(_) | PropertyRef::Bool(_) => true,
        PropertyRef::Json(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventId, ProjectId, PropertyValue, TimeSource};

    fn event(who: &str, name: &str, value: PropertyValue) -> Event {
        Event {
            project_id: ProjectId(1),
            distinct_id: who.into(),
            anonymous_id: None,
            event: "visited".into(),
            event_id: EventId([1; 16]),
            occurred_at: 0,
            received_at: 0,
            time_source: TimeSource::Client,
            properties: vec![(name, value)].into(),
            route: Vec::new(),
        }
    }

    fn text(text: &str) -> PropertyValue {
        PropertyValue::String(text.to_owned())
    }

    #[test]
    fn a_value_is_an_example_when_several_ids_carry_it() {
        let carried_by = |ids: usize, name: &'static str, value: PropertyValue| {
            (0..ids).map(move |n| event(&format!("u{n}"), name, value.clone())).collect::<Vec<_>>()
        };
        let long = "x".repeat(TEXT_CHARS_MAX);
        let events = [
            carried_by(3, "plan", text("pro")),
            carried_by(4, "plan", text("free")),
            carried_by(2, "plan", text("secret offer")),
            // The same person a hundred times is one person.
            vec![event("ada", "email", text("ada@example.org")); 100],
            carried_by(3, "seats", PropertyValue::Integer(5)),
            carried_by(3, "seats", PropertyValue::Float(5.0)),
            carried_by(3, "tags", PropertyValue::Json("[1]".into())),
            carried_by(3, "note", text(&long)),
            carried_by(3, "story", text(&format!("{long}x"))),
        ]
        .concat();
        let found = examples_of(&events);
        let shown: Vec<(&str, Vec<String>)> = found
            .iter()
            .map(|(name, values)| (*name, values.iter().map(|v| format!("{v:?}")).collect()))
            .collect();
        assert_eq!(
            shown,
            [
                ("note", vec![format!("String({long:?})")]),
                ("plan", vec!["String(\"free\")".into(), "String(\"pro\")".into()]),
                ("seats", vec!["Float(5.0)".into(), "Integer(5)".into()]),
            ]
        );
    }

    #[test]
    fn there_are_few_examples_of_one_property() {
        let events: Vec<Event> = (0..100_i64)
            .flat_map(|n| {
                (0..3).map(move |who| event(&format!("u{who}"), "n", PropertyValue::Integer(n % 20)))
            })
            .collect();
        assert_eq!(examples_of(&events)["n"].len(), EXAMPLES_MAX);
    }
}
