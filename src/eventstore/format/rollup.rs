//! The rows of a segment counted by event and time.
//!
//! Who asks how many events there were on each day needs no person and no property, and would decode
//! millions of rows to learn a few thousand numbers. A segment has these numbers in part 0, where they are
//! a small part of its rows: by quarters of an hour, or else by hours or days. Where even those are too many,
//! who counts reads the rows.
//!
//! ```text
//! rollup  = quarters of a step (varint) · events (varint) · event …
//! event   = name (length as varint, UTF-8) · cells (varint) · cell …
//! cell    = steps after the one before (zigzag), of the first since 1970 · rows (varint)
//! ```

use std::sync::Arc;

use super::FormatError;
use super::names::Names;
use crate::eventstore::{COUNT_STEPS, Dictionary, QUARTER_MS, Quarters, RowBlock};
use crate::model::{
    FastMap, Interned, Millis, PropertiesError, put_text, put_varint, put_zigzag, take_text, take_varint,
    take_zigzag,
};

/// Smaller segments are read as quickly without one.
const ROWS_MIN: u64 = if cfg!(test) { 8 } else { 4_096 };
/// With fewer rows a cell, a rollup is hardly smaller than the columns it is read instead of.
const ROWS_A_CELL_MIN: u64 = if cfg!(test) { 2 } else { 8 };
/// Part 0 is read for other purposes too.
const CELLS_MAX: u64 = if cfg!(test) { 1_000 } else { 32_768 };
/// Of all names together: a client may write ids into them.
const NAME_BYTES_MAX: usize = if cfg!(test) { 2_000 } else { 64 << 10 };

/// Since 1970, in steps. Of times tens of thousands of years away, which nobody sends, there is no rollup.
type Step = i32;

/// Counts while rows are written, by longer steps when there are too many cells.
pub(super) struct RollupBuilder {
    names: Names,
    /// How many names there are, and how long they are together.
    known: usize,
    name_bytes: usize,
    /// How long a step is.
    step_ms: Millis,
    /// Rows by the number of the event and the step; `None`: they are not worth it.
    cells: Option<FastMap<(u32, Step), u32>>,
    cells_max: usize,
}

impl RollupBuilder {
    /// `rows` is how many will come, about.
    pub fn new(rows: u64) -> Self {
        let cells_max = (rows / ROWS_A_CELL_MIN).min(CELLS_MAX) as usize;
        let cells = (rows >= ROWS_MIN).then(FastMap::default);
        Self { names: Names::default(), known: 0, name_bytes: 0, step_ms: COUNT_STEPS[0], cells, cells_max }
    }

    /// Whether it is still worth to go on.
    pub fn is_open(&self) -> bool {
        self.cells.is_some()
    }

    /// Whether a rollup of this step tells enough to be added.
    pub fn can_add(&self, rollup: Rollup<'_>) -> Result<bool, FormatError> {
        Ok(rollup.step_ms()? <= self.step_ms)
    }

    pub fn add(&mut self, event: &[u8], occurred_at: Millis) {
        if self.is_open() {
            let number = self.number(event);
            self.add_cell(number, occurred_at, 1);
        }
    }

    /// The rows of another segment, which has so many. Precondition: it [can be added](Self::can_add).
    pub fn add_all(&mut self, rollup: Rollup<'_>, rows: u64) -> Result<(), FormatError> {
        rollup.for_each_event(rows, |event, cells| {
            let number = self.number(event.as_bytes());
            cells.iter().for_each(|&(start, rows)| self.add_cell(number, start, rows));
        })
    }

    fn number(&mut self, event: &[u8]) -> usize {
        let number = self.names.number(0, event);
        if number == self.known {
            self.known += 1;
            self.name_bytes += event.len();
            if self.name_bytes > NAME_BYTES_MAX {
                self.close();
            }
        }
        number
    }

    fn close(&mut self) {
        self.cells = None;
        self.names = Names::default();
    }

    fn add_cell(&mut self, event: usize, at: Millis, rows: u32) {
        let Some(cells) = &mut self.cells else { return };
        let Ok(step) = Step::try_from(at.div_euclid(self.step_ms)) else {
            self.close();
            return;
        };
        // All rows of a segment fit.
        *cells.entry((event as u32, step)).or_insert(0) += rows;
        while self.cells.as_ref().is_some_and(|cells| cells.len() > self.cells_max) {
            self.lengthen();
        }
    }

    /// The same rows by the next longer step, if there is one.
    fn lengthen(&mut self) {
        let longer = COUNT_STEPS.into_iter().find(|step_ms| *step_ms > self.step_ms);
        let cells = self.cells.take();
        let (Some(step_ms), Some(cells)) = (longer, cells) else { return self.close() };
        let times = (step_ms / self.step_ms) as Step;
        let mut fewer = FastMap::default();
        for ((event, step), rows) in cells {
            *fewer.entry((event, step.div_euclid(times))).or_insert(0) += rows;
        }
        (self.step_ms, self.cells) = (step_ms, Some(fewer));
    }

    /// Empty where there is none.
    pub fn finish(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Some(cells) = self.cells.filter(|cells| !cells.is_empty()) else { return bytes };
        let names = self.names.into_names();
        let mut by_event: Vec<(String, Vec<(Step, u32)>)> =
            names.into_iter().map(|name| (name, Vec::new())).collect();
        for ((event, step), rows) in cells {
            by_event[event as usize].1.push((step, rows));
        }
        // So that the same rows always give the same bytes.
        by_event.sort_unstable();
        put_varint(&mut bytes, (self.step_ms / QUARTER_MS) as u64);
        put_varint(&mut bytes, by_event.len() as u64);
        for (name, mut cells) in by_event {
            cells.sort_unstable();
            put_text(&mut bytes, &name);
            put_varint(&mut bytes, cells.len() as u64);
            let mut last = 0;
            for (step, rows) in cells {
                put_zigzag(&mut bytes, i64::from(step) - last);
                put_varint(&mut bytes, rows.into());
                last = step.into();
            }
        }
        bytes
    }
}

fn unreadable(error: PropertiesError) -> FormatError {
    FormatError::corrupt(format!("rollup: {error}"))
}

/// The bytes that a builder gave.
#[derive(Clone, Copy)]
pub(super) struct Rollup<'a>(pub &'a [u8]);

impl<'a> Rollup<'a> {
    pub fn step_ms(self) -> Result<Millis, FormatError> {
        self.head().map(|(step_ms, _)| step_ms)
    }

    /// The length of a step, and the bytes behind it.
    fn head(self) -> Result<(Millis, &'a [u8]), FormatError> {
        let mut rest = self.0;
        let quarters = take_varint(&mut rest).map_err(unreadable)?;
        let step_ms = COUNT_STEPS.into_iter().find(|step_ms| (step_ms / QUARTER_MS) as u64 == quarters);
        let unknown = || FormatError::corrupt(format!("a rollup by {quarters} quarters of an hour"));
        Ok((step_ms.ok_or_else(unknown)?, rest))
    }

    /// The name of each event, and of each of its cells the beginning and the rows. An error unless these are
    /// `expected` together.
    fn for_each_event(
        self,
        expected: u64,
        mut visit: impl FnMut(&'a str, &[(Millis, u32)]),
    ) -> Result<(), FormatError> {
        let (step_ms, mut rest) = self.head()?;
        let (mut cells, mut counted) = (Vec::new(), 0_u64);
        for _ in 0..take_varint(&mut rest).map_err(unreadable)? {
            let name = take_text(&mut rest).map_err(unreadable)?;
            cells.clear();
            let mut last = 0_i64;
            for _ in 0..take_varint(&mut rest).map_err(unreadable)? {
                last = last.wrapping_add(take_zigzag(&mut rest).map_err(unreadable)?);
                let rows = take_varint(&mut rest).map_err(unreadable)?;
                let (Ok(step), Ok(rows)) = (Step::try_from(last), u32::try_from(rows)) else {
                    return Err(FormatError::corrupt(format!("{rows} rows in the step {last}")));
                };
                counted += u64::from(rows);
                if counted > expected {
                    break;
                }
                cells.push((Millis::from(step) * step_ms, rows));
            }
            if counted > expected {
                break;
            }
            visit(name, &cells);
        }
        if counted != expected || !rest.is_empty() {
            let detail = format!("a rollup of {counted} rows, and {} bytes more, of {expected}", rest.len());
            return Err(FormatError::corrupt(detail));
        }
        Ok(())
    }

    /// A row for each cell, which stands for as many events as the cell has.
    pub fn read(self, rows: u64) -> Result<RowBlock, FormatError> {
        let (mut names, mut codes) = (Vec::new(), Vec::new());
        let (mut starts, mut stand_for) = (Vec::new(), Vec::new());
        self.for_each_event(rows, |name, cells| {
            codes.extend(std::iter::repeat_n(names.len() as u32, cells.len()));
            names.push(Interned::new(name));
            for &(start, rows) in cells {
                starts.push(start);
                stand_for.push(rows);
            }
        })?;
        Ok(RowBlock {
            event: Arc::new(Dictionary::new(codes.into_iter(), names)),
            quarters: Arc::new(Quarters::of_times(&starts)),
            stand_for: Some(stand_for.into()),
            ..RowBlock::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::DAY_MS;

    fn built(rows: &[(&str, Millis)], expected: u64) -> Vec<u8> {
        let mut builder = RollupBuilder::new(expected);
        rows.iter().for_each(|(event, at)| builder.add(event.as_bytes(), *at));
        builder.finish()
    }

    fn counted(block: &RowBlock) -> BTreeMap<(String, Millis), u32> {
        const ALL: std::ops::Range<Millis> = -100_000_000 * QUARTER_MS..100_000_000 * QUARTER_MS;
        let starts = block.quarters.by_quarter(ALL, Millis::MIN, |start| start);
        let stand_for = block.stand_for.as_ref().unwrap();
        let cell = |row: usize| ((block.event.get(row).unwrap().to_owned(), starts.at(row)), stand_for[row]);
        block.rows().map(cell).collect()
    }

    proptest! {
        #[test]
        fn cells_have_the_rows_of_their_event_and_quarter_also_when_they_are_joined(
            rows in prop::collection::vec(
                (
                    prop::sample::select(vec!["a", "b", "", "é"]),
                    prop_oneof![0..4 * QUARTER_MS, -50_000_000..50_000_000_i64],
                ),
                1..60,
            ),
            middle in 0_usize..60,
        ) {
            let all = rows.len() as u64;
            let expected_rows = all.max(ROWS_MIN);
            let whole = built(&rows, expected_rows);
            let by_step = |step_ms: Millis| {
                let mut expected = BTreeMap::new();
                for (event, at) in &rows {
                    let start = at.div_euclid(step_ms) * step_ms;
                    *expected.entry(((*event).to_owned(), start)).or_insert(0) += 1;
                }
                expected
            };
            let fits = |step_ms: &Millis| by_step(*step_ms).len() as u64 <= expected_rows / ROWS_A_CELL_MIN;
            let shortest = COUNT_STEPS.into_iter().find(fits);
            prop_assert_eq!(whole.is_empty(), shortest.is_none());
            if let Some(step_ms) = shortest {
                prop_assert_eq!(Rollup(&whole).step_ms().unwrap(), step_ms);
                prop_assert_eq!(counted(&Rollup(&whole).read(all).unwrap()), by_step(step_ms));
            }

            let (one, other) = rows.split_at(middle.min(rows.len()));
            let mut joined = RollupBuilder::new(expected_rows);
            for rows in [one, other] {
                let part = built(rows, expected_rows);
                if !part.is_empty() && joined.can_add(Rollup(&part)).unwrap() {
                    joined.add_all(Rollup(&part), rows.len() as u64).unwrap();
                } else {
                    rows.iter().for_each(|(event, at)| joined.add(event.as_bytes(), *at));
                }
            }
            prop_assert_eq!(joined.finish(), whole);
        }

        #[test]
        fn changed_bytes_are_an_error_or_other_numbers_but_no_panic(at in 0_usize..40, to: u8) {
            let mut bytes = built(&[("a", 5), ("b", 7 * QUARTER_MS), ("b", -9), ("b", -9)], ROWS_MIN);
            let place = at % bytes.len();
            bytes[place] = to;
            let _ = Rollup(&bytes).read(4);
            bytes.truncate(place);
            prop_assert!(Rollup(&bytes).read(4).is_err());
        }
    }

    #[test]
    fn there_is_none_of_more_cells_than_it_may_have() {
        let rows: Vec<_> = (0..=ROWS_MIN as i64).map(|n| ("a", n * DAY_MS)).collect();
        let least = rows.len() as u64 * ROWS_A_CELL_MIN;
        assert!(!built(&rows, least).is_empty() && built(&rows, least - 1).is_empty());
        let rows: Vec<_> = (0..=CELLS_MAX as i64).map(|n| ("a", n * DAY_MS)).collect();
        assert!(!built(&rows[1..], u64::MAX).is_empty());
        assert!(built(&rows, u64::MAX).is_empty());
        assert!(built(&rows[..1], ROWS_MIN - 1).is_empty() && !built(&rows[..1], ROWS_MIN).is_empty());
    }

    #[test]
    fn there_is_none_of_names_that_are_too_long_together() {
        for (bytes, is_there) in [(NAME_BYTES_MAX, true), (NAME_BYTES_MAX + 1, false)] {
            let mut builder = RollupBuilder::new(1_000);
            for n in 0..10 {
                let length = if n == 0 { bytes - 9 * (NAME_BYTES_MAX / 10) } else { NAME_BYTES_MAX / 10 };
                builder.add(n.to_string().repeat(length).as_bytes(), 0);
            }
            assert_eq!((builder.is_open(), !builder.finish().is_empty()), (is_there, is_there), "{bytes}");
        }
    }

    #[test]
    fn a_rollup_of_other_rows_than_the_segment_has_is_not_believed() {
        let bytes = built(&[("a", 0), ("a", 1)], ROWS_MIN);
        assert!(Rollup(&bytes).read(2).is_ok());
        for rows in [1, 3] {
            assert!(Rollup(&bytes).read(rows).is_err());
            assert!(RollupBuilder::new(100).add_all(Rollup(&bytes), rows).is_err(), "nor joined");
        }
    }
}
