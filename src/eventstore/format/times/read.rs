//! Times by event, back to the rows that they are of.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, DictionaryArray};

use super::super::columns::Fixed;
use super::super::parts::{PartSet, PartTable};
use super::super::read::ObjectReader;
use super::super::want::{Columns, Want};
use super::super::{FormatError, RowRanges};
use super::{EventTimes, MINUTE_MS, Place};
use crate::eventstore::{Dictionary, QUARTER_MS, Quarters, RowColumns, Times};
use crate::model::{FastMap, Millis};

const QUARTER_MINUTES: u16 = (QUARTER_MS / MINUTE_MS) as u16;
/// As many as a place may be, so that no look-up is out of bounds.
const PLACES: usize = 1 << Place::BITS;

/// What of times is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Precision {
    Quarters,
    Milliseconds,
}

/// Where the page of each range begins, up to its end: whoever reads a row counts the rows before it in its page.
/// Precondition: the ranges ascend.
fn from_pages(ranges: &[Range<u64>], page_rows: u64) -> Vec<Range<u64>> {
    let mut whole: Vec<Range<u64>> = Vec::new();
    for range in ranges.iter().filter(|range| !range.is_empty()) {
        let start = range.start / page_rows * page_rows;
        match whole.last_mut() {
            Some(last) if start <= last.end => last.end = range.end,
            _ => whole.push(start..range.end),
        }
    }
    whole
}

/// Times that were fetched.
struct Fetched<'a> {
    table: &'a PartTable,
    parts: &'a PartSet,
}

impl Fetched<'_> {
    fn append(&self, bytes: Range<u64>, halves: &mut Vec<u16>) -> Result<(), FormatError> {
        for slice in self.table.slices_behind(bytes) {
            let bytes = self.parts.slice(slice)?.as_chunks().0;
            halves.extend(bytes.iter().map(|bytes| u16::from_le_bytes(*bytes)));
        }
        Ok(())
    }
}

/// Where the next row of each place is among what was read.
struct Places {
    next: [u32; PLACES],
    ends: [u32; PLACES],
}

impl Default for Places {
    fn default() -> Self {
        Self { next: [0; PLACES], ends: [0; PLACES] }
    }
}

impl Places {
    /// Appends what was read of rows in these places.
    fn take_all<T: Copy + Default>(&mut self, places: &[Place], read: &[T], all: &mut Vec<T>) {
        let next = &mut self.next;
        all.extend(places.iter().map(|&place| {
            let next = &mut next[usize::from(place)];
            let taken = read.get(*next as usize).copied().unwrap_or_default();
            *next += 1;
            taken
        }));
    }

    fn take<T: Copy + Default>(&mut self, place: Place, read: &[T]) -> T {
        let next = &mut self.next[usize::from(place)];
        let taken = read.get(*next as usize).copied().unwrap_or_default();
        *next = next.saturating_add(1);
        taken
    }

    /// There were as many rows as there are times.
    fn check_all_taken(&self) -> Result<(), FormatError> {
        if self.next == self.ends { Ok(()) } else { Err(disagree()) }
    }
}

/// What is read of times, as it is kept of rows.
trait Kept: Copy + Default {
    const PRECISION: Precision;

    /// Of minutes, and milliseconds where they are read.
    fn of(minutes: &[u16], milliseconds: &[u16], read: &mut Vec<Self>);
}

/// A quarter of an hour after the base.
impl Kept for u16 {
    const PRECISION: Precision = Precision::Quarters;

    fn of(minutes: &[u16], _: &[u16], read: &mut Vec<Self>) {
        read.extend(minutes.iter().map(|minute| minute / QUARTER_MINUTES));
    }
}

/// Milliseconds after the base: of 65,536 minutes there are fewer than 2^32.
impl Kept for u32 {
    const PRECISION: Precision = Precision::Milliseconds;

    fn of(minutes: &[u16], milliseconds: &[u16], read: &mut Vec<Self>) {
        let of = |(minute, millisecond): (&u16, &u16)| {
            u32::from(*minute) * MINUTE_MS as u32 + u32::from(*millisecond)
        };
        read.extend(minutes.iter().zip(milliseconds).map(of));
    }
}

/// The times of some rows, in their places.
struct PlacedTimes<'a, T> {
    times: &'a EventTimes,
    fetched: Fetched<'a>,
    minutes: Vec<u16>,
    milliseconds: Vec<u16>,
    kept: Vec<T>,
    places: Places,
}

impl<'a, T: Kept> PlacedTimes<'a, T> {
    fn new(times: &'a EventTimes, fetched: Fetched<'a>) -> Self {
        let (minutes, milliseconds, kept) = Default::default();
        Self { times, fetched, minutes, milliseconds, kept, places: Places::default() }
    }

    /// Instead of what it has.
    fn load(&mut self, some: impl Iterator<Item = (usize, Range<u32>)>) -> Result<(), FormatError> {
        self.minutes.clear();
        self.milliseconds.clear();
        self.kept.clear();
        for (place, times) in some {
            self.places.next[place] = self.minutes.len() as u32;
            let [minutes, milliseconds] = self.times.bytes_of(place, times);
            self.fetched.append(minutes, &mut self.minutes)?;
            if T::PRECISION == Precision::Milliseconds {
                self.fetched.append(milliseconds, &mut self.milliseconds)?;
            }
            self.places.ends[place] = self.minutes.len() as u32;
        }
        T::of(&self.minutes, &self.milliseconds, &mut self.kept);
        Ok(())
    }

    fn turn_to(&mut self, page: usize) -> Result<(), FormatError> {
        let times = self.times;
        self.load((0..times.places()).map(|place| (place, times.in_page(page, place))))
    }

    /// Appends those of the page's rows, all of them, whose places these are.
    fn append_page(&mut self, places: &[Place], all: &mut Vec<T>) -> Result<(), FormatError> {
        self.places.take_all(places, &self.kept, all);
        self.places.check_all_taken()
    }
}

impl PlacedTimes<'_, u32> {
    /// The time of the next row of a page.
    fn next(&mut self, place: Place) -> Result<Millis, FormatError> {
        let at = usize::from(place);
        if self.places.next[at] >= self.places.ends[at] {
            return Err(disagree());
        }
        Ok(self.times.base + Millis::from(self.places.take(place, &self.kept)))
    }
}

fn disagree() -> FormatError {
    FormatError::corrupt("events and times by event disagree")
}

impl ObjectReader {
    /// The times that are to be read for this, where they are no column.
    fn times_for(&self, want: &Want) -> Option<(&EventTimes, Precision)> {
        let precision = match &want.columns {
            Columns::Block { with: RowColumns { times: false, quarters, .. }, .. } => {
                let precision = match &want.rows {
                    RowRanges::All => Precision::Quarters,
                    // Few rows are read one by one, as whoever wants their times does.
                    RowRanges::Some(_) => Precision::Milliseconds,
                };
                quarters.then_some(precision)
            }
            Columns::Block { .. } | Columns::PersonsAndTimes | Columns::Identity | Columns::All => {
                Some(Precision::Milliseconds)
            }
            Columns::Located(_) => None,
        };
        self.header().times.as_ref().zip(precision)
    }

    /// Their bytes, and the rows whose events have to be known.
    pub(in crate::eventstore::format) fn bytes_of_times(
        &self,
        want: &Want,
    ) -> Option<(Vec<Range<u64>>, RowRanges)> {
        let (times, precision) = self.times_for(want)?;
        let page_rows = self.header().page_rows;
        let (read, rows): (Vec<(usize, Range<u32>)>, _) = match (&want.rows, &want.columns) {
            (RowRanges::All, Columns::Block { of_events: Some(events), .. }) => {
                let places = times.places_of(events).into_iter();
                (places.map(|place| (place, times.whole(place))).collect(), RowRanges::All)
            }
            (RowRanges::All, _) => {
                let places = 0..times.places();
                (places.map(|place| (place, times.whole(place))).collect(), RowRanges::All)
            }
            (RowRanges::Some(ranges), _) => {
                let rows = from_pages(ranges, page_rows);
                let pages = rows.iter().flat_map(|rows| self.pages_with(rows));
                let of_page =
                    |page| (0..times.places()).map(move |place| (place, times.in_page(page, place)));
                (pages.flat_map(of_page).collect(), RowRanges::Some(rows))
            }
        };
        let halves = match precision {
            Precision::Quarters => 1,
            Precision::Milliseconds => 2,
        };
        let read = read.into_iter().filter(|(_, times)| !times.is_empty());
        let bytes = read.flat_map(|(place, of)| times.bytes_of(place, of).into_iter().take(halves));
        Some((bytes.collect(), rows))
    }

    fn pages_with(&self, rows: &Range<u64>) -> Range<usize> {
        let (page_rows, all) = (self.header().page_rows, self.header().rows);
        (rows.start / page_rows) as usize..rows.end.min(all).div_ceil(page_rows) as usize
    }

    fn rows_of_page(&self, page: usize) -> Range<usize> {
        let (page_rows, all) = (self.header().page_rows as usize, self.header().rows as usize);
        page * page_rows..all.min((page + 1) * page_rows)
    }

    fn reading<'a, T: Kept>(&'a self, times: &'a EventTimes, parts: &'a PartSet) -> PlacedTimes<'a, T> {
        PlacedTimes::new(times, Fetched { table: &self.header().table, parts })
    }

    /// Times and quarters, where they are asked for, of all rows, whose events `all` are; or of `some`: the rows of
    /// these events, which ascend. Precondition: they are no column.
    pub(in crate::eventstore::format) fn read_block_times(
        &self,
        all: &Dictionary,
        some: Option<(&[String], &[u32])>,
        with: RowColumns,
        parts: &PartSet,
    ) -> Result<(Times, Quarters), FormatError> {
        let times = self.header().times.as_ref().ok_or_else(disagree)?;
        let mut found = <(Times, Quarters)>::default();
        if with.times {
            found.0 = Times::near(times.base, self.read_kept(times, all, some, parts)?);
        }
        if with.quarters {
            found.1 = Quarters::near(times.base, self.read_kept(times, all, some, parts)?);
        }
        Ok(found)
    }

    fn read_kept<T: Kept>(
        &self,
        times: &EventTimes,
        all: &Dictionary,
        some: Option<(&[String], &[u32])>,
        parts: &PartSet,
    ) -> Result<Vec<T>, FormatError> {
        match some {
            None => self.read_all(times, all, parts),
            Some((events, rows)) => self.read_of_events(times, (all, events, rows), parts),
        }
    }

    fn read_all<T: Kept>(
        &self,
        times: &EventTimes,
        events: &Dictionary,
        parts: &PartSet,
    ) -> Result<Vec<T>, FormatError> {
        let place_of = times.place_of();
        let by_text = events.by_text(|text| text.map_or(0, |(_, text)| place_of(text)));
        let mut reading = self.reading(times, parts);
        let (mut places, mut all) = (Vec::new(), Vec::with_capacity(self.header().rows as usize));
        for page in self.pages_with(&(0..self.header().rows)) {
            places.clear();
            by_text.append_range(self.rows_of_page(page), &mut places);
            reading.turn_to(page)?;
            reading.append_page(&places, &mut all)?;
        }
        Ok(all)
    }

    /// The times of some rows, with the parts for them; `None` where they are a column, or not asked for.
    pub(in crate::eventstore::format) fn read_times(
        &self,
        want: &Want,
        parts: &PartSet,
    ) -> Result<Option<Vec<Millis>>, FormatError> {
        let Some((times, _)) = self.times_for(want) else { return Ok(None) };
        let RowRanges::Some(ranges) = &want.rows else {
            let events = self.texts_of(self.header().layout.fixed_index(Fixed::Event)?, None, parts)?;
            let all: Vec<u32> = self.read_all(times, &events, parts)?;
            return Ok(Some(all.into_iter().map(|at| times.base + Millis::from(at)).collect()));
        };
        let page_rows = self.header().page_rows;
        let rows = from_pages(ranges, page_rows);
        let places = self.read_places(times, &RowRanges::Some(rows.clone()), parts)?;
        let (mut places, mut reading) = (places.into_iter(), self.reading::<u32>(times, parts));
        let (mut asked, mut found) = (want.rows.numbers().peekable(), Vec::new());
        for row in rows.into_iter().flatten() {
            if row.is_multiple_of(page_rows) {
                reading.turn_to((row / page_rows) as usize)?;
            }
            let at = reading.next(places.next().ok_or_else(disagree)?)?;
            if asked.next_if_eq(&row).is_some() {
                found.push(at);
            }
        }
        Ok(Some(found))
    }

    /// In which place the time of each row is.
    fn read_places(
        &self,
        times: &EventTimes,
        rows: &RowRanges,
        parts: &PartSet,
    ) -> Result<Vec<Place>, FormatError> {
        let events = self.header().layout.fixed_index(Fixed::Event)?;
        let place_of = times.place_of();
        let mut places = Vec::new();
        for batch in self.batches_of(vec![events], rows, parts, self.header().page_rows as usize)? {
            let batch = batch?;
            let events: &DictionaryArray<Int32Type> = batch.column(0).as_dictionary();
            let texts = events.values().as_string_opt::<i32>().ok_or_else(disagree)?;
            // Of a page's rows and not of all texts: where there are many, a page has few of them.
            let mut known: FastMap<i32, Place> = FastMap::default();
            for &code in events.keys().values() {
                if code as usize >= texts.len() {
                    return Err(disagree());
                }
                places.push(*known.entry(code).or_insert_with(|| place_of(texts.value(code as usize))));
            }
        }
        Ok(places)
    }

    fn read_of_events<T: Kept>(
        &self,
        times: &EventTimes,
        (all, events, rows): (&Dictionary, &[String], &[u32]),
        parts: &PartSet,
    ) -> Result<Vec<T>, FormatError> {
        let (place_of, others) = (times.place_of(), times.events.len() as Place);
        let mut reading = self.reading::<T>(times, parts);
        reading.load(times.places_of(events).into_iter().map(|place| (place, times.whole(place))))?;
        let PlacedTimes { kept, mut places, .. } = reading;
        let by_text = all.by_text(|text| text.map_or(others, |(_, text)| place_of(text)));
        let mut found = Vec::with_capacity(rows.len());
        if places.ends[usize::from(others)] > 0 {
            // Those that have no place of their own are counted too.
            let mut asked = rows.iter().copied().peekable();
            by_text.for_range(0..all.len(), |row, place| {
                let is_asked = asked.next_if_eq(&row).is_some();
                if is_asked || place == others {
                    let taken = places.take(place, &kept);
                    found.extend(is_asked.then_some(taken));
                }
            });
        } else {
            found.extend(rows.iter().map(|&row| places.take(by_text.at(row as usize), &kept)));
        }
        places.check_all_taken()?;
        Ok(found)
    }
}
