//! The pages of a whole column, one after the other.
//!
//! Parquet's reader makes two contexts of zstd for a column and memory for each page, and reads what stands before
//! a page byte by byte: of columns of few bits a tenth of what decoding them takes. Only what our writer makes is
//! read here.

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::ChunkReader;

use super::deltas::ends_early;
use super::page_header::{DICTIONARY_PAGE, PageHeader};
use super::parts::SparseFile;
use super::{FormatError, inflate};

/// What stands before a page has some forty bytes.
const HEADER_BYTES: usize = 256;

pub(super) struct ColumnPages {
    file: SparseFile,
    next: u64,
    end: u64,
    is_packed: bool,
    /// The page that was given last.
    page: Bytes,
    inflated: Vec<u8>,
}

pub(super) enum ColumnPage<'p> {
    /// The list that codes are places in, as plain values.
    List {
        values: u32,
        bytes: &'p [u8],
    },
    Rows(PageRows<'p>),
    /// It says that it is larger than what is inflated at once.
    TooLarge,
}

pub(super) struct PageRows<'p> {
    pub rows: usize,
    /// How many have a value.
    pub there: usize,
    pub encoding: u32,
    /// Which rows have one, where a row may have none.
    pub levels: &'p [u8],
    pub values: &'p [u8],
}

impl ColumnPages {
    pub fn new(file: SparseFile, chunk: &ColumnChunkMetaData) -> Result<Self, FormatError> {
        let (start, bytes) = chunk.byte_range();
        let is_packed = match chunk.compression() {
            Compression::ZSTD(_) => true,
            Compression::UNCOMPRESSED => false,
            other => return Err(FormatError::corrupt(format!("a column in {other}"))),
        };
        let end = start.checked_add(bytes).ok_or_else(ends_early)?;
        Ok(Self { file, next: start, end, is_packed, page: Bytes::new(), inflated: Vec::new() })
    }

    pub fn next(&mut self) -> Result<Option<ColumnPage<'_>>, FormatError> {
        if self.next >= self.end {
            return Ok(None);
        }
        let left = usize::try_from(self.end - self.next).map_err(|_| ends_early())?;
        let header = PageHeader::parse(&self.file.get_bytes(self.next, left.min(HEADER_BYTES))?)?;
        let length = Some(header.page_bytes()).filter(|length| *length <= left).ok_or_else(ends_early)?;
        self.page = self.file.get_bytes(self.next, length)?;
        self.next += length as u64;
        let body = &self.page[header.length()..];
        let inflated_bytes = header.inflated_bytes as usize;
        if inflated_bytes > inflate::AT_ONCE_MAX {
            return Ok(Some(ColumnPage::TooLarge));
        }
        let Some(data) = &header.data else {
            if header.kind != DICTIONARY_PAGE {
                return Err(FormatError::corrupt(format!("a page of the kind {}", header.kind)));
            }
            let bytes = unpacked(body, inflated_bytes, self.is_packed, &mut self.inflated)?;
            return Ok(Some(ColumnPage::List { values: header.listed, bytes }));
        };
        let (levels, values) =
            body.split_at_checked(data.definition_bytes as usize).ok_or_else(ends_early)?;
        let there = data.values.checked_sub(data.nulls).ok_or_else(ends_early)? as usize;
        if data.repetition_bytes > 0 {
            return Err(FormatError::corrupt("a page of lists"));
        }
        let values_bytes = inflated_bytes.checked_sub(levels.len()).ok_or_else(ends_early)?;
        let is_packed = self.is_packed && data.is_compressed;
        let values = unpacked(values, values_bytes, is_packed, &mut self.inflated)?;
        let (rows, encoding) = (data.values as usize, data.encoding);
        Ok(Some(ColumnPage::Rows(PageRows { rows, there, encoding, levels, values })))
    }
}

fn unpacked<'p>(
    bytes: &'p [u8],
    inflated_bytes: usize,
    is_packed: bool,
    inflated: &'p mut Vec<u8>,
) -> Result<&'p [u8], FormatError> {
    // Nothing is written for a page whose rows have no values.
    if !is_packed || bytes.is_empty() {
        return Ok(bytes);
    }
    inflate::inflate_into(bytes, inflated_bytes, inflated)
        .map_err(|error| FormatError::corrupt(format!("a page by zstd: {error}")))?;
    Ok(inflated)
}
