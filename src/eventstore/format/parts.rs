//! Where a Parquet file is cut, and how a reader sees it through the parts that it fetched.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::FormatError;

/// The number of the part to read first.
pub const HEADER_PART: u32 = 0;
/// Every data and filter part but the last. A server reads a part whole, also for the few bytes of one person,
/// so it is small; and it fills eight pages of InnoDB, which keeps a long value on pages of its own.
pub(super) const PART_BYTES: usize = 8 * INNODB_VALUE_BYTES_A_PAGE;
/// Of a page of 16 KiB.
const INNODB_VALUE_BYTES_A_PAGE: usize = (16 << 10) - 54;

/// Which part holds which bytes of the Parquet file.
#[derive(Clone, Debug)]
pub(super) struct PartTable {
    pub filter_parts: u32,
    /// Ascending; data part n holds the bytes from the end before it to its own.
    pub ends: Vec<u64>,
    /// Of what lies behind the Parquet file: times ([`super::times`]) and then rollups ([`super::rollup`]).
    pub bytes_behind: u64,
}

impl PartTable {
    fn first_data_part(&self) -> u32 {
        HEADER_PART + 1 + self.filter_parts
    }

    fn first_part_behind(&self) -> u32 {
        self.first_data_part() + self.ends.len() as u32
    }

    pub fn parts(&self) -> u32 {
        self.first_part_behind() + self.bytes_behind.div_ceil(PART_BYTES as u64) as u32
    }

    /// The index into `ends` of the part that holds this byte.
    fn at(&self, offset: u64) -> usize {
        self.ends.partition_point(|&end| end <= offset)
    }

    pub fn covering(&self, bytes: Range<u64>) -> Range<u32> {
        if bytes.is_empty() {
            return 0..0;
        }
        let first = self.first_data_part();
        first + self.at(bytes.start) as u32..first + self.at(bytes.end - 1) as u32 + 1
    }

    /// The same bytes as slices of parts.
    pub fn slices(&self, bytes: Range<u64>) -> impl Iterator<Item = PartSlice> {
        let first = self.first_data_part();
        self.covering(bytes.clone()).map(move |part_no| {
            let part = self.range((part_no - first) as usize);
            let (start, end) = (bytes.start.max(part.start), bytes.end.min(part.end));
            PartSlice { part_no, start: start - part.start, end: end - part.start }
        })
    }

    fn range(&self, index: usize) -> Range<u64> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        start..self.ends[index]
    }

    /// Bytes of what lies behind the Parquet file, as slices of parts.
    pub fn slices_behind(&self, bytes: Range<u64>) -> impl Iterator<Item = PartSlice> + use<> {
        const PART: u64 = PART_BYTES as u64;
        let first = self.first_part_behind();
        let parts = if bytes.is_empty() { 0..0 } else { bytes.start / PART..bytes.end.div_ceil(PART) };
        parts.map(move |part| {
            let (start, end) = (bytes.start.max(part * PART), bytes.end.min((part + 1) * PART));
            PartSlice { part_no: first + part as u32, start: start - part * PART, end: end - part * PART }
        })
    }

    /// How many bytes a part has that is not of the filter; `None`: there is no such part.
    fn length_of(&self, part_no: u32) -> Option<u64> {
        const PART: u64 = PART_BYTES as u64;
        if let Some(behind) = part_no.checked_sub(self.first_part_behind()) {
            let start = u64::from(behind) * PART;
            return (start < self.bytes_behind).then(|| PART.min(self.bytes_behind - start));
        }
        let range = self.range((part_no - self.first_data_part()) as usize);
        Some(range.end - range.start)
    }
}

/// Where data of this length is cut: anywhere, since a reader sees through to the next part.
pub(super) fn cut(bytes: u64) -> Vec<u64> {
    (1..=bytes.div_ceil(PART_BYTES as u64)).map(|part| (part * PART_BYTES as u64).min(bytes)).collect()
}

/// Some bytes of a part.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PartSlice {
    pub part_no: u32,
    pub start: u64,
    pub end: u64,
}

/// The parts of one object that a reader has fetched, whole or as slices.
#[derive(Clone, Debug, Default)]
pub struct PartSet {
    parts: BTreeMap<u32, Vec<Piece>>,
}

#[derive(Clone, Debug)]
struct Piece {
    start: u64,
    bytes: Bytes,
    is_whole: bool,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl PartSet {
    pub fn insert(&mut self, part_no: u32, bytes: Bytes) {
        self.parts.insert(part_no, vec![Piece { start: 0, bytes, is_whole: true }]);
    }

    pub fn insert_slice(&mut self, slice: PartSlice, bytes: Bytes) {
        let piece = Piece { start: slice.start, bytes, is_whole: false };
        self.parts.entry(slice.part_no).or_default().push(piece);
    }

    /// A whole part.
    pub fn get(&self, part_no: u32) -> Result<&Bytes, FormatError> {
        let whole = self.pieces(part_no).iter().find(|piece| piece.is_whole);
        whole.map(|piece| &piece.bytes).ok_or(FormatError::MissingPart { part_no })
    }

    /// The bytes of all parts together.
    pub fn bytes(&self) -> usize {
        self.parts.values().flatten().map(|piece| piece.bytes.len()).sum()
    }

    pub(super) fn covers(&self, slice: PartSlice) -> bool {
        let holds = |piece: &Piece| piece.start <= slice.start && slice.end <= piece.end();
        self.pieces(slice.part_no).iter().any(holds)
    }

    /// What is there from this byte of a part on, without a gap.
    fn starting_at(&self, part_no: u32, offset: u64) -> Result<Bytes, FormatError> {
        let holds = |piece: &&Piece| (piece.start..piece.end()).contains(&offset);
        let piece = self.pieces(part_no).iter().find(holds).ok_or(FormatError::MissingPart { part_no })?;
        Ok(piece.bytes.slice((offset - piece.start) as usize..))
    }

    pub(super) fn slice(&self, slice: PartSlice) -> Result<&[u8], FormatError> {
        let PartSlice { part_no, start, end } = slice;
        let holds = |piece: &&Piece| piece.start <= start && end <= piece.end();
        let piece = self.pieces(part_no).iter().find(holds).ok_or(FormatError::MissingPart { part_no })?;
        Ok(&piece.bytes[(start - piece.start) as usize..(end - piece.start) as usize])
    }

    fn pieces(&self, part_no: u32) -> &[Piece] {
        self.parts.get(&part_no).map_or(&[], Vec::as_slice)
    }
}

impl FromIterator<(u32, Bytes)> for PartSet {
    fn from_iter<I: IntoIterator<Item = (u32, Bytes)>>(parts: I) -> Self {
        let mut set = Self::default();
        parts.into_iter().for_each(|(part_no, bytes)| set.insert(part_no, bytes));
        set
    }
}

/// A Parquet file of which only some ranges are there. Cheap to clone, as Parquet's reader does for each page.
#[derive(Clone)]
pub(super) struct SparseFile(Arc<Ranges>);

struct Ranges {
    table: PartTable,
    parts: PartSet,
    tail_start: u64,
    tail: Bytes,
}

impl SparseFile {
    pub fn new(table: PartTable, parts: PartSet, tail: Bytes) -> Result<Self, FormatError> {
        let first = table.first_data_part();
        for (&part_no, pieces) in parts.parts.range(first..) {
            let expected = table.length_of(part_no);
            let expected =
                expected.ok_or_else(|| FormatError::corrupt(format!("part {part_no} is one too many")))?;
            let fits = |piece: &Piece| match piece.is_whole {
                true => piece.end() == expected,
                false => piece.end() <= expected,
            };
            if let Some(piece) = pieces.iter().find(|piece| !fits(piece)) {
                let end = piece.end();
                return Err(FormatError::corrupt(format!(
                    "part {part_no} has {end} bytes, {expected} expected"
                )));
            }
        }
        let tail_start = table.ends.last().copied().unwrap_or(0);
        Ok(Self(Arc::new(Ranges { tail_start, table, parts, tail })))
    }

    /// What is there from this offset to the end of its part.
    fn piece(&self, offset: u64) -> Result<Bytes, ParquetError> {
        let ranges = &self.0;
        if offset >= ranges.tail_start {
            let start = (offset - ranges.tail_start).min(ranges.tail.len() as u64);
            return Ok(ranges.tail.slice(start as usize..));
        }
        let index = ranges.table.at(offset);
        let part_no = ranges.table.first_data_part() + index as u32;
        let found = ranges.parts.starting_at(part_no, offset - ranges.table.range(index).start);
        found.map_err(|error| ParquetError::External(Box::new(error)))
    }
}

impl Length for SparseFile {
    fn len(&self) -> u64 {
        self.0.tail_start + self.0.tail.len() as u64
    }
}

impl ChunkReader for SparseFile {
    type T = SparseRead;

    fn get_read(&self, start: u64) -> Result<SparseRead, ParquetError> {
        SparseRead::new(self, start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.len()) {
            return Err(ParquetError::EOF(format!("{length} bytes from {start} on, of {}", self.len())));
        }
        let mut piece = self.piece(start)?;
        if piece.len() >= length {
            piece.truncate(length);
            return Ok(piece);
        }
        let mut bytes = BytesMut::with_capacity(length);
        while bytes.len() < length {
            let piece = self.piece(start + bytes.len() as u64)?;
            if piece.is_empty() {
                return Err(ParquetError::EOF("a range beyond the end of the object".to_owned()));
            }
            bytes.extend_from_slice(&piece[..piece.len().min(length - bytes.len())]);
        }
        Ok(bytes.freeze())
    }
}

/// Reads on from one part to the next. Headers of pages are read byte by byte.
pub(super) struct SparseRead {
    file: SparseFile,
    piece: Bytes,
    /// How many bytes of `piece` have been read.
    read: usize,
    /// Where `piece` ends.
    end: u64,
}

impl SparseRead {
    fn new(file: &SparseFile, start: u64) -> Result<Self, ParquetError> {
        let piece = file.piece(start)?;
        Ok(Self { end: start + piece.len() as u64, file: file.clone(), piece, read: 0 })
    }
}

impl Read for SparseRead {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.read == self.piece.len() {
            *self = Self::new(&self.file, self.end).map_err(std::io::Error::other)?;
        }
        let rest = &self.piece[self.read..];
        let taken = rest.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&rest[..taken]);
        self.read += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_but_the_last_are_equal() {
        let full = PART_BYTES as u64;
        assert_eq!(cut(0), [0_u64; 0]);
        assert_eq!(cut(1), [1]);
        assert_eq!(cut(full), [full]);
        assert_eq!(cut(full + 1), [full, full + 1]);
        assert_eq!(cut(3 * full - 1), [full, 2 * full, 3 * full - 1]);
    }

    #[test]
    fn reads_across_parts_and_names_a_missing_one() {
        let table = PartTable { filter_parts: 1, ends: vec![3, 5, 9], bytes_behind: 0 };
        assert_eq!(table.covering(2..6), 2..5);
        assert_eq!(table.covering(3..5), 3..4);
        let all: PartSet = [
            (2, Bytes::from_static(b"abc")),
            (3, Bytes::from_static(b"de")),
            (4, Bytes::from_static(b"fghi")),
        ]
        .into_iter()
        .collect();
        let tail = Bytes::from_static(b"jk");
        let file = SparseFile::new(table.clone(), all, tail.clone()).unwrap();
        assert_eq!(file.len(), 11);
        assert_eq!(file.get_bytes(1, 9).unwrap(), "bcdefghij");
        let mut text = String::new();
        file.get_read(4).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "efghijk");

        let some = [(3, Bytes::from_static(b"de"))].into_iter().collect();
        let file = SparseFile::new(table.clone(), some, tail).unwrap();
        assert_eq!(file.get_bytes(3, 2).unwrap(), "de");
        assert!(file.get_bytes(4, 2).unwrap_err().to_string().contains("part 4 is missing"));

        let slices: Vec<PartSlice> = table.slices(1..7).collect();
        let slice = |part_no, start, end| PartSlice { part_no, start, end };
        assert_eq!(slices, [slice(2, 1, 3), slice(3, 0, 2), slice(4, 0, 2)]);
        let mut some = PartSet::default();
        for (slice, bytes) in slices.into_iter().zip(["bc", "de", "fg"]) {
            some.insert_slice(slice, Bytes::from_static(bytes.as_bytes()));
        }
        assert!(some.covers(slice(2, 1, 2)) && !some.covers(slice(2, 0, 2)) && some.get(2).is_err());
        let file = SparseFile::new(table.clone(), some.clone(), Bytes::new()).unwrap();
        assert_eq!(file.get_bytes(1, 6).unwrap(), "bcdefg");
        assert!(file.get_bytes(0, 2).is_err() && file.get_bytes(6, 2).is_err());
        some.insert_slice(slice(3, 1, 3), Bytes::from_static(b"ef"));
        assert!(SparseFile::new(table.clone(), some, Bytes::new()).is_err(), "beyond the end of its part");

        let short = [(2, Bytes::from_static(b"a"))].into_iter().collect();
        assert!(SparseFile::new(table, short, Bytes::new()).is_err());
    }
}
