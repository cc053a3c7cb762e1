//! Event ids by row and not by page. They are random bytes, neither packed nor coded, sixteen a row at the
//! end of their page: those of a few rows are read alone, while a page of them has 128 KiB.

use std::ops::Range;

use parquet::basic::Compression;
use parquet::file::reader::ChunkReader;

use super::FormatError;
use super::columns::Fixed;
use super::parts::PartSet;
use super::read::ObjectReader;
use crate::model::EventId;

const ID_BYTES: u64 = size_of::<EventId>() as u64;

impl ObjectReader {
    /// Where the ids of these rows lie in the file.
    pub(super) fn bytes_of_ids(&self, rows: &[Range<u64>]) -> Result<Vec<Range<u64>>, FormatError> {
        let column = self.header().layout.fixed_index(Fixed::EventId)?;
        self.check_plain(column)?;
        let pages = self.pages_of(column)?;
        let mut bytes = Vec::with_capacity(rows.len());
        for range in rows {
            let mut start = range.start;
            while start < range.end {
                let next = pages.partition_point(|page| page.first_row_index as u64 <= start);
                let following = pages.get(next).map_or(self.rows(), |page| page.first_row_index as u64);
                let missing = || FormatError::corrupt(format!("no page has the event id of row {start}"));
                let page = next.checked_sub(1).and_then(|page| pages.get(page)).ok_or_else(missing)?;
                if start >= following {
                    return Err(missing());
                }
                let end = range.end.min(following);
                let page_end = (page.offset + i64::from(page.compressed_page_size)) as u64;
                let of_row =
                    |row: u64| page_end.checked_sub((following - row) * ID_BYTES).ok_or_else(missing);
                bytes.push(of_row(start)?..of_row(end)?);
                start = end;
            }
        }
        Ok(bytes)
    }

    fn check_plain(&self, column: usize) -> Result<(), FormatError> {
        let chunk = self.chunk(column);
        if chunk.compression() != Compression::UNCOMPRESSED || chunk.dictionary_page_offset().is_some() {
            return Err(FormatError::corrupt("event ids that are not written plainly"));
        }
        Ok(())
    }

    pub(super) fn read_ids(&self, rows: &[Range<u64>], parts: &PartSet) -> Result<Vec<EventId>, FormatError> {
        let file = self.file(parts)?;
        let mut ids = Vec::new();
        for bytes in self.bytes_of_ids(rows)? {
            let some = file.get_bytes(bytes.start, (bytes.end - bytes.start) as usize)?;
            ids.extend(some.as_chunks().0.iter().map(|id| EventId(*id)));
        }
        Ok(ids)
    }
}
