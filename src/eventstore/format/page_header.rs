//! What stands before a page of a column.
//!
//! In Thrift's compact protocol, described in
//! <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>.

use bytes::Bytes;

use super::FormatError;
use super::deltas::{Input, ends_early};

pub(super) const DICTIONARY_PAGE: u32 = 2;
/// Of values.
pub(super) const PLAIN: u32 = 0;
pub(super) const RLE: u32 = 3;
pub(super) const DELTA_BINARY_PACKED: u32 = 5;
pub(super) const RLE_DICTIONARY: u32 = 8;
/// A field of a page header.
const CHECKSUM: u32 = 4;

/// What stands before a page.
#[derive(Default)]
pub(super) struct PageHeader {
    pub kind: u32,
    pub inflated_bytes: u32,
    bytes: u32,
    /// How many values a dictionary page has, which are plain.
    pub listed: u32,
    /// Of a data page of the second version.
    pub data: Option<DataPage>,
    /// Its own length.
    length: usize,
}

#[derive(Default)]
pub(super) struct DataPage {
    pub values: u32,
    pub nulls: u32,
    pub encoding: u32,
    pub definition_bytes: u32,
    pub repetition_bytes: u32,
    pub is_compressed: bool,
}

impl PageHeader {
    pub fn parse(page: &[u8]) -> Result<Self, FormatError> {
        let mut header = Self::default();
        let mut input = Input(page);
        read_fields(&mut input, 0, &mut [0; 2], &mut |path, value| match path {
            [1] => header.kind = value,
            [2] => header.inflated_bytes = value,
            [3] => header.bytes = value,
            [7, 1] => header.listed = value,
            [8, field] => {
                let data = header
                    .data
                    .get_or_insert_with(|| DataPage { is_compressed: true, ..DataPage::default() });
                match field {
                    1 => data.values = value,
                    2 => data.nulls = value,
                    4 => data.encoding = value,
                    5 => data.definition_bytes = value,
                    6 => data.repetition_bytes = value,
                    7 => data.is_compressed = value == 1,
                    _ => {}
                }
            }
            _ => {}
        })?;
        header.length = page.len() - input.0.len();
        Ok(header)
    }

    /// Its own.
    pub fn length(&self) -> usize {
        self.length
    }

    /// With its own.
    pub fn page_bytes(&self) -> usize {
        self.length.saturating_add(self.bytes as usize)
    }

    /// The page without its header.
    pub fn body(&self, page: &Bytes) -> Result<Bytes, FormatError> {
        let end = self.length.checked_add(self.bytes as usize).filter(|end| *end <= page.len());
        Ok(page.slice(self.length..end.ok_or_else(ends_early)?))
    }
}

/// Calls with the fields that are numbers or flags, by their ids and those of the structs around them. In
/// Thrift's compact protocol.
fn read_fields(
    input: &mut Input<'_>,
    depth: usize,
    path: &mut [u32; 2],
    field: &mut impl FnMut(&[u32], u32),
) -> Result<(), FormatError> {
    // None of them is negative, or has more bits.
    let number = |value: i64| {
        u32::try_from(value).map_err(|_| FormatError::corrupt(format!("{value} in a page header")))
    };
    let mut id = 0_u32;
    loop {
        let head = input.take(1)?[0];
        if head == 0 {
            return Ok(());
        }
        id = match u32::from(head >> 4) {
            0 => number(input.signed()?)?,
            step => id.saturating_add(step),
        };
        // The checksum, if there is one, may have any number as well.
        let is_named = depth < path.len() && (depth, id) != (0, CHECKSUM);
        if is_named {
            path[depth] = id;
        }
        let value = match head & 0xf {
            flag @ (1 | 2) => u32::from(flag == 1),
            3 => input.take(1)?[0].into(),
            // Only of what is asked for: statistics may have any.
            4..=6 if is_named => number(input.signed()?)?,
            4..=6 => {
                input.signed()?;
                continue;
            }
            7 => {
                input.take(8)?;
                continue;
            }
            8 => {
                let bytes = input.varint()?;
                input.take(usize::try_from(bytes).map_err(|_| ends_early())?)?;
                continue;
            }
            12 if depth < 8 => {
                read_fields(input, depth + 1, path, field)?;
                continue;
            }
            other => return Err(FormatError::corrupt(format!("a page header with a field of kind {other}"))),
        };
        if is_named {
            field(&path[..=depth], value);
        }
    }
}
