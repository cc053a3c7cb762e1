//! Which rows are within a range of time, told by their quarters.

use std::ops::Range;

use super::{Offsets, QUARTER_MS, Quarters};
use crate::eventstore::block::rows::{AT_ONCE, PICKED_AT_ONCE, Picker};
use crate::model::Millis;

/// Tells rows within a range from others.
#[derive(Clone, Copy)]
pub struct QuartersWithin<'a> {
    offsets: &'a Offsets,
    first: u32,
    quarters: u32,
}

impl QuartersWithin<'_> {
    pub fn count(&self) -> usize {
        // A chunk at a time, so that sums are as narrow as what is compared.
        match self.offsets {
            Offsets::U16(offsets) => match self.narrow() {
                None => offsets.len(),
                Some(is_within) => {
                    let count = |offsets: &[u16]| -> u16 {
                        offsets.iter().map(|offset| u16::from(is_within(*offset))).sum()
                    };
                    offsets.chunks(PICKED_AT_ONCE).map(|offsets| usize::from(count(offsets))).sum()
                }
            },
            Offsets::U32(offsets) => offsets.iter().filter(|offset| self.is_within(**offset)).count(),
        }
    }

    /// Those of a range of rows, ascending; the list is overwritten.
    pub fn pick(&self, rows: Range<usize>, picked: &mut Vec<u32>) {
        let mut next = rows.start as u32;
        match self.offsets {
            Offsets::U16(offsets) => match self.narrow() {
                None => {
                    picked.clear();
                    picked.extend(rows.start as u32..rows.end as u32);
                }
                Some(is_within) => {
                    let mut picker = Picker::new(picked, rows.len());
                    let (many, rest) = offsets[rows].as_chunks::<AT_ONCE>();
                    for offsets in many {
                        picker.see_all(next, &offsets.map(|offset| is_within(offset).into()));
                        next += AT_ONCE as u32;
                    }
                    rest.iter().zip(next..).for_each(|(offset, row)| picker.see(row, is_within(*offset)));
                    picker.finish();
                }
            },
            Offsets::U32(offsets) => {
                let mut picker = Picker::new(picked, rows.len());
                offsets[rows]
                    .iter()
                    .zip(next..)
                    .for_each(|(offset, row)| picker.see(row, self.is_within(*offset)));
                picker.finish();
            }
        }
    }

    /// All rows.
    pub fn to_rows(self) -> Vec<u32> {
        let (mut rows, mut picked) = (Vec::with_capacity(self.count()), Vec::new());
        let all = match self.offsets {
            Offsets::U16(offsets) => offsets.len(),
            Offsets::U32(offsets) => offsets.len(),
        };
        for first in (0..all).step_by(PICKED_AT_ONCE) {
            self.pick(first..all.min(first + PICKED_AT_ONCE), &mut picked);
            rows.extend_from_slice(&picked);
        }
        rows
    }

    pub fn at(&self, row: usize) -> bool {
        match self.offsets {
            Offsets::U16(offsets) => self.is_within(offsets[row].into()),
            Offsets::U32(offsets) => self.is_within(offsets[row]),
        }
    }

    fn is_within(&self, offset: u32) -> bool {
        offset.wrapping_sub(self.first) < self.quarters
    }

    /// The same for offsets of two bytes; `None`: all 65,536 of them are within.
    fn narrow(&self) -> Option<impl Fn(u16) -> bool> {
        let (first, quarters) = (self.first as u16, u16::try_from(self.quarters).ok()?);
        Some(move |offset: u16| offset.wrapping_sub(first) < quarters)
    }
}

impl Quarters {
    /// For the rows within a range; `None` where there are none. Precondition: it begins and ends with a quarter.
    pub fn within(&self, range: &Range<Millis>) -> Option<QuartersWithin<'_>> {
        let (from, to) = (range.start.max(self.first), range.end.min(self.end()));
        let quarters = u32::try_from((to - from) / QUARTER_MS).ok().filter(|quarters| *quarters > 0)?;
        Some(QuartersWithin {
            offsets: &self.offsets,
            first: ((from - self.first) / QUARTER_MS) as u32,
            quarters,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_far_apart_are_told_by_any_range() {
        let times = [0, 7, 8, 9, 50_000_000].map(|quarter| quarter * QUARTER_MS);
        let quarters = Quarters::of_times(&times);
        for (range, expected) in [
            (7..9, [0, 1, 1, 0, 0]),
            (-5..1, [1, 0, 0, 0, 0]),
            (9..50_000_000, [0, 0, 0, 1, 0]),
            (50_000_000..50_000_001, [0, 0, 0, 0, 1]),
            (100..200, [0; 5]),
            (-9..-3, [0; 5]),
            (60_000_000..60_000_001, [0; 5]),
        ] {
            let whole = range.start * QUARTER_MS..range.end * QUARTER_MS;
            let within = quarters.within(&whole);
            let found = [0, 1, 2, 3, 4].map(|row| u32::from(within.is_some_and(|within| within.at(row))));
            assert_eq!(found, expected, "{range:?}");
        }
    }

    #[test]
    fn all_quarters_that_two_bytes_tell_may_be_within_a_range() {
        let quarters = Quarters::of_times(&[0, 65_535 * QUARTER_MS, 7 * QUARTER_MS]);
        assert_eq!(quarters.memory_bytes(), 6);
        let rows = |range| quarters.within(&range).unwrap().to_rows();
        assert_eq!(rows(-QUARTER_MS..65_536 * QUARTER_MS), [0, 1, 2]);
        assert_eq!(rows(0..65_535 * QUARTER_MS), [0, 2]);
        assert_eq!(rows(QUARTER_MS..65_536 * QUARTER_MS), [1, 2]);
    }

    #[test]
    fn quarters_take_two_bytes_for_682_days_and_four_beyond() {
        let last = 65_535 * QUARTER_MS;
        for (times, bytes) in [(vec![0, last], 4), (vec![0, last + QUARTER_MS], 8), (vec![last, -1], 8)] {
            assert_eq!(Quarters::of_times(&times).memory_bytes(), bytes, "{times:?}");
        }
    }
}
