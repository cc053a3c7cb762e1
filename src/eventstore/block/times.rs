//! Times of rows, to the millisecond.
//!
//! Four bytes tell times within 24 days of the first row's on either side, which is where the rows of most
//! segments lie; others take eight.

use std::ops::Range;

use crate::model::Millis;

#[derive(Clone, Debug)]
pub struct Times(Stored);

#[derive(Clone, Debug)]
enum Stored {
    /// Milliseconds after this instant.
    Near {
        base: Millis,
        offsets: Vec<u32>,
    },
    Whole(Vec<Millis>),
}

/// How far before the first row the instant lies that others are counted from.
const BEFORE: Millis = 1 << 31;

impl Default for Times {
    fn default() -> Self {
        Self(Stored::Near { base: 0, offsets: Vec::new() })
    }
}

impl Times {
    pub fn with_capacity(rows: usize) -> Self {
        Self(Stored::Near { base: 0, offsets: Vec::with_capacity(rows) })
    }

    /// Of milliseconds after an instant.
    pub fn near(base: Millis, offsets: Vec<u32>) -> Self {
        Self(Stored::Near { base, offsets })
    }

    pub fn extend(&mut self, times: &[Millis]) {
        if let Stored::Near { base, offsets } = &mut self.0 {
            if let (Some(first), true) = (times.first(), offsets.is_empty()) {
                *base = first.saturating_sub(BEFORE);
            }
            let (rows, base) = (offsets.len(), *base);
            let mut beyond = 0;
            offsets.extend(times.iter().map(|&at| {
                // The distance where it comes later, however far apart they are.
                let offset = at.wrapping_sub(base) as u64;
                beyond |= offset >> u32::BITS | u64::from(at < base);
                offset as u32
            }));
            if beyond == 0 {
                return;
            }
            let whole = offsets[..rows].iter().map(|&offset| base + Millis::from(offset));
            let mut whole: Vec<Millis> = whole.collect();
            whole.reserve(offsets.capacity().saturating_sub(rows));
            self.0 = Stored::Whole(whole);
        }
        if let Stored::Whole(whole) = &mut self.0 {
            whole.extend_from_slice(times);
        }
    }

    pub fn len(&self) -> usize {
        match &self.0 {
            Stored::Near { offsets, .. } => offsets.len(),
            Stored::Whole(whole) => whole.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn at(&self, row: usize) -> Millis {
        match &self.0 {
            Stored::Near { base, offsets } => base + Millis::from(offsets[row]),
            Stored::Whole(whole) => whole[row],
        }
    }

    /// Adds what `of` makes of each of these rows: of its place among them, the row and its time.
    pub fn append_to<T>(&self, rows: &[u32], all: &mut Vec<T>, of: impl Fn(usize, u32, Millis) -> T) {
        let rows = rows.iter().copied().enumerate();
        match &self.0 {
            Stored::Near { base, offsets } => {
                let (base, offsets) = (*base, offsets.as_slice());
                let at = |row: u32| base + Millis::from(offsets[row as usize]);
                all.extend(rows.map(|(place, row)| of(place, row, at(row))));
            }
            Stored::Whole(whole) => {
                let whole = whole.as_slice();
                all.extend(rows.map(|(place, row)| of(place, row, whole[row as usize])));
            }
        }
    }

    /// Adds what `of` makes of each row of a range: of what else is known of it, in order, and its time.
    pub fn append_range<T, O>(
        &self,
        rows: Range<usize>,
        others: impl Iterator<Item = O>,
        all: &mut Vec<T>,
        of: impl Fn(O, Millis) -> T,
    ) {
        match &self.0 {
            Stored::Near { base, offsets } => {
                let base = *base;
                let times = offsets[rows].iter().map(|&offset| base + Millis::from(offset));
                all.extend(others.zip(times).map(|(other, at)| of(other, at)));
            }
            Stored::Whole(whole) => all.extend(others.zip(&whole[rows]).map(|(other, at)| of(other, *at))),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Millis> {
        (0..self.len()).map(|row| self.at(row))
    }

    pub fn memory_bytes(&self) -> usize {
        match &self.0 {
            Stored::Near { offsets, .. } => size_of_val(&**offsets),
            Stored::Whole(whole) => size_of_val(&**whole),
        }
    }

    pub(super) fn gather(&self, rows: &[u32]) -> Self {
        let times: Vec<Millis> = rows.iter().map(|&row| self.at(row as usize)).collect();
        times.as_slice().into()
    }
}

impl From<&[Millis]> for Times {
    fn from(times: &[Millis]) -> Self {
        let mut all = Self::with_capacity(times.len());
        all.extend(times);
        all
    }
}

impl FromIterator<Millis> for Times {
    fn from_iter<I: IntoIterator<Item = Millis>>(times: I) -> Self {
        times.into_iter().collect::<Vec<_>>().as_slice().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_row_has_its_time_however_far_apart_they_are(
            pages in prop::collection::vec(
                prop::collection::vec(
                    prop_oneof![
                        4 => -1_000_000..1_000_000_i64,
                        1 => -3 * BEFORE..3 * BEFORE,
                        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(i64::MAX - BEFORE)],
                    ],
                    0..6,
                ),
                0..5,
            ),
        ) {
            let mut times = Times::with_capacity(3);
            pages.iter().for_each(|page| times.extend(page));
            let expected = pages.concat();
            prop_assert_eq!(times.len(), expected.len());
            prop_assert_eq!((0..expected.len()).map(|row| times.at(row)).collect::<Vec<_>>(), &*expected);
            let some: Vec<u32> = (0..expected.len() as u32).rev().step_by(2).collect();
            let mut found = Vec::new();
            times.append_to(&some, &mut found, |place, row, at| (some[place], row, at));
            prop_assert!(found.into_iter().eq(some.iter().map(|row| (*row, *row, expected[*row as usize]))));
            let middle = expected.len() / 3..expected.len();
            let mut found = Vec::new();
            times.append_range(middle.clone(), middle.clone(), &mut found, |row, at| (row, at));
            prop_assert!(found.into_iter().eq(middle.map(|row| (row, expected[row]))));
            let gathered = times.gather(&some);
            let found = (0..some.len()).map(|row| gathered.at(row));
            prop_assert!(found.eq(some.iter().map(|row| expected[*row as usize])));
        }
    }

    #[test]
    fn times_near_the_first_take_four_bytes_and_others_eight() {
        for (times, bytes) in [
            ([0, -BEFORE, BEFORE - 1], 12),
            ([0, -BEFORE - 1, 0], 24),
            ([0, BEFORE, 0], 24),
            ([BEFORE, 2 * BEFORE - 1, 0], 12),
        ] {
            assert_eq!(Times::from(&times[..]).memory_bytes(), bytes, "{times:?}");
        }
    }
}
