//! Whole pages of DELTA_BINARY_PACKED numbers, the encoding of persons, times and many integers.
//!
//! <https://parquet.apache.org/docs/file-format/data-pages/encodings/> describes it: blocks of miniblocks, in
//! each the differences of neighbours above the block's least one, packed into as few bits as the greatest
//! needs. Parquet's own reader takes several nanoseconds a row for it, more than anything else that a question
//! over times does with a row.

use super::FormatError;

/// Their bits fill whole bytes, whatever their width; a miniblock has a multiple of them.
const AT_ONCE: usize = 32;
/// So many bytes beyond the packed ones may be looked at.
const BEYOND: usize = 16;

/// Appends the numbers of a page, `expected` of them, which is no more than the object has rows. Of 32-bit
/// columns the lower half of each counts.
pub(super) fn decode(page: &[u8], expected: usize, values: &mut Vec<i64>) -> Result<(), FormatError> {
    let mut input = Input(page);
    let (block, miniblocks) = (input.varint()? as usize, input.varint()? as usize);
    let total = input.varint()? as usize;
    let mut last = input.signed()?;
    let of_miniblock = block.checked_div(miniblocks).unwrap_or(0);
    if of_miniblock == 0 || of_miniblock % AT_ONCE != 0 || of_miniblock * miniblocks != block {
        return Err(FormatError::corrupt(format!(
            "{miniblocks} miniblocks in a block of {block} differences"
        )));
    }
    if total != expected {
        return Err(FormatError::corrupt(format!("{total} numbers in a page of {expected} rows")));
    }
    if total == 0 {
        return Ok(());
    }
    values.reserve(total);
    values.push(last);
    let mut left = total - 1;
    let mut last_packed = [0; AT_ONCE * 8 + BEYOND];
    let mut above_least = [0; AT_ONCE];
    while left > 0 {
        let least = input.signed()?;
        for &width in input.take(miniblocks)? {
            if u32::from(width) > u64::BITS {
                return Err(FormatError::corrupt(format!("differences of {width} bits")));
            }
            let unpack = unpack_of(width);
            for _ in 0..of_miniblock / AT_ONCE {
                if left == 0 {
                    break;
                }
                let length = AT_ONCE / 8 * usize::from(width);
                let with_beyond = input.0.get(..length + BEYOND);
                let packed = input.take(length)?;
                match with_beyond {
                    Some(packed) => unpack(packed, &mut above_least),
                    // At the end of the page.
                    None => {
                        last_packed[..length].copy_from_slice(packed);
                        unpack(&last_packed[..length + BEYOND], &mut above_least);
                    }
                }
                let some = left.min(AT_ONCE);
                values.extend(above_least[..some].iter().map(|above| {
                    last = last.wrapping_add(least).wrapping_add(*above as i64);
                    last
                }));
                left -= some;
            }
        }
    }
    Ok(())
}

/// Takes [`AT_ONCE`] numbers out of as many bits of each as it is for, and [`BEYOND`] bytes more.
type Unpack = fn(&[u8], &mut [u64; AT_ONCE]);

/// One for each width, since then the compiler knows where every number lies. Precondition: `width <= 64`.
fn unpack_of(width: u8) -> Unpack {
    macro_rules! of_widths {
        ($($narrow:literal)*; $($wide:literal)*) => {
            match width {
                $($narrow => unpack_narrow::<$narrow>,)*
                $($wide => unpack_wide::<$wide>,)*
                _ => |_, values| values.fill(0),
            }
        };
    }
    of_widths!(
        1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29
        30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57;
        58 59 60 61 62 63 64
    )
}

/// Each is within eight bytes.
fn unpack_narrow<const WIDTH: usize>(packed: &[u8], values: &mut [u64; AT_ONCE]) {
    let packed = &packed[..AT_ONCE / 8 * WIDTH + BEYOND];
    let mask = u64::MAX >> (64 - WIDTH);
    for (n, value) in values.iter_mut().enumerate() {
        let bit = n * WIDTH;
        let word = packed[bit / 8..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        *value = word >> (bit % 8) & mask;
    }
}

fn unpack_wide<const WIDTH: usize>(packed: &[u8], values: &mut [u64; AT_ONCE]) {
    let packed = &packed[..AT_ONCE / 8 * WIDTH + BEYOND];
    let mask = u64::MAX >> (64 - WIDTH);
    for (n, value) in values.iter_mut().enumerate() {
        let bit = n * WIDTH;
        let word = packed[bit / 8..].first_chunk().map_or(0, |word| u128::from_le_bytes(*word));
        *value = (word >> (bit % 8)) as u64 & mask;
    }
}

/// What of a page is still to be read.
pub(super) struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn take(&mut self, bytes: usize) -> Result<&'a [u8], FormatError> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or_else(ends_early)?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn varint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(FormatError::corrupt("a number of more than ten bytes"))
    }

    /// Zigzag: 0, -1, 1, -2 and so on.
    pub fn signed(&mut self) -> Result<i64, FormatError> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

pub(super) fn ends_early() -> FormatError {
    FormatError::corrupt("a page ends early")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use parquet::basic::Encoding;
    use parquet::column::page::Page;
    use parquet::data_type::{Int32Type, Int64Type};
    use parquet::file::properties::{WriterProperties, WriterVersion};
    use parquet::file::reader::FileReader;
    use parquet::file::serialized_reader::SerializedFileReader;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use proptest::prelude::*;

    use super::*;

    fn properties() -> WriterProperties {
        WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_2_0)
            .set_dictionary_enabled(false)
            .set_encoding(Encoding::DELTA_BINARY_PACKED)
            .set_write_batch_size(1_000)
            .set_data_page_row_count_limit(1_000)
            .build()
    }

    /// Pages as Parquet's own writer makes them.
    fn pages(file: Vec<u8>) -> Vec<(Bytes, usize)> {
        let reader = SerializedFileReader::new(Bytes::from(file)).unwrap();
        let group = reader.get_row_group(0).unwrap();
        let mut pages = group.get_column_page_reader(0).unwrap();
        let next = || pages.get_next_page().unwrap();
        std::iter::from_fn(next)
            .map(|page| match page {
                Page::DataPageV2 { buf, num_values, encoding, .. } => {
                    assert_eq!(encoding, Encoding::DELTA_BINARY_PACKED);
                    (buf, num_values as usize)
                }
                other => panic!("{:?}", other.page_type()),
            })
            .collect()
    }

    fn decode_all(pages: &[(Bytes, usize)]) -> Vec<i64> {
        let mut values = Vec::new();
        pages.iter().for_each(|(page, rows)| decode(page, *rows, &mut values).unwrap());
        values
    }

    macro_rules! written {
        ($physical:literal, $type:ty, $values:expr) => {{
            let schema =
                Arc::new(parse_message_type(concat!("message m { required ", $physical, " n; }")).unwrap());
            let mut file = Vec::new();
            let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::new(properties())).unwrap();
            let mut group = writer.next_row_group().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<$type>().write_batch($values, None, None).unwrap();
            column.close().unwrap();
            group.close().unwrap();
            writer.close().unwrap();
            pages(file)
        }};
    }

    fn numbers() -> impl Strategy<Value = Vec<i64>> {
        let width = prop_oneof![Just(0_u32), 1..64_u32];
        width.prop_flat_map(|width| {
            let most = if width == 0 { 0 } else { i64::MAX >> (63 - width.min(62)) };
            prop_oneof![
                prop::collection::vec(-most..=most, 1..3_000),
                prop::collection::vec(any::<i64>(), 1..300),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn reads_what_parquet_writes(values in numbers()) {
            prop_assert_eq!(decode_all(&written!("INT64", Int64Type, &values)), values.clone());
            let narrow: Vec<i32> = values.iter().map(|value| *value as i32).collect();
            let read = decode_all(&written!("INT32", Int32Type, &narrow));
            prop_assert_eq!(read.iter().map(|value| *value as i32).collect::<Vec<_>>(), narrow);
        }

        #[test]
        fn what_is_cut_or_changed_is_an_error_or_numbers(
            values in numbers(),
            cut in any::<prop::sample::Index>(),
            changed in any::<(prop::sample::Index, u8)>(),
        ) {
            let (page, rows) = written!("INT64", Int64Type, &values).swap_remove(0);
            let cut = cut.index(page.len());
            let mut found = Vec::new();
            // Of the last miniblock the writer may have packed more than there are.
            if decode(&page[..cut], rows, &mut found).is_ok() {
                prop_assert_eq!(&found[..], &values[..rows]);
            }
            let mut page = page.to_vec();
            let at = changed.0.index(page.len());
            page[at] = changed.1;
            let _ = decode(&page, rows, &mut Vec::new());
            prop_assert!(decode(&page, rows + 1, &mut Vec::new()).is_err() || at < 20);
        }
    }

    #[test]
    fn differences_have_64_bits_at_most() {
        // Blocks of 32 in one miniblock, 33 numbers, the first and the least difference 0.
        let page = |width: u8| [&[32, 1, 33, 0, 0, width][..], &[0xff; 32 * 255 / 8]].concat();
        for (width, last) in [(0, 0), (1, 32), (57, 32 * ((1 << 57) - 1)), (64, -32)] {
            let mut values = Vec::new();
            decode(&page(width), 33, &mut values).unwrap();
            assert_eq!((values.len(), values[32]), (33, last), "{width}");
        }
        for width in [65, 68, 69, 255] {
            let refused = decode(&page(width), 33, &mut Vec::new()).unwrap_err();
            assert!(refused.to_string().contains(&format!("{width} bits")), "{refused}");
        }
    }
}
