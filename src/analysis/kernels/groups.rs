//! The values of a breakdown.
//!
//! A breakdown takes two rounds. The first counts the matching rows of every value; the second
//! answers for the chosen ones, and for all others together as `$other`. Rank is by the rows that
//! match any series, each counted once per series, then by value: `false`, `true`, numbers, text,
//! arrays, absent last.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::KernelError;
use crate::analysis::answer::Breakdown;
use crate::analysis::number::Number;
use crate::analysis::question::BreakdownBy;
use crate::eventstore::{Dictionary, PropertyColumn, RowBlock};
use crate::model::FastMap;

use super::select::{Columns, Rows};

/// One value. Numbers are in their canonical form, so that 5 and 5.0 are one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum GroupKey {
    Bool(bool),
    Number(Number),
    Text(String),
    /// As JSON text.
    Json(String),
    Absent,
}

/// Matching rows per value. A list of pairs outside, since JSON's keys are text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(GroupKey, u64)>", into = "Vec<(GroupKey, u64)>")]
pub struct GroupTotals(BTreeMap<GroupKey, u64>);

/// What the second round answers for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// By rank.
    pub chosen: Vec<GroupKey>,
    /// Whether there are more: the last group is then `$other`.
    pub has_other: bool,
}

/// The values of some rows of a block: a code for each of them, and what each code means.
pub struct RowGroups {
    pub codes: Vec<u32>,
    pub keys: Vec<GroupKey>,
}

/// A row whose value is not known yet, or belongs to no group.
pub const NO_GROUP: u32 = u32::MAX;

impl From<Vec<(GroupKey, u64)>> for GroupTotals {
    fn from(pairs: Vec<(GroupKey, u64)>) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl From<GroupTotals> for Vec<(GroupKey, u64)> {
    fn from(totals: GroupTotals) -> Self {
        totals.0.into_iter().collect()
    }
}

impl GroupTotals {
    pub fn add(&mut self, key: GroupKey, rows: u64) {
        if rows > 0 {
            *self.0.entry(key).or_insert(0) += rows;
        }
    }

    pub fn merge(&mut self, other: Self) {
        for (key, rows) in other.0 {
            self.add(key, rows);
        }
    }

    pub fn check(&self, by: &BreakdownBy, max: usize) -> Result<(), KernelError> {
        check_values(self.0.len(), by, max)
    }

    pub fn choose(self, limit: usize) -> Groups {
        let mut ranked: Vec<(GroupKey, u64)> = self.0.into_iter().collect();
        // Stable, so that equal counts stay sorted by value.
        ranked.sort_by_key(|&(_, rows)| std::cmp::Reverse(rows));
        let has_other = ranked.len() > limit;
        ranked.truncate(limit);
        Groups { chosen: ranked.into_iter().map(|(key, _)| key).collect(), has_other }
    }
}

/// Whether a breakdown may have so many values.
pub fn check_values(values: usize, by: &BreakdownBy, max: usize) -> Result<(), KernelError> {
    if values <= max {
        return Ok(());
    }
    let what = match by {
        BreakdownBy::Event => "the event name".to_owned(),
        BreakdownBy::Property(property) => format!("the property `{property}`"),
    };
    Err(KernelError::TooManyValues { what, max })
}

impl Groups {
    pub fn len(&self) -> usize {
        self.chosen.len() + usize::from(self.has_other)
    }

    /// What each group is called in the answer, in order.
    pub fn labels(&self) -> Vec<Breakdown> {
        let chosen = self.chosen.iter().map(GroupKey::label);
        chosen.chain(self.has_other.then_some(Breakdown::Other)).collect()
    }

    /// For each key of a block, its group. Without `$other`, values that are not chosen have no row.
    pub fn assign(&self, keys: &[GroupKey]) -> Vec<u32> {
        let chosen: FastMap<&GroupKey, u32> = self.chosen.iter().zip(0..).collect();
        let other = if self.has_other { self.chosen.len() as u32 } else { NO_GROUP };
        keys.iter().map(|key| chosen.get(key).copied().unwrap_or(other)).collect()
    }
}

impl GroupKey {
    fn label(&self) -> Breakdown {
        match self {
            Self::Bool(flag) => Breakdown::Bool(*flag),
            Self::Number(number) => Breakdown::Number(*number),
            Self::Text(text) => Breakdown::Text(text.clone()),
            Self::Json(text) => Breakdown::Json(serde_json::from_str(text).unwrap_or_default()),
            Self::Absent => Breakdown::Absent,
        }
    }
}

impl RowGroups {
    /// Codes for these rows, in their order.
    pub fn new(block: &RowBlock, by: &BreakdownBy, columns: &Columns, rows: &Rows) -> Self {
        let mut groups = Self { codes: vec![NO_GROUP; rows.len()], keys: Vec::new() };
        match by {
            BreakdownBy::Event => groups.add_dictionary(&block.event, rows, GroupKey::Text),
            BreakdownBy::Property(property) => groups.add_column(columns.of(block, property), rows),
        }
        groups
    }

    fn add_column(&mut self, column: &PropertyColumn, rows: &Rows) {
        if let Some(strings) = &column.strings {
            self.add_dictionary(strings, rows, GroupKey::Text);
        }
        if let Some(json) = &column.json {
            self.add_dictionary(json, rows, GroupKey::Json);
        }
        let mut numbers = Interner::default();
        if let Some(integers) = &column.integers {
            rows.for_each(|place, row| {
                if let Some(integer) = integers.get(row) {
                    self.codes[place] = numbers.code(Number::Integer(integer), &mut self.keys);
                }
            });
        }
        if let Some(floats) = &column.floats {
            rows.for_each(|place, row| {
                if let Some(float) = floats.get(row) {
                    self.codes[place] = numbers.code(Number::Float(float), &mut self.keys);
                }
            });
        }
        if let Some(booleans) = &column.booleans {
            let first = self.keys.len() as u32;
            self.keys.extend([GroupKey::Bool(false), GroupKey::Bool(true)]);
            rows.for_each(|place, row| {
                if let Some(flag) = booleans.get(row) {
                    self.codes[place] = first + u32::from(flag);
                }
            });
        }
        let absent = self.keys.len() as u32;
        self.keys.push(GroupKey::Absent);
        self.codes.iter_mut().filter(|code| **code == NO_GROUP).for_each(|code| *code = absent);
    }

    fn add_dictionary(&mut self, dictionary: &Dictionary, rows: &Rows, key: fn(String) -> GroupKey) {
        let first = self.keys.len() as u32;
        self.keys.extend(dictionary.values().iter().map(|text| key(text.to_string())));
        let by_text = dictionary.by_text(|text| text.map_or(NO_GROUP, |(code, _)| first + code as u32));
        match rows {
            // Nothing came before the texts, so nothing is overwritten.
            Rows::All(_) if first == 0 => {
                by_text.for_each(|row, code| self.codes[row as usize] = code);
            }
            rows => rows.for_each(|place, row| {
                let code = by_text.at(row);
                if code != NO_GROUP {
                    self.codes[place] = code;
                }
            }),
        }
    }
}

/// Codes for numbers. Equal numbers get one, whatever type they came in.
#[derive(Default)]
struct Interner {
    integers: HashMap<i64, u32>,
    /// By their bits: canonical floats that are equal have the same.
    floats: HashMap<u64, u32>,
}

impl Interner {
    fn code(&mut self, number: Number, keys: &mut Vec<GroupKey>) -> u32 {
        let number = number.canonical();
        let known = match number {
            Number::Integer(integer) => self.integers.entry(integer),
            Number::Float(float) => return self.float_code(float, keys),
        };
        *known.or_insert_with(|| push(number, keys))
    }

    fn float_code(&mut self, float: f64, keys: &mut Vec<GroupKey>) -> u32 {
        *self.floats.entry(float.to_bits()).or_insert_with(|| push(Number::Float(float), keys))
    }
}

fn push(number: Number, keys: &mut Vec<GroupKey>) -> u32 {
    keys.push(GroupKey::Number(number));
    keys.len() as u32 - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_rank_by_rows_then_by_value_with_absent_last() {
        let mut totals = GroupTotals::default();
        let keys = [
            (GroupKey::Absent, 5),
            (GroupKey::Text("b".into()), 5),
            (GroupKey::Text("a".into()), 5),
            (GroupKey::Number(Number::Float(1.5)), 5),
            (GroupKey::Number(Number::Integer(2)), 5),
            (GroupKey::Number(Number::Integer(1)), 5),
            (GroupKey::Bool(true), 5),
            (GroupKey::Json("[]".into()), 5),
            (GroupKey::Text("z".into()), 6),
            (GroupKey::Text("never".into()), 0),
        ];
        for (key, rows) in keys {
            totals.add(key, rows);
        }
        let groups = totals.clone().choose(100);
        let labels = serde_json::to_string(&groups.labels()).unwrap();
        assert_eq!(labels, r#"["z",true,1,1.5,2,"a","b",[],null]"#);
        let groups = totals.choose(2);
        assert_eq!(serde_json::to_string(&groups.labels()).unwrap(), r#"["z",true,"$other"]"#);
        assert_eq!(groups.len(), 3);
    }

    #[test]
    fn exactly_as_many_values_as_allowed_leave_no_other() {
        let mut totals = GroupTotals::default();
        for name in ["a", "b", "c"] {
            totals.add(GroupKey::Text(name.into()), 1);
        }
        assert!(!totals.clone().choose(3).has_other);
        assert!(totals.check(&BreakdownBy::Event, 3).is_ok());
        assert!(matches!(
            totals.check(&BreakdownBy::Event, 2),
            Err(KernelError::TooManyValues { max: 2, .. })
        ));
    }
}
