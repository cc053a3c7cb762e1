//! A few rows of a column, without Parquet's reader.
//!
//! That one makes two contexts of zstd for every column, lists all texts of its dictionary and skips to the
//! rows: far more than it takes to read four rows of each of the hundred columns that a look at a person
//! needs. What is written here is only what our writer makes; anything else is left to Parquet's reader.
//!
//! Encodings are described in <https://parquet.apache.org/docs/file-format/data-pages/encodings/>.

use std::sync::Arc;

use arrow_array::types::{ArrowPrimitiveType, Float64Type, Int32Type, Int64Type, UInt8Type, UInt32Type};
use arrow_array::{ArrayRef, BooleanArray, DictionaryArray, Int32Array, PrimitiveArray, StringArray};
use arrow_schema::DataType;
use bytes::Bytes;
use parquet::basic::{Compression, Type};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::ChunkReader;

use super::deltas::{self, ends_early};
use super::page_header::{DELTA_BINARY_PACKED, DICTIONARY_PAGE, PLAIN, PageHeader, RLE, RLE_DICTIONARY};
use super::parts::SparseFile;
use super::runs::{self, Run, Runs, ones};
use super::{FormatError, inflate};

/// A column as the file has it.
pub(super) struct Chunk<'a> {
    pub file: &'a SparseFile,
    pub metadata: &'a ColumnChunkMetaData,
    pub pages: &'a [PageLocation],
}

/// A value of a row.
#[derive(Clone)]
enum Cell {
    /// The bits of a number, or of a flag.
    Number(u64),
    Text(Bytes),
    /// Where it stands in the dictionary.
    Code(u32),
}

impl Chunk<'_> {
    /// The asked rows as an array of this type; `None` when there is anything that our writer does not make.
    /// Precondition: `rows` ascend.
    pub fn read(&self, rows: &[u64], data_type: &DataType) -> Result<Option<ArrayRef>, FormatError> {
        let mut cells: Vec<Option<Cell>> = Vec::with_capacity(rows.len());
        let mut left = rows;
        while let Some(&row) = left.first() {
            let next = self.pages.partition_point(|page| page.first_row_index as u64 <= row);
            let page = next.checked_sub(1).and_then(|page| self.pages.get(page));
            let page = page.ok_or_else(|| FormatError::corrupt(format!("no page has the row {row}")))?;
            let end =
                self.pages.get(next).map_or(self.metadata.num_values(), |next| next.first_row_index) as u64;
            if row >= end {
                return Err(FormatError::corrupt(format!("no page has the row {row}")));
            }
            let (of_page, others) = left.split_at(left.partition_point(|row| *row < end));
            let of_page: Vec<usize> =
                of_page.iter().map(|row| (row - page.first_row_index as u64) as usize).collect();
            let found = self.read_page(page, end - page.first_row_index as u64, &of_page)?;
            let Some(found) = found else { return Ok(None) };
            cells.extend(found);
            left = others;
        }
        if !self.look_up(&mut cells)? {
            return Ok(None);
        }
        array_of(&cells, data_type)
    }

    fn read_page(
        &self,
        location: &PageLocation,
        rows_of_page: u64,
        rows: &[usize],
    ) -> Result<Option<Vec<Option<Cell>>>, FormatError> {
        let bytes = usize::try_from(location.compressed_page_size).map_err(|_| ends_early())?;
        let page = self.file.get_bytes(location.offset as u64, bytes)?;
        let header = PageHeader::parse(&page)?;
        let Some(data) = &header.data else { return Ok(None) };
        if u64::from(data.values) != rows_of_page {
            let detail = format!("{} values in a page of {rows_of_page} rows", data.values);
            return Err(FormatError::corrupt(detail));
        }
        let body = header.body(&page)?;
        let levels = data.repetition_bytes as usize + data.definition_bytes as usize;
        let (levels, values) = body.split_at_checked(levels).ok_or_else(ends_early)?;
        let Some(values) = self.inflate(values, header.inflated_bytes, levels.len(), data.is_compressed)?
        else {
            return Ok(None);
        };
        let column = self.metadata.column_descr();
        if column.max_rep_level() > 0 || column.max_def_level() > 1 || data.repetition_bytes > 0 {
            return Ok(None);
        }
        let places = match column.max_def_level() {
            0 => rows.iter().map(|row| Some(*row)).collect(),
            _ => places_of(levels, rows)?,
        };
        let wanted: Vec<usize> = places.iter().flatten().copied().collect();
        let there = data.values.saturating_sub(data.nulls) as usize;
        if wanted.last().is_some_and(|last| *last >= there) {
            return Err(ends_early());
        }
        let found = self.read_values(&values, data.encoding, there, &wanted)?;
        Ok(found.map(|found| {
            let mut found = found.into_iter();
            places.iter().map(|place| place.and_then(|_| found.next())).collect()
        }))
    }

    /// Those at these places, ascending, of so many.
    fn read_values(
        &self,
        values: &Bytes,
        encoding: u32,
        there: usize,
        places: &[usize],
    ) -> Result<Option<Vec<Cell>>, FormatError> {
        let cells = match encoding {
            _ if places.is_empty() => Vec::new(),
            PLAIN => return self.read_plain(values, places).map(Some),
            RLE_DICTIONARY => {
                let (&width, runs) = values.split_first().ok_or_else(ends_early)?;
                let mut codes = Vec::with_capacity(places.len());
                runs::pick(runs, width, places.iter().copied(), &mut codes)?;
                codes.into_iter().map(Cell::Code).collect()
            }
            DELTA_BINARY_PACKED => {
                let mut numbers = Vec::new();
                deltas::decode(values, there, &mut numbers)?;
                places.iter().map(|place| Cell::Number(numbers[*place] as u64)).collect()
            }
            // Flags, with the length of their runs before them.
            RLE if self.metadata.column_type() == Type::BOOLEAN => {
                let runs = values.get(4..).ok_or_else(ends_early)?;
                let mut flags = Vec::with_capacity(places.len());
                runs::pick(runs, 1, places.iter().copied(), &mut flags)?;
                flags.into_iter().map(|flag| Cell::Number(flag.into())).collect()
            }
            _ => return Ok(None),
        };
        Ok(Some(cells))
    }

    /// Of values that stand one after the other.
    fn read_plain(&self, values: &Bytes, places: &[usize]) -> Result<Vec<Cell>, FormatError> {
        let of_width = |width: usize| {
            let number = |place: &usize| {
                let bytes = values.get(place * width..).and_then(|rest| rest.get(..width));
                let mut whole = [0; 8];
                whole[..width].copy_from_slice(bytes.ok_or_else(ends_early)?);
                Ok(Cell::Number(u64::from_le_bytes(whole)))
            };
            places.iter().map(number).collect()
        };
        match self.metadata.column_type() {
            Type::INT32 => of_width(4),
            Type::INT64 | Type::DOUBLE => of_width(8),
            Type::BOOLEAN => places
                .iter()
                .map(|place| {
                    let byte = values.get(place / 8).ok_or_else(ends_early)?;
                    Ok(Cell::Number(u64::from(byte >> (place % 8) & 1)))
                })
                .collect(),
            Type::BYTE_ARRAY => texts_at(values, places),
            other => Err(FormatError::corrupt(format!("plain values of the type {other}"))),
        }
    }

    /// Puts values in the place of their codes. False when the dictionary is none of our writer's.
    fn look_up(&self, cells: &mut [Option<Cell>]) -> Result<bool, FormatError> {
        let code_of = |cell: &Option<Cell>| match cell {
            Some(Cell::Code(code)) => Some(*code as usize),
            _ => None,
        };
        let mut codes: Vec<usize> = cells.iter().filter_map(code_of).collect();
        if codes.is_empty() {
            return Ok(true);
        }
        codes.sort_unstable();
        codes.dedup();
        let (start, _) = self.metadata.byte_range();
        let end = self.pages.first().map_or(start, |page| page.offset as u64);
        let page = self.file.get_bytes(start, end.saturating_sub(start) as usize)?;
        let header = PageHeader::parse(&page)?;
        if header.kind != DICTIONARY_PAGE {
            return Ok(false);
        }
        let body = header.body(&page)?;
        let Some(values) = self.inflate(&body, header.inflated_bytes, 0, true)? else { return Ok(false) };
        let found = self.read_plain(&values, &codes)?;
        for cell in cells {
            if let Some(code) = code_of(cell) {
                *cell = codes.binary_search(&code).ok().map(|place| found[place].clone());
            }
        }
        Ok(true)
    }

    /// `None` when they are compressed by something else.
    fn inflate(
        &self,
        bytes: &[u8],
        inflated_with_levels: u32,
        levels: usize,
        is_compressed: bool,
    ) -> Result<Option<Bytes>, FormatError> {
        match self.metadata.compression() {
            Compression::UNCOMPRESSED => Ok(Some(Bytes::copy_from_slice(bytes))),
            Compression::ZSTD(_) if !is_compressed => Ok(Some(Bytes::copy_from_slice(bytes))),
            Compression::ZSTD(_) if bytes.is_empty() => Ok(Some(Bytes::new())),
            Compression::ZSTD(_) => {
                let inflated = (inflated_with_levels as usize).saturating_sub(levels);
                let inflated = inflate::inflate_known(bytes, inflated);
                let inflated =
                    inflated.map_err(|error| FormatError::corrupt(format!("a page by zstd: {error}")))?;
                // A page that says more is left to who reads page by page anyway.
                Ok(inflated.map(Bytes::from))
            }
            _ => Ok(None),
        }
    }
}

/// Of texts that stand one after the other, each behind its length.
fn texts_at(values: &Bytes, places: &[usize]) -> Result<Vec<Cell>, FormatError> {
    let mut texts = Vec::with_capacity(places.len());
    let (mut at, mut passed) = (0, 0);
    for &place in places {
        loop {
            let length = values.get(at..).and_then(|rest| rest.first_chunk()).ok_or_else(ends_early)?;
            let (start, length) = (at + 4, u32::from_le_bytes(*length) as usize);
            let end = start.checked_add(length).filter(|end| *end <= values.len()).ok_or_else(ends_early)?;
            if passed == place {
                // Not passed yet: the same text may be asked for again.
                texts.push(Cell::Text(values.slice(start..end)));
                break;
            }
            (at, passed) = (end, passed + 1);
        }
    }
    Ok(texts)
}

/// Where the values of these rows stand among those that are there; `None` of rows without one.
fn places_of(levels: &[u8], rows: &[usize]) -> Result<Vec<Option<usize>>, FormatError> {
    let mut places = Vec::with_capacity(rows.len());
    let (mut start, mut before) = (0, 0);
    let mut runs = Runs::new(levels, 1)?;
    while places.len() < rows.len() {
        let (run, rows_of_run) = runs.next()?;
        let ones_before = |row: usize| match &run {
            Run::Same(level) => row * *level as usize,
            Run::Packed(bits) => ones(bits, row),
        };
        for row in rows[places.len()..].iter().take_while(|row| **row < start + rows_of_run) {
            let within = row - start;
            let is_there = ones_before(within + 1) > ones_before(within);
            places.push(is_there.then(|| before + ones_before(within)));
        }
        before += ones_before(rows_of_run);
        start += rows_of_run;
    }
    Ok(places)
}

fn array_of(cells: &[Option<Cell>], data_type: &DataType) -> Result<Option<ArrayRef>, FormatError> {
    let texts = || -> Result<StringArray, FormatError> {
        let texts = cells.iter().map(|cell| match cell {
            Some(Cell::Text(text)) => std::str::from_utf8(text)
                .map(Some)
                .map_err(|_| FormatError::corrupt("a text that is not UTF-8")),
            _ => Ok(None),
        });
        texts.collect()
    };
    Ok(Some(match data_type {
        DataType::UInt8 => numbers::<UInt8Type>(cells, |bits| bits as u8),
        DataType::UInt32 => numbers::<UInt32Type>(cells, |bits| bits as u32),
        DataType::Int64 => numbers::<Int64Type>(cells, |bits| bits as i64),
        DataType::Float64 => numbers::<Float64Type>(cells, f64::from_bits),
        DataType::Boolean => {
            let flag = |cell: &Option<Cell>| number(cell).map(|bits| bits != 0);
            Arc::new(cells.iter().map(flag).collect::<BooleanArray>())
        }
        DataType::Utf8 => Arc::new(texts()?),
        DataType::Dictionary(_, _) => {
            let places = cells.iter().zip(0..).map(|(cell, place)| cell.as_ref().map(|_| place));
            let keys: Int32Array = places.collect();
            let array = DictionaryArray::<Int32Type>::try_new(keys, Arc::new(texts()?));
            Arc::new(array.map_err(|error| FormatError::corrupt(error.to_string()))?)
        }
        _ => return Ok(None),
    }))
}

fn number(cell: &Option<Cell>) -> Option<u64> {
    match cell {
        Some(Cell::Number(bits)) => Some(*bits),
        _ => None,
    }
}

fn numbers<T: ArrowPrimitiveType>(cells: &[Option<Cell>], of: impl Fn(u64) -> T::Native) -> ArrayRef {
    let numbers = cells.iter().map(|cell| number(cell).map(&of));
    Arc::new(numbers.collect::<PrimitiveArray<T>>())
}
