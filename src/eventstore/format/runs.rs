//! Numbers of few bits in runs: what codes into a dictionary and levels are written as.
//!
//! Parquet calls it RLE / bit-packing hybrid,
//! <https://parquet.apache.org/docs/file-format/data-pages/encodings/>.

use super::FormatError;
use super::deltas::{Input, ends_early};

/// Numbers of few bits: repeated ones, or packed eight by eight.
pub(super) struct Runs<'a> {
    input: Input<'a>,
    width: usize,
}

pub(super) enum Run<'a> {
    Same(u64),
    Packed(&'a [u8]),
}

impl<'a> Runs<'a> {
    pub fn new(bytes: &'a [u8], width: u8) -> Result<Self, FormatError> {
        if width > 32 {
            return Err(FormatError::corrupt(format!("codes of {width} bits")));
        }
        Ok(Self { input: Input(bytes), width: width.into() })
    }

    /// The next, and how many numbers it has; an error at the end.
    pub fn next(&mut self) -> Result<(Run<'a>, usize), FormatError> {
        let head = self.input.varint()?;
        let count =
            usize::try_from(head >> 1).ok().filter(|count| *count <= RUN_MAX).ok_or_else(ends_early)?;
        if count == 0 {
            return Err(FormatError::corrupt("a run of nothing"));
        }
        if head & 1 == 1 {
            return Ok((Run::Packed(self.input.take(count * self.width)?), count * 8));
        }
        let mut value = [0; 8];
        let bytes = self.input.take(self.width.div_ceil(8))?;
        value[..bytes.len()].copy_from_slice(bytes);
        Ok((Run::Same(u64::from_le_bytes(value)), count))
    }
}

/// More rows than an object can have.
const RUN_MAX: usize = u32::MAX as usize;

/// Precondition: `width <= 32`, and there are so many.
pub(super) fn packed_at(bits: &[u8], width: usize, place: usize) -> u64 {
    let bit = place * width;
    let mut word = [0; 8];
    let rest = &bits[(bit / 8).min(bits.len())..];
    let some = rest.len().min(8);
    word[..some].copy_from_slice(&rest[..some]);
    u64::from_le_bytes(word) >> (bit % 8) & ((1 << width) - 1)
}

/// Of the first so many bits.
pub(super) fn ones(bits: &[u8], count: usize) -> usize {
    let whole: u32 = bits[..count / 8].iter().map(|byte| byte.count_ones()).sum();
    let rest = match count % 8 {
        0 => 0,
        rest => (bits[count / 8] & ((1 << rest) - 1)).count_ones(),
    };
    (whole + rest) as usize
}

/// Appends the numbers of runs until there are so many more.
pub(super) fn decode(
    bytes: &[u8],
    width: u8,
    count: usize,
    numbers: &mut Vec<u32>,
) -> Result<(), FormatError> {
    let mut runs = Runs::new(bytes, width)?;
    let mut left = count;
    numbers.reserve(count + EIGHT);
    while left > 0 {
        let (run, of_run) = runs.next()?;
        let some = of_run.min(left);
        match run {
            Run::Same(number) => numbers.extend(std::iter::repeat_n(number as u32, some)),
            Run::Packed(bits) => {
                let end = numbers.len() + some;
                for group in 0..some.div_ceil(EIGHT) {
                    let bits = &bits[group * usize::from(width)..];
                    numbers.extend_from_slice(&unpack_eight(bits, width.into()));
                }
                numbers.truncate(end);
            }
        }
        left -= some;
    }
    Ok(())
}

const EIGHT: usize = 8;

/// The first eight numbers. Precondition: `width <= 32`, and there are so many.
fn unpack_eight(bits: &[u8], width: usize) -> [u32; EIGHT] {
    let mask = ((1_u64 << width) - 1) as u32;
    match bits.first_chunk() {
        // As nearly all are: all eight are within one word.
        Some(word) if width <= 8 => {
            let word = u64::from_le_bytes(*word);
            std::array::from_fn(|n| (word >> (n * width)) as u32 & mask)
        }
        _ => match bits.first_chunk() {
            Some(word) if width <= 16 => {
                let word = u128::from_le_bytes(*word);
                std::array::from_fn(|n| (word >> (n * width)) as u32 & mask)
            }
            _ => std::array::from_fn(|n| packed_at(bits, width, n) as u32),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A run of each kind in turn.
    fn written(runs: &[Vec<u32>], width: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (n, run) in runs.iter().enumerate() {
            if n % 2 == 0 {
                crate::model::put_varint(&mut bytes, (run.len() as u64) << 1);
                bytes.extend_from_slice(&run[0].to_le_bytes()[..usize::from(width).div_ceil(8)]);
            } else {
                crate::model::put_varint(&mut bytes, (run.len() as u64 / 8) << 1 | 1);
                let mut packed = vec![0_u8; run.len() / 8 * usize::from(width)];
                for (place, number) in run.iter().enumerate() {
                    for bit in 0..usize::from(width) {
                        let at = place * usize::from(width) + bit;
                        packed[at / 8] |= ((number >> bit & 1) as u8) << (at % 8);
                    }
                }
                bytes.extend(packed);
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn runs_of_any_width_give_back_their_numbers_as_often_as_asked(
            width in 0..=32_u8,
            runs in prop::collection::vec((1..40_usize, any::<u32>()), 1..6),
            less in 0..9_usize,
        ) {
            let mask = ((1_u64 << width) - 1) as u32;
            let runs: Vec<Vec<u32>> = runs
                .into_iter()
                .enumerate()
                .map(|(n, (count, number))| match n % 2 {
                    0 => vec![number & mask; count],
                    _ => (0..count as u32 * 8).map(|place| number.wrapping_mul(place + 3) & mask).collect(),
                })
                .collect();
            let mut expected = runs.concat();
            expected.truncate(expected.len().saturating_sub(less).max(1));
            let bytes = written(&runs, width);
            let mut numbers = vec![7];
            decode(&bytes, width, expected.len(), &mut numbers).unwrap();
            prop_assert_eq!(&numbers[1..], &*expected);
            for (place, number) in expected.iter().enumerate() {
                let mut left = Runs::new(&bytes, width).unwrap();
                let mut start = 0;
                let found = loop {
                    let (run, of_run) = left.next().unwrap();
                    if place < start + of_run {
                        break match run {
                            Run::Same(number) => number,
                            Run::Packed(bits) => packed_at(bits, width.into(), place - start),
                        };
                    }
                    start += of_run;
                };
                prop_assert_eq!(found, u64::from(*number));
            }
            let more = runs.concat().len() + 1;
            prop_assert!(decode(&bytes, width, more, &mut Vec::new()).is_err());
        }
    }
}
