//! What the catalogue knows about an object without reading it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::columns::PropertyKind;
use super::names::Names;
use super::{FormatError, StoredRow};
use crate::model::{Millis, PersonNo, ProjectId, PropertyValue, utc_day};

const FACTS_VERSION: u8 = 1;
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
    /// Sorted by name.
    pub events: Vec<EventFact>,
    /// Sorted by name and type.
    pub properties: Vec<PropertyFact>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EventFact {
    pub name: String,
    pub rows: u64,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PropertyFact {
    pub name: String,
    pub kind: PropertyKind,
    /// Rows that have a value of this type.
    pub rows: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<NumberRange>,
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
        if version != FACTS_VERSION {
            return Err(FormatError::UnknownVersion(version));
        }
        let json =
            zstd::decode_all(packed).map_err(|error| FormatError::corrupt(format!("facts: {error}")))?;
        serde_json::from_slice(&json).map_err(|error| FormatError::corrupt(format!("facts: {error}")))
    }
}

impl SliceFacts {
    /// Whether any row has a value of this property, of any type.
    pub fn has_property(&self, name: &str) -> bool {
        let first = self.properties.partition_point(|fact| fact.name.as_str() < name);
        self.properties.get(first).is_some_and(|fact| fact.name == name)
    }
}

type ValueCount = (u64, Option<NumberRange>);

/// Gathers the facts of one project's rows while they are written.
#[derive(Default)]
pub(super) struct SliceCount {
    first_row: u64,
    rows: u64,
    occurred: Option<(Millis, Millis)>,
    persons: Option<(PersonNo, PersonNo)>,
    days: BTreeMap<i32, u64>,
    event_names: Names,
    /// Rows per event name.
    events: Vec<u64>,
    property_names: Names,
    /// Per property and type the number of values and their range.
    properties: Vec<[Option<ValueCount>; 5]>,
}

impl SliceCount {
    pub fn starting_at(first_row: u64) -> Self {
        Self { first_row, ..Self::default() }
    }

    pub fn add(&mut self, row: &StoredRow) {
        self.rows += 1;
        widen(&mut self.occurred, row.occurred_at);
        widen(&mut self.persons, row.person_no);
        *self.days.entry(utc_day(row.occurred_at)).or_default() += 1;
        let event = self.event_names.number(0, &row.event);
        if event == self.events.len() {
            self.events.push(0);
        }
        self.events[event] += 1;
        for (position, (name, value)) in row.properties.iter().enumerate() {
            let property = self.property_names.number(position, name);
            if property == self.properties.len() {
                self.properties.push(Default::default());
            }
            let (rows, range) =
                self.properties[property][PropertyKind::of(value) as usize].get_or_insert((0, None));
            *rows += 1;
            NumberRange::widen(range, value);
        }
    }

    pub fn finish(self, project_id: ProjectId) -> SliceFacts {
        let (occurred_min, occurred_max) = self.occurred.unwrap_or_default();
        let (person_min, person_max) = self.persons.unwrap_or_default();
        let events = self.event_names.into_names().into_iter().zip(self.events);
        let mut events: Vec<_> = events.map(|(name, rows)| EventFact { name, rows }).collect();
        events.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut properties = Vec::new();
        for (name, kinds) in self.property_names.into_names().into_iter().zip(self.properties) {
            for (kind, found) in PropertyKind::ALL.into_iter().zip(kinds) {
                if let Some((rows, range)) = found {
                    properties.push(PropertyFact { name: name.clone(), kind, rows, range });
                }
            }
        }
        properties.sort_unstable_by(|a, b| (&a.name, a.kind).cmp(&(&b.name, b.kind)));
        SliceFacts {
            project_id,
            first_row: self.first_row,
            rows: self.rows,
            occurred_min,
            occurred_max,
            person_min,
            person_max,
            days: self.days.into_iter().collect(),
            events,
            properties,
        }
    }
}

impl NumberRange {
    fn widen(range: &mut Option<Self>, value: &PropertyValue) {
        match (value, &mut *range) {
            (PropertyValue::Integer(number), Some(Self::Integer(least, greatest))) => {
                *least = (*least).min(*number);
                *greatest = (*greatest).max(*number);
            }
            (PropertyValue::Float(number), Some(Self::Float(least, greatest))) => {
                *least = least.min(*number);
                *greatest = greatest.max(*number);
            }
            (PropertyValue::Integer(number), _) => *range = Some(Self::Integer(*number, *number)),
            (PropertyValue::Float(number), _) => *range = Some(Self::Float(*number, *number)),
            _ => {}
        }
    }
}

fn widen<T: Ord + Copy>(range: &mut Option<(T, T)>, value: T) {
    *range = Some(range.map_or((value, value), |(least, greatest)| (least.min(value), greatest.max(value))));
}
