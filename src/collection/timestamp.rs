//! When an event happened: what its sender wrote, read, and corrected by the sender's own clock.

use super::outcome::{Reason, Rejection};
use super::payload::json::Number;
use super::raw_event::Field;
use crate::model::{Millis, TimeSource};

/// 1971-01-01. Earlier times are unset clocks, and seconds mistaken for milliseconds.
pub const EARLIEST: Millis = 31_536_000_000;

/// A client's clock that is off by no more than this is taken as right: the difference may as well
/// be the way through the network, and an event that is sent again keeps its very time.
const SKEW_IGNORED_MS: Millis = 1_000;

/// What an event's time is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub received_at: Millis,
    /// How far after it an event's time may lie.
    pub future_ms_max: Millis,
}

/// `received − (sent_at − timestamp)` when both are there and the client's clock is off by more than
/// a second, the timestamp alone without `sent_at`, the server's time without a timestamp.
pub fn occurred_at(
    timestamp: &Field<'_>,
    sent_at: &Field<'_>,
    now: Now,
) -> Result<(Millis, TimeSource), Rejection> {
    if timestamp.is_absent() {
        return Ok((now.received_at, TimeSource::Server));
    }
    let written = read(timestamp).ok_or_else(|| {
        let detail = format!("timestamp {} is no RFC 3339 time and no Unix time", timestamp.shown());
        Rejection::new(Reason::Timestamp, detail)
    })?;
    // A sending time that cannot be read corrects nothing.
    let skew = read(sent_at).map_or(0, |sent_at| now.received_at - sent_at);
    let (occurred_at, source) = if skew.abs() > SKEW_IGNORED_MS {
        (written + skew, TimeSource::Corrected)
    } else {
        (written, TimeSource::Client)
    };
    if occurred_at < EARLIEST {
        let detail = format!("timestamp {} is before 1971", timestamp.shown());
        return Err(Rejection::new(Reason::Timestamp, detail));
    }
    if occurred_at > now.received_at + now.future_ms_max {
        let detail = format!(
            "timestamp {} is more than {} s in the future",
            timestamp.shown(),
            now.future_ms_max / 1_000
        );
        return Err(Rejection::new(Reason::Timestamp, detail));
    }
    Ok((occurred_at, source))
}

fn read(field: &Field<'_>) -> Option<Millis> {
    match field {
        Field::Text { value, .. } => parse(value),
        Field::Number(number) => from_number(*number),
        Field::Absent | Field::Other(_) => None,
    }
}

/// Seconds, milliseconds or microseconds since 1970, told apart by size: from 1971 on the three never
/// overlap before the year 2600.
fn from_number(number: Number<'_>) -> Option<Millis> {
    const SECONDS_BELOW: f64 = 2e10;
    const MILLIS_BELOW: f64 = 2e13;
    const MICROS_BELOW: f64 = 2e16;

    let value = number.as_f64()?;
    if value.abs() >= MICROS_BELOW {
        return None;
    }
    // An f64 holds integers exactly far beyond these.
    let millis = if value.abs() < SECONDS_BELOW {
        value * 1_000.0
    } else if value.abs() < MILLIS_BELOW {
        value
    } else {
        value / 1_000.0
    };
    Some(millis.floor() as Millis)
}

/// `YYYY-MM-DD`, or with `T` or a space `hh:mm`, `:ss`, a fraction, and `Z` or an offset; without a
/// zone it is UTC. Finer than a millisecond is cut off.
pub fn parse(text: &str) -> Option<Millis> {
    let mut rest = Rest(text.trim_ascii().as_bytes());
    let year = rest.digits(4)?;
    rest.byte(b"-")?;
    let month = rest.digits(2)?;
    rest.byte(b"-")?;
    let day = rest.digits(2)?;
    let days = days_since_1970(year, month, day)?;
    if rest.0.is_empty() {
        return Some(days * 86_400_000);
    }
    rest.byte(b"Tt ")?;
    let hour = rest.digits(2)?;
    rest.byte(b":")?;
    let minute = rest.digits(2)?;
    let (mut second, mut millis) = (0, 0);
    if rest.byte(b":").is_some() {
        second = rest.digits(2)?;
        if rest.byte(b".,").is_some() {
            millis = rest.fraction()?;
        }
    }
    let offset_minutes = rest.offset_minutes()?;
    if !rest.0.is_empty() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if second == 60 {
        // A leap second has no number of its own in Unix time.
        (second, millis) = (59, 999);
    }
    let minutes = (days * 24 + hour) * 60 + minute - offset_minutes;
    Some((minutes * 60 + second) * 1_000 + millis)
}

/// Days from 1970-01-01 in the Gregorian calendar; `None` for a day that there is not.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days_in_month).contains(&day) {
        return None;
    }
    // Years begin in March here, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before_year = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let before_month = (153 * month + 2) / 5;
    // 719,468 days from 0000-03-01 to 1970-01-01.
    Some(before_year + before_month + day - 1 - 719_468)
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn byte(&mut self, wanted: &[u8]) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        if !wanted.contains(&first) {
            return None;
        }
        self.0 = rest;
        Some(first)
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        let mut number = 0;
        for digit in digits {
            number = number * 10 + i64::from(char::from(*digit).to_digit(10)?);
        }
        self.0 = rest;
        Some(number)
    }

    /// One digit or more, as milliseconds.
    fn fraction(&mut self) -> Option<i64> {
        let (mut millis, mut count) = (0, 0);
        while let Some(digit) = self.byte(b"0123456789") {
            count += 1;
            if count <= 3 {
                millis = millis * 10 + i64::from(digit - b'0');
            }
        }
        match count {
            0 => None,
            1 => Some(millis * 100),
            2 => Some(millis * 10),
            _ => Some(millis),
        }
    }

    /// `Z`, `+hh:mm`, `+hhmm`, `+hh`, or nothing.
    fn offset_minutes(&mut self) -> Option<i64> {
        if self.0.is_empty() || self.byte(b"Zz").is_some() {
            return Some(0);
        }
        let sign = if self.byte(b"+-")? == b'-' { -1 } else { 1 };
        let hours = self.digits(2)?;
        let minutes = match self.0 {
            [] => 0,
            _ => {
                let _ = self.byte(b":");
                self.digits(2)?
            }
        };
        (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-01-31T10:00:00Z.
    const NOW: Now = Now { received_at: 1_769_853_600_000, future_ms_max: 3_600_000 };

    fn number(text: &str) -> Field<'_> {
        Field::Number(Number { text, is_integer: !text.contains(['.', 'e']) })
    }

    #[test]
    fn every_way_to_write_a_time_is_read() {
        for (text, expected) in [
            ("2026-01-31T09:30:15Z", "2026-01-31T09:30:15Z"),
            ("2026-01-31t09:30:15.25z", "2026-01-31T09:30:15.25Z"),
            ("2026-01-31T09:30:15.123456789Z", "2026-01-31T09:30:15.123Z"),
            ("2026-01-31T09:30:15.123456+00:00", "2026-01-31T09:30:15.123Z"),
            ("2026-01-31T11:00:15+01:30", "2026-01-31T09:30:15Z"),
            ("2026-01-31T11:00:15+0130", "2026-01-31T09:30:15Z"),
            ("2026-01-31T04:30:15-05", "2026-01-31T09:30:15Z"),
            ("2026-01-31T09:30:15", "2026-01-31T09:30:15Z"),
            ("2026-01-31 09:30:15", "2026-01-31T09:30:15Z"),
            ("2026-01-31T09:30", "2026-01-31T09:30:00Z"),
            ("2026-01-31", "2026-01-31T00:00:00Z"),
            (" 2024-02-29 ", "2024-02-29T00:00:00Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999Z"),
        ] {
            let expected: jiff::Timestamp = expected.parse().unwrap();
            assert_eq!(parse(text), Some(expected.as_millisecond()), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2026",
            "2026-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-01-32",
            "26-01-31",
            "2026-01-31T24:00:00Z",
            "2026-01-31T09:60:00Z",
            "2026-01-31T09:30:61Z",
            "2026-01-31T09:30:15.Z",
            "2026-01-31T09:30:15Zx",
            "2026-01-31T09:30:15+25:00",
            "2026-01-31T",
            "2026-1-31",
            "２026-01-31",
            "1769853600",
            "31.01.2026",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn days_agree_with_the_calendar_of_jiff(year in 1900_i16..9999, month in 1_i8..=12, day in 1_i8..=31) {
            let expected = jiff::civil::Date::new(year, month, day).ok().map(|date| {
                date.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_millisecond()
            });
            prop_assert_eq!(parse(&format!("{year:04}-{month:02}-{day:02}")), expected);
        }

        #[test]
        fn random_text_never_panics(text in any::<String>()) {
            let _ = parse(&text);
        }
    }

    #[test]
    fn numbers_are_told_apart_by_range() {
        let at = |text| occurred_at(&number(text), &Field::Absent, NOW).map(|(at, _)| at).ok();
        for (name, text, expected) in [
            ("seconds", "1769850000", Some(1_769_850_000_000)),
            ("seconds with a fraction", "1769850000.25", Some(1_769_850_000_250)),
            ("milliseconds", "1769850000123", Some(1_769_850_000_123)),
            ("microseconds", "1769850000123456", Some(1_769_850_000_123)),
            ("seconds of 1971", "31536000", Some(EARLIEST)),
            ("milliseconds of 1971", "31536000000", Some(EARLIEST)),
            ("microseconds of 1971", "31536000000000", Some(EARLIEST)),
            ("1970", "86400", None),
            ("zero", "0", None),
            ("negative", "-5", None),
            ("nanoseconds", "1769850000123456789", None),
            ("beyond a float", "1e400", None),
            ("an exponent", "1.76985e9", Some(1_769_850_000_000)),
        ] {
            assert_eq!(at(text), expected, "{name}");
        }
    }

    #[test]
    fn times_run_from_1971_to_an_hour_from_now() {
        let at = |text| occurred_at(&Field::text(text), &Field::Absent, NOW).is_ok();
        for (text, is_accepted) in [
            ("1971-01-01T00:00:00Z", true),
            ("1970-12-31T23:59:59.999Z", false),
            ("1970-01-01", false),
            ("2026-01-31T11:00:00Z", true),
            ("2026-01-31T11:00:00.001Z", false),
            ("2026-01-31T12:00:00Z", false),
            ("9999-12-31T23:59:59Z", false),
            ("yesterday", false),
        ] {
            assert_eq!(at(text), is_accepted, "{text}");
        }
        assert!(
            occurred_at(&Field::Other(crate::collection::payload::json::Kind::Bool), &Field::Absent, NOW)
                .is_err()
        );
    }

    #[test]
    fn the_clients_clock_is_corrected_when_it_is_off() {
        let at = |timestamp: &str, sent_at: Option<&str>| {
            let sent_at = sent_at.map_or(Field::Absent, Field::text);
            let (at, source) = occurred_at(&Field::text(timestamp), &sent_at, NOW).unwrap();
            (jiff::Timestamp::from_millisecond(at).unwrap().to_string(), source)
        };
        for (name, timestamp, sent_at, expected) in [
            ("no sent_at", "2026-01-31T09:00:00Z", None, ("2026-01-31T09:00:00Z", TimeSource::Client)),
            (
                "right",
                "2026-01-31T09:00:00Z",
                Some("2026-01-31T10:00:00Z"),
                ("2026-01-31T09:00:00Z", TimeSource::Client),
            ),
            (
                "a second off",
                "2026-01-31T09:00:00Z",
                Some("2026-01-31T09:59:59Z"),
                ("2026-01-31T09:00:00Z", TimeSource::Client),
            ),
            (
                "more than a second",
                "2026-01-31T09:00:00Z",
                Some("2026-01-31T09:59:58.999Z"),
                ("2026-01-31T09:00:01.001Z", TimeSource::Corrected),
            ),
            (
                "a clock ahead by a day",
                "2026-02-01T09:00:00Z",
                Some("2026-02-01T10:00:00Z"),
                ("2026-01-31T09:00:00Z", TimeSource::Corrected),
            ),
            (
                "a clock of 1970",
                "1970-01-01T00:00:05Z",
                Some("1970-01-01T00:00:10Z"),
                ("2026-01-31T09:59:55Z", TimeSource::Corrected),
            ),
            (
                "unreadable sent_at",
                "2026-01-31T09:00:00Z",
                Some("soon"),
                ("2026-01-31T09:00:00Z", TimeSource::Client),
            ),
        ] {
            assert_eq!(at(timestamp, sent_at), (expected.0.to_owned(), expected.1), "{name}");
        }
    }

    #[test]
    fn without_a_timestamp_the_servers_time_counts() {
        let at = occurred_at(&Field::Absent, &Field::text("2020-01-01T00:00:00Z"), NOW).unwrap();
        assert_eq!(at, (NOW.received_at, TimeSource::Server));
    }
}
