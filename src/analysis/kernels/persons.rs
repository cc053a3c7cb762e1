//! Walking the blocks of a shard by ranges of persons.
//!
//! Every block is sorted by person, and a person may be in several blocks. In a range come all rows of its
//! persons together, and a range is short enough for whatever is worked out about them to stay in the
//! processor's cache.

use std::ops::Range;

use super::{Cancel, KernelError};
use crate::model::PersonNo;

/// So many rows a block has in most ranges.
const NEAR: usize = if cfg!(test) { 2 } else { 256 };

/// Visits persons in ascending order, `length` numbers at a time: the first of a range, and of each block
/// the rows of its persons.
///
/// `blocks`: of each one the ascending persons of its rows.
pub fn for_each_range(
    blocks: &[&[PersonNo]],
    length: u32,
    cancel: &Cancel,
    mut visit: impl FnMut(PersonNo, &[Range<usize>]) -> Result<(), KernelError>,
) -> Result<(), KernelError> {
    debug_assert!(length > 0);
    let mut ranges: Vec<Range<usize>> = vec![0..0; blocks.len()];
    loop {
        cancel.check()?;
        let firsts = blocks.iter().zip(&ranges).filter_map(|(persons, rows)| persons.get(rows.end));
        let Some(&first) = firsts.min() else { return Ok(()) };
        for (persons, rows) in blocks.iter().zip(&mut ranges) {
            let count = partition_near(&persons[rows.end..], |person| person - first < length);
            *rows = rows.end..rows.end + count;
        }
        visit(first, &ranges)?;
    }
}

/// As [`slice::partition_point`], which would look all over a block for what is close to where the last range
/// ended.
fn partition_near(persons: &[PersonNo], is_before: impl Fn(&PersonNo) -> bool) -> usize {
    let (mut begin, mut end) = (0, NEAR);
    while persons.get(end).is_some_and(&is_before) {
        (begin, end) = (end, 2 * end);
    }
    begin + persons[begin..end.min(persons.len())].partition_point(is_before)
}

/// From the least number to the greatest.
pub fn count_numbers(blocks: &[&[PersonNo]]) -> usize {
    let least = blocks.iter().filter_map(|persons| persons.first()).min();
    let greatest = blocks.iter().filter_map(|persons| persons.last()).max();
    least.zip(greatest).map_or(0, |(least, greatest)| (greatest - least) as usize + 1)
}

/// However few rows there are: what is kept for each number of a range stays below a megabyte.
const RANGE_MAX: u32 = 65_536;

/// How long ranges are in which about so many rows come together, if persons are much alike.
pub fn length_of_rows(blocks: &[&[PersonNo]], rows: usize) -> u32 {
    let all: usize = blocks.iter().map(|persons| persons.len()).sum();
    let length = rows as u64 * count_numbers(blocks) as u64 / (all as u64).max(1);
    length.clamp(1, RANGE_MAX.into()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_comes_once_with_all_others_of_its_person() {
        let long = [vec![1; 1_000], vec![2; 3], vec![9]].concat();
        let blocks: [&[PersonNo]; 4] = [&long, &[], &[0, 2, 2, 4], &[2, 9, u32::MAX]];
        let seen = |length| {
            let mut seen = Vec::new();
            let visit = |first, rows: &[Range<usize>]| {
                seen.push((first, rows.to_vec()));
                Ok(())
            };
            for_each_range(&blocks, length, &Cancel::default(), visit).unwrap();
            seen
        };
        assert_eq!(
            seen(2),
            [
                (0, vec![0..1_000, 0..0, 0..1, 0..0]),
                (2, vec![1_000..1_003, 0..0, 1..3, 0..1]),
                (4, vec![1_003..1_003, 0..0, 3..4, 1..1]),
                (9, vec![1_003..1_004, 0..0, 4..4, 1..2]),
                (u32::MAX, vec![1_004..1_004, 0..0, 4..4, 2..3]),
            ]
        );
        assert_eq!(seen(u32::MAX).len(), 2, "as long as they can be");
        assert_eq!(count_numbers(&blocks), 1 << 32);
        assert_eq!(count_numbers(&[]), 0);
        assert_eq!(length_of_rows(&[&[5, 6, 6, 14]], 2), 5);
        assert_eq!(length_of_rows(&[&[5; 100]], 2), 1);
        assert_eq!(length_of_rows(&[&[0, u32::MAX]], 2), RANGE_MAX);
    }

    #[test]
    fn a_cancelled_walk_stops() {
        let cancel = Cancel::default();
        cancel.cancel();
        let walked = for_each_range(&[&[1]], 1, &cancel, |_, _| panic!("visited"));
        assert_eq!(walked, Err(KernelError::Cancelled));
    }
}
