//! Texts of rows as codes into a list of those that differ.

mod picker;

use std::ops::Range;
use std::sync::Arc;

pub use self::picker::TextPicker;
use super::rows::{PICKED_AT_ONCE, retain};
use crate::model::{FastMap, Interned};

/// The code of an absent value in a [`Dictionary`].
pub const ABSENT: u32 = u32::MAX;

/// Strings as codes into a list of distinct values.
#[derive(Clone, Debug, Default)]
pub struct Dictionary {
    codes: Codes,
    values: Vec<Interned>,
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
    /// By code; the last entry is that of an absent value, and of all greater codes. For codes of one byte as
    /// many as there can be, so that no look-up is out of bounds.
    table: Vec<T>,
    /// How many codes stand for a text.
    values: usize,
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

    /// None yet, as wide as so many values need.
    fn for_values(values: usize, rows: usize) -> Self {
        match values {
            0..=0xff => Self::U8(Vec::with_capacity(rows)),
            0x100..=0xffff => Self::U16(Vec::with_capacity(rows)),
            _ => Self::U32(Vec::with_capacity(rows)),
        }
    }

    fn extend(&mut self, codes: impl Iterator<Item = u32>) {
        // What is absent becomes the greatest number of any width.
        match self {
            Self::U8(all) => all.extend(codes.map(|code| code as u8)),
            Self::U16(all) => all.extend(codes.map(|code| code as u16)),
            Self::U32(all) => all.extend(codes),
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
#[derive(Clone, Default)]
pub struct DictionaryBuilder {
    codes: Codes,
    values: Vec<Interned>,
    known: FastMap<Arc<str>, u32>,
}

/// Codes of rows, as wide as the list of a builder needs.
pub enum CodesMut<'b> {
    U8(&'b mut Vec<u8>),
    U16(&'b mut Vec<u16>),
    U32(&'b mut Vec<u32>),
}

impl DictionaryBuilder {
    pub fn with_capacity(rows: usize) -> Self {
        Self { codes: Codes::for_values(0, rows), ..Self::default() }
    }

    /// For rows whose codes are places in this list.
    pub fn of_list(values: Vec<Interned>, rows: usize) -> Self {
        // Unpacked eight by eight.
        let codes = Codes::for_values(values.len(), rows + 8);
        Self { codes, values, known: FastMap::default() }
    }

    /// How many texts there are.
    pub fn texts(&self) -> usize {
        self.values.len()
    }

    /// Precondition: the builder did not begin with a list.
    pub fn code_of(&mut self, text: &str) -> u32 {
        if let Some(&code) = self.known.get(text) {
            return code;
        }
        let (code, text) = (self.values.len() as u32, Interned::new(text));
        self.known.insert(text.to_arc(), code);
        self.values.push(text);
        self.codes.widen_for(self.values.len());
        code
    }

    /// For more rows to be added. Precondition: the codes are below the number of texts.
    pub fn codes_mut(&mut self) -> CodesMut<'_> {
        match &mut self.codes {
            Codes::U8(codes) => CodesMut::U8(codes),
            Codes::U16(codes) => CodesMut::U16(codes),
            Codes::U32(codes) => CodesMut::U32(codes),
        }
    }

    /// More rows, by codes that were asked for, or [`ABSENT`].
    pub fn extend(&mut self, codes: impl Iterator<Item = u32>) {
        self.codes.extend(codes);
    }

    pub fn finish(self) -> Dictionary {
        Dictionary { codes: self.codes, values: self.values }
    }
}

impl Dictionary {
    /// Precondition: every code is [`ABSENT`] or below the number of values.
    pub fn new(codes: impl Iterator<Item = u32>, values: Vec<Interned>) -> Self {
        let mut narrow = Codes::for_values(values.len(), codes.size_hint().0);
        narrow.extend(codes);
        Self { codes: narrow, values }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn values(&self) -> &[Interned] {
        &self.values
    }

    pub fn get(&self, row: usize) -> Option<&str> {
        self.values.get(self.codes.get(row) as usize).map(|text| &**text)
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
            self.values.iter().enumerate().map(|(code, text)| of(Some((code, text)))).collect();
        table.push(absent);
        if matches!(self.codes, Codes::U8(_)) {
            table.resize(1 << 8, absent);
        }
        ByText { codes: &self.codes, table, values: self.values.len() }
    }

    /// About: a text has counters and pointers beside its bytes. Of one that other dictionaries have too it is
    /// not known who should count it; all do.
    pub fn memory_bytes(&self) -> usize {
        let codes = match &self.codes {
            Codes::U8(codes) => size_of_val(&**codes),
            Codes::U16(codes) => size_of_val(&**codes),
            Codes::U32(codes) => size_of_val(&**codes),
        };
        let texts: usize = self.values.iter().map(|text| text.len() + 32).sum();
        codes + texts
    }

    /// The rows of these texts, which are sorted; ascending, and `None` where there are more than so many.
    pub fn rows_of(&self, texts: &[String], rows_max: usize) -> Option<Vec<u32>> {
        let find = |text: &str| texts.binary_search_by(|asked| asked.as_str().cmp(text)).is_ok();
        let is_asked = self.by_text(|text| text.is_some_and(|(_, text)| find(text)));
        let picker = is_asked.picker(|is_asked| is_asked);
        let (mut rows, mut picked) = (Vec::new(), Vec::new());
        for first in (0..self.len()).step_by(PICKED_AT_ONCE) {
            picker.pick(first..self.len().min(first + PICKED_AT_ONCE), &mut picked);
            rows.extend_from_slice(&picked);
            if rows.len() > rows_max {
                return None;
            }
        }
        Some(rows)
    }

    /// These rows, and the texts that they have.
    pub fn gather(&self, rows: &[u32]) -> Self {
        self.take(rows.iter().map(|row| *row as usize))
    }

    /// All rows, with no other texts than they have.
    pub fn of_used_texts(&self) -> Self {
        self.take(0..self.len())
    }

    fn take(&self, rows: impl ExactSizeIterator<Item = usize> + Clone) -> Self {
        let mut is_used = vec![false; self.values.len()];
        for row in rows.clone() {
            if let Some(is_used) = is_used.get_mut(self.codes.get(row) as usize) {
                *is_used = true;
            }
        }
        let mut values = Vec::new();
        let codes = self.by_text(|text| {
            let (code, _) = text.filter(|(code, _)| is_used[*code])?;
            values.push(self.values[code].clone());
            Some(values.len() as u32 - 1)
        });
        let codes = rows.map(|row| codes.at(row).unwrap_or(ABSENT));
        Self::new(codes, values)
    }
}

impl<T: Copy> ByText<'_, T> {
    pub fn at(&self, row: usize) -> T {
        let last = self.table.len() - 1;
        match self.codes {
            Codes::U8(codes) => self.table[usize::from(codes[row])],
            Codes::U16(codes) => self.table[usize::from(codes[row]).min(last)],
            Codes::U32(codes) => self.table[(codes[row] as usize).min(last)],
        }
    }

    /// All rows of a range in order.
    pub fn for_range(&self, rows: Range<usize>, mut visit: impl FnMut(u32, T)) {
        let (first, last) = (rows.start as u32, self.table.len() - 1);
        match self.codes {
            Codes::U8(codes) => {
                let table: &[T; 1 << 8] = self.table.as_slice().try_into().expect("there is one a code");
                codes[rows].iter().zip(first..).for_each(|(&code, row)| visit(row, table[usize::from(code)]));
            }
            Codes::U16(codes) => {
                let of = |code: u16| self.table[usize::from(code).min(last)];
                codes[rows].iter().zip(first..).for_each(|(&code, row)| visit(row, of(code)));
            }
            Codes::U32(codes) => {
                let of = |code: u32| self.table[(code as usize).min(last)];
                codes[rows].iter().zip(first..).for_each(|(&code, row)| visit(row, of(code)));
            }
        }
    }

    /// Adds what is known of each row of a range.
    pub fn append_range(&self, rows: Range<usize>, all: &mut Vec<T>) {
        let (table, last) = (self.table.as_slice(), self.table.len() - 1);
        match self.codes {
            Codes::U8(codes) => {
                let table: &[T; 1 << 8] = table.try_into().expect("there is one a code");
                all.extend(codes[rows].iter().map(|&code| table[usize::from(code)]));
            }
            Codes::U16(codes) => {
                all.extend(codes[rows].iter().map(|&code| table[usize::from(code).min(last)]))
            }
            Codes::U32(codes) => all.extend(codes[rows].iter().map(|&code| table[(code as usize).min(last)])),
        }
    }

    /// Adds a range of rows to how many there are of each entry of [`Self::counted`]; `counts` has one an entry,
    /// or none yet.
    pub fn count_range(&self, rows: Range<usize>, counts: &mut Vec<u64>) {
        let last = self.table.len() - 1;
        counts.resize(self.table.len(), 0);
        let counts = counts.as_mut_slice();
        match self.codes {
            Codes::U8(codes) => codes[rows].iter().for_each(|&code| counts[usize::from(code)] += 1),
            Codes::U16(codes) => {
                codes[rows].iter().for_each(|&code| counts[usize::from(code).min(last)] += 1)
            }
            Codes::U32(codes) => codes[rows].iter().for_each(|&code| counts[(code as usize).min(last)] += 1),
        }
    }

    /// What is known of rows, with how many of them were counted.
    pub fn counted(&self, counts: &[u64]) -> impl Iterator<Item = (T, u64)> {
        self.table.iter().copied().zip(counts.iter().copied()).filter(|(_, rows)| *rows > 0)
    }

    /// Adds what is known of each of these rows, in their order.
    pub fn append_to(&self, rows: &[u32], all: &mut Vec<T>) {
        let (table, last) = (self.table.as_slice(), self.table.len() - 1);
        match self.codes {
            Codes::U8(codes) => {
                let table: &[T; 1 << 8] = table.try_into().expect("there is one a code");
                let codes = codes.as_slice();
                all.extend(rows.iter().map(|&row| table[usize::from(codes[row as usize])]));
            }
            Codes::U16(codes) => {
                let codes = codes.as_slice();
                all.extend(rows.iter().map(|&row| table[usize::from(codes[row as usize]).min(last)]));
            }
            Codes::U32(codes) => {
                let codes = codes.as_slice();
                all.extend(rows.iter().map(|&row| table[(codes[row as usize] as usize).min(last)]));
            }
        }
    }
}

impl<'a, T: Copy> ByText<'a, T> {
    /// What `of` makes of it.
    pub fn map<U: Copy>(&self, of: impl Fn(T) -> U) -> ByText<'a, U> {
        let table = self.table.iter().map(|value| of(*value)).collect();
        ByText { codes: self.codes, table, values: self.values }
    }
}

impl ByText<'_, bool> {
    /// Leaves the rows of which it is true.
    pub fn retain(&self, rows: &mut Vec<u32>) {
        let (table, last) = (self.table.as_slice(), self.table.len() - 1);
        match self.codes {
            Codes::U8(codes) => {
                let table: &[bool; 1 << 8] = table.try_into().expect("there is one a code");
                let codes = codes.as_slice();
                retain(rows, |row| table[usize::from(codes[row])]);
            }
            Codes::U16(codes) => {
                let codes = codes.as_slice();
                retain(rows, |row| table[usize::from(codes[row]).min(last)]);
            }
            Codes::U32(codes) => {
                let codes = codes.as_slice();
                retain(rows, |row| table[(codes[row] as usize).min(last)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dictionary(values: usize) -> Dictionary {
        let codes = (0..values as u32).rev().chain([ABSENT]);
        Dictionary::new(codes, (0..values).map(|n| Interned::new(&format!("v{n}"))).collect())
    }

    #[test]
    fn codes_of_any_width_tell_every_text_and_the_absent_one() {
        for values in [0, 1, 254, 255, 256, 65_535, 65_536] {
            let dictionary = dictionary(values);
            assert_eq!((dictionary.len(), dictionary.has_absent()), (values + 1, true), "{values}");
            assert_eq!(dictionary.get(values), None);
            let by_text = dictionary.by_text(|text| text.map(|(code, text)| (code, text.len())));
            let expected = |row: u32| {
                let code = (values as u32).checked_sub(row + 1)? as usize;
                Some((code, format!("v{code}").len()))
            };
            let mut rows = Vec::new();
            by_text.for_range(values / 2..values + 1, |row, found| {
                assert_eq!(found, expected(row), "{values}");
                assert_eq!(by_text.at(row as usize), found);
                rows.push(row);
            });
            assert!(rows.iter().copied().eq(values as u32 / 2..=values as u32));
            let (mut counts, all) = (Vec::new(), values / 2..values + 1);
            by_text.count_range(all.clone(), &mut counts);
            by_text.count_range(all.end - 1..all.end, &mut counts);
            let mut counted: Vec<_> = by_text.counted(&counts).collect();
            let mut expected_counts: Vec<_> = rows.iter().map(|row| (expected(*row), 1)).collect();
            expected_counts.last_mut().expect("the absent one").1 = 2;
            counted.sort_unstable();
            expected_counts.sort_unstable();
            assert_eq!(counted, expected_counts, "{values}");
            rows.reverse();
            let mut found = Vec::new();
            by_text.append_to(&rows, &mut found);
            assert!(found.into_iter().eq(rows.iter().copied().map(expected)));
            let is_odd = |row: u32| expected(row).is_some_and(|(code, _)| code % 2 == 1);
            let mut odd = rows.clone();
            dictionary.by_text(|text| text.is_some_and(|(code, _)| code % 2 == 1)).retain(&mut odd);
            assert!(odd.into_iter().eq(rows.into_iter().filter(|row| is_odd(*row))));
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
}
