//! Times of a segment's rows, one event's behind another's.
//!
//! Differences of times are all but random, so times are most of what a question reads; and most questions are
//! about few events. So the times of a segment are no column in the order of its rows, which is that of persons:
//! first come those of the most frequent event, in the order of its rows, then those of the next, and last those
//! of all events that have no place of their own. Who reads an event's rows reads the parts with its times; part 0
//! has how many rows of each page are of which event, so that few rows need few bytes too.
//!
//! A time is four bytes: its minute after the segment's `base`, where a quarter of an hour begins, and its millisecond
//! within that. Of each place come all minutes and then all milliseconds, plain, in parts of their own behind the
//! Parquet file: who asks for hours, days or weeks reads little more than the half.
//!
//! Small segments, those over more than 45 days, those of passes and all up to format version 5 have their times
//! as a column, as runs do.

use std::cmp::Reverse;
use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, DictionaryArray};
use bytes::Bytes;

use super::columns::Fixed;
use super::names::Names;
use super::parts::{PartSet, PartTable};
use super::read::{Columns, ObjectReader, Want};
use super::{FormatError, RowRanges};
use crate::eventstore::{Dictionary, QUARTER_MS, Quarters, RowColumns, Times};
use crate::model::{FastMap, Millis};

/// Events with a place of their own.
const EVENTS_MAX: usize = if cfg!(test) { 3 } else { 63 };
pub(super) const TIME_BYTES: u64 = 2 * HALF_BYTES;
/// A minute, or a millisecond of it.
const HALF_BYTES: u64 = size_of::<u16>() as u64;
const MINUTE_MS: Millis = 60_000;
const QUARTER_MINUTES: u16 = (QUARTER_MS / MINUTE_MS) as u16;

/// What part 0 says about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EventTimes {
    base: Millis,
    /// Those with a place of their own, in this order. Behind their times come those of all others.
    events: Vec<String>,
    /// Where the times of a page's rows begin, page by page and in each place by place; then where each place ends.
    begins: Vec<u32>,
}

/// One of those that times lie in.
type Place = u8;
/// As many as a place may be, so that no look-up is out of bounds.
const PLACES: usize = 1 << Place::BITS;

/// What of times is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Precision {
    Quarters,
    Milliseconds,
}

impl EventTimes {
    /// `counts`: how many rows of each page are in which place. A page has `page_rows` rows, the last the rest.
    pub fn new(
        base: Millis,
        events: Vec<String>,
        counts: &[u32],
        rows: u64,
        page_rows: u64,
    ) -> Result<Self, FormatError> {
        let places = events.len() + 1;
        let wrong = |what: String| FormatError::corrupt(format!("times by event: {what}"));
        let pages = rows.div_ceil(page_rows) as usize;
        if events.len() > EVENTS_MAX || u32::try_from(rows).is_err() || counts.len() != pages * places {
            return Err(wrong(format!("{} counts of {pages} pages and {places} places", counts.len())));
        }
        let mut totals = vec![0_u64; places];
        for (page, counts) in (0..).zip(counts.chunks_exact(places)) {
            let (of_page, counted) =
                (page_rows.min(rows - page * page_rows), counts.iter().copied().map(u64::from));
            if counted.clone().sum::<u64>() != of_page {
                return Err(wrong(format!("page {page} has {of_page} rows and {counts:?}")));
            }
            totals.iter_mut().zip(counted).for_each(|(total, count)| *total += count);
        }
        let mut next: Vec<u32> = Vec::with_capacity(places);
        totals.iter().fold(0, |begin, total| {
            next.push(begin);
            begin + *total as u32
        });
        let mut begins = Vec::with_capacity(counts.len() + places);
        for counts in counts.chunks_exact(places) {
            begins.extend_from_slice(&next);
            next.iter_mut().zip(counts).for_each(|(next, count)| *next += count);
        }
        begins.extend_from_slice(&next);
        Ok(Self { base, events, begins })
    }

    pub fn base(&self) -> Millis {
        self.base
    }

    pub fn events(&self) -> &[String] {
        &self.events
    }

    /// As they were given.
    pub fn counts(&self) -> impl Iterator<Item = u32> {
        self.begins.iter().zip(&self.begins[self.places()..]).map(|(begin, end)| end - begin)
    }

    pub fn memory_bytes(&self) -> usize {
        let names = self.events.iter().map(|name| name.len() + size_of::<String>());
        size_of_val(&*self.begins) + names.sum::<usize>()
    }

    fn places(&self) -> usize {
        self.events.len() + 1
    }

    /// By the text of an event.
    fn place_of(&self) -> impl Fn(&str) -> Place {
        let places: FastMap<&str, Place> = self.events.iter().map(String::as_str).zip(0..).collect();
        let others = self.events.len() as Place;
        move |event| places.get(event).copied().unwrap_or(others)
    }

    fn in_page(&self, page: usize, place: usize) -> Range<u32> {
        let at = page * self.places() + place;
        self.begins[at]..self.begins[at + self.places()]
    }

    /// Where the minutes of some times of a place lie, and where their milliseconds do.
    fn bytes_of(&self, place: usize, times: Range<u32>) -> [Range<u64>; 2] {
        let whole = self.whole(place);
        let minutes = u64::from(whole.start) * TIME_BYTES;
        let milliseconds = minutes + whole.len() as u64 * HALF_BYTES;
        let (start, end) = (times.start - whole.start, times.end - whole.start);
        let (start, end) = (u64::from(start) * HALF_BYTES, u64::from(end) * HALF_BYTES);
        [minutes + start..minutes + end, milliseconds + start..milliseconds + end]
    }

    fn whole(&self, place: usize) -> Range<u32> {
        self.begins[place]..self.begins[self.begins.len() - self.places() + place]
    }

    /// The places of these events, ascending.
    fn places_of(&self, events: &[String]) -> Vec<usize> {
        let place_of = self.place_of();
        let mut places: Vec<usize> = events.iter().map(|event| place_of(event).into()).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// No more rows than that are of these events.
    pub fn rows_at_most(&self, events: &[String]) -> u64 {
        self.places_of(events).into_iter().map(|place| self.whole(place).len() as u64).sum()
    }
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
        for slice in self.table.time_slices(bytes) {
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
struct Read<'a, T> {
    times: &'a EventTimes,
    fetched: Fetched<'a>,
    minutes: Vec<u16>,
    milliseconds: Vec<u16>,
    kept: Vec<T>,
    places: Places,
}

impl<'a, T: Kept> Read<'a, T> {
    fn new(times: &'a EventTimes, fetched: Fetched<'a>) -> Self {
        let (minutes, milliseconds, kept) = Default::default();
        Self { times, fetched, minutes, milliseconds, kept, places: Places::default() }
    }

    /// Instead of what it has.
    fn read(&mut self, some: impl Iterator<Item = (usize, Range<u32>)>) -> Result<(), FormatError> {
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
        self.read((0..times.places()).map(|place| (place, times.in_page(page, place))))
    }

    /// Appends those of the page's rows, all of them, whose places these are.
    fn append_page(&mut self, places: &[Place], all: &mut Vec<T>) -> Result<(), FormatError> {
        self.places.take_all(places, &self.kept, all);
        self.places.check_all_taken()
    }
}

impl Read<'_, u32> {
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
    fn times_for(&self, columns: &Columns) -> Option<(&EventTimes, Precision)> {
        let precision = match columns {
            Columns::Block { with: RowColumns { times: false, quarters, .. }, .. } => {
                quarters.then_some(Precision::Quarters)
            }
            Columns::Block { .. } | Columns::PersonsAndTimes | Columns::Identity | Columns::All => {
                Some(Precision::Milliseconds)
            }
            Columns::Located(_) => None,
        };
        self.header().times.as_ref().zip(precision)
    }

    /// Their bytes, and the rows whose events have to be known.
    pub(super) fn bytes_of_times(&self, want: &Want) -> Option<(Vec<Range<u64>>, RowRanges)> {
        let (times, precision) = self.times_for(&want.columns)?;
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

    fn reading<'a, T: Kept>(&'a self, times: &'a EventTimes, parts: &'a PartSet) -> Read<'a, T> {
        Read::new(times, Fetched { table: &self.header().table, parts })
    }

    /// Times and quarters of all rows, whose events these are, where they are asked for. Precondition: they are no
    /// column.
    pub(super) fn read_all_times(
        &self,
        events: &Dictionary,
        with: RowColumns,
        parts: &PartSet,
    ) -> Result<(Times, Quarters), FormatError> {
        let times = self.header().times.as_ref().ok_or_else(disagree)?;
        let mut found = <(Times, Quarters)>::default();
        if with.times {
            found.0 = Times::near(times.base, self.read_all(times, events, parts)?);
        }
        if with.quarters {
            found.1 = Quarters::near(times.base, self.read_all(times, events, parts)?);
        }
        Ok(found)
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
    pub(super) fn read_times(
        &self,
        want: &Want,
        parts: &PartSet,
    ) -> Result<Option<Vec<Millis>>, FormatError> {
        let Some((times, _)) = self.times_for(&want.columns) else { return Ok(None) };
        let page_rows = self.header().page_rows;
        let rows = match &want.rows {
            RowRanges::Some(ranges) => from_pages(ranges, page_rows),
            RowRanges::All => {
                let events = self.header().layout.fixed_index(Fixed::Event)?;
                if let Some(events) = self.read_texts(events, None, parts)? {
                    let all: Vec<u32> = self.read_all(times, &events, parts)?;
                    return Ok(Some(all.into_iter().map(|at| times.base + Millis::from(at)).collect()));
                }
                std::iter::once(0..self.header().rows).collect()
            }
        };
        let places = match &want.rows {
            RowRanges::All => self.read_places(times, &RowRanges::All, parts)?,
            RowRanges::Some(_) => self.read_places(times, &RowRanges::Some(rows.clone()), parts)?,
        };
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

    /// Times and quarters of the rows of some events out of all rows, whose events `all` are, where they are asked
    /// for. `rows` ascend. Precondition: they are no column.
    pub(super) fn read_times_of_events(
        &self,
        (all, events, rows): (&Dictionary, &[String], &[u32]),
        with: RowColumns,
        parts: &PartSet,
    ) -> Result<(Times, Quarters), FormatError> {
        let times = self.header().times.as_ref().ok_or_else(disagree)?;
        let mut found = <(Times, Quarters)>::default();
        if with.times {
            found.0 = Times::near(times.base, self.read_of_events(times, (all, events, rows), parts)?);
        }
        if with.quarters {
            found.1 = Quarters::near(times.base, self.read_of_events(times, (all, events, rows), parts)?);
        }
        Ok(found)
    }

    fn read_of_events<T: Kept>(
        &self,
        times: &EventTimes,
        (all, events, rows): (&Dictionary, &[String], &[u32]),
        parts: &PartSet,
    ) -> Result<Vec<T>, FormatError> {
        let (place_of, others) = (times.place_of(), times.events.len() as Place);
        let mut reading = self.reading::<T>(times, parts);
        reading.read(times.places_of(events).into_iter().map(|place| (place, times.whole(place))))?;
        let Read { kept, mut places, .. } = reading;
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

/// Puts the times of rows together as they are written.
pub(super) struct EventTimesBuilder {
    base: Millis,
    names: Names,
    /// Minute and millisecond of each row.
    times: Vec<[u16; 2]>,
    /// The number of the event of each row.
    numbers: Vec<u32>,
}

impl EventTimesBuilder {
    /// `None`: four bytes do not tell all times of this range.
    pub fn new((least, greatest): (Millis, Millis)) -> Option<Self> {
        let base = least.div_euclid(QUARTER_MS).checked_mul(QUARTER_MS)?;
        let builder = Self { base, names: Names::default(), times: Vec::new(), numbers: Vec::new() };
        builder.halves(greatest).map(|_| builder)
    }

    fn halves(&self, at: Millis) -> Option<[u16; 2]> {
        let after = at.checked_sub(self.base).filter(|after| *after >= 0)?;
        Some([u16::try_from(after / MINUTE_MS).ok()?, (after % MINUTE_MS) as u16])
    }

    /// The number of an event.
    pub fn number(&mut self, event: &[u8]) -> u32 {
        self.names.number(0, event) as u32
    }

    /// The next row.
    pub fn push(&mut self, event: u32, at: Millis) -> Result<(), FormatError> {
        self.times.push(self.halves(at).ok_or_else(|| {
            FormatError::Corrupt(format!("a row of {at} in a segment that begins {}", self.base))
        })?);
        self.numbers.push(event);
        Ok(())
    }

    /// And the bytes of the times.
    pub fn finish(self, page_rows: usize) -> Result<(EventTimes, Bytes), FormatError> {
        let Self { base, names, times: of_rows, numbers } = self;
        let names = names.into_names();
        let mut rows_of = vec![0_u32; names.len()];
        numbers.iter().for_each(|number| rows_of[*number as usize] += 1);
        let mut frequent: Vec<usize> = (0..names.len()).collect();
        frequent.sort_unstable_by_key(|number| (Reverse(rows_of[*number]), &names[*number]));
        frequent.truncate(EVENTS_MAX);
        let mut place_of = vec![frequent.len() as Place; names.len()];
        frequent.iter().zip(0..).for_each(|(number, place)| place_of[*number] = place);

        let places = frequent.len() + 1;
        let mut counts = Vec::with_capacity(numbers.len().div_ceil(page_rows) * places);
        for page in numbers.chunks(page_rows) {
            let first = counts.len();
            counts.resize(first + places, 0);
            page.iter().for_each(|number| counts[first + usize::from(place_of[*number as usize])] += 1);
        }
        let events = frequent.into_iter().map(|number| names[number].clone()).collect();
        let times = EventTimes::new(base, events, &counts, numbers.len() as u64, page_rows as u64)?;
        // Of each place where its next minute goes, and its next millisecond.
        let mut next: Vec<[usize; 2]> = Vec::with_capacity(places);
        for whole in (0..places).map(|place| times.whole(place)) {
            let minutes = 2 * whole.start as usize;
            next.push([minutes, minutes + whole.len()]);
        }
        let mut stored = vec![[0; HALF_BYTES as usize]; 2 * numbers.len()];
        for (number, halves) in numbers.iter().zip(&of_rows) {
            for (next, half) in next[usize::from(place_of[*number as usize])].iter_mut().zip(halves) {
                stored[*next] = half.to_le_bytes();
                *next += 1;
            }
        }
        Ok((times, stored.into_flattened().into()))
    }
}
