//! What is known about a person: the traits that events have set.
//!
//! `$set.plan` and `$set_once.plan` of any event, and the properties of `$identify` that are not
//! `$`-properties, become the trait `plan`. Which value counts depends on when the events occurred and
//! never on when they arrived: of those that set it the last one, by time and event id; if it was only
//! ever set once, the first one. So a trait is the same as if all events had come in order, and events
//! may be sealed in any. With each trait stands which event gave it.
//!
//! Traits are bounded. A person who has as many as are allowed keeps them; what would be one more, or
//! would make them too long, is dropped and counted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::eventstore::format::StoredRow;
use crate::model::{EventId, Millis, PropertyRef, PropertyValue};

const FORMAT_VERSION: u32 = 1;

const SET: &str = "$set.";
const SET_ONCE: &str = "$set_once.";
const IDENTIFY: &str = "$identify";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraitLimits {
    pub keys_max: usize,
    /// Names and values of one person together.
    pub bytes_max: usize,
}

#[derive(Clone, Default, PartialEq, Debug)]
pub struct Traits {
    traits: BTreeMap<String, Trait>,
    /// Of names and values.
    bytes: usize,
}

#[derive(Clone, PartialEq, Debug)]
struct Trait {
    value: PropertyValue,
    given: Given,
}

/// How and by which event a value was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Given {
    is_once: bool,
    at: Millis,
    event_id: EventId,
}

impl Given {
    /// Of two that one event gives, the later in its own order counts.
    fn counts_over(&self, other: &Self) -> bool {
        let (own, its) = ((self.at, self.event_id), (other.at, other.event_id));
        match (self.is_once, other.is_once) {
            (false, true) => true,
            (true, false) => false,
            (false, false) => own >= its,
            (true, true) => own <= its,
        }
    }
}

/// Stored traits that this release cannot read.
#[derive(Debug, thiserror::Error)]
pub enum TraitsError {
    #[error("they are not what was written")]
    Corrupt(#[from] serde_json::Error),
    #[error("they have version {0}")]
    Version(u32),
    #[error("the trait {0:?} has no value that can be one")]
    Value(String),
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    traits: BTreeMap<String, StoredTrait>,
}

#[derive(Serialize, Deserialize)]
struct StoredTrait {
    value: Value,
    at: Millis,
    by: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    once: bool,
}

impl Traits {
    pub fn decode(bytes: &[u8]) -> Result<Self, TraitsError> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let Version { v } = serde_json::from_slice(bytes)?;
        if v != FORMAT_VERSION {
            return Err(TraitsError::Version(v));
        }
        let stored: Stored = serde_json::from_slice(bytes)?;
        let mut decoded = Self::default();
        for (name, stored) in stored.traits {
            let value = PropertyValue::from_json(&stored.value);
            let by = stored.by.parse::<EventId>().ok();
            let (Some(value), Some(event_id)) = (value, by) else { return Err(TraitsError::Value(name)) };
            decoded.bytes += name.len() + bytes_of(&value);
            let given = Given { is_once: stored.once, at: stored.at, event_id };
            decoded.traits.insert(name, Trait { value, given });
        }
        Ok(decoded)
    }

    pub fn encode(&self) -> Vec<u8> {
        let stored = |(name, known): (&String, &Trait)| {
            let Given { is_once, at, event_id } = known.given;
            let value = known.value.to_json();
            (name.clone(), StoredTrait { value, at, by: event_id.to_string(), once: is_once })
        };
        let stored = Stored { v: FORMAT_VERSION, traits: self.traits.iter().map(stored).collect() };
        serde_json::to_vec(&stored).expect("names, values and numbers become JSON")
    }

    /// Names and values, sorted by name.
    pub fn values(self) -> Vec<(String, PropertyValue)> {
        self.traits.into_iter().map(|(name, known)| (name, known.value)).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.traits.is_empty()
    }

    /// Takes in what one event says; how many of its values were dropped for a limit.
    pub fn apply(&mut self, row: &StoredRow, limits: TraitLimits) -> u64 {
        let mut dropped = 0;
        for (name, is_once, value) in given_by(row) {
            let given = Given { is_once, at: row.occurred_at, event_id: row.event_id };
            let had = self.traits.get(name);
            if had.is_some_and(|had| !given.counts_over(&had.given)) {
                continue;
            }
            let replaced = had.map_or(0, |had| name.len() + bytes_of(&had.value));
            let value = value.to_value();
            let bytes = self.bytes - replaced + name.len() + bytes_of(&value);
            let has_room = had.is_some() || self.traits.len() < limits.keys_max;
            if !has_room || (bytes > limits.bytes_max && bytes > self.bytes) {
                dropped += 1;
                continue;
            }
            self.bytes = bytes;
            self.traits.insert(name.to_owned(), Trait { value, given });
        }
        dropped
    }
}

/// Whether the event says anything about its person.
pub fn has_traits(row: &StoredRow) -> bool {
    (row.event == IDENTIFY || row.properties.may_have_traits()) && given_by(row).next().is_some()
}

/// The traits that an event gives, and whether only for a person who has none of that name: plain
/// properties of `$identify` first, so that its own `$set` counts over them.
fn given_by(row: &StoredRow) -> impl Iterator<Item = (&str, bool, PropertyRef<'_>)> {
    let prefixed = |prefix: &'static str, is_once: bool| {
        row.properties.iter().filter_map(move |(name, value)| {
            let name = name.strip_prefix(prefix).filter(|name| !name.is_empty())?;
            Some((name, is_once, value))
        })
    };
    let plain = row.properties.iter().filter(|(name, _)| !name.starts_with('$') && !name.is_empty());
    let plain = plain.take(if row.event == IDENTIFY { usize::MAX } else { 0 });
    let plain = plain.map(|(name, value)| (name, false, value));
    prefixed(SET_ONCE, true).chain(plain).chain(prefixed(SET, false))
}

fn bytes_of(value: &PropertyValue) -> usize {
    match value {
        PropertyValue::String(text) | PropertyValue::Json(text) => text.len(),
        PropertyValue::Integer(_) | PropertyValue::Float(_) => 8,
        PropertyValue::Bool(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ProjectId, Random, SeededRandom, TimeSource};

    const ROOM: TraitLimits = TraitLimits { keys_max: 100, bytes_max: 10_000 };

    fn text(value: &str) -> PropertyValue {
        PropertyValue::String(value.to_owned())
    }

    fn row(event: &str, id: u8, at: Millis, properties: &[(&str, PropertyValue)]) -> StoredRow {
        StoredRow {
            project_id: ProjectId(1),
            person_no: 1,
            id_no: 1,
            occurred_at: at,
            received_at: at,
            event: event.into(),
            event_id: EventId([id; 16]),
            time_source: TimeSource::Client,
            properties: properties.iter().cloned().collect(),
        }
    }

    fn after(rows: &[StoredRow], limits: TraitLimits) -> (Traits, u64) {
        let mut traits = Traits::default();
        let dropped = rows.iter().map(|row| traits.apply(row, limits)).sum();
        (traits, dropped)
    }

    fn shown(traits: Traits) -> String {
        let shown: Vec<_> =
            traits.values().iter().map(|(name, value)| format!("{name}={}", value.to_json())).collect();
        shown.join(" ")
    }

    #[test]
    fn what_counts_is_what_would_count_had_all_come_in_order() {
        let set = |id, at, value| row("visited", id, at, &[("$set.plan", text(value))]);
        let once = |id, at, value| row("visited", id, at, &[("$set_once.plan", text(value))]);
        for (name, rows, expected) in [
            ("the last one sets", vec![set(1, 10, "a"), set(2, 20, "b")], "plan=\"b\""),
            ("however late the first arrives", vec![set(2, 20, "b"), set(1, 10, "a")], "plan=\"b\""),
            ("equal times by id", vec![set(3, 10, "c"), set(2, 10, "b")], "plan=\"c\""),
            ("the first one sets once", vec![once(2, 20, "b"), once(1, 10, "a")], "plan=\"a\""),
            ("set counts over an earlier once", vec![set(2, 20, "b"), once(1, 10, "a")], "plan=\"b\""),
            ("and over a later one", vec![once(2, 20, "b"), set(1, 10, "a")], "plan=\"a\""),
        ] {
            assert_eq!(shown(after(&rows, ROOM).0), expected, "{name}");
        }
    }

    #[test]
    fn traits_are_what_set_and_identify_say_and_nothing_else() {
        let properties = [
            ("plan", text("plain")),
            ("$os", text("context")),
            ("$set", PropertyValue::Json("{}".into())),
            ("$set.", text("no name")),
            ("$set.address.city", text("Utrecht")),
            ("$set.plan", text("set")),
            ("$set_once.since", PropertyValue::Integer(2024)),
            ("$setting", text("no trait")),
            ("score", PropertyValue::Float(1.0)),
        ];
        let identified = after(&[row("$identify", 1, 1, &properties)], ROOM).0;
        assert_eq!(shown(identified), "address.city=\"Utrecht\" plan=\"set\" score=1.0 since=2024");
        let visited = after(&[row("visited", 1, 1, &properties)], ROOM).0;
        assert_eq!(shown(visited), "address.city=\"Utrecht\" plan=\"set\" since=2024");
        assert!(!has_traits(&row("visited", 1, 1, &properties[..4])));
    }

    #[test]
    fn who_has_as_many_as_are_allowed_keeps_them() {
        let set = |id: u8, properties: &[(&str, PropertyValue)]| row("visited", id, id.into(), properties);
        let limits = TraitLimits { keys_max: 2, bytes_max: 12 };
        let rows = [
            set(1, &[("$set.a", text("12345")), ("$set.b", text("12345"))]),
            set(2, &[("$set.c", text("x"))]),
            set(3, &[("$set.a", text("123456"))]),
            set(4, &[("$set.b", text("new"))]),
            set(5, &[("$set.a", text("1234567"))]),
        ];
        let (traits, dropped) = after(&rows[..1], limits);
        assert_eq!((shown(traits), dropped), ("a=\"12345\" b=\"12345\"".to_owned(), 0), "at the edge");
        let (traits, dropped) = after(&rows[..3], limits);
        assert_eq!((shown(traits), dropped), ("a=\"12345\" b=\"12345\"".to_owned(), 2));
        let (traits, dropped) = after(&rows, limits);
        assert_eq!((shown(traits), dropped), ("a=\"1234567\" b=\"new\"".to_owned(), 2), "shorter makes room");
    }

    #[test]
    fn stored_traits_come_back_and_strange_ones_are_not_guessed_at() {
        let properties = [
            ("$set.text", text("é\u{0}\"")),
            ("$set.integer", PropertyValue::Integer(i64::MIN)),
            ("$set.float", PropertyValue::Float(3.0)),
            ("$set.flag", PropertyValue::Bool(false)),
            ("$set_once.list", PropertyValue::Json("[1,\"a\"]".into())),
        ];
        let traits = after(&[row("visited", 7, -5, &properties)], ROOM).0;
        assert_eq!(Traits::decode(&traits.encode()).unwrap(), traits);
        for strange in
            [&b"{"[..], b"{\"v\":2}", b"{\"v\":1,\"traits\":{\"a\":{\"value\":null,\"at\":1,\"by\":\"x\"}}}"]
        {
            assert!(Traits::decode(strange).is_err(), "{strange:?}");
        }
    }

    /// Any order, any split, any of them twice, through the stored form each time.
    #[test]
    fn the_order_in_which_events_are_sealed_changes_nothing() {
        let random = SeededRandom::new(11);
        let pick = |n: u64| random.next_u64() % n;
        for _ in 0..300 {
            let rows: Vec<StoredRow> = (0..12_u8)
                .map(|id| {
                    let names = ["$set.a", "$set.b", "$set_once.a", "$set_once.b", "a", "c"];
                    let mut properties = BTreeMap::new();
                    for _ in 0..=pick(4) {
                        properties
                            .insert(names[pick(6) as usize], PropertyValue::Integer(pick(1_000) as i64));
                    }
                    let properties: Vec<_> = properties.into_iter().collect();
                    let event = ["visited", "$identify"][pick(2) as usize];
                    row(event, id, pick(5) as Millis, &properties)
                })
                .collect();
            let expected = after(&rows, ROOM).0;
            let mut shuffled = rows.clone();
            shuffled.extend(rows.iter().filter(|_| pick(3) == 0).cloned());
            for n in (1..shuffled.len()).rev() {
                shuffled.swap(n, pick(n as u64 + 1) as usize);
            }
            let mut traits = Traits::default();
            for row in &shuffled {
                assert_eq!(traits.apply(row, ROOM), 0);
                traits = Traits::decode(&traits.encode()).unwrap();
            }
            assert_eq!(traits, expected);
        }
    }
}
