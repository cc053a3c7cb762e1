//! Times as quarters of an hour.
//!
//! Who asks for hours, days or months need not know the millisecond: all zones of today change their
//! offset, and all days begin, at a quarter of an hour. A quarter takes two bytes a row instead of eight,
//! and what it means is found out once a quarter instead of once a row.

use std::ops::Range;
use std::sync::Arc;

use super::rows::{AT_ONCE, PICKED_AT_ONCE, Picker};
use crate::model::{DAY_MS, Millis};

pub const QUARTER_MS: Millis = 15 * 60_000;
/// How far apart in time rows may be that are counted together: quarters, hours or days of UTC.
pub const COUNT_STEPS: [Millis; 3] = [QUARTER_MS, 4 * QUARTER_MS, DAY_MS];
/// Of a quarter's milliseconds, the factors of two; what is left of 65,536 quarters fits into 32 bits.
const TWOS: u32 = 5;
const ODD: u32 = (QUARTER_MS >> TWOS) as u32;

#[derive(Clone, Debug, Default)]
pub struct Quarters {
    /// The start of the quarter that 0 stands for.
    first: Millis,
    offsets: Offsets,
    /// The greatest.
    last: u32,
}

/// As wide as the time between the first and the last row needs: 65,536 quarters are 682 days.
#[derive(Clone, Debug)]
enum Offsets {
    U16(Vec<u16>),
    U32(Vec<u32>),
}

/// Something about the quarter of every row, found out once a quarter.
pub struct ByQuarter<'a, T> {
    offsets: &'a Offsets,
    /// The offset of the first entry.
    first: u32,
    /// The last entry is that of all quarters outside.
    table: Arc<[T]>,
}

/// Something about every quarter of a range, for any rows.
#[derive(Clone, Debug)]
pub struct QuarterTable<T> {
    range: Range<Millis>,
    /// The last entry is that of all quarters outside.
    table: Arc<[T]>,
}

impl<T: Copy> QuarterTable<T> {
    /// `of` is asked for the start of every quarter. Precondition: the range begins and ends with a quarter.
    pub fn new(range: Range<Millis>, outside: T, of: impl FnMut(Millis) -> T) -> Self {
        let quarters = range.clone().step_by(QUARTER_MS as usize).map(of);
        Self { table: quarters.chain([outside]).collect(), range }
    }
}

/// Puts quarters together out of the times of pages.
#[derive(Default)]
pub struct QuartersBuilder {
    rows: usize,
    found: Option<Quarters>,
}

impl Default for Offsets {
    fn default() -> Self {
        Self::U16(Vec::new())
    }
}

impl QuartersBuilder {
    pub fn with_capacity(rows: usize) -> Self {
        Self { rows, found: None }
    }

    pub fn extend(&mut self, times: &[Millis]) {
        if let Some(found) = &mut self.found
            && found.extend_within(times)
        {
            return;
        }
        let (Some(&least), Some(&greatest)) = (times.iter().min(), times.iter().max()) else { return };
        let rows = self.rows;
        let found = self.found.get_or_insert_with(|| Quarters {
            first: quarter_start(least),
            offsets: Offsets::U16(Vec::with_capacity(rows)),
            last: 0,
        });
        found.make_room(quarter_start(least), quarter_start(greatest));
        let first = found.first;
        match &mut found.offsets {
            Offsets::U16(offsets) => {
                offsets.extend(times.iter().map(|&at| (((at - first) as u64 >> TWOS) as u32 / ODD) as u16))
            }
            Offsets::U32(offsets) => {
                offsets.extend(times.iter().map(|&at| ((at - first) / QUARTER_MS) as u32));
            }
        }
    }

    pub fn finish(self) -> Quarters {
        self.found.unwrap_or_default()
    }
}

/// Whether everything within a range can be told by its quarters.
pub fn begins_a_quarter(at: Millis) -> bool {
    at.rem_euclid(QUARTER_MS) == 0
}

fn quarter_start(at: Millis) -> Millis {
    at.div_euclid(QUARTER_MS) * QUARTER_MS
}

impl Quarters {
    pub fn of_times(times: &[Millis]) -> Self {
        let mut builder = QuartersBuilder::with_capacity(times.len());
        builder.extend(times);
        builder.finish()
    }

    /// Adds times when two bytes tell all of them: most pages have the same range, and to look for their
    /// least and greatest first would take as long as all else. False when nothing was added.
    fn extend_within(&mut self, times: &[Millis]) -> bool {
        let Offsets::U16(offsets) = &mut self.offsets else { return false };
        let (rows, first) = (offsets.len(), self.first);
        // What is before the first is beyond everything.
        let mut beyond = 0;
        offsets.extend(times.iter().map(|&at| {
            let twos = at.wrapping_sub(first) as u64 >> TWOS;
            let offset = twos as u32 / ODD;
            beyond |= (twos >> 32) as u32 | (offset >> 16);
            offset as u16
        }));
        if beyond > 0 {
            offsets.truncate(rows);
            return false;
        }
        let last = offsets[rows..].iter().fold(0, |last, offset| last.max(*offset));
        self.last = self.last.max(last.into());
        true
    }

    /// So that the quarters that start at these two can be told too.
    fn make_room(&mut self, least: Millis, greatest: Millis) {
        let earlier = ((self.first - least).max(0) / QUARTER_MS) as u32;
        self.first = self.first.min(least);
        self.last = (self.last + earlier).max(((greatest - self.first) / QUARTER_MS) as u32);
        if let (Offsets::U16(narrow), true) = (&self.offsets, self.last > u32::from(u16::MAX)) {
            self.offsets = Offsets::U32(narrow.iter().map(|&offset| offset.into()).collect());
        }
        if earlier > 0 {
            match &mut self.offsets {
                Offsets::U16(offsets) => offsets.iter_mut().for_each(|offset| *offset += earlier as u16),
                Offsets::U32(offsets) => offsets.iter_mut().for_each(|offset| *offset += earlier),
            }
        }
    }

    pub fn len(&self) -> usize {
        match &self.offsets {
            Offsets::U16(offsets) => offsets.len(),
            Offsets::U32(offsets) => offsets.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `of` is asked for the start of every quarter of the range that there may be a row of. Precondition: the
    /// range begins and ends with a quarter.
    ///
    /// However far apart the first and the last row are, the table is no longer than the range.
    pub fn by_quarter<T: Copy>(
        &self,
        range: Range<Millis>,
        outside: T,
        of: impl FnMut(Millis) -> T,
    ) -> ByQuarter<'_, T> {
        let (from, to) = (range.start.max(self.first), range.end.min(self.end()));
        let mut table: Vec<T> = Vec::new();
        if from < to {
            table.extend((from..to).step_by(QUARTER_MS as usize).map(of));
        }
        table.push(outside);
        let first = ((from - self.first) / QUARTER_MS) as u32;
        ByQuarter { offsets: &self.offsets, first, table: table.into() }
    }

    /// What a table says of the quarter of every row.
    pub fn by_table<T: Copy>(&self, of: &QuarterTable<T>) -> ByQuarter<'_, T> {
        let is_near = of.range.start < self.end() && self.first < of.range.end;
        if !is_near {
            // All of them are outside.
            let outside = &of.table[of.table.len() - 1..];
            return ByQuarter { offsets: &self.offsets, first: 0, table: outside.into() };
        }
        // Where the range begins before the rows, what is taken away from their offsets is below zero.
        let first = ((of.range.start - self.first) / QUARTER_MS) as u32;
        ByQuarter { offsets: &self.offsets, first, table: of.table.clone() }
    }

    /// The end of the last quarter.
    fn end(&self) -> Millis {
        self.first + (Millis::from(self.last) + 1) * QUARTER_MS
    }

    /// The rows within a range, ascending. Precondition: it begins and ends with a quarter.
    pub fn rows_within(&self, range: Range<Millis>) -> Vec<u32> {
        let mut rows = Vec::new();
        let (from, to) = (range.start.max(self.first), range.end.min(self.end()));
        if from >= to {
            return rows;
        }
        let (first, quarters) =
            (((from - self.first) / QUARTER_MS) as u32, ((to - from) / QUARTER_MS) as u32);
        // A chunk at a time: most rows of a segment may be outside.
        let (mut picked, mut next) = (Vec::new(), 0);
        match &self.offsets {
            // All 65,536 of them.
            Offsets::U16(offsets) if quarters > u32::from(u16::MAX) => rows.extend(0..offsets.len() as u32),
            Offsets::U16(offsets) => {
                let is_within = |offset: u16| offset.wrapping_sub(first as u16) < quarters as u16;
                for offsets in offsets.chunks(PICKED_AT_ONCE) {
                    let mut picker = Picker::new(&mut picked, offsets.len());
                    let (many, rest) = offsets.as_chunks::<AT_ONCE>();
                    for offsets in many {
                        picker.see_all(next, &offsets.map(|offset| is_within(offset).into()));
                        next += AT_ONCE as u32;
                    }
                    rest.iter().zip(next..).for_each(|(offset, row)| picker.see(row, is_within(*offset)));
                    picker.finish();
                    rows.extend_from_slice(&picked);
                }
            }
            Offsets::U32(offsets) => {
                let is_within = |offset: u32| offset.wrapping_sub(first) < quarters;
                for offsets in offsets.chunks(PICKED_AT_ONCE) {
                    let mut picker = Picker::new(&mut picked, offsets.len());
                    offsets.iter().zip(next..).for_each(|(offset, row)| picker.see(row, is_within(*offset)));
                    picker.finish();
                    next += offsets.len() as u32;
                    rows.extend_from_slice(&picked);
                }
            }
        }
        rows
    }

    pub fn memory_bytes(&self) -> usize {
        match &self.offsets {
            Offsets::U16(offsets) => size_of_val(&**offsets),
            Offsets::U32(offsets) => size_of_val(&**offsets),
        }
    }

    pub(super) fn gather(&self, rows: &[u32]) -> Self {
        let offsets = match &self.offsets {
            Offsets::U16(offsets) => Offsets::U16(rows.iter().map(|&row| offsets[row as usize]).collect()),
            Offsets::U32(offsets) => Offsets::U32(rows.iter().map(|&row| offsets[row as usize]).collect()),
        };
        Self { first: self.first, offsets, last: self.last }
    }
}

impl<T: Copy> ByQuarter<'_, T> {
    /// By offset, with all that is looked up once for many.
    fn look(&self) -> impl Fn(u32) -> T {
        let (first, table) = (self.first, &*self.table);
        let outside = table[table.len() - 1];
        // What is before the first becomes the greatest.
        move |offset| table.get(offset.wrapping_sub(first) as usize).copied().unwrap_or(outside)
    }

    pub fn at(&self, row: usize) -> T {
        match self.offsets {
            Offsets::U16(offsets) => self.look()(offsets[row].into()),
            Offsets::U32(offsets) => self.look()(offsets[row]),
        }
    }

    /// Adds what is known of each row of a range.
    pub fn append_range(&self, rows: Range<usize>, all: &mut Vec<T>) {
        let of = self.look();
        match self.offsets {
            Offsets::U16(offsets) => all.extend(offsets[rows].iter().map(|&offset| of(offset.into()))),
            Offsets::U32(offsets) => all.extend(offsets[rows].iter().map(|&offset| of(offset))),
        }
    }

    /// Adds what is known of each of these rows, in their order.
    pub fn append_to(&self, rows: &[u32], all: &mut Vec<T>) {
        let of = self.look();
        match self.offsets {
            Offsets::U16(offsets) => {
                let offsets = offsets.as_slice();
                all.extend(rows.iter().map(|&row| of(offsets[row as usize].into())));
            }
            Offsets::U32(offsets) => {
                let offsets = offsets.as_slice();
                all.extend(rows.iter().map(|&row| of(offsets[row as usize])));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_row_has_the_quarter_of_its_time(
            pages in prop::collection::vec(
                prop::collection::vec(
                    prop_oneof![0..3 * QUARTER_MS, -5_000_000..5_000_000_i64, 0..100_000_000_000_i64],
                    0..120,
                ),
                0..5,
            ),
        ) {
            let mut builder = QuartersBuilder::default();
            pages.iter().for_each(|page| builder.extend(page));
            let quarters = builder.finish();
            let times = pages.concat();
            prop_assert_eq!(quarters.len(), times.len());
            const ALL: Range<Millis> = -10_000 * QUARTER_MS..1_000_000 * QUARTER_MS;
            let starts = quarters.by_quarter(ALL, Millis::MIN, |start| start);
            let mut of_rows = Vec::new();
            starts.append_to(&(0..times.len() as u32).collect::<Vec<_>>(), &mut of_rows);
            prop_assert_eq!(of_rows.len(), times.len());
            let (from, to) = (times.len() / 3, times.len() - times.len() / 4);
            let mut of_range = vec![7];
            starts.append_range(from..to, &mut of_range);
            prop_assert_eq!(&of_range[1..], &of_rows[from..to]);
            for (row, at) in times.iter().enumerate() {
                let start = starts.at(row);
                prop_assert_eq!(start, of_rows[row]);
                prop_assert!((start..start + QUARTER_MS).contains(at) && begins_a_quarter(start));
            }
            for (from, to) in [(-3, 2), (1, 400), (-10_000, 1_000_000), (70_000, 80_000), (5, 5)] {
                let range = from * QUARTER_MS..to * QUARTER_MS;
                let expected: Vec<u32> =
                    (0..times.len() as u32).filter(|row| range.contains(&times[*row as usize])).collect();
                prop_assert_eq!(quarters.rows_within(range.clone()), &*expected);
                let by_table = QuarterTable::new(range, Millis::MIN, |start| start);
                let by_table = quarters.by_table(&by_table);
                let found = (0..times.len() as u32).filter(|row| by_table.at(*row as usize) == starts.at(*row as usize));
                prop_assert_eq!(found.collect::<Vec<_>>(), expected);
            }
            let some: Vec<u32> = (0..times.len() as u32).rev().step_by(2).collect();
            let gathered = quarters.gather(&some);
            let gathered = gathered.by_quarter(ALL, Millis::MIN, |start| start);
            for (to, &from) in some.iter().enumerate() {
                prop_assert_eq!(gathered.at(to), starts.at(from as usize));
            }
        }
    }

    #[test]
    fn a_table_is_no_longer_than_the_range_that_it_is_asked_for() {
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
            let mut asked = 0;
            let found = quarters.by_quarter(whole, 0, |start| {
                asked += 1;
                assert!(begins_a_quarter(start));
                1
            });
            assert_eq!([0, 1, 2, 3, 4].map(|row| found.at(row)), expected, "{range:?}");
            assert!(asked <= range.end - range.start);
        }
    }

    #[test]
    fn all_quarters_that_two_bytes_tell_may_be_within_a_range() {
        let quarters = Quarters::of_times(&[0, 65_535 * QUARTER_MS, 7 * QUARTER_MS]);
        assert_eq!(quarters.memory_bytes(), 6);
        assert_eq!(quarters.rows_within(-QUARTER_MS..65_536 * QUARTER_MS), [0, 1, 2]);
        assert_eq!(quarters.rows_within(0..65_535 * QUARTER_MS), [0, 2]);
        assert_eq!(quarters.rows_within(QUARTER_MS..65_536 * QUARTER_MS), [1, 2]);
    }

    #[test]
    fn quarters_take_two_bytes_for_682_days_and_four_beyond() {
        let last = 65_535 * QUARTER_MS;
        for (times, bytes) in [(vec![0, last], 4), (vec![0, last + QUARTER_MS], 8), (vec![last, -1], 8)] {
            assert_eq!(Quarters::of_times(&times).memory_bytes(), bytes, "{times:?}");
        }
    }
}
