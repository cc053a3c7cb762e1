//! Walking the blocks of a shard person by person.
//!
//! Every block is sorted by person, and a person may be in several blocks. A heap holds the next
//! person of each block, so that all rows of one person come together without copying any.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use super::{Cancel, KernelError};
use crate::model::PersonNo;

/// Some rows of one person: a range of one block, in time order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonRows {
    pub block: usize,
    pub rows: Range<usize>,
}

/// Persons between two looks at the cancel flag.
const PERSONS_PER_CHECK: u32 = 4_096;

/// Visits every person once, in ascending order, with all their rows: of each block one ascending list
/// of persons.
pub fn for_each_person_of(
    blocks: &[&[PersonNo]],
    cancel: &Cancel,
    mut visit: impl FnMut(PersonNo, &[PersonRows]),
) -> Result<(), KernelError> {
    let heads = blocks.iter().enumerate();
    let mut heads: BinaryHeap<Reverse<(PersonNo, usize, usize)>> = heads
        .filter_map(|(block, persons)| persons.first().map(|&person| Reverse((person, block, 0))))
        .collect();
    let mut found: Vec<PersonRows> = Vec::new();
    let mut until_check = 0_u32;
    while let Some(&Reverse((person, ..))) = heads.peek() {
        if until_check == 0 {
            cancel.check()?;
            until_check = PERSONS_PER_CHECK;
        }
        until_check -= 1;
        found.clear();
        while let Some(mut head) = heads.peek_mut() {
            let Reverse((next, block, start)) = *head;
            if next != person {
                break;
            }
            let numbers = blocks[block];
            let end = end_of_person(numbers, start);
            found.push(PersonRows { block, rows: start..end });
            match numbers.get(end) {
                Some(&following) => *head = Reverse((following, block, end)),
                None => drop(std::collections::binary_heap::PeekMut::pop(head)),
            }
        }
        visit(person, &found);
    }
    Ok(())
}

/// Steps that double find the end of a long history without touching all of it, and the end of a
/// short one at once.
fn end_of_person(numbers: &[PersonNo], start: usize) -> usize {
    let person = numbers[start];
    let (mut known, mut step) = (start, 1);
    while numbers.get(known + step) == Some(&person) {
        known += step;
        step *= 2;
    }
    let beyond = (known + step).min(numbers.len());
    known + numbers[known..beyond].partition_point(|&number| number == person)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_person_comes_once_with_all_rows() {
        let long = [vec![1; 1_000], vec![2; 3], vec![9]].concat();
        let blocks: [&[PersonNo]; 4] = [&long, &[], &[0, 2, 2, 4], &[2, 9, 9]];
        let mut seen = Vec::new();
        for_each_person_of(&blocks, &Cancel::default(), |person, slices| {
            let mut ranges: Vec<(usize, Range<usize>)> =
                slices.iter().map(|slice| (slice.block, slice.rows.clone())).collect();
            ranges.sort_by_key(|(block, _)| *block);
            seen.push((person, ranges));
        })
        .unwrap();
        let expected = [
            (0, vec![(2, 0..1)]),
            (1, vec![(0, 0..1_000)]),
            (2, vec![(0, 1_000..1_003), (2, 1..3), (3, 0..1)]),
            (4, vec![(2, 3..4)]),
            (9, vec![(0, 1_003..1_004), (3, 1..3)]),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_cancelled_walk_stops() {
        let cancel = Cancel::default();
        cancel.cancel();
        let walked = for_each_person_of(&[&[1]], &cancel, |_, _| panic!("visited"));
        assert_eq!(walked, Err(KernelError::Cancelled));
    }
}
