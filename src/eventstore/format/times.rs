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

mod read;

use std::cmp::Reverse;
use std::ops::Range;

use super::FormatError;
use super::names::Names;
use crate::eventstore::QUARTER_MS;
use crate::model::{FastMap, Millis};

/// Events with a place of their own.
const EVENTS_MAX: usize = if cfg!(test) { 3 } else { 63 };
pub(super) const TIME_BYTES: u64 = 2 * HALF_BYTES;
/// A minute, or a millisecond of it.
const HALF_BYTES: u64 = size_of::<u16>() as u64;
const MINUTE_MS: Millis = 60_000;
/// As many minutes as two bytes tell, and the quarter of an hour that the last is in.
const LENGTH_MAX_MS: Millis = (1 << 16) * MINUTE_MS + QUARTER_MS;

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
        if base.rem_euclid(QUARTER_MS) != 0 || base.checked_add(LENGTH_MAX_MS).is_none() {
            return Err(wrong(format!("{base} as the first quarter of an hour")));
        }
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
        base.checked_add(LENGTH_MAX_MS)?;
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
    pub fn finish(self, page_rows: usize) -> Result<(EventTimes, Vec<u8>), FormatError> {
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
        Ok((times, stored.into_flattened()))
    }
}
