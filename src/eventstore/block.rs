//! Decoded rows: what a scan gives and a kernel reads.
//!
//! A [`RowBlock`] holds the rows of one project out of one run or segment (or a range of it), as
//! columns, sorted by `(person_no, occurred_at, event_id)`. Only the asked properties are there,
//! in the order in which they were asked. Blocks of one shard overlap in persons and times; a
//! person is never in two shards. Columns are shared: the same ones may be in the cache of columns
//! and in other questions' blocks.

use std::sync::Arc;

use crate::model::{Millis, PersonNo};

/// The code of an absent value in a [`Dictionary`].
pub const ABSENT: u32 = u32::MAX;

#[derive(Clone, Debug, Default)]
pub struct RowBlock {
    pub person_no: Arc<[PersonNo]>,
    pub occurred_at: Arc<[Millis]>,
    /// Never [`ABSENT`].
    pub event: Arc<Dictionary>,
    /// One per asked property.
    pub properties: Vec<Arc<PropertyColumn>>,
}

/// Strings as codes into a list of distinct values.
#[derive(Clone, Debug, Default)]
pub struct Dictionary {
    pub codes: Vec<u32>,
    pub values: Vec<Arc<str>>,
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

#[derive(Clone, Debug)]
pub struct Numbers<T> {
    pub values: Vec<T>,
    /// One bit a row; a row whose bit is not set has no value here.
    pub present: Bits,
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

impl Dictionary {
    pub fn get(&self, row: usize) -> Option<&str> {
        self.values.get(self.codes[row] as usize).map(AsRef::as_ref)
    }

    /// About: a text has a counter and a pointer beside its bytes.
    pub fn memory_bytes(&self) -> usize {
        let texts: usize = self.values.iter().map(|text| text.len() + 32).sum();
        size_of_val(&*self.codes) + texts
    }
}

impl Dictionary {
    fn gather(&self, rows: &[u32]) -> Self {
        let codes = rows.iter().map(|&row| self.codes[row as usize]).collect();
        Self { codes, values: self.values.clone() }
    }
}

impl<T: Copy> Numbers<T> {
    fn gather(&self, rows: &[u32]) -> Self {
        let values = rows.iter().map(|&row| self.values[row as usize]).collect();
        let mut present = Bits::zeros(rows.len());
        for (to, &from) in rows.iter().enumerate() {
            if self.present.get(from as usize) {
                present.set(to);
            }
        }
        Self { values, present }
    }

    pub fn get(&self, row: usize) -> Option<T> {
        self.present.get(row).then(|| self.values[row])
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
}

impl PropertyColumn {
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
        fn numbers<T>(column: &Option<Numbers<T>>) -> usize {
            column.as_ref().map_or(0, |column| size_of_val(&*column.values) + column.values.len() / 8)
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
    pub fn gather(&mut self, rows: &[u32]) {
        self.person_no = rows.iter().map(|&row| self.person_no[row as usize]).collect();
        self.occurred_at = rows.iter().map(|&row| self.occurred_at[row as usize]).collect();
        self.event = Arc::new(self.event.gather(rows));
        for property in &mut self.properties {
            *property = Arc::new(property.gather(rows));
        }
    }

    /// Keeps the rows for which `keep(person_no, occurred_at)` holds.
    pub fn retain(&mut self, keep: impl Fn(PersonNo, Millis) -> bool) {
        let rows = self.person_no.iter().zip(&*self.occurred_at).enumerate();
        let kept: Vec<u32> =
            rows.filter(|(_, (person, at))| keep(**person, **at)).map(|(row, _)| row as u32).collect();
        if kept.len() < self.len() {
            self.gather(&kept);
        }
    }

    /// Stable: rows of one person and time keep their order.
    pub fn sort_by_person_and_time(&mut self) {
        let key = |row: u32| (self.person_no[row as usize], self.occurred_at[row as usize]);
        let mut rows: Vec<u32> = (0..self.len() as u32).collect();
        if rows.is_sorted_by_key(|&row| key(row)) {
            return;
        }
        rows.sort_by_key(|&row| key(row));
        self.gather(&rows);
    }

    pub fn len(&self) -> usize {
        self.person_no.len()
    }

    pub fn is_empty(&self) -> bool {
        self.person_no.is_empty()
    }
}
