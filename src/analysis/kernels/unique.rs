//! Unique persons of many cells.
//!
//! A person's rows may be in several blocks, so persons are taken in ranges, see [`super::persons`]. Within
//! one, each cell has a bit a person, and rows only set bits, in any order; a range is as long as leaves
//! all bits in the processor's cache. With so many cells that ranges would be short, it is listed instead
//! who was seen where, and sorted at the end of each range.

use super::persons::{count_numbers, length_of_rows};
use crate::model::PersonNo;

/// Of all cells of one range: a megabyte.
const BITS_MAX: usize = 8 << 20;
const RANGE_MAX: usize = 65_536;
/// Shorter ranges would be more clearing and counting of bits than setting them.
const RANGE_MIN: usize = 512;
/// To list and sort a row takes as long as looking at so many words of bits.
const WORDS_PER_ROW_MAX: usize = 32;
/// Words beside those of a cell, without which the same place of all cells would lie in one set of lines of
/// the processor's cache.
const PADDING: usize = 8;
/// Rows of a range that are listed: half a megabyte.
const PAIRS: usize = 65_536;

/// How persons are walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// How many numbers of persons a range has; with bits a multiple of 64.
    pub length: u32,
    by_bits: bool,
}

impl Walk {
    /// `cells`: of all series together. `blocks` as of [`super::persons::for_each_range`].
    pub fn new(blocks: &[&[PersonNo]], cells: usize) -> Self {
        let length = (BITS_MAX / cells.max(1)).min(RANGE_MAX) / 64 * 64;
        let rows: usize = blocks.iter().map(|persons| persons.len()).sum();
        // All words of all ranges are looked at, however few rows fall into them.
        let numbers = count_numbers(blocks);
        if length < RANGE_MIN || numbers / 64 * cells > rows * WORDS_PER_ROW_MAX {
            return Self { length: length_of_rows(blocks, PAIRS), by_bits: false };
        }
        // One of many shards may have fewer persons than fit.
        Self { length: length.min(numbers.max(1).next_multiple_of(64)) as u32, by_bits: true }
    }
}

/// Who was seen in the cells of one series, in one range of persons.
pub struct UniquePersons {
    /// The cells of a group lie together, one a bucket.
    buckets: usize,
    seen: Seen,
}

enum Seen {
    /// Cell after cell.
    Bits { words: usize, bits: Vec<u64> },
    /// The person in the upper half, the cell in the lower one.
    Pairs { pairs: Vec<u64>, sort_at: usize },
}

impl UniquePersons {
    pub fn new(walk: Walk, cells: usize, buckets: usize) -> Self {
        let words = walk.length as usize / 64 + PADDING;
        let seen = match walk.by_bits {
            true => Seen::Bits { words, bits: vec![0; words * cells] },
            false => Seen::Pairs { pairs: Vec::new(), sort_at: 2 * PAIRS },
        };
        Self { buckets, seen }
    }

    /// Rows by their person, counted from the first of the range, and their cell. A row whose cell
    /// does not exist is not counted.
    pub fn see(&mut self, rows: impl Iterator<Item = (u32, u32)>) {
        match &mut self.seen {
            Seen::Bits { words, bits } => {
                // Not looked up again for each row, for all that is written meanwhile.
                let (words, bits) = (*words, bits.as_mut_slice());
                for (person, cell) in rows {
                    let place = person as usize;
                    if let Some(word) = bits.get_mut(cell as usize * words + place / 64) {
                        *word |= 1 << (place % 64);
                    }
                }
            }
            Seen::Pairs { pairs, sort_at } => {
                pairs.extend(rows.map(|(person, cell)| u64::from(person) << 32 | u64::from(cell)));
                // One person may have any number of rows.
                if pairs.len() >= *sort_at {
                    sort_out(pairs);
                    *sort_at = 2 * pairs.len().max(PAIRS);
                }
            }
        }
    }

    /// Adds the persons of the range to their cells and groups, and forgets them.
    pub fn end_range(&mut self, cells: &mut [u64], groups: &mut [u64]) {
        let buckets = self.buckets;
        match &mut self.seen {
            Seen::Bits { words, bits } => {
                let words = *words;
                for (cell, bits) in bits.chunks_exact(words).enumerate() {
                    let persons = ones(bits.iter().copied());
                    cells[cell] += persons;
                    if buckets == 1 {
                        groups[cell] += persons;
                    }
                }
                for (group, bits) in bits.chunks_exact(words * buckets).enumerate().filter(|_| buckets > 1) {
                    let any = |word| bits.iter().skip(word).step_by(words).fold(0, |any, bits| any | bits);
                    groups[group] += ones((0..words).map(any));
                }
                bits.fill(0);
            }
            Seen::Pairs { pairs, .. } => {
                sort_out(pairs);
                let mut last = None;
                for &pair in &*pairs {
                    let cell = pair as u32 as usize;
                    let (person, group) = (pair >> 32, cell / buckets);
                    let Some(count) = cells.get_mut(cell) else { continue };
                    *count += 1;
                    // The cells of a person ascend, and so do the groups.
                    if last.replace((person, group)) != Some((person, group)) {
                        groups[group] += 1;
                    }
                }
                pairs.clear();
            }
        }
    }
}

fn sort_out(pairs: &mut Vec<u64>) {
    pairs.sort_unstable();
    pairs.dedup();
}

fn ones(words: impl Iterator<Item = u64>) -> u64 {
    words.map(|word| u64::from(word.count_ones())).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::Cancel;
    use super::super::persons::for_each_range;
    use super::*;

    const CELLS: usize = 12;

    /// As a kernel counts them.
    fn count(blocks: &[Vec<(PersonNo, u32)>], walk: Walk, buckets: usize) -> (Vec<u64>, Vec<u64>) {
        let persons: Vec<Vec<PersonNo>> =
            blocks.iter().map(|rows| rows.iter().map(|(person, _)| *person).collect()).collect();
        let persons: Vec<&[PersonNo]> = persons.iter().map(Vec::as_slice).collect();
        let (mut cells, mut groups) = (vec![0; CELLS], vec![0; CELLS / buckets]);
        let mut unique = UniquePersons::new(walk, CELLS, buckets);
        for_each_range(&persons, walk.length, &Cancel::default(), |first, ranges| {
            for (rows, range) in blocks.iter().zip(ranges) {
                unique.see(rows[range.clone()].iter().map(|&(person, cell)| (person - first, cell)));
            }
            unique.end_range(&mut cells, &mut groups);
            Ok(())
        })
        .unwrap();
        (cells, groups)
    }

    proptest! {
        #[test]
        fn both_ways_count_every_person_once_a_cell_and_once_a_group(
            mut rows in prop::collection::vec(
                prop::collection::vec(
                    (prop_oneof![0..300_u32, 60_000..200_000_u32, Just(u32::MAX)], prop_oneof![9 => 0..CELLS as u32, 1 => Just(u32::MAX)]),
                    0..80,
                ),
                0..5,
            ),
            buckets in prop_oneof![Just(1_usize), Just(3), Just(CELLS)],
            length in prop_oneof![Just(64_u32), Just(192), Just(65_536)],
        ) {
            rows.iter_mut().for_each(|rows| rows.sort_by_key(|(person, _)| *person));
            let expected = |of: &dyn Fn(u32) -> u32, counts: usize| -> Vec<u64> {
                let all: BTreeSet<(u32, u32)> =
                    rows.iter().flatten().map(|&(person, cell)| (of(cell), person)).collect();
                (0..counts as u32).map(|n| all.iter().filter(|(cell, _)| *cell == n).count() as u64).collect()
            };
            let expected =
                (expected(&|cell| cell, CELLS), expected(&|cell| cell / buckets as u32, CELLS / buckets));
            for by_bits in [true, false] {
                let found = count(&rows, Walk { length, by_bits }, buckets);
                prop_assert_eq!(&found, &expected, "by bits: {}", by_bits);
            }
        }
    }

    #[test]
    fn many_rows_of_one_person_take_little_memory() {
        let walk = Walk { length: 1, by_bits: false };
        let mut unique = UniquePersons::new(walk, CELLS, CELLS);
        for _ in 0..100 {
            unique.see((0..10_000).map(|n| (0, n % 7)));
            let Seen::Pairs { pairs, .. } = &unique.seen else { panic!("pairs") };
            assert!(pairs.len() < 3 * PAIRS, "{}", pairs.len());
        }
        let (mut cells, mut groups) = (vec![0; CELLS], vec![0]);
        unique.end_range(&mut cells, &mut groups);
        assert_eq!((cells.iter().sum::<u64>(), groups), (7, vec![1]));
    }

    #[test]
    fn bits_are_for_few_cells_and_close_persons() {
        let dense: Vec<PersonNo> = (0..100_000).collect();
        let sparse = [0, u32::MAX];
        let walk = |persons: &[PersonNo], cells| Walk::new(&[persons], cells);
        assert_eq!(walk(&dense, 90), Walk { length: 65_536, by_bits: true });
        assert_eq!(walk(&dense[..3_700], 90), Walk { length: 3_712, by_bits: true });
        assert_eq!(Walk::new(&[], 90), Walk { length: 64, by_bits: true }, "of nobody");
        assert_eq!(walk(&dense, 2_000), Walk { length: 4_160, by_bits: true });
        assert!(!walk(&dense, 20_000).by_bits, "ranges would be too short");
        assert!(!walk(&sparse, 90).by_bits, "all of the bits would be unset");
    }
}
