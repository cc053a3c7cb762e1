//! The rows of a segment counted by event and time.
//!
//! Who asks how many events there were on each day needs no person and no property, and would decode
//! millions of rows to learn a few thousand numbers. A segment has these numbers where they are a small part of
//! its rows: by quarters of an hour, by hours and by days, each in zstd by itself, so that who wants days reads
//! a hundredth of what the quarters are. Of the short steps there are none where they would be too many; where
//! even days are, who counts reads the rows.
//!
//! They lie in part 0, which everybody reads. From version 7 of the format on, the long ones of segments that
//! have their times by event lie behind these.
//!
//! ```text
//! rollup  = events (varint) · event …
//! event   = name (length as varint, UTF-8) · cells (varint) · cell …
//! cell    = steps after the one before (zigzag), of the first since 1970 · rows (varint)
//! ```
//!
//! Up to version 4 of the format there is one, by the shortest steps. Before its events it has the quarters of
//! a step (varint), and it is packed with the rest of part 0.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::FormatError;
use super::inflate::inflate;
use super::names::Names;
use super::parts::{PartSet, PartTable};
use crate::eventstore::{COUNT_STEPS, Dictionary, QUARTER_MS, Quarters, RowBlock};
use crate::model::{
    FastMap, Interned, Millis, PropertiesError, put_text, put_varint, put_zigzag, take_text, take_varint,
    take_zigzag,
};

/// Smaller segments are read as quickly without one.
const ROWS_MIN: u64 = if cfg!(test) { 8 } else { 4_096 };
/// With fewer rows a cell, a rollup is hardly smaller than the columns it is read instead of.
const ROWS_A_CELL_MIN: u64 = if cfg!(test) { 2 } else { 8 };
/// Who merges segments reads all of them.
const CELLS_MAX: u64 = if cfg!(test) { 1_000 } else { 32_768 };
/// A longer one lies behind the times: part 0 is read by all who do not count too.
const BYTES_IN_PART_0_MAX: usize = if cfg!(test) { 30 } else { 2_048 };
/// A rollup by longer steps is kept beside one by shorter ones that has this many times its cells.
const TIMES_FEWER_MIN: usize = 2;
const ZSTD_LEVEL: i32 = 3;
/// Of all names together: a client may write ids into them.
const NAME_BYTES_MAX: usize = if cfg!(test) { 2_000 } else { 64 << 10 };

/// Since 1970, in steps. Of times tens of thousands of years away, which nobody sends, there is no rollup.
type Step = i32;

/// More than the cells and names of any take.
const BYTES_MAX: u64 = 1 << 20;

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
    pub fn can_add(&self, rollup: &Rollup) -> bool {
        rollup.step_ms <= self.step_ms
    }

    pub fn add(&mut self, event: &[u8], occurred_at: Millis) {
        if self.is_open() {
            let number = self.number(event);
            self.add_cell(number, occurred_at, 1);
        }
    }

    /// The rows of another segment, which has so many. Precondition: it [can be added](Self::can_add).
    pub fn add_all(&mut self, rollup: &Rollup, rows: u64) -> Result<(), FormatError> {
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

    /// From the shortest steps to the longest; empty where there is none.
    pub fn finish(self) -> Vec<Rollup> {
        let mut rollups = Vec::new();
        let Some(cells) = self.cells.filter(|cells| !cells.is_empty()) else { return rollups };
        let names = self.names.into_names();
        let mut events: Vec<EventCells> = names.into_iter().map(|name| (name, Vec::new())).collect();
        for ((event, step), rows) in cells {
            events[event as usize].1.push((step, rows));
        }
        // So that the same rows always give the same bytes.
        events.sort_unstable();
        events.iter_mut().for_each(|(_, cells)| cells.sort_unstable());
        let (mut last_ms, mut cells_max) = (self.step_ms, usize::MAX);
        for step_ms in COUNT_STEPS.into_iter().filter(|step_ms| *step_ms >= self.step_ms) {
            let times = (step_ms / std::mem::replace(&mut last_ms, step_ms)) as Step;
            events.iter_mut().for_each(|(_, cells)| lengthen_steps(cells, times));
            let cells = events.iter().map(|(_, cells)| cells.len()).sum::<usize>();
            if cells <= cells_max {
                cells_max = cells / TIMES_FEWER_MIN;
                rollups.push(Rollup { step_ms, body: Body::Events(bytes_of(&events).into()) });
            }
        }
        rollups
    }
}

/// The name of an event and its cells, ascending.
type EventCells = (String, Vec<(Step, u32)>);

/// The same cells by steps that are so many times as long.
fn lengthen_steps(cells: &mut Vec<(Step, u32)>, times: Step) {
    cells.iter_mut().for_each(|(step, _)| *step = step.div_euclid(times));
    cells.dedup_by(|next, cell| {
        let is_same = next.0 == cell.0;
        if is_same {
            cell.1 += next.1;
        }
        is_same
    });
}

fn bytes_of(events: &[EventCells]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_varint(&mut bytes, events.len() as u64);
    for (name, cells) in events {
        put_text(&mut bytes, name);
        put_varint(&mut bytes, cells.len() as u64);
        let mut last = 0;
        for &(step, rows) in cells {
            put_zigzag(&mut bytes, i64::from(step) - last);
            put_varint(&mut bytes, rows.into());
            last = step.into();
        }
    }
    bytes
}

fn unreadable(error: PropertiesError) -> FormatError {
    FormatError::corrupt(format!("rollup: {error}"))
}

/// All rows of a segment by steps of one length.
#[derive(Clone)]
pub(super) struct Rollup {
    step_ms: Millis,
    body: Body,
}

#[derive(Clone)]
enum Body {
    Events(Bytes),
    /// The same in zstd.
    Packed(Bytes),
    /// That, as it lies behind the Parquet file.
    Behind(Range<u64>),
}

impl Rollup {
    /// As it lies in part 0: how many quarters a step is, and the rollup in zstd.
    pub fn from_packed(quarters: u64, packed: Bytes) -> Result<Self, FormatError> {
        Ok(Self { step_ms: step_of(quarters)?, body: Body::Packed(packed) })
    }

    /// As part 0 tells of one that lies behind the Parquet file.
    pub fn from_behind(quarters: u64, bytes: Range<u64>) -> Result<Self, FormatError> {
        if bytes.end - bytes.start > BYTES_MAX {
            let detail = format!("a rollup of {} bytes, {BYTES_MAX} at most", bytes.end - bytes.start);
            return Err(FormatError::Corrupt(detail));
        }
        Ok(Self { step_ms: step_of(quarters)?, body: Body::Behind(bytes) })
    }

    /// As an earlier build wrote it.
    pub fn from_older(mut bytes: &[u8]) -> Result<Self, FormatError> {
        let quarters = take_varint(&mut bytes).map_err(unreadable)?;
        Ok(Self { step_ms: step_of(quarters)?, body: Body::Events(Bytes::copy_from_slice(bytes)) })
    }

    /// In zstd, where it is at hand.
    pub fn packed(&self) -> Option<Bytes> {
        match &self.body {
            Body::Packed(packed) => Some(packed.clone()),
            Body::Events(events) => {
                let packed = zstd::bulk::compress(events, ZSTD_LEVEL);
                Some(packed.expect("memory is the only thing zstd can lack").into())
            }
            Body::Behind(_) => None,
        }
    }

    /// Puts those that are too long for part 0 behind what is `stored` so far.
    pub fn put_behind(rollups: &mut [Self], stored: &mut Vec<u8>) {
        for rollup in rollups {
            let Some(packed) = rollup.packed() else { break };
            if packed.len() <= BYTES_IN_PART_0_MAX {
                rollup.body = Body::Packed(packed);
                // The next ones are of longer steps, and mostly shorter.
                break;
            }
            let start = stored.len() as u64;
            stored.extend_from_slice(&packed);
            rollup.body = Body::Behind(start..stored.len() as u64);
        }
    }

    /// With what was fetched of it, where it is not in part 0.
    pub fn fetched(&self, table: &PartTable, parts: &PartSet) -> Result<Self, FormatError> {
        let Body::Behind(bytes) = &self.body else { return Ok(self.clone()) };
        let mut packed = Vec::new();
        for slice in table.slices_behind(bytes.clone()) {
            packed.extend_from_slice(parts.slice(slice)?);
        }
        Ok(Self { step_ms: self.step_ms, body: Body::Packed(packed.into()) })
    }

    pub fn to_older(&self) -> Result<Vec<u8>, FormatError> {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, self.quarters());
        bytes.extend_from_slice(&self.events()?);
        Ok(bytes)
    }

    pub fn step_ms(&self) -> Millis {
        self.step_ms
    }

    pub fn quarters(&self) -> u64 {
        (self.step_ms / QUARTER_MS) as u64
    }

    /// Where it lies, if not in part 0.
    pub fn bytes_behind(&self) -> Option<&Range<u64>> {
        match &self.body {
            Body::Behind(bytes) => Some(bytes),
            Body::Events(_) | Body::Packed(_) => None,
        }
    }

    /// As it lies in the object, wherever that is; of one that was just made, before it is packed.
    pub fn bytes(&self) -> usize {
        self.bytes_behind().map_or(self.memory_bytes(), |bytes| (bytes.end - bytes.start) as usize)
    }

    pub fn memory_bytes(&self) -> usize {
        match &self.body {
            Body::Events(bytes) | Body::Packed(bytes) => bytes.len(),
            Body::Behind(_) => 0,
        }
    }

    fn events(&self) -> Result<Cow<'_, [u8]>, FormatError> {
        match &self.body {
            Body::Events(events) => Ok(Cow::Borrowed(events)),
            Body::Packed(packed) => {
                let events = inflate(packed).map_err(|e| FormatError::corrupt(format!("rollup: {e}")))?;
                Ok(Cow::Owned(events))
            }
            Body::Behind(_) => Err(FormatError::corrupt("a rollup that was not fetched")),
        }
    }

    /// The name of each event, and of each of its cells the beginning and the rows. An error unless these are
    /// `expected` together.
    fn for_each_event(
        &self,
        expected: u64,
        mut visit: impl FnMut(&str, &[(Millis, u32)]),
    ) -> Result<(), FormatError> {
        let events = self.events()?;
        let mut rest = &*events;
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
                cells.push((Millis::from(step) * self.step_ms, rows));
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
    pub fn read(&self, rows: u64) -> Result<RowBlock, FormatError> {
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

fn step_of(quarters: u64) -> Result<Millis, FormatError> {
    let step_ms = COUNT_STEPS.into_iter().find(|step_ms| (step_ms / QUARTER_MS) as u64 == quarters);
    step_ms.ok_or_else(|| FormatError::corrupt(format!("a rollup by {quarters} quarters of an hour")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::DAY_MS;

    fn built(rows: &[(&str, Millis)], expected: u64) -> Vec<Rollup> {
        let mut builder = RollupBuilder::new(expected);
        rows.iter().for_each(|(event, at)| builder.add(event.as_bytes(), *at));
        builder.finish()
    }

    fn counted(block: &RowBlock) -> BTreeMap<(String, Millis), u32> {
        let stand_for = block.stand_for.as_ref().unwrap();
        let event = |row: usize| block.event.get(row).unwrap().to_owned();
        let cell = |row: usize| ((event(row), block.quarters.start_of(row)), stand_for[row]);
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
            prop_assert_eq!(whole.first().map(Rollup::step_ms), shortest);
            for rollup in &whole {
                let cells = by_step(rollup.step_ms());
                prop_assert_eq!(counted(&rollup.read(all).unwrap()), cells.clone());
                let packed = Rollup::from_packed(rollup.quarters(), rollup.packed().unwrap()).unwrap();
                let older = Rollup::from_older(&rollup.to_older().unwrap()).unwrap();
                for stored in [packed, older] {
                    prop_assert_eq!(stored.step_ms(), rollup.step_ms());
                    prop_assert_eq!(counted(&stored.read(all).unwrap()), cells.clone());
                }
            }
            // None is missing that is worth it.
            let mut last = None;
            for step_ms in COUNT_STEPS.into_iter().skip_while(|step_ms| Some(*step_ms) != shortest) {
                let cells = by_step(step_ms).len();
                let is_there = whole.iter().any(|rollup| rollup.step_ms() == step_ms);
                prop_assert_eq!(is_there, last.is_none_or(|last| cells <= last / TIMES_FEWER_MIN));
                last = if is_there { Some(cells) } else { last };
            }

            let (one, other) = rows.split_at(middle.min(rows.len()));
            let mut joined = RollupBuilder::new(expected_rows);
            for rows in [one, other] {
                let part = built(rows, expected_rows);
                match part.first().filter(|shortest| joined.can_add(shortest)) {
                    Some(shortest) => joined.add_all(shortest, rows.len() as u64).unwrap(),
                    None => rows.iter().for_each(|(event, at)| joined.add(event.as_bytes(), *at)),
                }
            }
            let of_one = |rollup: &Rollup| (rollup.quarters(), rollup.packed().unwrap());
            let stored = |rollups: &[Rollup]| rollups.iter().map(of_one).collect::<Vec<_>>();
            prop_assert_eq!(stored(&joined.finish()), stored(&whole));
        }

        #[test]
        fn changed_bytes_are_an_error_or_other_numbers_but_no_panic(at in 0_usize..40, to: u8) {
            let rollups = built(&[("a", 5), ("b", 7 * QUARTER_MS), ("b", -9), ("b", -9)], ROWS_MIN);
            let read = |bytes: &[u8]| Rollup::from_older(bytes)?.read(4);
            let mut bytes = rollups[0].to_older().unwrap();
            prop_assert!(read(&bytes).is_ok());
            let place = at % bytes.len();
            bytes[place] = to;
            let _ = read(&bytes);
            bytes.truncate(place);
            prop_assert!(read(&bytes).is_err());

            let (quarters, packed) = (rollups[0].quarters(), rollups[0].packed().unwrap());
            let read = |packed: &[u8]| Rollup::from_packed(quarters, Bytes::copy_from_slice(packed))?.read(4);
            let mut packed = packed.to_vec();
            prop_assert!(read(&packed).is_ok());
            let place = at % packed.len();
            packed[place] = to;
            let _ = read(&packed);
            packed.truncate(place);
            prop_assert!(read(&packed).is_err());
        }
    }

    #[test]
    fn what_is_too_long_for_part_0_lies_behind_and_is_read_from_there() {
        let rows: Vec<_> = (0..100).map(|n| ("a", n * n % 191 * QUARTER_MS)).collect();
        let whole = built(&rows, u64::MAX);
        let (mut rollups, mut stored) = (whole.clone(), vec![9; 5]);
        Rollup::put_behind(&mut rollups, &mut stored);
        let bytes_of = |rollup: &Rollup| rollup.packed().map(|packed| packed.len());
        let is_long = |rollup: &Rollup| bytes_of(rollup).unwrap() > BYTES_IN_PART_0_MAX;
        assert!(is_long(&whole[0]) && !is_long(whole.last().unwrap()), "there are both");
        let table = PartTable { filter_parts: 0, ends: vec![3], bytes_behind: stored.len() as u64 };
        let parts: PartSet = [(2, Bytes::from(stored.clone()))].into_iter().collect();
        let mut ends_before = 5;
        for (rollup, whole) in rollups.iter().zip(&whole) {
            assert_eq!(rollup.bytes_behind().is_some(), is_long(whole));
            assert_eq!(bytes_of(rollup), bytes_of(whole).filter(|_| !is_long(whole)));
            if let Some(bytes) = rollup.bytes_behind() {
                assert_eq!((bytes.start, rollup.memory_bytes()), (ends_before, 0));
                assert_eq!(Some(rollup.bytes()), bytes_of(whole));
                ends_before = bytes.end;
                assert!(rollup.read(100).is_err(), "it has not been fetched");
                let missing = rollup.fetched(&table, &PartSet::default()).err().unwrap();
                assert!(matches!(missing, FormatError::MissingPart { part_no: 2 }), "{missing}");
            }
            let fetched = rollup.fetched(&table, &parts).unwrap();
            assert_eq!(counted(&fetched.read(100).unwrap()), counted(&whole.read(100).unwrap()));
        }
        assert_eq!(ends_before, stored.len() as u64);
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
        let rollup = &built(&[("a", 0), ("a", 1)], ROWS_MIN)[0];
        assert!(rollup.read(2).is_ok());
        for rows in [1, 3] {
            assert!(rollup.read(rows).is_err());
            assert!(RollupBuilder::new(100).add_all(rollup, rows).is_err(), "nor joined");
        }
    }
}
