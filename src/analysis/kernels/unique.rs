//! Unique persons of many cells.
//!
//! A person's rows may be in several blocks, each of them in the order of persons. Persons are taken in
//! ranges: within one, each cell has a bit a person, and rows only set bits, in any order. A range is as
//! long as leaves all bits in the processor's cache. With so many cells that ranges would be short, or so
//! few rows that most bits would stay unset, the blocks are walked together person by person instead: per cell the last person seen is kept, and a
//! person is new to a cell when it is another than the last.

use super::persons::for_each_person_of;
use super::{Cancel, KernelError};
use crate::model::PersonNo;

/// Of all cells of one range: a megabyte.
const BITS_MAX: usize = 8 << 20;
const RANGE_MAX: usize = 65_536;
/// Shorter ranges would be more clearing and counting of bits than setting them.
const RANGE_MIN: usize = 512;
/// A step of the walk takes as long as looking at so many words of bits.
const WORDS_PER_ROW_MAX: usize = 32;

/// Who was seen in which cell: the rows of one block, persons ascending.
#[derive(Default)]
pub struct Seen {
    persons: Vec<PersonNo>,
    cells: Vec<u32>,
}

impl Seen {
    pub fn with_capacity(rows: usize) -> Self {
        Self { persons: Vec::with_capacity(rows), cells: Vec::with_capacity(rows) }
    }

    pub fn push(&mut self, person: PersonNo, cell: u32) {
        self.persons.push(person);
        self.cells.push(cell);
    }
}

/// Where they are counted: the cells of a group lie together, one a bucket.
pub struct UniquePersons<'a> {
    pub cells: &'a mut [u64],
    /// Unique over all cells of the group.
    pub groups: &'a mut [u64],
    pub buckets: usize,
}

impl UniquePersons<'_> {
    pub fn count(mut self, blocks: &[Seen], cancel: &Cancel) -> Result<(), KernelError> {
        let range = (BITS_MAX / self.cells.len().max(1)).min(RANGE_MAX) / 64 * 64;
        let rows: usize = blocks.iter().map(|block| block.persons.len()).sum();
        let firsts = blocks.iter().filter_map(|block| block.persons.first());
        let lasts = blocks.iter().filter_map(|block| block.persons.last());
        let persons = lasts.max().unwrap_or(&0) - firsts.min().unwrap_or(&0);
        // All words of all ranges are looked at, however few rows fall into them.
        let words = persons as usize / 64 * self.cells.len();
        if range < RANGE_MIN || words > rows * WORDS_PER_ROW_MAX {
            return self.count_by_walk(blocks, cancel);
        }
        self.count_by_bits(blocks, range, cancel)
    }

    /// `range`: of persons; a multiple of 64.
    fn count_by_bits(&mut self, blocks: &[Seen], range: usize, cancel: &Cancel) -> Result<(), KernelError> {
        let words = range / 64;
        let mut bits = vec![0_u64; words * self.cells.len()];
        let mut next = vec![0; blocks.len()];
        loop {
            cancel.check()?;
            let firsts = blocks.iter().zip(&next).filter_map(|(block, &next)| block.persons.get(next));
            let Some(&first) = firsts.min() else { return Ok(()) };
            for (block, next) in blocks.iter().zip(&mut next) {
                let persons = &block.persons[*next..];
                let count = persons.partition_point(|person| ((person - first) as usize) < range);
                let cells = &block.cells[*next..*next + count];
                for (person, &cell) in persons[..count].iter().zip(cells) {
                    let place = (person - first) as usize;
                    bits[cell as usize * words + place / 64] |= 1 << (place % 64);
                }
                *next += count;
            }
            for (cell, bits) in bits.chunks_exact(words).enumerate() {
                self.cells[cell] += ones(bits.iter().copied());
            }
            for (group, bits) in bits.chunks_exact(words * self.buckets).enumerate() {
                let any = |word| bits.iter().skip(word).step_by(words).fold(0, |any, bits| any | bits);
                self.groups[group] += ones((0..words).map(any));
            }
            bits.fill(0);
        }
    }

    fn count_by_walk(&mut self, blocks: &[Seen], cancel: &Cancel) -> Result<(), KernelError> {
        let mut last_in_cell: Vec<Option<PersonNo>> = vec![None; self.cells.len()];
        let mut last_in_group: Vec<Option<PersonNo>> = vec![None; self.groups.len()];
        let persons: Vec<&[PersonNo]> = blocks.iter().map(|block| &*block.persons).collect();
        for_each_person_of(&persons, cancel, |person, slices| {
            for slice in slices {
                for &cell in &blocks[slice.block].cells[slice.rows.clone()] {
                    let (cell, group) = (cell as usize, cell as usize / self.buckets);
                    if last_in_cell[cell].replace(person) != Some(person) {
                        self.cells[cell] += 1;
                        if last_in_group[group].replace(person) != Some(person) {
                            self.groups[group] += 1;
                        }
                    }
                }
            }
        })
    }
}

fn ones(words: impl Iterator<Item = u64>) -> u64 {
    words.map(|word| u64::from(word.count_ones())).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_ways_count_every_person_once_a_cell_and_once_a_group(
            rows in prop::collection::vec(
                prop::collection::vec((prop_oneof![0..300_u32, 60_000..200_000_u32, Just(u32::MAX)], 0..12_u32), 0..80),
                0..5,
            ),
            buckets in prop_oneof![Just(1_usize), Just(3), Just(12)],
            range in prop_oneof![Just(64_usize), Just(192), Just(65_536)],
        ) {
            let blocks: Vec<Seen> = rows
                .iter()
                .map(|rows| {
                    let mut rows = rows.clone();
                    rows.sort_by_key(|(person, _)| *person);
                    let mut seen = Seen::default();
                    rows.iter().for_each(|&(person, cell)| seen.push(person, cell));
                    seen
                })
                .collect();
            let count = |of: &dyn Fn(u32) -> u32, counts: usize| -> Vec<u64> {
                let all: BTreeSet<(u32, u32)> =
                    rows.iter().flatten().map(|&(person, cell)| (of(cell), person)).collect();
                (0..counts as u32).map(|n| all.iter().filter(|(cell, _)| *cell == n).count() as u64).collect()
            };
            let expected = (count(&|cell| cell, 12), count(&|cell| cell / buckets as u32, 12 / buckets));
            for by_bits in [true, false] {
                let (mut cells, mut groups) = (vec![0; 12], vec![0; 12 / buckets]);
                let mut unique = UniquePersons { cells: &mut cells, groups: &mut groups, buckets };
                match by_bits {
                    true => unique.count_by_bits(&blocks, range, &Cancel::default()).unwrap(),
                    false => unique.count_by_walk(&blocks, &Cancel::default()).unwrap(),
                }
                prop_assert_eq!((cells, groups), expected.clone(), "by bits: {}", by_bits);
            }
        }
    }
}
