//! Ids as they are stored.
//!
//! An event id is 16 random bytes, but for the version and the variant of a UUID (RFC 9562), which are six of the
//! bits of two half bytes. Segments keep these halves as a column of their own, where the ids of one maker take
//! the two bits that differ, and 15 bytes of the rest; an id of any other bytes is stored as well, in 16. Runs
//! keep 16 bytes.
//!
//! In segments with such ids the number of a distinct id is its distance from the number of its person: both are
//! given out side by side, and persons with one id each are the most.
//!
//! Event ids are neither packed nor coded and stand at the end of their page: those of a few rows are read alone,
//! while a page of them has 60 KiB.

use std::ops::Range;

use arrow_array::ArrayRef;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt8Type;
use parquet::basic::Compression;
use parquet::file::reader::ChunkReader;

use super::FormatError;
use super::columns::Fixed;
use super::parts::PartSet;
use super::read::ObjectReader;
use crate::model::{EventId, IdNo, PersonNo};

const WHOLE: usize = size_of::<EventId>();
const SHORT: usize = WHOLE - 1;
/// Where the version is, in the upper half.
const VERSION_BYTE: usize = 6;
/// Where the variant is, in the upper half too.
const VARIANT_BYTE: usize = 8;

/// How many bytes of an event id stand in its own column.
pub(super) fn stored_bytes(short_ids: bool) -> usize {
    if short_ids { SHORT } else { WHOLE }
}

/// The version and the variant.
pub(super) fn version_of(id: EventId) -> u8 {
    id.0[VERSION_BYTE] & 0xf0 | id.0[VARIANT_BYTE] >> 4
}

/// Appends everything else.
pub(super) fn push_short(id: EventId, stored: &mut Vec<u8>) {
    let mut bytes = id.0;
    bytes[VERSION_BYTE] = bytes[VERSION_BYTE] << 4 | bytes[VARIANT_BYTE] & 0x0f;
    stored.extend_from_slice(&bytes[..VARIANT_BYTE]);
    stored.extend_from_slice(&bytes[VARIANT_BYTE + 1..]);
}

fn whole(short: &[u8; SHORT], version: u8) -> EventId {
    let mut id = [0; WHOLE];
    id[..VARIANT_BYTE].copy_from_slice(&short[..VARIANT_BYTE]);
    id[VARIANT_BYTE + 1..].copy_from_slice(&short[VARIANT_BYTE..]);
    id[VERSION_BYTE] = version & 0xf0 | short[VERSION_BYTE] >> 4;
    id[VARIANT_BYTE] = version << 4 | short[VERSION_BYTE] & 0x0f;
    EventId(id)
}

/// Ids from what is stored of them; `versions` where these have a column.
pub(super) fn ids_of(stored: &[u8], versions: Option<&ArrayRef>) -> Result<Vec<EventId>, FormatError> {
    let Some(versions) = versions else {
        return Ok(stored.as_chunks().0.iter().map(|id| EventId(*id)).collect());
    };
    let versions = versions.as_primitive::<UInt8Type>().values();
    let short = stored.as_chunks().0;
    if short.len() != versions.len() {
        let detail = format!("{} event ids with {} versions", short.len(), versions.len());
        return Err(FormatError::Corrupt(detail));
    }
    Ok(short.iter().zip(versions).map(|(short, version)| whole(short, *version)).collect())
}

pub(super) fn stored_id_no(id_no: IdNo, person_no: PersonNo, short_ids: bool) -> u32 {
    if short_ids { id_no.wrapping_sub(person_no) } else { id_no }
}

pub(super) fn id_no_of(stored: u32, person_no: PersonNo, short_ids: bool) -> IdNo {
    if short_ids { person_no.wrapping_add(stored) } else { stored }
}

impl ObjectReader {
    /// Where what is stored of the ids of these rows lies in the file.
    pub(super) fn bytes_of_ids(&self, rows: &[Range<u64>]) -> Result<Vec<Range<u64>>, FormatError> {
        let layout = &self.header().layout;
        let (column, id_bytes) = (layout.fixed_index(Fixed::EventId)?, layout.id_bytes() as u64);
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
                    |row: u64| page_end.checked_sub((following - row) * id_bytes).ok_or_else(missing);
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

    /// What is stored of the ids of these rows, one behind the other.
    pub(super) fn read_stored_ids(
        &self,
        rows: &[Range<u64>],
        parts: &PartSet,
    ) -> Result<Vec<u8>, FormatError> {
        let file = self.file(parts)?;
        let mut stored = Vec::new();
        for bytes in self.bytes_of_ids(rows)? {
            stored.extend_from_slice(&file.get_bytes(bytes.start, (bytes.end - bytes.start) as usize)?);
        }
        Ok(stored)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::UInt8Array;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn version_and_variant_are_apart() {
        let id: EventId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        assert_eq!(version_of(id), 0x7b);
        let mut stored = Vec::new();
        push_short(id, &mut stored);
        assert_eq!(stored, hex::decode("01890a5dac967c4bceb302099a8057").unwrap());
    }

    #[test]
    fn distances_go_both_ways_and_around() {
        for (id_no, person_no) in [(7, 7), (9, 7), (7, 9), (0, u32::MAX), (u32::MAX, 0)] {
            let stored = stored_id_no(id_no, person_no, true);
            assert_eq!(id_no_of(stored, person_no, true), id_no, "{id_no} of {person_no}");
            assert_eq!(stored_id_no(id_no, person_no, false), id_no);
            assert_eq!(id_no_of(id_no, person_no, false), id_no);
        }
        assert_eq!(stored_id_no(7, 7, true), 0);
    }

    proptest! {
        #[test]
        fn any_sixteen_bytes_come_back(ids in prop::collection::vec(any::<[u8; 16]>(), 0..20)) {
            let ids: Vec<EventId> = ids.into_iter().map(EventId).collect();
            let mut stored = Vec::new();
            ids.iter().for_each(|id| push_short(*id, &mut stored));
            prop_assert_eq!(stored.len(), 15 * ids.len());
            let versions: ArrayRef = Arc::new(ids.iter().map(|id| version_of(*id)).collect::<UInt8Array>());
            prop_assert_eq!(ids_of(&stored, Some(&versions)).unwrap(), ids.clone());
            stored.extend([0; 15]);
            prop_assert!(ids_of(&stored, Some(&versions)).is_err());
            let whole: Vec<u8> = ids.iter().flat_map(|id| id.0).collect();
            prop_assert_eq!(ids_of(&whole, None).unwrap(), ids);
        }
    }
}
