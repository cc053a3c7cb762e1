//! Columns of texts, as codes into one list.
//!
//! Parquet's reader gives an array of 32-bit keys for each page, to be turned into the narrow codes of a block.
//! Where a column is read whole and all of its pages hold codes, they go where they stay without it.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, DictionaryArray, StringArray};
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageReader};
use parquet::file::serialized_reader::SerializedPageReader;

use super::FormatError;
use super::deltas::{Input, ends_early};
use super::parts::PartSet;
use super::read::{ObjectReader, fewer_rows};
use super::runs::{self, Run, Runs};
use crate::eventstore::{ABSENT, Dictionary, DictionaryBuilder};
use crate::model::Interned;

/// The codes of the rows of a page, and which rows have one.
#[derive(Default)]
struct PageCodes {
    /// Of those that have one.
    there: Vec<u32>,
    /// Of all.
    all: Vec<u32>,
}

impl ObjectReader {
    /// A column of texts, for all rows; `None` when any page has its texts itself, as where a column has too
    /// many different ones.
    pub(super) fn read_texts(
        &self,
        index: usize,
        parts: &PartSet,
    ) -> Result<Option<Dictionary>, FormatError> {
        let chunk = self.chunk(index);
        let column = chunk.column_descr();
        let rows = self.header().rows as usize;
        if column.max_rep_level() > 0 || column.max_def_level() > 1 {
            return Ok(None);
        }
        let file = Arc::new(self.file(parts)?);
        let mut pages = SerializedPageReader::new(file, chunk, rows, None)?;
        let mut texts: Option<DictionaryBuilder> = None;
        let (mut codes, mut left) = (PageCodes::default(), rows);
        while let Some(page) = pages.get_next_page()? {
            match (page, &mut texts) {
                (Page::DictionaryPage { buf, num_values, encoding: Encoding::PLAIN, .. }, None) => {
                    texts = Some(list_of(&buf, num_values, rows)?);
                }
                (
                    Page::DataPageV2 {
                        buf,
                        num_values,
                        num_nulls,
                        encoding: Encoding::RLE_DICTIONARY,
                        def_levels_byte_len,
                        ..
                    },
                    Some(texts),
                ) => {
                    let of_page = num_values as usize;
                    left = left.checked_sub(of_page).ok_or_else(|| more_rows(rows))?;
                    let levels = def_levels_byte_len as usize;
                    let (levels, values) = buf.split_at_checked(levels).ok_or_else(ends_early)?;
                    let there = of_page.checked_sub(num_nulls as usize).ok_or_else(ends_early)?;
                    let found = codes.read(levels, values, of_page, there, texts.texts())?;
                    texts.extend(found.iter().copied());
                }
                _ => return Ok(None),
            }
        }
        match texts {
            Some(texts) if left == 0 => Ok(Some(texts.finish())),
            // No row has a text: there is no list.
            _ if left == rows => Ok(None),
            _ => Err(fewer_rows(rows as u64)),
        }
    }
}

impl PageCodes {
    /// The codes of a page that has so many rows, of which so many have a text.
    fn read(
        &mut self,
        levels: &[u8],
        values: &[u8],
        rows: usize,
        there: usize,
        texts: usize,
    ) -> Result<&[u32], FormatError> {
        self.there.clear();
        if there > 0 {
            let (&width, runs) = values.split_first().ok_or_else(ends_early)?;
            runs::decode(runs, width, there, &mut self.there)?;
        }
        let greatest = self.there.iter().fold(0, |greatest, code| greatest.max(*code));
        if there > 0 && greatest as usize >= texts {
            return Err(FormatError::corrupt(format!("the code {greatest} of {texts} texts")));
        }
        if there == rows {
            return Ok(&self.there);
        }
        self.all.clear();
        let mut next = self.there.iter().copied();
        let mut levels = Runs::new(levels, 1)?;
        while self.all.len() < rows {
            let (run, of_run) = levels.next()?;
            let some = of_run.min(rows - self.all.len());
            // Where the levels tell of more texts than there are, the others have none.
            let mut code = |is_there: bool| if is_there { next.next().unwrap_or(ABSENT) } else { ABSENT };
            match run {
                Run::Same(level) => self.all.extend((0..some).map(|_| code(level == 1))),
                Run::Packed(bits) => {
                    self.all.extend((0..some).map(|row| code(bits[row / 8] >> (row % 8) & 1 == 1)));
                }
            }
        }
        Ok(&self.all)
    }
}

pub(super) fn more_rows(expected: usize) -> FormatError {
    FormatError::corrupt(format!("more values than {expected} rows"))
}

/// The texts of a dictionary page, each behind its length.
fn list_of(page: &[u8], texts: u32, rows: usize) -> Result<DictionaryBuilder, FormatError> {
    let mut input = Input(page);
    let mut list: Vec<Interned> = Vec::with_capacity((texts as usize).min(page.len() / 4));
    for _ in 0..texts {
        let length = input.take(4)?.first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
        let text = std::str::from_utf8(input.take(length as usize)?);
        list.push(Interned::new(text.map_err(|_| FormatError::corrupt("a text that is not UTF-8"))?));
    }
    Ok(DictionaryBuilder::of_list(list, rows))
}

/// The texts of a column of a block: read at once, or out of arrays as they come.
pub(super) enum Texts {
    Whole(Dictionary),
    Batches { builder: DictionaryBuilder, last: Option<LastTexts> },
}

/// The texts of the last batch: most columns have one list for all batches.
pub(super) struct LastTexts {
    texts: StringArray,
    /// What each has here.
    codes: Vec<u32>,
    /// They are 0, 1, 2 and so on, as in every column with one list.
    are_keys: bool,
}

impl Texts {
    pub fn new(rows: usize) -> Self {
        Self::Batches { builder: DictionaryBuilder::with_capacity(rows), last: None }
    }

    pub fn append(&mut self, array: &ArrayRef) -> Result<(), FormatError> {
        let Self::Batches { builder, last: before } = self else {
            return Err(FormatError::corrupt("a column that was read twice"));
        };
        let array: &DictionaryArray<Int32Type> = array.as_dictionary();
        let texts = array
            .values()
            .as_string_opt::<i32>()
            .ok_or_else(|| FormatError::corrupt("a dictionary of something else than text"))?;
        let last = match before.take() {
            // The last one is held, so nothing else can have come to lie where it lies.
            Some(last) if is_same(&last.texts, texts) => last,
            _ => {
                let codes: Vec<u32> = (0..texts.len()).map(|n| builder.code_of(texts.value(n))).collect();
                let are_keys = codes.iter().copied().eq(0..codes.len() as u32);
                LastTexts { texts: texts.clone(), codes, are_keys }
            }
        };
        let codes = &last.codes;
        let keys = array.keys().values();
        match array.nulls().filter(|nulls| nulls.null_count() > 0) {
            None if last.are_keys && greatest(keys) < codes.len() as u32 => {
                builder.extend(keys.iter().map(|&key| key as u32));
            }
            None => {
                let keys = keys.iter();
                builder.extend(keys.map(|&key| codes.get(key as usize).copied().unwrap_or(ABSENT)));
            }
            Some(nulls) => {
                let found = keys.iter().zip(nulls.iter()).map(|(&key, is_there)| {
                    codes.get(key as usize).copied().filter(|_| is_there).unwrap_or(ABSENT)
                });
                builder.extend(found);
            }
        }
        *before = Some(last);
        Ok(())
    }

    pub fn finish(self) -> Dictionary {
        match self {
            Self::Whole(texts) => texts,
            Self::Batches { builder, .. } => builder.finish(),
        }
    }
}

/// A negative one is greater than all.
fn greatest(keys: &[i32]) -> u32 {
    keys.iter().fold(0, |greatest, &key| greatest.max(key as u32))
}

/// Whether two arrays are the same memory.
fn is_same(a: &StringArray, b: &StringArray) -> bool {
    let same_offsets = std::ptr::eq(a.value_offsets(), b.value_offsets());
    same_offsets && std::ptr::eq(a.value_data(), b.value_data())
}
