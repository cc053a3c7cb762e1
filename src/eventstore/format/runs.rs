//! Numbers of few bits in runs: what codes into a dictionary and levels are written as.
//!
//! Parquet calls it RLE / bit-packing hybrid,
//! <https://parquet.apache.org/docs/file-format/data-pages/encodings/>.

use super::FormatError;
use super::deltas::{Input, ends_early};

/// What they are kept as.
pub(super) trait Number: Copy + Ord + Into<u32> {
    fn of(number: u32) -> Self;
}

impl Number for u8 {
    fn of(number: u32) -> Self {
        number as Self
    }
}

impl Number for u16 {
    fn of(number: u32) -> Self {
        number as Self
    }
}

impl Number for u32 {
    fn of(number: u32) -> Self {
        number
    }
}

/// Numbers of few bits: repeated ones, or packed eight by eight.
pub(super) struct Runs<'a> {
    input: Input<'a>,
    width: usize,
}

#[derive(Clone, Copy)]
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
    let rest = &bits[(bit / 8).min(bits.len())..];
    let word = rest.first_chunk().copied().unwrap_or_else(|| {
        // At the end.
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        word
    });
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
/// Of wider ones than `T` has bits the lower ones are taken.
pub(super) fn decode<T: Number>(
    bytes: &[u8],
    width: u8,
    count: usize,
    numbers: &mut Vec<T>,
) -> Result<(), FormatError> {
    let mut runs = Runs::new(bytes, width)?;
    let unpack = unpack_of::<T>(width);
    let mut left = count;
    numbers.reserve(count + EIGHT);
    while left > 0 {
        let (run, of_run) = runs.next()?;
        let some = of_run.min(left);
        match run {
            Run::Same(number) => numbers.extend(std::iter::repeat_n(T::of(number as u32), some)),
            Run::Packed(bits) => {
                let end = numbers.len() + some;
                unpack(bits, some.div_ceil(EIGHT), numbers);
                numbers.truncate(end);
            }
        }
        left -= some;
    }
    Ok(())
}

/// Appends the numbers at these places, which ascend. Whole runs are passed over.
pub(super) fn pick(
    bytes: &[u8],
    width: u8,
    places: impl Iterator<Item = usize>,
    numbers: &mut Vec<u32>,
) -> Result<(), FormatError> {
    let mut runs = Runs::new(bytes, width)?;
    let mut run = (Run::Same(0), 0..0);
    for place in places {
        while place >= run.1.end {
            let (next, of_run) = runs.next()?;
            run = (next, run.1.end..run.1.end + of_run);
        }
        numbers.push(match run.0 {
            Run::Same(number) => number as u32,
            Run::Packed(bits) => packed_at(bits, width.into(), place - run.1.start) as u32,
        });
    }
    Ok(())
}

const EIGHT: usize = 8;

/// Appends so many times eight numbers, which have to be there.
type Unpack<T> = fn(&[u8], usize, &mut Vec<T>);

/// One for each width, since then the compiler knows where every number lies. Precondition: `width <= 32`.
fn unpack_of<T: Number>(width: u8) -> Unpack<T> {
    macro_rules! of_widths {
        ($($width:literal)*) => {
            match width {
                $($width => unpack::<T, $width>,)*
                _ => |_, groups, numbers| numbers.resize(numbers.len() + groups * EIGHT, T::of(0)),
            }
        };
    }
    of_widths!(
        1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
        17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
    )
}

fn unpack<T: Number, const WIDTH: usize>(bits: &[u8], groups: usize, numbers: &mut Vec<T>) {
    for group in 0..groups {
        let bits = &bits[group * WIDTH..];
        let eight = match bits.get(..WIDTH + BEYOND) {
            Some(bits) => unpack_eight::<WIDTH>(bits),
            // At the end.
            None => {
                let mut last = [0; 32 + BEYOND];
                last[..WIDTH].copy_from_slice(&bits[..WIDTH]);
                unpack_eight::<WIDTH>(&last[..WIDTH + BEYOND])
            }
        };
        numbers.extend_from_slice(&eight.map(T::of));
    }
}

/// So many bytes beyond the packed ones may be looked at.
const BEYOND: usize = 8;

/// Precondition: there are their bytes, and [`BEYOND`] more.
fn unpack_eight<const WIDTH: usize>(bits: &[u8]) -> [u32; EIGHT] {
    let bits = &bits[..WIDTH + BEYOND];
    let mask = (u64::MAX >> (64 - WIDTH)) as u32;
    std::array::from_fn(|n| {
        let word = bits[n * WIDTH / 8..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        (word >> (n * WIDTH % 8)) as u32 & mask
    })
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
            let mut narrow: Vec<u8> = Vec::new();
            decode(&bytes, width, expected.len(), &mut narrow).unwrap();
            prop_assert!(narrow.iter().copied().eq(expected.iter().map(|number| *number as u8)));
            for step in [1, 3, 50] {
                let places = (0..expected.len()).skip(step / 2).step_by(step);
                let mut picked = vec![7];
                pick(&bytes, width, places.clone(), &mut picked).unwrap();
                prop_assert_eq!(&picked[1..], places.map(|place| expected[place]).collect::<Vec<_>>());
            }
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
            prop_assert!(decode::<u32>(&bytes, width, more, &mut Vec::new()).is_err());
        }
    }
}
