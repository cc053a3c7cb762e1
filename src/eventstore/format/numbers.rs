//! Whole columns of integers and floats.
//!
//! Most belong to few events. Parquet's reader makes a place for each row of a page first and takes apart again
//! which of them have a number; here the numbers and the bits of the rows that have one go where they stay.

use arrow_buffer::BooleanBufferBuilder;
use parquet::basic::Type;

use super::FormatError;
use super::deltas::{self, Input, ends_early};
use super::page_header::{DELTA_BINARY_PACKED, PLAIN, RLE_DICTIONARY};
use super::pages::{ColumnPage, ColumnPages, PageRows};
use super::parts::PartSet;
use super::read::{ObjectReader, fewer_rows};
use super::read_columns::bits_of;
use super::runs::{self, Run, Runs};
use super::texts::more_rows;
use crate::eventstore::Numbers;

/// A number of eight bytes.
pub(super) trait Stored: Copy {
    const TYPE: Type;

    fn of_bytes(bytes: [u8; 8]) -> Self;

    /// As differences; `false`: they are never written so.
    fn extend_by_deltas(page: &[u8], count: usize, numbers: &mut Vec<Self>) -> Result<bool, FormatError>;
}

impl Stored for i64 {
    const TYPE: Type = Type::INT64;

    fn of_bytes(bytes: [u8; 8]) -> Self {
        Self::from_le_bytes(bytes)
    }

    fn extend_by_deltas(page: &[u8], count: usize, numbers: &mut Vec<Self>) -> Result<bool, FormatError> {
        deltas::decode(page, count, numbers)?;
        Ok(true)
    }
}

impl Stored for f64 {
    const TYPE: Type = Type::DOUBLE;

    fn of_bytes(bytes: [u8; 8]) -> Self {
        Self::from_le_bytes(bytes)
    }

    fn extend_by_deltas(_: &[u8], _: usize, _: &mut Vec<Self>) -> Result<bool, FormatError> {
        Ok(false)
    }
}

impl ObjectReader {
    /// A column of numbers, for all rows; `None` when any page is written in a way that ours are not.
    pub(super) fn read_numbers<T: Stored>(
        &self,
        index: usize,
        parts: &PartSet,
    ) -> Result<Option<Numbers<T>>, FormatError> {
        let chunk = self.chunk(index);
        let column = chunk.column_descr();
        let rows = self.header().rows as usize;
        if column.max_rep_level() > 0 || column.max_def_level() != 1 || column.physical_type() != T::TYPE {
            return Ok(None);
        }
        let mut pages = ColumnPages::new(self.file(parts)?, chunk)?;
        let (mut list, mut codes): (Vec<T>, Vec<u32>) = Default::default();
        let (mut numbers, mut present) = (Vec::new(), BooleanBufferBuilder::new(rows));
        while let Some(page) = pages.next()? {
            match page {
                ColumnPage::List { values, bytes } if list.is_empty() => {
                    extend_plainly(bytes, values as usize, &mut list)?;
                }
                ColumnPage::Rows(PageRows { rows: of_page, there, encoding, levels, values }) => {
                    if of_page > rows - present.len() {
                        return Err(more_rows(rows));
                    }
                    extend_present(levels, of_page, there, &mut present)?;
                    match encoding {
                        _ if there == 0 => {}
                        RLE_DICTIONARY => {
                            let (&width, runs) = values.split_first().ok_or_else(ends_early)?;
                            codes.clear();
                            runs::decode(runs, width, there, &mut codes)?;
                            extend_by_codes(&codes, &list, &mut numbers)?;
                        }
                        PLAIN => extend_plainly(values, there, &mut numbers)?,
                        DELTA_BINARY_PACKED if T::extend_by_deltas(values, there, &mut numbers)? => {}
                        _ => return Ok(None),
                    }
                }
                _ => return Ok(None),
            }
        }
        if present.len() < rows {
            return Err(fewer_rows(rows as u64));
        }
        numbers.shrink_to_fit();
        Ok(Some(Numbers::new(numbers, bits_of(present, rows))))
    }
}

fn extend_plainly<T: Stored>(page: &[u8], count: usize, numbers: &mut Vec<T>) -> Result<(), FormatError> {
    let bytes = Input(page).take(count.checked_mul(size_of::<u64>()).ok_or_else(ends_early)?)?;
    numbers.extend(bytes.as_chunks().0.iter().map(|bytes| T::of_bytes(*bytes)));
    Ok(())
}

fn extend_by_codes<T: Stored>(codes: &[u32], list: &[T], numbers: &mut Vec<T>) -> Result<(), FormatError> {
    let greatest = codes.iter().fold(0, |greatest, code| greatest.max(*code));
    if greatest as usize >= list.len() {
        return Err(FormatError::corrupt(format!("the code {greatest} of {} numbers", list.len())));
    }
    numbers.extend(codes.iter().map(|&code| list[code as usize]));
    Ok(())
}

/// Which rows of a page have a number.
fn extend_present(
    levels: &[u8],
    rows: usize,
    there: usize,
    present: &mut BooleanBufferBuilder,
) -> Result<(), FormatError> {
    if there == 0 || there == rows {
        present.append_n(rows, there > 0);
        return Ok(());
    }
    let mut levels = Runs::new(levels, 1)?;
    let (mut left, mut found) = (rows, 0);
    while left > 0 {
        let (run, of_run) = levels.next()?;
        let some = of_run.min(left);
        match run {
            Run::Same(level) => {
                found += if level == 1 { some } else { 0 };
                present.append_n(some, level == 1);
            }
            Run::Packed(bits) => {
                found += runs::ones(bits, some);
                present.append_packed_range(0..some, bits);
            }
        }
        left -= some;
    }
    if found == there {
        Ok(())
    } else {
        Err(FormatError::corrupt(format!("{found} numbers by their levels and {there} by their count")))
    }
}
