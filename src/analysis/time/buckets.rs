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

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::TimeRange;
use crate::model::{DAY_MS, Millis};

const HOUR_MS: Millis = 3_600_000;
const EPOCH: Date = jiff::civil::date(1970, 1, 1);

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
    /// The piece at each slot's first instant.
    slots: Vec<u32>,
    slot_ms: Millis,
}

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
            return Self::index(range, vec![range.from], vec![Piece { start: range.from, bucket: 0 }]);
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

    /// The first instant of each bucket.
    pub fn starts(&self) -> &[Millis] {
        &self.starts
    }

    /// The bucket of an instant, or `None` outside the range.
    pub fn find(&self, at: Millis) -> Option<u32> {
        if !self.range.contains(at) {
            return None;
        }
        let slot = ((at - self.range.from) / self.slot_ms) as usize;
        let mut piece = self.slots[slot] as usize;
        while self.pieces.get(piece + 1).is_some_and(|next| next.start <= at) {
            piece += 1;
        }
        Some(self.pieces[piece].bucket)
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
        Self::index(range, starts, pieces)
    }

    fn index(range: TimeRange, starts: Vec<Millis>, pieces: Vec<Piece>) -> Self {
        let length = range.to - range.from;
        // Two slots a piece: most slots then hold one start at most.
        let slot_ms = (length / (2 * pieces.len() as Millis)).max(1);
        let mut slots = Vec::with_capacity((length / slot_ms) as usize + 1);
        let mut piece = 0;
        let mut at = range.from;
        while at < range.to {
            while pieces.get(piece + 1).is_some_and(|next| next.start <= at) {
                piece += 1;
            }
            slots.push(piece as u32);
            at += slot_ms;
        }
        Self { range, starts, pieces, slots, slot_ms }
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
mod tests {
    use super::*;
    use crate::analysis::time::{find_time_zone, format_instant};

    fn at(text: &str) -> Millis {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn buckets(zone: &str, granularity: Granularity, from: &str, to: &str) -> Buckets {
        let range = TimeRange { from: at(from), to: at(to) };
        Buckets::new(range, Some(granularity), &find_time_zone(zone).unwrap())
    }

    #[test]
    fn buckets_begin_where_the_zone_says() {
        use Granularity::{Day, Hour, Month, Week};
        type Case =
            (&'static str, &'static str, Granularity, &'static str, &'static str, &'static [&'static str]);
        let cases: Vec<Case> = vec![
            (
                "days in UTC",
                "UTC",
                Day,
                "2024-01-30T00:00:00Z",
                "2024-02-02T00:00:00Z",
                &["2024-01-30T00:00:00Z", "2024-01-31T00:00:00Z", "2024-02-01T00:00:00Z"],
            ),
            (
                "a range inside a day",
                "UTC",
                Day,
                "2024-01-30T05:00:00Z",
                "2024-01-30T06:00:00Z",
                &["2024-01-30T00:00:00Z"],
            ),
            (
                "one millisecond more",
                "UTC",
                Day,
                "2024-01-30T00:00:00Z",
                "2024-01-31T00:00:00.001Z",
                &["2024-01-30T00:00:00Z", "2024-01-31T00:00:00Z"],
            ),
            (
                "the week of a Wednesday",
                "UTC",
                Week,
                "2010-12-01T00:00:00Z",
                "2010-12-07T00:00:00Z",
                &["2010-11-29T00:00:00Z", "2010-12-06T00:00:00Z"],
            ),
            (
                "a week before 1970",
                "UTC",
                Week,
                "1970-01-01T00:00:00Z",
                "1970-01-06T00:00:00Z",
                &["1969-12-29T00:00:00Z", "1970-01-05T00:00:00Z"],
            ),
            (
                "months, with a leap day",
                "UTC",
                Month,
                "2024-01-31T12:00:00Z",
                "2024-03-01T00:00:00.001Z",
                &["2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"],
            ),
            (
                "a day of 23 hours",
                "Europe/Berlin",
                Day,
                "2024-03-30T23:00:00Z",
                "2024-04-01T00:00:00Z",
                &["2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z"],
            ),
            (
                "a day of 25 hours",
                "Europe/Berlin",
                Day,
                "2024-10-26T22:00:00Z",
                "2024-10-28T00:00:00Z",
                &["2024-10-26T22:00:00Z", "2024-10-27T23:00:00Z"],
            ),
            (
                "the month of a clock change",
                "Europe/Berlin",
                Month,
                "2024-03-05T00:00:00Z",
                "2024-04-01T00:00:00Z",
                &["2024-02-29T23:00:00Z", "2024-03-31T22:00:00Z"],
            ),
            (
                "hours across spring",
                "Europe/Berlin",
                Hour,
                "2024-03-31T00:00:00Z",
                "2024-03-31T03:00:00Z",
                &["2024-03-31T00:00:00Z", "2024-03-31T01:00:00Z", "2024-03-31T02:00:00Z"],
            ),
            (
                "hours of a zone with half an hour",
                "Asia/Kolkata",
                Hour,
                "2024-01-01T00:00:00Z",
                "2024-01-01T02:00:00Z",
                &["2023-12-31T23:30:00Z", "2024-01-01T00:30:00Z", "2024-01-01T01:30:00Z"],
            ),
            (
                "days of a zone with three quarters",
                "Asia/Kathmandu",
                Day,
                "2024-01-01T00:00:00Z",
                "2024-01-01T20:00:00Z",
                &["2023-12-31T18:15:00Z", "2024-01-01T18:15:00Z"],
            ),
            (
                "a clock set back by half an hour",
                "Australia/Lord_Howe",
                Hour,
                "2024-04-06T14:00:00Z",
                "2024-04-06T17:00:00Z",
                &[
                    "2024-04-06T14:00:00Z",
                    "2024-04-06T15:00:00Z",
                    "2024-04-06T15:30:00Z",
                    "2024-04-06T16:30:00Z",
                ],
            ),
            (
                "a midnight that does not exist",
                "America/Sao_Paulo",
                Day,
                "2018-11-03T03:00:00Z",
                "2018-11-05T03:00:00Z",
                &["2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"],
            ),
            (
                "a day that was skipped",
                "Pacific/Apia",
                Day,
                "2011-12-29T10:00:00Z",
                "2011-12-31T10:00:00Z",
                &["2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"],
            ),
            (
                "a clock set back across midnight",
                "America/St_Johns",
                Day,
                "2006-10-28T02:30:00Z",
                "2006-10-30T03:30:00Z",
                &["2006-10-28T02:30:00Z", "2006-10-29T02:30:00Z"],
            ),
        ];
        for (name, zone, granularity, from, to, expected) in cases {
            let buckets = buckets(zone, granularity, from, to);
            let starts: Vec<String> = buckets.starts().iter().map(|&start| format_instant(start)).collect();
            assert_eq!(starts, expected, "{name}");
            let estimate = Buckets::estimate_max(TimeRange { from: at(from), to: at(to) }, Some(granularity));
            assert!(estimate >= starts.len() as u64, "{name}: estimate {estimate}");
        }
    }

    #[test]
    fn a_day_of_25_hours_has_25_hours() {
        let spring =
            buckets("America/New_York", Granularity::Hour, "2024-03-10T05:00:00Z", "2024-03-11T04:00:00Z");
        let autumn =
            buckets("America/New_York", Granularity::Hour, "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z");
        assert_eq!((spring.len(), autumn.len()), (23, 25));
    }

    #[test]
    fn an_hour_that_comes_twice_across_midnight_is_in_its_own_day() {
        // At 00:01 on 29 October 2006 Newfoundland went back to 23:01 on the 28th.
        let days =
            buckets("America/St_Johns", Granularity::Day, "2006-10-28T02:30:00Z", "2006-10-30T03:30:00Z");
        let found: Vec<Option<u32>> =
            ["2006-10-29T02:29:00Z", "2006-10-29T02:30:30Z", "2006-10-29T02:31:00Z", "2006-10-29T03:30:00Z"]
                .iter()
                .map(|text| days.find(at(text)))
                .collect();
        assert_eq!(found, [Some(0), Some(1), Some(0), Some(1)]);
    }

    #[test]
    fn every_instant_is_in_the_bucket_of_its_local_date() {
        // The reference asks jiff for the local date of each instant, one by one.
        for zone_name in [
            "UTC",
            "Europe/Berlin",
            "America/St_Johns",
            "Pacific/Apia",
            "Asia/Kathmandu",
            "America/Sao_Paulo",
        ] {
            let zone = find_time_zone(zone_name).unwrap();
            for (from, to) in [
                ("2006-10-01T00:17:00Z", "2007-04-20T00:00:00Z"),
                ("2011-11-11T11:11:11Z", "2012-02-01T00:00:00Z"),
            ] {
                let range = TimeRange { from: at(from), to: at(to) };
                for granularity in [Granularity::Day, Granularity::Week, Granularity::Month] {
                    let buckets = Buckets::new(range, Some(granularity), &zone);
                    let key = |at: Millis| {
                        let date = zone.to_datetime(instant(at)).date();
                        match granularity {
                            Granularity::Week => date
                                .checked_sub(jiff::Span::new().days(date.weekday().to_monday_zero_offset()))
                                .unwrap(),
                            Granularity::Month => date.first_of_month(),
                            _ => date,
                        }
                    };
                    let keys: std::collections::BTreeSet<_> =
                        (range.from..range.to).step_by(60_000).map(key).collect();
                    let numbers: BTreeMap<_, _> = keys.into_iter().zip(0_u32..).collect();
                    assert_eq!(numbers.len(), buckets.len(), "{zone_name} {granularity:?}");
                    for at in (range.from..range.to).step_by(7 * 60_000) {
                        assert_eq!(
                            buckets.find(at),
                            Some(numbers[&key(at)]),
                            "{zone_name} {granularity:?} {at}"
                        );
                    }
                    assert_eq!(buckets.find(range.from - 1), None);
                    assert_eq!(buckets.find(range.to), None);
                }
            }
        }
    }

    #[test]
    fn dates_begin_with_their_first_instant() {
        for (zone, date, expected) in [
            ("UTC", "2024-02-29", "2024-02-29T00:00:00Z"),
            ("Europe/Berlin", "2024-03-31", "2024-03-30T23:00:00Z"),
            ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z"),
            ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00Z"),
            ("America/St_Johns", "2006-10-29", "2006-10-29T02:30:00Z"),
            ("Pacific/Kiritimati", "1970-01-01", "1970-01-01T10:40:00Z"),
            // In 1919 Toronto's clocks jumped from 23:30 to 00:30: that day has no midnight.
            ("America/Toronto", "1919-03-31", "1919-03-31T04:30:00Z"),
        ] {
            let start = start_of_date(date.parse().unwrap(), &find_time_zone(zone).unwrap());
            assert_eq!(format_instant(start), expected, "{date} in {zone}");
        }
    }

    #[test]
    fn without_a_granularity_the_range_is_the_bucket() {
        let range = TimeRange { from: 1_000, to: 2_000 };
        let buckets = Buckets::new(range, None, &TimeZone::UTC);
        assert_eq!(buckets.starts(), [1_000]);
        assert_eq!([999, 1_000, 1_999, 2_000].map(|at| buckets.find(at)), [None, Some(0), Some(0), None]);
    }
}
