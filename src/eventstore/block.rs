//! Decoded rows: what a scan gives and a kernel reads.
//!
//! A [`RowBlock`] holds the rows of one project out of one run or segment (or a range of it), as
//! columns, sorted by `(person_no, occurred_at, event_id)`. Only the asked columns are there, properties
//! in the order in which they were asked. Blocks of one shard overlap in persons and times; a
//! person is never in two shards. Columns are shared: the same ones may be in the cache of columns
//! and in other questions' blocks.

mod dictionary;
mod quarters;
mod rows;
mod times;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow_buffer::ScalarBuffer;

pub use self::dictionary::{ABSENT, ByText, CodesMut, Dictionary, DictionaryBuilder, TextPicker};
pub use self::quarters::{
    ByQuarter, COUNT_STEPS, QUARTER_MS, QuarterTable, Quarters, QuartersBuilder, QuartersWithin,
    begins_a_quarter,
};
pub use self::rows::{Picker, retain};
pub use self::times::Times;
use crate::model::{Millis, PersonNo};

#[derive(Clone, Debug, Default)]
pub struct RowBlock {
    /// Empty when nobody asked for persons; rows are in any order then.
    pub person_no: ScalarBuffer<PersonNo>,
    /// Empty when nobody asked for times.
    pub occurred_at: Arc<Times>,
    /// The same times by their quarters of an hour. Empty when nobody asked for those.
    pub quarters: Arc<Quarters>,
    /// Every row has one.
    pub event: Arc<Dictionary>,
    /// One per asked property.
    pub properties: Vec<Arc<PropertyColumn>>,
    pub counted: Counted,
    /// How many events each row stands for, in a block that was made of a rollup: it has events and quarters,
    /// and rows in any order. `None`: each for one.
    pub stand_for: Option<Arc<[u32]>>,
}

/// Which rows of a block count.
#[derive(Clone, Debug, Default)]
pub enum Counted {
    #[default]
    All,
    /// These, ascending.
    Rows(Arc<Vec<u32>>),
    /// Those whose quarters are within a range, so many: told again by whoever looks at them, a chunk at a time, which
    /// takes less than to read a list.
    Within { range: Range<Millis>, rows: usize },
}

/// Which columns a block has beside the events and the asked properties.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RowColumns {
    pub persons: bool,
    pub times: bool,
    /// Of the times, only the quarters of an hour.
    pub quarters: bool,
}

impl RowColumns {
    /// Whole times tell their quarters too.
    pub const ALL: Self = Self { persons: true, times: true, quarters: false };
}

/// A property's values. One row has at most one type; a property whose type changed has several
/// columns, each as long as the block or absent altogether.
#[derive(Clone, Debug, Default)]
pub struct PropertyColumn {
    pub strings: Option<Dictionary>,
    pub integers: Option<Numbers<i64>>,
    pub floats: Option<Numbers<f64>>,
    pub booleans: Option<Numbers<bool>>,
    /// Arrays and empty objects as JSON text.
    pub json: Option<Dictionary>,
}

/// Of rows that have one. Most properties belong to few events: what a row without one takes is a bit.
#[derive(Clone, Debug)]
pub struct Numbers<T> {
    /// In the order of the rows.
    values: Vec<T>,
    /// A row whose bit is not set has no value here.
    present: Bits,
    /// For each word of `present` how many values come before it; empty when every row has one.
    ranks: Vec<u32>,
}

/// One bit a row.
#[derive(Clone, Debug, Default)]
pub struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    pub fn zeros(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len }
    }

    pub fn ones(len: usize) -> Self {
        Self::from_words(vec![u64::MAX; len.div_ceil(64)], len)
    }

    /// Bit n is bit `n % 64` of word `n / 64`; bits beyond `len` are cleared.
    pub fn from_words(mut words: Vec<u64>, len: usize) -> Self {
        words.resize(len.div_ceil(64), 0);
        if let (Some(last), true) = (words.last_mut(), !len.is_multiple_of(64)) {
            *last &= (1 << (len % 64)) - 1;
        }
        Self { words, len }
    }

    pub fn set(&mut self, index: usize) {
        debug_assert!(index < self.len);
        self.words[index / 64] |= 1 << (index % 64);
    }

    pub fn get(&self, index: usize) -> bool {
        debug_assert!(index < self.len);
        self.words[index / 64] >> (index % 64) & 1 == 1
    }

    pub fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(64) {
            self.words.push(0);
        }
        self.len += 1;
        if bit {
            self.set(self.len - 1);
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// One value of a property.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ValueRef<'a> {
    String(&'a str),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Json(&'a str),
}

impl<T: Copy> Numbers<T> {
    /// Precondition: there are as many values as bits are set.
    pub fn new(values: Vec<T>, present: Bits) -> Self {
        let mut ranks = Vec::new();
        if values.len() < present.len() {
            let counts = present.words.iter().map(|word| word.count_ones());
            ranks.extend(counts.scan(0, |before, count| {
                let rank = *before;
                *before += count;
                Some(rank)
            }));
        }
        Self { values, present, ranks }
    }

    pub fn gather(&self, rows: &[u32]) -> Self {
        let mut values = Vec::new();
        let mut present = Bits::zeros(rows.len());
        for (to, &from) in rows.iter().enumerate() {
            if let Some(value) = self.get(from as usize) {
                values.push(value);
                present.set(to);
            }
        }
        values.shrink_to_fit();
        Self::new(values, present)
    }

    /// How many rows there are, with and without a number.
    #[cfg(test)]
    pub fn rows(&self) -> usize {
        self.present.len()
    }

    pub fn get(&self, row: usize) -> Option<T> {
        if self.ranks.is_empty() {
            return self.values.get(row).copied();
        }
        if self.present.words[row / 64] >> (row % 64) & 1 == 0 {
            return None;
        }
        Some(self.values[self.rank(row)])
    }

    /// The values of a range of rows, ascending, each with its place in the range.
    pub fn for_range(&self, rows: Range<usize>, mut visit: impl FnMut(usize, T)) {
        if let Some(values) = self.of_every_row() {
            return values[rows].iter().enumerate().for_each(|(place, value)| visit(place, *value));
        }
        if rows.is_empty() {
            return;
        }
        let mut before = self.rank(rows.start);
        for number in rows.start / 64..rows.end.div_ceil(64) {
            let first = 64 * number;
            let (from, to) = (rows.start.max(first) - first, rows.end.min(first + 64) - first);
            let mut bits = self.present.words[number] & (u64::MAX >> (64 - to)) & (u64::MAX << from);
            while bits != 0 {
                visit(first + bits.trailing_zeros() as usize - rows.start, self.values[before]);
                before += 1;
                bits &= bits - 1;
            }
        }
    }

    /// How many rows before this one have a value. Precondition: some have none.
    fn rank(&self, row: usize) -> usize {
        let (word, bit) = (self.present.words[row / 64], 1 << (row % 64));
        (self.ranks[row / 64] + (word & (bit - 1)).count_ones()) as usize
    }

    /// The values, where every row has one.
    pub fn of_every_row(&self) -> Option<&[T]> {
        (self.values.len() == self.present.len()).then_some(&self.values)
    }

    fn memory_bytes(&self) -> usize {
        size_of_val(&*self.values) + size_of_val(&*self.present.words) + size_of_val(&*self.ranks)
    }
}

impl PropertyColumn {
    pub fn value(&self, row: usize) -> Option<ValueRef<'_>> {
        if let Some(text) = self.strings.as_ref().and_then(|column| column.get(row)) {
            return Some(ValueRef::String(text));
        }
        if let Some(number) = self.integers.as_ref().and_then(|column| column.get(row)) {
            return Some(ValueRef::Integer(number));
        }
        if let Some(number) = self.floats.as_ref().and_then(|column| column.get(row)) {
            return Some(ValueRef::Float(number));
        }
        if let Some(flag) = self.booleans.as_ref().and_then(|column| column.get(row)) {
            return Some(ValueRef::Bool(flag));
        }
        self.json.as_ref().and_then(|column| column.get(row)).map(ValueRef::Json)
    }

    fn gather(&self, rows: &[u32]) -> Self {
        Self {
            strings: self.strings.as_ref().map(|column| column.gather(rows)),
            integers: self.integers.as_ref().map(|column| column.gather(rows)),
            floats: self.floats.as_ref().map(|column| column.gather(rows)),
            booleans: self.booleans.as_ref().map(|column| column.gather(rows)),
            json: self.json.as_ref().map(|column| column.gather(rows)),
        }
    }

    /// About, with what its values take.
    pub fn memory_bytes(&self) -> usize {
        fn numbers<T: Copy>(column: &Option<Numbers<T>>) -> usize {
            column.as_ref().map_or(0, Numbers::memory_bytes)
        }
        let texts = |column: &Option<Dictionary>| column.as_ref().map_or(0, Dictionary::memory_bytes);
        size_of::<Self>()
            + texts(&self.strings)
            + texts(&self.json)
            + numbers(&self.integers)
            + numbers(&self.floats)
            + numbers(&self.booleans)
    }
}

impl RowBlock {
    /// Keeps these rows, in this order.
    fn gather(&mut self, rows: &[u32]) {
        if !self.person_no.is_empty() {
            self.person_no = rows.iter().map(|&row| self.person_no[row as usize]).collect();
        }
        if !self.occurred_at.is_empty() {
            self.occurred_at = Arc::new(self.occurred_at.gather(rows));
        }
        if !self.quarters.is_empty() {
            self.quarters = Arc::new(self.quarters.gather(rows));
        }
        self.event = Arc::new(self.event.gather(rows));
        if let Some(stand_for) = &mut self.stand_for {
            *stand_for = rows.iter().map(|&row| stand_for[row as usize]).collect();
        }
        for property in &mut self.properties {
            *property = Arc::new(property.gather(rows));
        }
    }

    /// The rows of these events alone, or `None` where they are more than half of all. Precondition: the events
    /// are sorted, and all rows count, each for one event.
    pub fn of_events(&self, events: &[String]) -> Option<Self> {
        debug_assert!(matches!(self.counted, Counted::All) && self.stand_for.is_none());
        let rows = self.event.rows_of(events, self.event.len() / 2)?;
        let mut block = self.clone();
        block.gather(&rows);
        Some(block)
    }

    /// Only rows within `[from, to)` count from now on. Precondition: times are there, or quarters and
    /// both ends begin one.
    pub fn count_within(&mut self, from: Millis, to: Millis) {
        let (at, quarters) = (self.occurred_at.clone(), self.quarters.clone());
        if !at.is_empty() {
            return self.count_only(|row| (from..to).contains(&at.at(row)));
        }
        match (&self.counted, quarters.within(&(from..to))) {
            (_, None) => self.counted = Counted::Rows(Arc::default()),
            (Counted::All, Some(within)) => {
                let rows = within.count();
                if rows < quarters.len() {
                    self.counted = Counted::Within { range: from..to, rows };
                }
            }
            (_, Some(within)) => self.count_only(|row| within.at(row)),
        }
    }

    /// No row of these persons counts from now on. Precondition: persons are there, and `persons` are
    /// ascending.
    pub fn leave_out(&mut self, persons: &[PersonNo]) {
        let person_no = self.person_no.clone();
        let (Some(first), Some(last)) = (person_no.first(), person_no.last()) else { return };
        let from = persons.partition_point(|person| person < first);
        let to = persons.partition_point(|person| person <= last);
        let mut left = persons[from..to].iter().peekable();
        if left.clone().any(|person| person_no.binary_search(person).is_ok()) {
            // Both ascend.
            self.count_only(|row| {
                while left.next_if(|person| **person < person_no[row]).is_some() {}
                left.peek().is_none_or(|person| **person != person_no[row])
            });
        }
    }

    fn count_only(&mut self, mut counts: impl FnMut(usize) -> bool) {
        let mut counted = match &self.counted {
            Counted::All => rows::pick(0..self.event.len() as u32, &mut counts),
            Counted::Rows(rows) => {
                let mut counted = rows.to_vec();
                retain(&mut counted, &mut counts);
                counted
            }
            Counted::Within { range, .. } => {
                let mut counted =
                    self.quarters.within(range).map(QuartersWithin::to_rows).unwrap_or_default();
                retain(&mut counted, &mut counts);
                counted
            }
        };
        if counted.len() < self.row_count() {
            counted.shrink_to_fit();
            self.counted = Counted::Rows(Arc::new(counted));
        }
    }

    /// Stable: rows of one person and time keep their order. Precondition: both columns are there, and all
    /// rows count.
    pub fn sort_by_person_and_time(&mut self) {
        let key = |row: u32| (self.person_no[row as usize], self.occurred_at.at(row as usize));
        let mut rows: Vec<u32> = (0..self.event.len() as u32).collect();
        if rows.is_sorted_by_key(|&row| key(row)) {
            return;
        }
        rows.sort_by_key(|&row| key(row));
        self.gather(&rows);
    }

    /// How many events count.
    pub fn events(&self) -> u64 {
        match &self.stand_for {
            Some(stand_for) => self.rows().map(|row| u64::from(stand_for[row])).sum(),
            None => self.row_count() as u64,
        }
    }

    /// How many rows count.
    pub fn row_count(&self) -> usize {
        match &self.counted {
            Counted::All => self.event.len(),
            Counted::Rows(rows) => rows.len(),
            Counted::Within { rows, .. } => *rows,
        }
    }

    /// The numbers of the rows that count. Kernels have a quicker way for many of them.
    pub fn rows(&self) -> impl Iterator<Item = usize> {
        let (all, some) = match &self.counted {
            Counted::All => (0..self.event.len(), Cow::default()),
            Counted::Rows(rows) => (0..0, Cow::Borrowed(rows.as_slice())),
            Counted::Within { range, .. } => {
                let rows = self.quarters.within(range).map(QuartersWithin::to_rows);
                (0..0, Cow::Owned(rows.unwrap_or_default()))
            }
        };
        all.chain((0..some.len()).map(move |place| some[place] as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_out_of_time_and_of_persons_who_are_left_out_do_not_count() {
        let mut block = RowBlock {
            person_no: vec![1, 1, 2, 4, 4, 9].into(),
            occurred_at: Arc::new([10, 30, 20, 10, 20, 25].into_iter().collect()),
            event: Arc::new(Dictionary::new(std::iter::repeat_n(0, 6), vec!["e".into()])),
            ..RowBlock::default()
        };
        block.leave_out(&[0, 3, 5, 100]);
        block.count_within(10, 31);
        assert!(matches!(block.counted, Counted::All), "all of them count");
        block.count_within(15, 30);
        assert_eq!(block.rows().collect::<Vec<_>>(), [2, 4, 5]);
        block.leave_out(&[2, 3, 9]);
        assert_eq!(block.rows().collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn every_row_has_its_own_number_or_none_however_many_have_one() {
        for every in [1, 2, 3, 64, 65, 1_000] {
            for rows in [0, 1, 63, 64, 65, 500] {
                let expected: Vec<Option<i64>> =
                    (0..rows).map(|row| (row % every == 0).then_some(row as i64)).collect();
                let mut present = Bits::zeros(rows);
                (0..rows).step_by(every).for_each(|row| present.set(row));
                let numbers = Numbers::new(expected.iter().flatten().copied().collect(), present);
                let found: Vec<_> = (0..rows).map(|row| numbers.get(row)).collect();
                assert_eq!(found, expected, "{every} {rows}");
                for range in [0..rows, rows / 3..rows, 0..rows / 2, rows / 4..rows - rows / 4, rows..rows] {
                    let mut found = vec![None; range.len()];
                    numbers.for_range(range.clone(), |place, value| found[place] = Some(value));
                    assert_eq!(found, expected[range.clone()], "{every} {range:?}");
                }
                let some: Vec<u32> = (0..rows as u32).rev().step_by(3).collect();
                let gathered = numbers.gather(&some);
                let found = (0..some.len()).map(|row| gathered.get(row));
                assert!(found.eq(some.iter().map(|row| expected[*row as usize])), "{every} {rows}");
            }
        }
    }

    #[test]
    fn quarters_tell_what_is_within_a_range_that_begins_and_ends_with_one() {
        const MINUTE: Millis = 60_000;
        let times = [0, 14, 15, 29, 30, 59, 90].map(|minute| minute * MINUTE);
        let mut block = RowBlock {
            quarters: Arc::new(Quarters::of_times(&times)),
            event: Arc::new(Dictionary::new(std::iter::repeat_n(0, 7), vec!["e".into()])),
            ..RowBlock::default()
        };
        block.count_within(15 * MINUTE, 30 * MINUTE);
        assert_eq!(block.rows().collect::<Vec<_>>(), [2, 3]);
    }
}
