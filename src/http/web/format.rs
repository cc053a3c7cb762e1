//! How numbers and times are written on pages: thousands separators in tables and figures,
//! compact forms only in charts, ISO dates in tables, "12 Nov" on axes.

use jiff::{Timestamp, Zoned, civil::Date, tz::TimeZone};

use crate::model::{DAY_MS, Millis};

/// Between a number and its unit: narrow, and never broken at a line's end.
pub const THIN: char = '\u{202f}';

/// An integer or a reference to one: templates pass both.
pub trait Whole {
    fn whole(&self) -> i128;
}

macro_rules! whole {
    ($($kind:ty),*) => { $(impl Whole for $kind { fn whole(&self) -> i128 { *self as i128 } })* };
}
whole!(i32, i64, i128, u16, u32, u64, usize);

impl<T: Whole + ?Sized> Whole for &T {
    fn whole(&self) -> i128 {
        (**self).whole()
    }
}

/// A float or a reference to one.
pub trait Real {
    fn real(&self) -> f64;
}

impl Real for f64 {
    fn real(&self) -> f64 {
        *self
    }
}

impl<T: Real + ?Sized> Real for &T {
    fn real(&self) -> f64 {
        (**self).real()
    }
}

/// `1234567` as `1,234,567`.
pub fn thousands(number: impl Whole) -> String {
    let number = number.whole();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if number < 0 {
        text.push('−');
    }
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A measured value in full: whole numbers without decimals, others with two (below one: four
/// significant digits), beyond 10^15 in scientific notation.
pub fn number(value: impl Real) -> String {
    let value = value.real();
    if !value.is_finite() {
        return "–".to_owned();
    }
    let size = value.abs();
    if size >= 1e15 {
        return format!("{value:.4e}").replace('-', "−");
    }
    if value.fract() == 0.0 {
        return thousands(value as i64);
    }
    if size < 1.0 {
        let decimals = (3 - size.log10().floor() as i32).clamp(2, 12) as usize;
        let text = format!("{value:.decimals$}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        return text.replace('-', "−");
    }
    let cents = (size * 100.0).round() as i64;
    let sign = if value < 0.0 { "−" } else { "" };
    format!("{sign}{}.{:02}", thousands(cents / 100), cents % 100)
}

/// For axes and labels in charts: `12.4 k`, `3 M`; exact below a thousand.
pub fn compact(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let size = value.abs();
    let sign = if value < 0.0 { "−" } else { "" };
    for (unit, name) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
        // 999,950 would print as "1000 k".
        if size >= unit * 0.99995 {
            let scaled = size / unit;
            if scaled >= 1e4 {
                return format!("{value:.1e}").replace('-', "−");
            }
            return format!("{sign}{}{THIN}{name}", trimmed(scaled, if scaled < 100.0 { 2 } else { 1 }));
        }
    }
    if size > 0.0 && size < 0.001 {
        return format!("{value:e}").replace('-', "−");
    }
    format!("{sign}{}", trimmed(size, if size < 1.0 { 3 } else { 2 }))
}

fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A share of one as `16.4 %`, with at most one decimal; `–` when there is nothing to divide by.
pub fn percent(part: f64, whole: f64) -> String {
    if whole == 0.0 || !part.is_finite() || !whole.is_finite() {
        return "–".to_owned();
    }
    let share = part / whole * 100.0;
    // Rounding must not claim that everybody or nobody did it.
    let text = match share {
        s if s > 0.0 && s < 0.05 => "< 0.1".to_owned(),
        s if (99.95..100.0).contains(&s) => "> 99.9".to_owned(),
        s => trimmed(s, 1),
    };
    format!("{}{THIN}%", text.replace(' ', "\u{a0}"))
}

/// How a figure moved against the period before.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    Up(String),
    Down(String),
    Same,
    /// The previous period had nothing, so there is no ratio.
    Unknown,
}

pub fn change(now: f64, before: f64) -> Change {
    if before == 0.0 || !now.is_finite() || !before.is_finite() {
        return Change::Unknown;
    }
    let ratio = (now - before) / before.abs() * 100.0;
    let decimals = if ratio.abs() < 10.0 { 1 } else { 0 };
    let text = format!("{}{THIN}%", grouped_decimal(ratio.abs(), decimals));
    match ratio {
        r if r.abs() < 0.05 => Change::Same,
        r if r > 0.0 => Change::Up(text),
        _ => Change::Down(text),
    }
}

fn grouped_decimal(value: f64, decimals: usize) -> String {
    if value >= 1000.0 { thousands(value.round() as i64) } else { trimmed(value, decimals) }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `12 Nov`.
pub fn day_month(day: Date) -> String {
    format!("{} {}", day.day(), month_name(day))
}

/// `12 Nov 2025`.
pub fn day_month_year(day: Date) -> String {
    format!("{} {} {}", day.day(), month_name(day), day.year())
}

/// The date of a UTC day as it is counted from 1970.
pub fn utc_date(day: i32) -> Date {
    zoned(Millis::from(day) * DAY_MS, &TimeZone::UTC).date()
}

pub fn month_name(day: Date) -> &'static str {
    MONTHS[day.month() as usize - 1]
}

/// The local time in `zone`; times beyond jiff's range (the year 9999) are held at its edge.
pub fn zoned(at: Millis, zone: &TimeZone) -> Zoned {
    let edge = if at < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(at).unwrap_or(edge).to_zoned(zone.clone())
}

/// `2026-11-23 04:05:06`, for tables.
pub fn date_time(at: Millis, zone: &TimeZone) -> String {
    zoned(at, zone).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `04:05:06`.
pub fn clock_time(at: Millis, zone: &TimeZone) -> String {
    zoned(at, zone).strftime("%H:%M:%S").to_string()
}

/// `3 min ago`; the exact time belongs into the title.
pub fn relative(at: Millis, now: Millis) -> String {
    let seconds = (now - at) / 1000;
    let (amount, unit) = match seconds.abs() {
        0..=4 => return "just now".to_owned(),
        s @ 5..=59 => (s, "s"),
        s @ 60..=3599 => (s / 60, "min"),
        s @ 3600..=86_399 => (s / 3600, "h"),
        s => {
            let days = s / 86_400;
            let word = if days == 1 { "day" } else { "days" };
            return if seconds < 0 { format!("in {days} {word}") } else { format!("{days} {word} ago") };
        }
    };
    if seconds < 0 { format!("in {amount} {unit}") } else { format!("{amount} {unit} ago") }
}

/// How long something took or will take: `340 ms`, `2.4 s`, `3 min 12 s`.
pub fn duration(millis: Millis) -> String {
    match millis.max(0) {
        ms @ 0..=999 => format!("{ms}{THIN}ms"),
        ms @ 1000..=59_999 => format!("{}{THIN}s", trimmed(ms as f64 / 1000.0, 1)),
        ms @ 60_000..=3_599_999 => format!("{}{THIN}min {}{THIN}s", ms / 60_000, ms / 1000 % 60),
        ms => format!("{}{THIN}h {}{THIN}min", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// "1 MiB", "256 KiB": the largest unit that keeps it whole.
pub fn bytes(size: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| size >= *unit && size.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{} {name}", thousands(size / unit)),
        None => format!("{} bytes", thousands(size)),
    }
}

/// `1 event`, `2 events`.
pub fn counted(amount: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(amount), if amount == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        for (given, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (-1_234_567, "−1,234,567"),
            (i64::MIN, "−9,223,372,036,854,775,808"),
        ] {
            assert_eq!(thousands(given), expected);
        }
    }

    #[test]
    fn measured_values_are_written_in_full() {
        for (given, expected) in [
            (5.0, "5"),
            (1234.5, "1,234.50"),
            (-1234.567, "−1,234.57"),
            (1999.999, "2,000.00"),
            (0.125, "0.125"),
            (0.000_123_456, "0.0001235"),
            (1e18, "1.0000e18"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(number(given), expected, "{given}");
        }
    }

    #[test]
    fn charts_use_compact_numbers() {
        for (given, expected) in [
            (0.0, "0"),
            (250.0, "250"),
            (1000.0, "1\u{202f}k"),
            (12_400.0, "12.4\u{202f}k"),
            (999_999.0, "1\u{202f}M"),
            (-2_500_000.0, "−2.5\u{202f}M"),
            (-2.5e30, "−2.5e30"),
            (0.25, "0.25"),
            (0.0001, "1e−4"),
        ] {
            assert_eq!(compact(given), expected, "{given}");
        }
    }

    #[test]
    fn a_percentage_never_rounds_to_all_or_nothing() {
        assert_eq!(percent(948.0, 5765.0), "16.4\u{202f}%");
        assert_eq!(percent(1.0, 100_000.0), "<\u{a0}0.1\u{202f}%");
        assert_eq!(percent(99_999.0, 100_000.0), ">\u{a0}99.9\u{202f}%");
        assert_eq!(percent(1.0, 0.0), "–");
        assert_eq!(percent(5.0, 5.0), "100\u{202f}%");
    }

    #[test]
    fn changes_have_a_direction() {
        assert_eq!(change(112.0, 100.0), Change::Up("12\u{202f}%".into()));
        assert_eq!(change(95.5, 100.0), Change::Down("4.5\u{202f}%".into()));
        assert_eq!(change(5.0, 0.0), Change::Unknown);
        assert_eq!(change(5.0, 5.0), Change::Same);
    }

    #[test]
    fn relative_times_read_aloud() {
        let now = 1_700_000_000_000;
        for (ago, expected) in [
            (1_000, "just now"),
            (42_000, "42 s ago"),
            (180_000, "3 min ago"),
            (7_200_000, "2 h ago"),
            (90_000_000, "1 day ago"),
            (400_000_000, "4 days ago"),
            (-600_000, "in 10 min"),
        ] {
            assert_eq!(relative(now - ago, now), expected);
        }
    }

    #[test]
    fn times_follow_the_zone() {
        let zone = TimeZone::get("Asia/Kathmandu").unwrap();
        assert_eq!(date_time(0, &zone), "1970-01-01 05:30:00");
        assert_eq!(clock_time(i64::MAX, &TimeZone::UTC).len(), 8);
    }

    #[test]
    fn sizes_have_the_largest_whole_unit() {
        for (size, words) in [
            (0, "0 bytes"),
            (1_023, "1,023 bytes"),
            (1_024, "1 KiB"),
            (262_144, "256 KiB"),
            (1 << 20, "1 MiB"),
            ((1 << 20) + 1, "1,048,577 bytes"),
            (10 << 20, "10 MiB"),
        ] {
            assert_eq!(bytes(size), words);
        }
    }
}
