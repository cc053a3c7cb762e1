//! Times as quarters of an hour.
//!
//! Who asks for hours, days or months need not know the millisecond: all zones of today change their
//! offset, and all days begin, at a quarter of an hour. A quarter takes two bytes a row instead of eight,
//! and what it means is found out once a quarter instead of once a row.

mod within;

use std::ops::Range;
use std::sync::Arc;

pub use self::within::QuartersWithin;
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

/// The number of the quarter of every row, found out once a quarter.
pub struct ByQuarter<'a> {
    offsets: &'a Offsets,
    /// The offset of the first entry.
    first: u32,
    /// The last entry is that of all quarters outside.
    table: Arc<[u32]>,
    even: Option<Even>,
}

/// A number for every quarter of a range, for any rows.
#[derive(Clone, Debug)]
pub struct QuarterTable {
    range: Range<Millis>,
    /// The last entry is that of all quarters outside.
    table: Arc<[u32]>,
    even: Option<Even>,
}

/// Numbers that grow by one after so many quarters each, as days of a zone do whose clock is not changed: these can
/// be worked out for several rows at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Even {
    /// How many quarters of the first number are missing.
    missing: u32,
    /// Of 2^32, what one quarter is of so many.
    share: u32,
}

impl QuarterTable {
    /// `of` is asked for the start of every quarter. Precondition: the range begins and ends with a quarter.
    pub fn new(range: Range<Millis>, outside: u32, of: impl FnMut(Millis) -> u32) -> Self {
        let quarters = range.clone().step_by(QUARTER_MS as usize).map(of);
        let table: Arc<[u32]> = quarters.chain([outside]).collect();
        Self { even: Even::find(&table[..table.len() - 1]), table, range }
    }
}

impl Even {
    fn find(numbers: &[u32]) -> Option<Self> {
        let of_first = numbers.iter().take_while(|number| **number == 0).count();
        let of_second = numbers[of_first..].iter().take_while(|number| **number == 1).count();
        let step = of_first.max(of_second) as u64;
        // The share is rounded up, by less than what would make a difference.
        let is_exact = step > 1 && (numbers.len() as u64 + step) * step < 1 << 32;
        let share = is_exact.then(|| u32::MAX / step as u32 + 1)?;
        let even = Self { missing: step as u32 - of_first as u32, share };
        (0..)
            .zip(numbers)
            .all(|(quarter, number)| even.number(quarter + even.missing) == *number)
            .then_some(even)
    }

    /// `quarter`: from the beginning of the first number.
    fn number(self, quarter: u32) -> u32 {
        ((u64::from(quarter) * u64::from(self.share)) >> 32) as u32
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

impl From<Quarters> for QuartersBuilder {
    fn from(found: Quarters) -> Self {
        Self { rows: 0, found: (!found.is_empty()).then_some(found) }
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
    /// Of quarters after one that begins then.
    pub fn near(first: Millis, offsets: Vec<u16>) -> Self {
        debug_assert!(begins_a_quarter(first));
        let last = offsets.iter().fold(0, |last, offset| last.max(*offset));
        Self { first, offsets: Offsets::U16(offsets), last: last.into() }
    }

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

    /// The start of a row's quarter.
    #[cfg(test)]
    pub fn start_of(&self, row: usize) -> Millis {
        let offset = match &self.offsets {
            Offsets::U16(offsets) => offsets[row].into(),
            Offsets::U32(offsets) => offsets[row],
        };
        self.first + Millis::from(offset) * QUARTER_MS
    }

    /// What a table says of the quarter of every row.
    pub fn by_table(&self, of: &QuarterTable) -> ByQuarter<'_> {
        let is_near = of.range.start < self.end() && self.first < of.range.end;
        if !is_near {
            // All of them are outside.
            let outside = &of.table[of.table.len() - 1..];
            return ByQuarter { offsets: &self.offsets, first: 0, table: outside.into(), even: None };
        }
        // Where the range begins before the rows, what is taken away from their offsets is below zero.
        let first = ((of.range.start - self.first) / QUARTER_MS) as u32;
        ByQuarter { offsets: &self.offsets, first, table: of.table.clone(), even: of.even }
    }

    /// The end of the last quarter.
    fn end(&self) -> Millis {
        self.first + (Millis::from(self.last) + 1) * QUARTER_MS
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

impl ByQuarter<'_> {
    /// By offset, with all that is looked up once for many.
    fn look(&self) -> impl Fn(u32) -> u32 {
        let (first, table) = (self.first, &*self.table);
        let outside = table[table.len() - 1];
        // What is before the first becomes the greatest.
        move |offset| table.get(offset.wrapping_sub(first) as usize).copied().unwrap_or(outside)
    }

    pub fn at(&self, row: usize) -> u32 {
        match self.offsets {
            Offsets::U16(offsets) => self.look()(offsets[row].into()),
            Offsets::U32(offsets) => self.look()(offsets[row]),
        }
    }

    /// Adds the number of each row of a range.
    pub fn append_range(&self, rows: Range<usize>, all: &mut Vec<u32>) {
        let of = self.look();
        match (self.offsets, self.even) {
            (Offsets::U16(offsets), Some(even)) => {
                let (first, outside) = (self.first, self.table[self.table.len() - 1]);
                let quarters = self.table.len() as u32 - 1;
                all.extend(offsets[rows].iter().map(|&offset| {
                    let quarter = u32::from(offset).wrapping_sub(first);
                    let number = even.number(quarter.wrapping_add(even.missing));
                    if quarter < quarters { number } else { outside }
                }));
            }
            (Offsets::U16(offsets), None) => {
                all.extend(offsets[rows].iter().map(|&offset| of(offset.into())));
            }
            (Offsets::U32(offsets), _) => all.extend(offsets[rows].iter().map(|&offset| of(offset))),
        }
    }

    /// Adds the number of each of these rows, in their order.
    pub fn append_to(&self, rows: &[u32], all: &mut Vec<u32>) {
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
            for (row, at) in times.iter().enumerate() {
                let start = quarters.start_of(row);
                prop_assert!((start..start + QUARTER_MS).contains(at) && begins_a_quarter(start));
            }
            for (from, to) in [(-3, 2), (1, 400), (-10_000, 1_000_000), (70_000, 80_000), (5, 5)] {
                let range = from * QUARTER_MS..to * QUARTER_MS;
                let expected: Vec<u32> =
                    (0..times.len() as u32).filter(|row| range.contains(&times[*row as usize])).collect();
                let within = quarters.within(&range);
                prop_assert_eq!(within.map_or(0, |within| within.count()), expected.len());
                prop_assert_eq!(within.map(QuartersWithin::to_rows).unwrap_or_default(), &*expected);
                for row in 0..quarters.len() {
                    let is_within = within.is_some_and(|within| within.at(row));
                    prop_assert_eq!(is_within, expected.contains(&(row as u32)));
                }
                // Quarters by twos, from the beginning of the range.
                let table = QuarterTable::new(range.clone(), u32::MAX, |start| ((start - range.start) / QUARTER_MS / 2) as u32);
                let by_table = quarters.by_table(&table);
                for (row, at) in times.iter().enumerate() {
                    let number = range.contains(at).then(|| ((at - range.start) / QUARTER_MS / 2) as u32);
                    prop_assert_eq!(by_table.at(row), number.unwrap_or(u32::MAX));
                }
                let rows: Vec<u32> = (0..times.len() as u32).collect();
                let numbers: Vec<u32> = (0..times.len()).map(|row| by_table.at(row)).collect();
                let (mut of_rows, mut of_range) = (vec![7], vec![7]);
                let some = times.len() / 3..times.len() - times.len() / 4;
                by_table.append_to(&rows[some.clone()], &mut of_rows);
                by_table.append_range(some.clone(), &mut of_range);
                prop_assert_eq!(&of_rows[1..], &numbers[some]);
                prop_assert_eq!(of_range, of_rows);
            }
            let some: Vec<u32> = (0..times.len() as u32).rev().step_by(2).collect();
            let gathered = quarters.gather(&some);
            for (to, &from) in some.iter().enumerate() {
                prop_assert_eq!(gathered.start_of(to), quarters.start_of(from as usize));
            }
        }
    }

    #[test]
    fn numbers_that_grow_evenly_are_worked_out_and_others_looked_up() {
        const HOURS: Range<Millis> = 0..40 * 4 * QUARTER_MS;
        let days = |quarters: Millis, missing: Millis| {
            QuarterTable::new(HOURS, u32::MAX, |at| ((at / QUARTER_MS + missing) / quarters) as u32)
        };
        let uneven = QuarterTable::new(HOURS, u32::MAX, |at| u32::from(at > 5 * QUARTER_MS) * 2);
        let skipping =
            QuarterTable::new(HOURS, u32::MAX, |at| (at / QUARTER_MS / 7 - at / QUARTER_MS / 100) as u32);
        for (table, is_even) in [
            (days(4, 0), true),
            (days(96, 95), true),
            (days(96, 0), true),
            (days(7, 3), true),
            (days(1_000, 0), true),
            (days(1, 0), false),
            (uneven, false),
            (skipping, false),
        ] {
            assert_eq!(table.even.is_some(), is_even, "{table:?}");
            // Of rows that begin with the range, and later.
            for first in [0, 50] {
                let times: Vec<Millis> = (first..160).map(|quarter| quarter * QUARTER_MS + 7).collect();
                let quarters = Quarters::of_times(&times);
                let by_table = quarters.by_table(&table);
                let (mut found, rows) = (Vec::new(), 3..times.len());
                by_table.append_range(rows.clone(), &mut found);
                assert_eq!(found, rows.map(|row| by_table.at(row)).collect::<Vec<_>>(), "{table:?}");
            }
        }
        let late = QuarterTable::new(80 * QUARTER_MS..160 * QUARTER_MS, u32::MAX, |at| {
            (at / QUARTER_MS / 40 - 2) as u32
        });
        let quarters = Quarters::of_times(&[0, 80, 119, 120, 159, 160].map(|quarter| quarter * QUARTER_MS));
        let mut found = Vec::new();
        quarters.by_table(&late).append_range(0..6, &mut found);
        assert_eq!((late.even.is_some(), &*found), (true, &[u32::MAX, 0, 0, 1, 1, u32::MAX][..]));
    }
}
