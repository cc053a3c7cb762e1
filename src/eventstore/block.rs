//! Decoded rows: what a scan gives and a kernel reads.
//!
//! A [`RowBlock`] holds the rows of one project out of one run or segment (or a range of it), as
//! columns, sorted by `(person_no, occurred_at, event_id)`. Only the asked columns are there, properties
//! in the order in which they were asked. Blocks of one shard overlap in persons and times; a
//! person is never in two shards. Columns are shared: the same ones may be in the cache of columns
//! and in other questions' blocks.

use std::sync::Arc;

use arrow_buffer::ScalarBuffer;

use crate::model::{FastMap, Millis, PersonNo};

/// The code of an absent value in a [`Dictionary`].
pub const ABSENT: u32 = u32::MAX;

#[derive(Clone, Debug, Default)]
pub struct RowBlock {
    /// Empty when nobody asked for persons; rows are in any order then.
    pub person_no: ScalarBuffer<PersonNo>,
    /// Empty when nobody asked for times.
    pub occurred_at: ScalarBuffer<Millis>,
    /// Every row has one.
    pub event: Arc<Dictionary>,
    /// One per asked property.
    pub properties: Vec<Arc<PropertyColumn>>,
    /// The rows that count, ascending; `None`: all.
    pub counted: Option<Arc<[u32]>>,
}

/// Which columns a block has beside the events and the asked properties.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowColumns {
    pub persons: bool,
    pub times: bool,
}

impl RowColumns {
    pub const ALL: Self = Self { persons: true, times: true };
    pub const NONE: Self = Self { persons: false, times: false };
}

/// Strings as codes into a list of distinct values.
#[derive(Clone, Debug, Default)]
pub struct Dictionary {
    codes: Codes,
    values: Vec<Arc<str>>,
}

/// Codes as wide as the list needs; the greatest number of each width is that of an absent value.
#[derive(Clone, Debug)]
enum Codes {
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
}

/// Something about the text of every row, found out once a text.
pub struct ByText<'a, T> {
    codes: &'a Codes,
    /// By code. For narrow codes as many as there can be, so that no look-up is out of bounds.
    table: Vec<T>,
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

impl Default for Codes {
    fn default() -> Self {
        Self::U8(Vec::new())
    }
}

impl Codes {
    fn len(&self) -> usize {
        match self {
            Self::U8(codes) => codes.len(),
            Self::U16(codes) => codes.len(),
            Self::U32(codes) => codes.len(),
        }
    }

    /// Precondition: values were added one by one, so that no width is skipped.
    fn widen_for(&mut self, values: usize) {
        let wider = match self {
            Self::U8(codes) if values > 0xff => {
                let mut wider = Vec::with_capacity(codes.capacity());
                wider.extend(codes.iter().map(|&code| if code == u8::MAX { u16::MAX } else { code.into() }));
                Self::U16(wider)
            }
            Self::U16(codes) if values > 0xffff => {
                let mut wider = Vec::with_capacity(codes.capacity());
                wider.extend(codes.iter().map(|&code| if code == u16::MAX { ABSENT } else { code.into() }));
                Self::U32(wider)
            }
            _ => return,
        };
        *self = wider;
    }

    fn get(&self, row: usize) -> u32 {
        match self {
            Self::U8(codes) => Some(codes[row]).filter(|code| *code < u8::MAX).map_or(ABSENT, u32::from),
            Self::U16(codes) => Some(codes[row]).filter(|code| *code < u16::MAX).map_or(ABSENT, u32::from),
            Self::U32(codes) => codes[row],
        }
    }
}

/// Puts a dictionary together out of pieces.
pub struct DictionaryBuilder {
    codes: Codes,
    values: Vec<Arc<str>>,
    known: FastMap<Arc<str>, u32>,
}

impl DictionaryBuilder {
    pub fn with_capacity(rows: usize) -> Self {
        let (values, known) = (Vec::new(), FastMap::default());
        Self { codes: Codes::U8(Vec::with_capacity(rows)), values, known }
    }

    pub fn code_of(&mut self, text: &str) -> u32 {
        if let Some(&code) = self.known.get(text) {
            return code;
        }
        let (code, text) = (self.values.len() as u32, Arc::<str>::from(text));
        self.values.push(text.clone());
        self.known.insert(text, code);
        self.codes.widen_for(self.values.len());
        code
    }

    /// More rows, by codes that were asked for, or [`ABSENT`].
    pub fn extend(&mut self, codes: impl Iterator<Item = u32>) {
        // What is absent becomes the greatest number of any width.
        match &mut self.codes {
            Codes::U8(all) => all.extend(codes.map(|code| code as u8)),
            Codes::U16(all) => all.extend(codes.map(|code| code as u16)),
            Codes::U32(all) => all.extend(codes),
        }
    }

    pub fn finish(self) -> Dictionary {
        Dictionary { codes: self.codes, values: self.values }
    }
}

impl Dictionary {
    /// Precondition: every code is [`ABSENT`] or below the number of values.
    pub fn new(codes: impl Iterator<Item = u32>, values: Vec<Arc<str>>) -> Self {
        // What is absent becomes the greatest number of any width.
        let codes = match values.len() {
            0..=0xff => Codes::U8(codes.map(|code| code as u8).collect()),
            0x100..=0xffff => Codes::U16(codes.map(|code| code as u16).collect()),
            _ => Codes::U32(codes.collect()),
        };
        Self { codes, values }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn values(&self) -> &[Arc<str>] {
        &self.values
    }

    pub fn get(&self, row: usize) -> Option<&str> {
        self.values.get(self.codes.get(row) as usize).map(AsRef::as_ref)
    }

    pub fn has_absent(&self) -> bool {
        match &self.codes {
            Codes::U8(codes) => codes.contains(&u8::MAX),
            Codes::U16(codes) => codes.contains(&u16::MAX),
            Codes::U32(codes) => codes.contains(&ABSENT),
        }
    }

    /// `of` is asked for every text, by its place in the list, and for an absent one.
    pub fn by_text<T: Copy>(&self, mut of: impl FnMut(Option<(usize, &str)>) -> T) -> ByText<'_, T> {
        let absent = of(None);
        let mut table: Vec<T> =
            self.values.iter().enumerate().map(|(code, text)| of(Some((code, text.as_ref())))).collect();
        let codes = match &self.codes {
            Codes::U8(_) => 1 << 8,
            Codes::U16(_) => 1 << 16,
            Codes::U32(_) => self.values.len() + 1,
        };
        table.resize(codes, absent);
        ByText { codes: &self.codes, table }
    }

    /// About: a text has a counter and a pointer beside its bytes.
    pub fn memory_bytes(&self) -> usize {
        let codes = match &self.codes {
            Codes::U8(codes) => size_of_val(&**codes),
            Codes::U16(codes) => size_of_val(&**codes),
            Codes::U32(codes) => size_of_val(&**codes),
        };
        let texts: usize = self.values.iter().map(|text| text.len() + 32).sum();
        codes + texts
    }

    fn gather(&self, rows: &[u32]) -> Self {
        Self::new(rows.iter().map(|&row| self.codes.get(row as usize)), self.values.clone())
    }
}

impl<T: Copy> ByText<'_, T> {
    pub fn at(&self, row: usize) -> T {
        match self.codes {
            Codes::U8(codes) => self.table[usize::from(codes[row])],
            Codes::U16(codes) => self.table[usize::from(codes[row])],
            Codes::U32(codes) => self.table[(codes[row] as usize).min(self.table.len() - 1)],
        }
    }

    /// Every row in order.
    pub fn for_each(&self, mut visit: impl FnMut(u32, T)) {
        match self.codes {
            Codes::U8(codes) => {
                let table: &[T; 1 << 8] = self.table.as_slice().try_into().expect("there is one a code");
                codes.iter().zip(0..).for_each(|(&code, row)| visit(row, table[usize::from(code)]));
            }
            Codes::U16(codes) => {
                let table: &[T; 1 << 16] = self.table.as_slice().try_into().expect("there is one a code");
                codes.iter().zip(0..).for_each(|(&code, row)| visit(row, table[usize::from(code)]));
            }
            Codes::U32(codes) => {
                let last = self.table.len() - 1;
                codes
                    .iter()
                    .zip(0..)
                    .for_each(|(&code, row)| visit(row, self.table[(code as usize).min(last)]));
            }
        }
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
    fn gather(&mut self, rows: &[u32]) {
        if !self.person_no.is_empty() {
            self.person_no = rows.iter().map(|&row| self.person_no[row as usize]).collect();
        }
        if !self.occurred_at.is_empty() {
            self.occurred_at = rows.iter().map(|&row| self.occurred_at[row as usize]).collect();
        }
        self.event = Arc::new(self.event.gather(rows));
        for property in &mut self.properties {
            *property = Arc::new(property.gather(rows));
        }
    }

    /// Only rows within `[from, to)` count from now on. Precondition: times are there.
    pub fn count_within(&mut self, from: Millis, to: Millis) {
        let at = self.occurred_at.clone();
        self.count_only(|row| (from..to).contains(&at[row]));
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
        let counted: Vec<u32> = self.rows().filter(|&row| counts(row)).map(|row| row as u32).collect();
        if counted.len() < self.rows().len() {
            self.counted = Some(counted.into());
        }
    }

    /// Stable: rows of one person and time keep their order. Precondition: both columns are there, and all
    /// rows count.
    pub fn sort_by_person_and_time(&mut self) {
        let key = |row: u32| (self.person_no[row as usize], self.occurred_at[row as usize]);
        let mut rows: Vec<u32> = (0..self.event.len() as u32).collect();
        if rows.is_sorted_by_key(|&row| key(row)) {
            return;
        }
        rows.sort_by_key(|&row| key(row));
        self.gather(&rows);
    }

    /// The numbers of the rows that count.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = usize> {
        let counted = self.counted.as_deref();
        let count = counted.map_or(self.event.len(), <[u32]>::len);
        (0..count).map(move |place| counted.map_or(place, |counted| counted[place] as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dictionary(values: usize) -> Dictionary {
        let codes = (0..values as u32).rev().chain([ABSENT]);
        Dictionary::new(codes, (0..values).map(|n| Arc::from(format!("v{n}"))).collect())
    }

    #[test]
    fn codes_of_any_width_tell_every_text_and_the_absent_one() {
        for values in [0, 1, 254, 255, 256, 65_535, 65_536] {
            let dictionary = dictionary(values);
            assert_eq!((dictionary.len(), dictionary.has_absent()), (values + 1, true), "{values}");
            assert_eq!(dictionary.get(values), None);
            let by_text = dictionary.by_text(|text| text.map(|(code, text)| (code, text.len())));
            let mut rows = 0;
            by_text.for_each(|row, found| {
                let expected = (row < values as u32).then(|| {
                    let code = values - 1 - row as usize;
                    (code, format!("v{code}").len())
                });
                assert_eq!((row, found), (rows, expected), "{values}");
                assert_eq!(by_text.at(row as usize), expected);
                rows += 1;
            });
            assert_eq!(rows as usize, values + 1);
            assert_eq!(dictionary.gather(&[values as u32]).get(0), None);
        }
    }

    #[test]
    fn a_dictionary_of_pieces_widens_and_keeps_what_it_had() {
        let mut builder = DictionaryBuilder::with_capacity(10);
        let mut expected = Vec::new();
        for n in 0..70_000 {
            let code = builder.code_of(&format!("v{}", n / 2));
            builder.extend([code, ABSENT].into_iter());
            expected.extend([Some(format!("v{}", n / 2)), None]);
        }
        let dictionary = builder.finish();
        assert_eq!((dictionary.len(), dictionary.values().len()), (140_000, 35_000));
        let shown = (0..dictionary.len()).map(|row| dictionary.get(row).map(str::to_owned));
        assert!(shown.eq(expected.iter().cloned()));

        let mut builder = DictionaryBuilder::with_capacity(10);
        for n in 0..65_536 {
            let code = builder.code_of(&n.to_string());
            builder.extend([code, ABSENT].into_iter());
        }
        let dictionary = builder.finish();
        assert_eq!((dictionary.get(0), dictionary.get(1)), (Some("0"), None));
        assert_eq!((dictionary.get(131_070), dictionary.get(131_071)), (Some("65535"), None));
    }

    #[test]
    fn rows_out_of_time_and_of_persons_who_are_left_out_do_not_count() {
        let mut block = RowBlock {
            person_no: vec![1, 1, 2, 4, 4, 9].into(),
            occurred_at: vec![10, 30, 20, 10, 20, 25].into(),
            event: Arc::new(Dictionary::new(std::iter::repeat_n(0, 6), vec![Arc::from("e")])),
            ..RowBlock::default()
        };
        block.leave_out(&[0, 3, 5, 100]);
        block.count_within(10, 31);
        assert!(block.counted.is_none(), "all of them count");
        block.count_within(15, 30);
        assert_eq!(block.rows().collect::<Vec<_>>(), [2, 4, 5]);
        block.leave_out(&[2, 3, 9]);
        assert_eq!(block.rows().collect::<Vec<_>>(), [4]);
    }
}
