//! The values of a breakdown.
//!
//! A breakdown takes two rounds, or one where [`super::grouped`] can do both. The first counts the matching
//! rows of every value; the second answers for the chosen ones, and for all others together as `$other`. Rank is by the rows that
//! match any series, each counted once per series, then by value: `false`, `true`, numbers, text,
//! arrays, absent last.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::KernelError;
use crate::analysis::answer::Breakdown;
use crate::analysis::number::Number;
use crate::analysis::question::BreakdownBy;
use crate::eventstore::{ByText, Dictionary, Numbers, RowBlock};
use crate::model::{FastMap, Interned};

use super::select::Columns;

/// One value. Numbers are in their canonical form, so that 5 and 5.0 are one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum GroupKey<T = Interned> {
    Bool(bool),
    Number(Number),
    Text(T),
    /// As JSON text.
    Json(T),
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

/// The values of the rows of a block as codes. Those of texts and flags are known at once, those of
/// numbers are given out as the numbers come.
pub struct ValueCodes<'a> {
    /// What each code means.
    pub keys: Vec<GroupKey<&'a Interned>>,
    strings: Option<ByText<'a, u32>>,
    json: Option<ByText<'a, u32>>,
    integers: Option<&'a Numbers<i64>>,
    floats: Option<&'a Numbers<f64>>,
    booleans: Option<&'a Numbers<bool>>,
    numbers: NumberCodes,
}

/// The values of a block's rows, and which group each belongs to.
pub struct GroupCodes<'a> {
    pub values: ValueCodes<'a>,
    /// By code, of those that are known so far.
    pub groups: Vec<u32>,
}

/// Numbers values as they come, equal ones alike.
#[derive(Default)]
pub struct KeyNumbers {
    /// By the numbers that texts have in the process, in pages for where there are some: nearly all values are
    /// texts. Eight bytes for each page of all numbers of the process, and for each of the values' a page at most.
    texts: Vec<Option<Box<[u32; PAGE]>>>,
    others: FastMap<GroupKey, u32>,
    is_begun: bool,
}

const PAGE: usize = 64;
/// Of a text that has not come.
const NOT_NUMBERED: u32 = u32::MAX;

/// Finds the group of a value.
pub struct GroupIndex<'a> {
    chosen: FastMap<GroupKey<&'a Interned>, u32>,
    other: u32,
}

/// A row whose value belongs to no group.
pub const NO_GROUP: u32 = u32::MAX;

const ABSENT_CODE: u32 = 0;
const FALSE_CODE: u32 = 1;
/// Absent and the two flags have codes in every block, whether or not a row has them.
const KEYS_ALWAYS: usize = 3;
/// Of a row without a text, which may have another value.
const NO_TEXT: u32 = u32::MAX;

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

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn choose(&self, limit: usize) -> Groups {
        choose(self.0.iter().map(|(key, rows)| (key, *rows)).collect(), limit)
    }
}

/// Those with the most rows; of equal ones the least values.
pub fn choose(mut totals: Vec<(&GroupKey, u64)>, limit: usize) -> Groups {
    let by_rank = |(key, rows): &(&GroupKey, u64), (other, of_other): &(&GroupKey, u64)| {
        of_other.cmp(rows).then_with(|| key.cmp(other))
    };
    let has_other = totals.len() > limit;
    if has_other && limit > 0 {
        totals.select_nth_unstable_by(limit - 1, by_rank);
    }
    totals.truncate(limit);
    totals.sort_unstable_by(by_rank);
    Groups { chosen: totals.into_iter().map(|(key, _)| key.clone()).collect(), has_other }
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
}

impl KeyNumbers {
    /// `next` of a value that has not come before. Precondition: whoever asks keeps the value.
    pub fn find(&mut self, key: &GroupKey<&Interned>, next: u32) -> u32 {
        self.is_begun = true;
        let GroupKey::Text(text) = key else {
            return *self.others.entry(key.clone().into_owned()).or_insert(next);
        };
        let number = text.number() as usize;
        let (page, place) = (number / PAGE, number % PAGE);
        if page >= self.texts.len() {
            self.texts.resize_with(page + 1, || None);
        }
        let known = &mut self.texts[page].get_or_insert_with(|| Box::new([NOT_NUMBERED; PAGE]))[place];
        if *known == NOT_NUMBERED {
            *known = next;
        }
        *known
    }
}

impl<'a> GroupIndex<'a> {
    pub fn new(groups: &'a Groups) -> Self {
        let other = if groups.has_other { groups.chosen.len() as u32 } else { NO_GROUP };
        Self { chosen: groups.chosen.iter().map(GroupKey::as_ref).zip(0..).collect(), other }
    }

    /// Without `$other`, a value that is not chosen has none.
    pub fn find(&self, key: &GroupKey<&Interned>) -> u32 {
        self.chosen.get(key).copied().unwrap_or(self.other)
    }
}

impl GroupKey {
    pub fn as_ref(&self) -> GroupKey<&Interned> {
        match self {
            Self::Bool(flag) => GroupKey::Bool(*flag),
            Self::Number(number) => GroupKey::Number(*number),
            Self::Text(text) => GroupKey::Text(text),
            Self::Json(text) => GroupKey::Json(text),
            Self::Absent => GroupKey::Absent,
        }
    }

    fn label(&self) -> Breakdown {
        match self {
            Self::Bool(flag) => Breakdown::Bool(*flag),
            Self::Number(number) => Breakdown::Number(*number),
            Self::Text(text) => Breakdown::Text(text.to_string()),
            Self::Json(text) => Breakdown::Json(serde_json::from_str(text).unwrap_or_default()),
            Self::Absent => Breakdown::Absent,
        }
    }
}

impl GroupKey<&Interned> {
    pub fn into_owned(self) -> GroupKey {
        match self {
            Self::Bool(flag) => GroupKey::Bool(flag),
            Self::Number(number) => GroupKey::Number(number),
            Self::Text(text) => GroupKey::Text(text.clone()),
            Self::Json(text) => GroupKey::Json(text.clone()),
            Self::Absent => GroupKey::Absent,
        }
    }
}

impl<'a> ValueCodes<'a> {
    pub fn new(block: &'a RowBlock, by: &BreakdownBy, columns: &Columns) -> Self {
        let keys = vec![GroupKey::Absent, GroupKey::Bool(false), GroupKey::Bool(true)];
        let mut codes = Self {
            keys,
            strings: None,
            json: None,
            integers: None,
            floats: None,
            booleans: None,
            numbers: NumberCodes::default(),
        };
        match by {
            BreakdownBy::Event => codes.strings = Some(codes.add_texts(&block.event, GroupKey::Text)),
            BreakdownBy::Property(property) => {
                let column = columns.of(block, property);
                codes.strings = column.strings.as_ref().map(|texts| codes.add_texts(texts, GroupKey::Text));
                codes.json = column.json.as_ref().map(|texts| codes.add_texts(texts, GroupKey::Json));
                codes.integers = column.integers.as_ref();
                codes.floats = column.floats.as_ref();
                codes.booleans = column.booleans.as_ref();
            }
        }
        codes
    }

    /// All values that rows of these blocks can have, each a group, and the codes of each block; `None` when
    /// they are more than `values_max`, or when only the rows tell, as of numbers.
    pub fn list(
        blocks: &'a [RowBlock],
        by: &BreakdownBy,
        columns: &Columns,
        values_max: usize,
    ) -> Option<(Vec<GroupKey>, Vec<GroupCodes<'a>>)> {
        let mut numbers = KeyNumbers::default();
        let mut keys: Vec<GroupKey<&Interned>> = Vec::new();
        let mut of_blocks = Vec::with_capacity(blocks.len());
        for block in blocks {
            let codes = Self::new(block, by, columns);
            if codes.integers.is_some() || codes.floats.is_some() {
                return None;
            }
            if codes.keys.len() > values_max + KEYS_ALWAYS {
                return None;
            }
            // Those of one block all differ.
            let groups = if keys.is_empty() {
                keys.clone_from(&codes.keys);
                (0..codes.keys.len() as u32).collect()
            } else {
                if !numbers.is_begun {
                    (0..).zip(&keys).for_each(|(number, key)| _ = numbers.find(key, number));
                }
                let number = |key: &GroupKey<&'a Interned>| {
                    let number = numbers.find(key, keys.len() as u32);
                    if number as usize == keys.len() {
                        keys.push(key.clone());
                    }
                    number
                };
                codes.keys.iter().map(number).collect()
            };
            of_blocks.push(GroupCodes { values: codes, groups });
            if keys.len() > values_max + KEYS_ALWAYS {
                return None;
            }
        }
        Some((keys.into_iter().map(GroupKey::into_owned).collect(), of_blocks))
    }

    fn add_texts(
        &mut self,
        texts: &'a Dictionary,
        key: fn(&'a Interned) -> GroupKey<&'a Interned>,
    ) -> ByText<'a, u32> {
        let first = self.keys.len() as u32;
        self.keys.extend(texts.values().iter().map(key));
        texts.by_text(|text| text.map_or(NO_TEXT, |(code, _)| first + code as u32))
    }

    /// The codes by text, where no row has any other value.
    pub fn only_texts(&self) -> Option<ByText<'a, u32>> {
        let has_others = self.json.is_some()
            || self.integers.is_some()
            || self.floats.is_some()
            || self.booleans.is_some();
        let strings = self.strings.as_ref().filter(|_| !has_others)?;
        Some(strings.map(|code| if code == NO_TEXT { ABSENT_CODE } else { code }))
    }

    /// The codes of these rows, in their order.
    pub fn find(&mut self, rows: &[u32], codes: &mut Vec<u32>) {
        codes.clear();
        match &self.strings {
            Some(strings) => strings.append_to(rows, codes),
            None => codes.resize(rows.len(), NO_TEXT),
        }
        for (code, &row) in codes.iter_mut().zip(rows) {
            if *code == NO_TEXT {
                *code = self.find_other(row as usize);
            }
        }
    }

    /// Of a row without a string.
    fn find_other(&mut self, row: usize) -> u32 {
        let number = self.integers.and_then(|integers| integers.get(row)).map(Number::Integer);
        let number = number.or_else(|| self.floats.and_then(|floats| floats.get(row)).map(Number::Float));
        if let Some(number) = number {
            return self.numbers.code(number, &mut self.keys);
        }
        if let Some(flag) = self.booleans.and_then(|booleans| booleans.get(row)) {
            return FALSE_CODE + u32::from(flag);
        }
        self.json.as_ref().map(|json| json.at(row)).filter(|code| *code != NO_TEXT).unwrap_or(ABSENT_CODE)
    }
}

/// Codes for numbers. Equal numbers get one, whatever type they came in.
#[derive(Default)]
struct NumberCodes {
    integers: FastMap<i64, u32>,
    /// By their bits: canonical floats that are equal have the same.
    floats: FastMap<u64, u32>,
}

impl NumberCodes {
    fn code(&mut self, number: Number, keys: &mut Vec<GroupKey<&Interned>>) -> u32 {
        let number = number.canonical();
        let known = match number {
            Number::Integer(integer) => self.integers.entry(integer),
            Number::Float(float) => return self.float_code(float, keys),
        };
        *known.or_insert_with(|| push(number, keys))
    }

    fn float_code(&mut self, float: f64, keys: &mut Vec<GroupKey<&Interned>>) -> u32 {
        *self.floats.entry(float.to_bits()).or_insert_with(|| push(Number::Float(float), keys))
    }
}

fn push(number: Number, keys: &mut Vec<GroupKey<&Interned>>) -> u32 {
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
        assert!(check_values(totals.len(), &BreakdownBy::Event, 3).is_ok());
        assert!(matches!(
            check_values(totals.len(), &BreakdownBy::Event, 2),
            Err(KernelError::TooManyValues { max: 2, .. })
        ));
    }
}
