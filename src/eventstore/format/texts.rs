//! Columns of texts, as codes into one list.
//!
//! Parquet's reader gives an array of 32-bit keys for each page, to be turned into the narrow codes of a block.
//! Where a column is read whole and all of its pages hold codes, they go where they stay without it.

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, DictionaryArray, StringArray};

use super::FormatError;
use super::deltas::{Input, ends_early};
use super::page_header::RLE_DICTIONARY;
use super::pages::{ColumnPage, ColumnPages, PageRows};
use super::parts::PartSet;
use super::read::{ObjectReader, fewer_rows};
use super::runs::{self, Number, Run, Runs};
use crate::eventstore::{ABSENT, CodesMut, Dictionary, DictionaryBuilder};
use crate::model::Interned;

/// Of a page's rows, codes are picked one by one where no more than one in so many is asked for.
const FEW_PART: usize = 4;

/// The codes of the rows of a page, and which rows have one.
#[derive(Default)]
struct PageCodes {
    /// Of those that have one.
    there: Vec<u32>,
    /// Of all.
    all: Vec<u32>,
}

impl ObjectReader {
    /// A column of texts, for all rows or for these, which ascend; `None` when any page has its texts itself, as
    /// where a column has too many different ones.
    pub(super) fn read_texts(
        &self,
        index: usize,
        asked: Option<&[u32]>,
        parts: &PartSet,
    ) -> Result<Option<Dictionary>, FormatError> {
        let chunk = self.chunk(index);
        let column = chunk.column_descr();
        let rows = self.header().rows as usize;
        if column.max_rep_level() > 0 || column.max_def_level() > 1 {
            return Ok(None);
        }
        let mut pages = ColumnPages::new(self.file(parts)?, chunk)?;
        let mut texts: Option<DictionaryBuilder> = None;
        let (mut codes, mut left) = (PageCodes::default(), rows);
        let mut asked_left = asked;
        while let Some(page) = pages.next()? {
            match (page, &mut texts) {
                (ColumnPage::List { values, bytes }, None) => {
                    texts = Some(list_of(bytes, values, asked.map_or(rows, <[u32]>::len))?);
                }
                (
                    ColumnPage::Rows(PageRows {
                        rows: of_page,
                        there,
                        encoding: RLE_DICTIONARY,
                        levels,
                        values,
                    }),
                    Some(texts),
                ) => {
                    let first = rows - left;
                    left = left.checked_sub(of_page).ok_or_else(|| more_rows(rows))?;
                    if asked_left.is_none() && there == of_page {
                        append_codes(values, there, texts)?;
                        continue;
                    }
                    let Some(asked) = &mut asked_left else {
                        let found = codes.read(levels, values, of_page, there, texts.texts())?;
                        texts.extend(found.iter().copied());
                        continue;
                    };
                    let own = asked.partition_point(|row| (*row as usize) < first + of_page);
                    let (own, others) = asked.split_at(own);
                    *asked = others;
                    let places = own.iter().map(|row| *row as usize - first);
                    if there == of_page && own.len() * FEW_PART <= of_page {
                        texts.extend(codes.pick(values, places, texts.texts())?.iter().copied());
                    } else {
                        let found = codes.read(levels, values, of_page, there, texts.texts())?;
                        texts.extend(places.map(|place| found[place]));
                    }
                }
                _ => return Ok(None),
            }
        }
        match texts {
            Some(texts) if left == 0 => {
                // Where there are more rows than texts the list is the smaller part, and most of it is used.
                let is_long = asked.is_some_and(|rows| rows.len() < texts.texts());
                let texts = texts.finish();
                Ok(Some(if is_long { texts.of_used_texts() } else { texts }))
            }
            // No row has a text: there is no list.
            _ if left == rows => Ok(None),
            _ => Err(fewer_rows(rows as u64)),
        }
    }
}

impl PageCodes {
    /// The codes at these places of a page of which every row has a text.
    fn pick(
        &mut self,
        values: &[u8],
        places: impl Iterator<Item = usize>,
        texts: usize,
    ) -> Result<&[u32], FormatError> {
        self.there.clear();
        let mut places = places.peekable();
        if places.peek().is_some() {
            let (&width, runs) = values.split_first().ok_or_else(ends_early)?;
            runs::pick(runs, width, places, &mut self.there)?;
            check_codes(&self.there, texts)?;
        }
        Ok(&self.there)
    }

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
        check_codes(&self.there, texts)?;
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

/// The codes of a page of which every row has a text, to where they stay.
fn append_codes(values: &[u8], rows: usize, texts: &mut DictionaryBuilder) -> Result<(), FormatError> {
    fn append<T: Number>(
        values: &[u8],
        rows: usize,
        texts: usize,
        codes: &mut Vec<T>,
    ) -> Result<(), FormatError> {
        let (&width, runs) = values.split_first().ok_or_else(ends_early)?;
        let before = codes.len();
        runs::decode(runs, width, rows, codes)?;
        check_codes(&codes[before..], texts)
    }
    if rows == 0 {
        return Ok(());
    }
    let (count, width) = (texts.texts(), values.first().copied().unwrap_or_default());
    match texts.codes_mut() {
        // They are none of this list, and would lose their upper bits.
        CodesMut::U8(_) if u32::from(width) > u8::BITS => Err(too_wide(width, count)),
        CodesMut::U16(_) if u32::from(width) > u16::BITS => Err(too_wide(width, count)),
        CodesMut::U8(codes) => append(values, rows, count, codes),
        CodesMut::U16(codes) => append(values, rows, count, codes),
        CodesMut::U32(codes) => append(values, rows, count, codes),
    }
}

fn too_wide(width: u8, texts: usize) -> FormatError {
    FormatError::corrupt(format!("codes of {width} bits for {texts} texts"))
}

fn check_codes<T: Number>(codes: &[T], texts: usize) -> Result<(), FormatError> {
    let Some(greatest) = codes.iter().copied().max() else { return Ok(()) };
    match (greatest.into() as usize) < texts {
        true => Ok(()),
        false => Err(FormatError::corrupt(format!("the code {} of {texts} texts", greatest.into()))),
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
