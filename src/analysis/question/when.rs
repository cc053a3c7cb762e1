//! The range of a question: dates, instants or words relative to now, in a time zone.
//!
//! | written | means |
//! |---|---|
//! | `2011-01-31` | the first instant of that day in the time zone |
//! | `2011-01-31T10:00:00Z`, `…+01:00` | that instant (RFC 3339, with its offset) |
//! | `today`, `yesterday`, `tomorrow` | the first instant of that day in the time zone |
//! | `-7d`, `-2w`, `-3mo`, `-1y` | the first instant of the day that long before today |
//! | `now` | the end of the running minute, so that questions of one minute are equal |
//! | `-24h` | that many hours before `now` |
//!
//! `from` is inclusive, `to` exclusive; `to` is `now` when left out. The last seven whole days are
//! `-7d` to `today`.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde_json::{Map, Value, json};

use super::fields::{Fields, Problems, read_text, shorten};
use super::{ProjectSettings, QuestionErrorCode as Code};
use crate::analysis::time::{TimeRange, find_time_zone, format_instant, start_of_date};
use crate::model::{DAY_MS, Millis};

const MINUTE_MS: Millis = 60_000;
const HOUR_MS: Millis = 60 * MINUTE_MS;

/// A day before 1970, for zones ahead of UTC.
const EARLIEST: Millis = -DAY_MS;
/// 2201-01-02T00:00:00Z.
const LATEST: Millis = 84_373 * DAY_MS;

#[derive(Clone, PartialEq, Debug)]
pub struct When {
    /// As asked, for showing and saving the question.
    pub from: TimeBound,
    pub to: TimeBound,
    /// What `from` and `to` came to when the question was parsed.
    pub range: TimeRange,
    pub zone: TimeZone,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeBound {
    Date(Date),
    Instant(Millis),
    Relative(Relative),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relative {
    Now,
    Yesterday,
    Today,
    Tomorrow,
    Back(u16, RelativeUnit),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RelativeUnit {
    Hours,
    Days,
    Weeks,
    Months,
    Years,
}

const UNITS: [(&str, RelativeUnit); 5] = [
    ("h", RelativeUnit::Hours),
    ("d", RelativeUnit::Days),
    ("w", RelativeUnit::Weeks),
    ("mo", RelativeUnit::Months),
    ("y", RelativeUnit::Years),
];

impl When {
    pub(super) fn read(
        fields: &mut Fields<'_>,
        settings: &ProjectSettings,
        problems: &mut Problems,
    ) -> Option<Self> {
        let zone = read_zone(fields, settings, problems);
        let from = fields.get("from", problems).and_then(|value| {
            let path = fields.path("from");
            read_bound(&path, read_text(&path, value, problems)?, problems)
        });
        let to = match fields.find("to") {
            None => Some(TimeBound::Relative(Relative::Now)),
            Some(value) => {
                let path = fields.path("to");
                read_text(&path, value, problems).and_then(|text| read_bound(&path, text, problems))
            }
        };
        let (zone, from, to) = (zone?, from?, to?);
        let range = TimeRange {
            from: resolve(&fields.path("from"), from, &zone, settings.now, problems)?,
            to: resolve(&fields.path("to"), to, &zone, settings.now, problems)?,
        };
        if range.from >= range.to {
            let (first, last) = (format_instant(range.from), format_instant(range.to));
            let detail = format!("the range ends at {last}, not after its start at {first}");
            problems.report(&fields.path("to"), Code::EmptyRange, detail);
            return None;
        }
        Some(Self { from, to, range, zone })
    }

    /// The fields that every question begins with.
    pub(super) fn start_json(&self, kind: &str, from: TimeBound, to: TimeBound) -> Map<String, Value> {
        let mut json = Map::new();
        json.insert("kind".into(), json!(kind));
        json.insert("from".into(), json!(from.to_text()));
        json.insert("to".into(), json!(to.to_text()));
        json.insert("time_zone".into(), json!(self.time_zone()));
        json
    }

    /// The zone's name in the tz database.
    pub fn time_zone(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }
}

impl TimeBound {
    /// As it is written in a question.
    pub fn to_text(self) -> String {
        match self {
            Self::Date(date) => date.to_string(),
            Self::Instant(at) => format_instant(at),
            Self::Relative(Relative::Now) => "now".to_owned(),
            Self::Relative(Relative::Yesterday) => "yesterday".to_owned(),
            Self::Relative(Relative::Today) => "today".to_owned(),
            Self::Relative(Relative::Tomorrow) => "tomorrow".to_owned(),
            Self::Relative(Relative::Back(amount, unit)) => {
                let suffix = UNITS.iter().find(|(_, known)| *known == unit).map_or("", |(suffix, _)| suffix);
                format!("-{amount}{suffix}")
            }
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let relative = match text {
            "now" => Some(Relative::Now),
            "yesterday" => Some(Relative::Yesterday),
            "today" => Some(Relative::Today),
            "tomorrow" => Some(Relative::Tomorrow),
            _ => text.strip_prefix('-').and_then(parse_back),
        };
        if let Some(relative) = relative {
            return Some(Self::Relative(relative));
        }
        if is_plain_date(text) {
            return text.parse().ok().map(Self::Date);
        }
        // jiff also reads looser spellings; a stored question should have one.
        if text.as_bytes().get(10) != Some(&b'T') {
            return None;
        }
        let instant: Timestamp = text.parse().ok()?;
        // Events have whole milliseconds: `from` rounds up since it is inclusive, `to` since it is
        // exclusive.
        let millis = -(-instant.as_nanosecond()).div_euclid(1_000_000);
        Millis::try_from(millis).ok().map(Self::Instant)
    }

    fn resolve(self, zone: &TimeZone, now: Millis) -> Option<Millis> {
        let end_of_minute = (now.div_euclid(MINUTE_MS) + 1) * MINUTE_MS;
        let today = zone.to_datetime(Timestamp::from_millisecond(now).ok()?).date();
        let relative = match self {
            Self::Date(date) => return Some(start_of_date(date, zone)),
            Self::Instant(at) => return Some(at),
            Self::Relative(relative) => relative,
        };
        let date = match relative {
            Relative::Now => return Some(end_of_minute),
            Relative::Back(amount, RelativeUnit::Hours) => {
                return Some(end_of_minute - Millis::from(amount) * HOUR_MS);
            }
            Relative::Today => Some(today),
            Relative::Yesterday => today.yesterday().ok(),
            Relative::Tomorrow => today.tomorrow().ok(),
            Relative::Back(amount, RelativeUnit::Days) => today.checked_sub(Span::new().days(amount)).ok(),
            Relative::Back(amount, RelativeUnit::Weeks) => today.checked_sub(Span::new().weeks(amount)).ok(),
            Relative::Back(amount, RelativeUnit::Months) => {
                today.checked_sub(Span::new().months(amount)).ok()
            }
            Relative::Back(amount, RelativeUnit::Years) => {
                Span::new().try_years(amount).and_then(|span| today.checked_sub(span)).ok()
            }
        };
        date.map(|date| start_of_date(date, zone))
    }
}

fn read_zone(
    fields: &mut Fields<'_>,
    settings: &ProjectSettings,
    problems: &mut Problems,
) -> Option<TimeZone> {
    let asked = fields.find("time_zone");
    let path = fields.path("time_zone");
    let name = match asked {
        None => settings.time_zone.as_str(),
        Some(value) => read_text(&path, value, problems)?,
    };
    let zone = find_time_zone(name);
    if zone.is_none() {
        let detail =
            format!("`{}` is not a zone of the tz database, such as `Europe/Berlin` or `UTC`", shorten(name));
        problems.report(&path, Code::UnknownValue, detail);
    }
    zone
}

fn read_bound(path: &str, text: &str, problems: &mut Problems) -> Option<TimeBound> {
    let bound = TimeBound::parse(text);
    if bound.is_none() {
        let detail = format!(
            "`{}` is not a date (`2011-01-31`), an instant (`2011-01-31T10:00:00Z`) or a relative time \
             (`-7d`, `-24h`, `-2w`, `-3mo`, `-1y`, `today`, `yesterday`, `tomorrow`, `now`)",
            shorten(text)
        );
        problems.report(path, Code::InvalidValue, detail);
    }
    bound
}

fn resolve(
    path: &str,
    bound: TimeBound,
    zone: &TimeZone,
    now: Millis,
    problems: &mut Problems,
) -> Option<Millis> {
    let at = bound.resolve(zone, now).filter(|at| (EARLIEST..LATEST).contains(at));
    if at.is_none() {
        let detail = format!("`{}` is not between 1970 and 2200", bound.to_text());
        problems.report(path, Code::OutOfRange, detail);
    }
    at
}

fn parse_back(text: &str) -> Option<Relative> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let amount: u16 = text[..digits].parse().ok()?;
    let unit = UNITS.iter().find(|(suffix, _)| *suffix == &text[digits..]).map(|&(_, unit)| unit)?;
    // Years are what jiff's spans count least of: 19,998.
    (amount <= 10_000).then_some(Relative::Back(amount, unit))
}

fn is_plain_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 10
        && bytes.iter().enumerate().all(|(index, byte)| match index {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}
