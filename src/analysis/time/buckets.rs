//! Buckets: which hour, day, week or month of a time zone an instant belongs to.
//!
//! A day, week or month bucket is the set of instants whose *local* date is in it; an hour bucket
//! is a run of instants of one local hour at one offset, so a day of 25 hours has 25. That makes
//! every case come out: days of 23 and 25 hours, offsets of half an hour, days that a zone skipped
//! (they have no bucket), midnights that do not exist (the bucket starts with the first instant of
//! the day), and clocks set back across midnight (both parts of the day are in its bucket).
//!
//! The zone's history is cut into stretches of one offset; inside a stretch local time is plain
//! arithmetic. The result is a list of *pieces* `(start, bucket)`, and a table of evenly spaced
//! slots that finds the piece of an instant in a step or two.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::TimeRange;
use crate::eventstore::{COUNT_STEPS, QUARTER_MS, QuarterTable, begins_a_quarter};
use crate::model::{DAY_MS, Millis};

const HOUR_MS: Millis = 3_600_000;
const EPOCH: Date = jiff::civil::date(1970, 1, 1);
/// Of 682 days.
const QUARTERS_MAX: Millis = 65_536;
/// 32 KiB of them.
const SLOTS_ENOUGH: usize = 8_192;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    Hour,
    Day,
    /// ISO weeks, which begin on Monday.
    Week,
    Month,
}

impl Granularity {
    /// No bucket is shorter than this, apart from pieces of hours at a change of the clock.
    fn shortest(self) -> Millis {
        match self {
            Self::Hour => HOUR_MS,
            Self::Day => DAY_MS - 3 * HOUR_MS,
            Self::Week => 6 * DAY_MS,
            Self::Month => 27 * DAY_MS,
        }
    }
}

/// The buckets of a range, in order of their starts.
#[derive(Clone, Debug)]
pub struct Buckets {
    range: TimeRange,
    starts: Vec<Millis>,
    pieces: Vec<Piece>,
    /// Once somebody has asked for an instant.
    slots: OnceLock<Slots>,
    /// The bucket of every quarter, once somebody has asked.
    by_quarter: OnceLock<QuarterTable>,
}

/// Finds the piece of an instant.
#[derive(Clone, Debug)]
struct Slots {
    /// The piece at each slot's first instant.
    pieces: Vec<u32>,
    /// A slot is 2 to the power of this long, since every row asks and a shift is cheaper than a
    /// division.
    bits: u32,
}

/// The bucket of what is outside the range.
pub const NO_BUCKET: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Piece {
    start: Millis,
    bucket: u32,
}

impl Buckets {
    /// The buckets that `range` touches; the first may start before the range, and rows before
    /// the range are still outside. Without a granularity there is one bucket, the range.
    ///
    /// Precondition: `range.from < range.to`, both within jiff's years.
    pub fn new(range: TimeRange, granularity: Option<Granularity>, zone: &TimeZone) -> Self {
        debug_assert!(range.from < range.to);
        let Some(granularity) = granularity else {
            return Self::of_pieces(range, vec![range.from], vec![Piece { start: range.from, bucket: 0 }]);
        };
        let units = match granularity {
            Granularity::Hour => hours(range, zone),
            Granularity::Day => dates(range, zone, |day| day),
            Granularity::Week => dates(range, zone, monday),
            Granularity::Month => dates(range, zone, month),
        };
        Self::from_units(range, &units)
    }

    /// How many buckets a range can have at most, without building them.
    pub fn estimate_max(range: TimeRange, granularity: Option<Granularity>) -> u64 {
        match granularity {
            None => 1,
            Some(granularity) => {
                (range.to - range.from).unsigned_abs() / granularity.shortest().unsigned_abs() + 2
            }
        }
    }

    pub fn len(&self) -> usize {
        self.starts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    pub fn range(&self) -> std::ops::Range<Millis> {
        self.range.from..self.range.to
    }

    /// The first instant of each bucket.
    pub fn starts(&self) -> &[Millis] {
        &self.starts
    }

    /// The bucket of an instant, or `None` outside the range.
    pub fn find(&self, at: Millis) -> Option<u32> {
        if !self.range.contains(at) {
            return None;
        }
        let slots = self.slots.get_or_init(|| self.slots());
        let piece = slots.pieces[((at - self.range.from) >> slots.bits) as usize];
        Some(self.pieces[self.last_piece(piece as usize, at)].bucket)
    }

    /// Whether all instants of a quarter of an hour are in one bucket, or all outside, and a list of the
    /// quarters of the range is short enough to be made.
    pub fn are_of_few_quarters(&self) -> bool {
        if self.range.to - self.range.from > QUARTERS_MAX * QUARTER_MS {
            return false;
        }
        [self.range.from, self.range.to].into_iter().chain(self.borders()).all(begins_a_quarter)
    }

    /// The bucket of every quarter, or [`NO_BUCKET`]. Precondition: [they are few](Self::are_of_few_quarters).
    pub fn by_quarter(&self) -> &QuarterTable {
        self.by_quarter.get_or_init(|| {
            let mut piece = 0;
            // They are asked for in order.
            let bucket = |at| {
                piece = self.last_piece(piece, at);
                self.pieces[piece].bucket
            };
            QuarterTable::new(self.range(), NO_BUCKET, bucket)
        })
    }

    /// The longest of [`COUNT_STEPS`] by whose beginning the bucket of all its instants within the range is
    /// found.
    pub fn longest_step(&self) -> Option<Millis> {
        // A step that begins before the range would be found outside; where there is one bucket, none is looked
        // for.
        let from = (self.len() > 1).then_some(self.range.from);
        let tells_buckets =
            |step: &Millis| from.into_iter().chain(self.borders()).all(|at| at.rem_euclid(*step) == 0);
        COUNT_STEPS.into_iter().rev().find(tells_buckets)
    }

    /// Where, within the range, one bucket ends and the next begins.
    fn borders(&self) -> impl Iterator<Item = Millis> {
        self.pieces.iter().map(|piece| piece.start).filter(|start| *start > self.range.from)
    }

    /// `units`: pieces by start, each with the key of its bucket; keys sort as buckets do. They
    /// begin before the range, far enough to hold the true start of every bucket in it.
    fn from_units(range: TimeRange, units: &[(Millis, i64)]) -> Self {
        let inside = units.partition_point(|&(start, _)| start <= range.from).saturating_sub(1);
        let mut numbers: BTreeMap<i64, u32> = units[inside..].iter().map(|&(_, key)| (key, 0)).collect();
        for (bucket, number) in numbers.values_mut().zip(0..) {
            *bucket = number;
        }
        let mut starts = vec![Millis::MAX; numbers.len()];
        let mut pieces: Vec<Piece> = Vec::with_capacity(units.len() - inside);
        for (position, (start, key)) in units.iter().enumerate() {
            let Some(&bucket) = numbers.get(key) else { continue };
            let known = &mut starts[bucket as usize];
            *known = (*known).min(*start);
            if position >= inside && pieces.last().is_none_or(|last| last.bucket != bucket) {
                pieces.push(Piece { start: *start, bucket });
            }
        }
        Self::of_pieces(range, starts, pieces)
    }

    fn of_pieces(range: TimeRange, starts: Vec<Millis>, pieces: Vec<Piece>) -> Self {
        Self { range, starts, pieces, slots: OnceLock::new(), by_quarter: OnceLock::new() }
    }

    /// The piece of an instant, which is this one or one after it.
    fn last_piece(&self, mut piece: usize, at: Millis) -> usize {
        while self.pieces.get(piece + 1).is_some_and(|next| next.start <= at) {
            piece += 1;
        }
        piece
    }

    fn slots(&self) -> Slots {
        let (pieces, length) = (self.pieces.len(), self.range.to - self.range.from);
        // So many slots a piece, as long as they fit into the processor's cache, that a slot with a start
        // in it is rare; at least two, so that most hold one start at most.
        let count = (64 * pieces).min(SLOTS_ENOUGH).max(2 * pieces);
        let bits = (length / count as Millis).max(1).ilog2();
        let starts = (self.range.from..self.range.to).step_by(1 << bits);
        let of_slots = starts.scan(0, |piece, at| {
            *piece = self.last_piece(*piece, at);
            Some(*piece as u32)
        });
        Slots { pieces: of_slots.collect(), bits }
    }
}

/// A time of one offset: UTC instants `[from, to)` whose local time is `offset` later.
struct Stretch {
    from: Millis,
    to: Millis,
    offset: Millis,
}

/// The zone's stretches over `[from, to)`. Changes that leave the offset alone are not borders.
fn stretches(from: Millis, to: Millis, zone: &TimeZone) -> Vec<Stretch> {
    let offset_at = |at: Millis| Millis::from(zone.to_offset(instant(at)).seconds()) * 1_000;
    let mut found = vec![Stretch { from, to, offset: offset_at(from) }];
    for transition in zone.following(instant(from)) {
        let at = transition.timestamp().as_millisecond();
        if at >= to {
            break;
        }
        let offset = Millis::from(transition.offset().seconds()) * 1_000;
        let last = found.last_mut().expect("the list begins with one stretch");
        if offset != last.offset {
            last.to = at;
            found.push(Stretch { from: at, to, offset });
        }
    }
    found
}

/// The first instant of a date in a zone, also where midnight does not exist; of a date that the
/// zone skipped, the first instant after it.
pub fn start_of_date(date: Date, zone: &TimeZone) -> Millis {
    let midnight = date.duration_since(EPOCH).as_hours() / 24 * DAY_MS;
    // Offsets are below 26 hours; whatever changes, the date begins in this span.
    let around = stretches(midnight - 2 * DAY_MS, midnight + 2 * DAY_MS, zone);
    let begins = around.iter().find_map(|stretch| {
        let start = (midnight - stretch.offset).max(stretch.from);
        (start < stretch.to).then_some(start)
    });
    begins.unwrap_or(midnight)
}

/// Hours are keyed by their own start: no two are one.
fn hours(range: TimeRange, zone: &TimeZone) -> Vec<(Millis, Millis)> {
    // Two hours back are before the first bucket's start, whatever the offset does.
    let mut found: Vec<(Millis, Millis)> = Vec::new();
    for stretch in stretches(range.from - 2 * HOUR_MS, range.to, zone) {
        let mut start = stretch.from;
        while start < stretch.to {
            found.push((start, start));
            start = ((start + stretch.offset).div_euclid(HOUR_MS) + 1) * HOUR_MS - stretch.offset;
        }
    }
    found
}

/// Pieces of the days, weeks or months of a range. `unit_of` gives a local day's unit: days are
/// numbered from 1970-01-01, units in any order that sorts as they do.
fn dates(range: TimeRange, zone: &TimeZone, unit_of: fn(i64) -> i64) -> Vec<(Millis, i64)> {
    // A month and a day back are before the first bucket's start, whatever the offset does.
    let mut found: Vec<(Millis, i64)> = Vec::new();
    for stretch in stretches(range.from - 32 * DAY_MS, range.to, zone) {
        let mut start = stretch.from;
        while start < stretch.to {
            let day = (start + stretch.offset).div_euclid(DAY_MS);
            let unit = unit_of(day);
            if found.last().is_none_or(|&(_, last)| last != unit) {
                found.push((start, unit));
            }
            start = (day + 1) * DAY_MS - stretch.offset;
        }
    }
    found
}

/// The day number of the week's Monday; day 0 was a Thursday.
fn monday(day: i64) -> i64 {
    day - (day + 3).rem_euclid(7)
}

/// Months are numbered through the years.
fn month(day: i64) -> i64 {
    let date = EPOCH.saturating_add(jiff::Span::new().days(day));
    i64::from(date.year()) * 12 + i64::from(date.month())
}

fn instant(at: Millis) -> Timestamp {
    Timestamp::from_millisecond(at).unwrap_or(if at < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

#[cfg(test)]
mod tests;
