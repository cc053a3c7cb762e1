//! What the catalogue knows about an object without reading it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::columns::PropertyKind;
use super::inflate::inflate;
use super::tally::Tally;
use super::{FormatError, StoredRow};
use crate::model::{Millis, PersonNo, ProjectId, PropertyBytes, utc_day};

/// 2 may leave names out; what 1 does not list is not there.
const FACTS_VERSION: u8 = 2;
const ZSTD_LEVEL: i32 = 3;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ObjectFacts {
    pub rows: u64,
    /// Of all parts together.
    pub bytes: u64,
    /// Before compression, about: see [`StoredRow::raw_bytes`].
    pub raw_bytes: u64,
    /// How many parts there are, numbered from 0.
    pub parts: u32,
    /// How many of them, from part 1 on, are the duplicate filter.
    pub filter_parts: u32,
    pub occurred_min: Millis,
    pub occurred_max: Millis,
    /// When the first of the rows arrived: how long the object has been waiting to be compacted.
    pub received_min: Millis,
    pub received_max: Millis,
    /// One per project, sorted; a segment has one.
    pub slices: Vec<SliceFacts>,
}

/// One project's rows, which lie together.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SliceFacts {
    pub project_id: ProjectId,
    pub first_row: u64,
    pub rows: u64,
    pub occurred_min: Millis,
    pub occurred_max: Millis,
    pub person_min: PersonNo,
    pub person_max: PersonNo,
    /// Rows per UTC day, sorted. In a run the rows lie in this order.
    pub days: Vec<(i32, u64)>,
    /// Sorted by name; the most frequent ones where there are too many.
    pub events: Vec<EventFact>,
    /// There may be events of any other name.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more_events: bool,
    /// Sorted by name and type; the most frequent ones where there are too many.
    pub properties: Vec<PropertyFact>,
    /// There may be properties of any other name.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more_properties: bool,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EventFact {
    pub name: String,
    pub rows: u64,
    /// Seconds from its last row to the last row of all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub quiet_secs: u64,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PropertyFact {
    pub name: String,
    pub kind: PropertyKind,
    /// Rows that have a value of this type.
    pub rows: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<NumberRange>,
    /// Seconds from the name's last row to the last row of all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub quiet_secs: u64,
    /// The name was not counted from the first row on: it may have more rows, other types, and values
    /// outside its range.
    #[serde(default, skip_serializing_if = "is_false")]
    pub partial: bool,
}

/// The least and the greatest value, of a numeric property.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NumberRange {
    Integer(i64, i64),
    Float(f64, f64),
}

impl ObjectFacts {
    pub fn day_from(&self) -> i32 {
        utc_day(self.occurred_min)
    }

    pub fn day_to(&self) -> i32 {
        utc_day(self.occurred_max)
    }

    pub fn slice_of(&self, project_id: ProjectId) -> Option<&SliceFacts> {
        let found = self.slices.binary_search_by_key(&project_id, |slice| slice.project_id);
        found.ok().map(|index| &self.slices[index])
    }

    /// For the catalogue row: a version byte, then JSON in zstd.
    pub fn to_bytes(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("facts are plain data");
        let mut bytes = vec![FACTS_VERSION];
        let packed = zstd::bulk::compress(&json, ZSTD_LEVEL).expect("memory is the only thing zstd can lack");
        bytes.extend_from_slice(&packed);
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let (&version, packed) =
            bytes.split_first().ok_or_else(|| FormatError::corrupt("facts without a byte"))?;
        if !(1..=FACTS_VERSION).contains(&version) {
            return Err(FormatError::UnknownVersion(version));
        }
        let json = inflate(packed).map_err(|error| FormatError::corrupt(format!("facts: {error}")))?;
        serde_json::from_slice(&json).map_err(|error| FormatError::corrupt(format!("facts: {error}")))
    }
}

impl SliceFacts {
    /// What is known of a property, a fact for each type; `None`: it may have anything.
    pub fn facts_of(&self, name: &str) -> Option<&[PropertyFact]> {
        let first = self.properties.partition_point(|fact| fact.name.as_str() < name);
        let facts = &self.properties[first..];
        let facts = &facts[..facts.iter().take_while(|fact| fact.name == name).count()];
        let is_whole = if facts.is_empty() { !self.more_properties } else { !facts[0].partial };
        is_whole.then_some(facts)
    }

    /// The facts of the rows of all these slices, where theirs tell them: no names were left out, and
    /// together there are not too many.
    pub(super) fn join(slices: &[&Self], names_max: usize) -> Option<Self> {
        let first = slices.first()?;
        let mut joined = Self {
            project_id: first.project_id,
            first_row: 0,
            rows: slices.iter().map(|slice| slice.rows).sum(),
            occurred_min: slices.iter().map(|slice| slice.occurred_min).min()?,
            occurred_max: slices.iter().map(|slice| slice.occurred_max).max()?,
            person_min: slices.iter().map(|slice| slice.person_min).min()?,
            person_max: slices.iter().map(|slice| slice.person_max).max()?,
            days: Vec::new(),
            events: Vec::new(),
            more_events: false,
            properties: Vec::new(),
            more_properties: false,
        };
        let mut days = BTreeMap::<i32, u64>::new();
        let mut events = BTreeMap::<&str, (u64, Millis)>::new();
        let mut properties = BTreeMap::<&str, (Millis, [Option<ValueCount>; 5])>::new();
        for slice in slices {
            let is_partial = slice.properties.iter().any(|fact| fact.partial);
            if slice.more_events || slice.more_properties || is_partial {
                return None;
            }
            slice.days.iter().for_each(|(day, rows)| *days.entry(*day).or_default() += rows);
            for fact in &slice.events {
                let (rows, last_at) = events.entry(&fact.name).or_insert((0, Millis::MIN));
                *rows += fact.rows;
                *last_at = (*last_at).max(slice.last_at(fact.quiet_secs));
            }
            for fact in &slice.properties {
                let (last_at, kinds) = properties.entry(&fact.name).or_insert((Millis::MIN, [None; 5]));
                *last_at = (*last_at).max(slice.last_at(fact.quiet_secs));
                let (rows, range) = kinds[fact.kind as usize].get_or_insert((0, None));
                *rows += fact.rows;
                if let Some(of_slice) = fact.range {
                    NumberRange::join(range, of_slice);
                }
            }
        }
        if events.len().max(properties.len()) > names_max {
            return None;
        }
        joined.days = days.into_iter().collect();
        for (name, (rows, last_at)) in events {
            let quiet_secs = joined.quiet_secs(last_at);
            joined.events.push(EventFact { name: name.to_owned(), rows, quiet_secs });
        }
        for (name, (last_at, kinds)) in properties {
            joined.push_property(name, last_at, false, kinds);
        }
        Some(joined)
    }

    fn push_property(&mut self, name: &str, last_at: Millis, partial: bool, kinds: [Option<ValueCount>; 5]) {
        let quiet_secs = self.quiet_secs(last_at);
        for (kind, found) in PropertyKind::ALL.into_iter().zip(kinds) {
            if let Some((rows, range)) = found {
                let name = name.to_owned();
                self.properties.push(PropertyFact { name, kind, rows, range, quiet_secs, partial });
            }
        }
    }

    /// Whether a row may be an event of this name.
    pub fn may_have_event(&self, name: &str) -> bool {
        self.more_events || self.events.binary_search_by(|fact| fact.name.as_str().cmp(name)).is_ok()
    }

    /// When the last row of a name occurred, to the second.
    pub fn last_at(&self, quiet_secs: u64) -> Millis {
        self.occurred_max.saturating_sub_unsigned(quiet_secs.saturating_mul(1_000)).max(self.occurred_min)
    }

    fn quiet_secs(&self, last_at: Millis) -> u64 {
        self.occurred_max.abs_diff(last_at) / 1_000
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

type ValueCount = (u64, Option<NumberRange>);

/// Gathers the facts of one project's rows while they are written.
pub(super) struct SliceCount {
    first_row: u64,
    rows: u64,
    occurred: Option<(Millis, Millis)>,
    persons: Option<(PersonNo, PersonNo)>,
    days: BTreeMap<i32, u64>,
    events: Tally<()>,
    /// Per property and type the number of values and their range.
    properties: Tally<[Option<ValueCount>; 5]>,
}

impl SliceCount {
    /// Lists at most `names_max` events and properties, but all of `pinned`.
    pub fn new<'n>(first_row: u64, names_max: usize, pinned: impl Iterator<Item = &'n str>) -> Self {
        Self {
            first_row,
            rows: 0,
            occurred: None,
            persons: None,
            days: BTreeMap::new(),
            events: Tally::new(names_max, std::iter::empty()),
            properties: Tally::new(names_max, pinned),
        }
    }

    pub fn add(&mut self, row: &StoredRow) {
        self.rows += 1;
        widen(&mut self.occurred, row.occurred_at);
        widen(&mut self.persons, row.person_no);
        *self.days.entry(utc_day(row.occurred_at)).or_default() += 1;
        self.events.add(0, row.event.as_bytes(), row.occurred_at);
        for (position, (name, value)) in row.properties.iter_bytes().enumerate() {
            let kinds = self.properties.add(position, name, row.occurred_at);
            let (rows, range) = kinds[PropertyKind::of(value) as usize].get_or_insert((0, None));
            *rows += 1;
            NumberRange::widen(range, value);
        }
    }

    pub fn finish(self, project_id: ProjectId) -> SliceFacts {
        let (occurred_min, occurred_max) = self.occurred.unwrap_or_default();
        let (person_min, person_max) = self.persons.unwrap_or_default();
        let (events, more_events) = self.events.finish();
        let (properties, more_properties) = self.properties.finish();
        let mut slice = SliceFacts {
            project_id,
            first_row: self.first_row,
            rows: self.rows,
            occurred_min,
            occurred_max,
            person_min,
            person_max,
            days: self.days.into_iter().collect(),
            events: Vec::with_capacity(events.len()),
            more_events,
            properties: Vec::with_capacity(properties.len()),
            more_properties,
        };
        for (name, event) in events {
            let quiet_secs = slice.quiet_secs(event.last_at);
            slice.events.push(EventFact { name, rows: event.rows, quiet_secs });
        }
        for (name, property) in properties {
            slice.push_property(&name, property.last_at, property.is_partial, property.value);
        }
        slice
    }
}

impl NumberRange {
    fn join(range: &mut Option<Self>, other: Self) {
        let (least, greatest) = match other {
            Self::Integer(least, greatest) => {
                (PropertyBytes::Integer(least), PropertyBytes::Integer(greatest))
            }
            Self::Float(least, greatest) => (PropertyBytes::Float(least), PropertyBytes::Float(greatest)),
        };
        Self::widen(range, least);
        Self::widen(range, greatest);
    }

    fn widen(range: &mut Option<Self>, value: PropertyBytes<'_>) {
        match (value, &mut *range) {
            (PropertyBytes::Integer(number), Some(Self::Integer(least, greatest))) => {
                *least = (*least).min(number);
                *greatest = (*greatest).max(number);
            }
            (PropertyBytes::Float(number), Some(Self::Float(least, greatest))) => {
                *least = least.min(number);
                *greatest = greatest.max(number);
            }
            (PropertyBytes::Integer(number), _) => *range = Some(Self::Integer(number, number)),
            (PropertyBytes::Float(number), _) => *range = Some(Self::Float(number, number)),
            _ => {}
        }
    }
}

fn widen<T: Ord + Copy>(range: &mut Option<(T, T)>, value: T) {
    *range = Some(range.map_or((value, value), |(least, greatest)| (least.min(value), greatest.max(value))));
}
