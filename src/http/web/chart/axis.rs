//! Buckets of time below a chart: which get a label, and what it says.

use jiff::{Zoned, civil::Weekday};

use crate::http::web::format::{day_month, day_month_year, month_name};

/// How long a bucket is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grain {
    Hour,
    Day,
    Week,
    Month,
}

impl Grain {
    /// Every how many buckets a label may stand, from the closest up.
    fn strides(self) -> &'static [usize] {
        match self {
            Self::Hour => &[1, 2, 3, 6, 12, 24, 48, 7 * 24, 14 * 24, 28 * 24],
            Self::Day => &[1, 2, 7, 14, 28, 56, 91, 182, 364, 728],
            Self::Week => &[1, 2, 4, 8, 13, 26, 52, 104],
            Self::Month => &[1, 2, 3, 6, 12, 24, 60, 120],
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }
}

/// Most labels on a wide chart (at least 560 px: 70 px each) and on a narrow one (about 300 px).
const WIDE_MAX: usize = 8;
const NARROW_MAX: usize = 4;

#[derive(Clone, Debug)]
pub struct TimeAxis {
    starts: Vec<Zoned>,
    grain: Grain,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Tick {
    pub index: usize,
    pub label: String,
    /// Hidden where only [`NARROW_MAX`] labels fit.
    pub wide_only: bool,
}

impl TimeAxis {
    /// `starts`: each bucket's first moment in the zone of the question.
    pub fn new(starts: Vec<Zoned>, grain: Grain) -> Self {
        Self { starts, grain }
    }

    pub fn len(&self) -> usize {
        self.starts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// A bucket in full, for hovering and for tables.
    pub fn full(&self, index: usize) -> String {
        let Some(start) = self.starts.get(index) else {
            return String::new();
        };
        let date = start.date();
        match self.grain {
            Grain::Hour => {
                let time = start.strftime("%H:%M");
                format!("{} {} {time}", weekday(date.weekday()), day_month_year(date))
            }
            Grain::Day => format!("{} {}", weekday(date.weekday()), day_month_year(date)),
            Grain::Week => format!("Week of {}", day_month_year(date)),
            Grain::Month => format!("{} {}", month_name(date), date.year()),
        }
    }

    /// ISO, for tables.
    pub fn iso(&self, index: usize) -> String {
        let Some(start) = self.starts.get(index) else {
            return String::new();
        };
        match self.grain {
            Grain::Hour => start.strftime("%Y-%m-%d %H:%M").to_string(),
            Grain::Day | Grain::Week => start.date().to_string(),
            Grain::Month => start.strftime("%Y-%m").to_string(),
        }
    }

    /// The labels, at most eight, evenly spaced so that they cannot touch.
    pub fn ticks(&self) -> Vec<Tick> {
        let count = self.len();
        let stride = self.stride(WIDE_MAX);
        let indexes: Vec<usize> =
            (0..count).filter(|index| (index + self.shift(stride)).is_multiple_of(stride)).collect();
        let keep_every = indexes.len().div_ceil(NARROW_MAX).max(1);
        let mut ticks = Vec::with_capacity(indexes.len());
        let mut before: Option<&Zoned> = None;
        for (number, &index) in indexes.iter().enumerate() {
            let start = &self.starts[index];
            let label = self.short(start, before, stride);
            before = Some(start);
            ticks.push(Tick { index, label, wide_only: number % keep_every != 0 });
        }
        ticks
    }

    /// The closest allowed stride with at most `most` labels.
    fn stride(&self, most: usize) -> usize {
        let strides = self.grain.strides();
        let fits = |stride: &&usize| self.len().div_ceil(**stride) <= most;
        strides.iter().find(fits).copied().unwrap_or_else(|| self.len().div_ceil(most).max(1))
    }

    /// Hours are labelled at midnight and noon rather than at wherever the range began.
    fn shift(&self, stride: usize) -> usize {
        match (self.grain, self.starts.first()) {
            (Grain::Hour, Some(first)) if stride <= 24 => first.hour() as usize % stride,
            (Grain::Month, Some(first)) if stride <= 12 => (first.month() as usize - 1) % stride,
            _ => 0,
        }
    }

    fn short(&self, start: &Zoned, before: Option<&Zoned>, stride: usize) -> String {
        let date = start.date();
        let new_year = before.is_some_and(|before| before.year() != start.year());
        match self.grain {
            Grain::Hour if stride < 24 && start.hour() != 0 => start.strftime("%H:%M").to_string(),
            Grain::Month if before.is_none() || new_year => format!("{} {}", month_name(date), date.year()),
            Grain::Month => month_name(date).to_owned(),
            Grain::Hour | Grain::Day | Grain::Week if new_year => day_month_year(date),
            Grain::Hour | Grain::Day | Grain::Week => day_month(date),
        }
    }
}

fn weekday(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Mon",
        Weekday::Tuesday => "Tue",
        Weekday::Wednesday => "Wed",
        Weekday::Thursday => "Thu",
        Weekday::Friday => "Fri",
        Weekday::Saturday => "Sat",
        Weekday::Sunday => "Sun",
    }
}

#[cfg(test)]
mod tests {
    use jiff::{Span, civil::datetime, tz::TimeZone};

    use super::*;

    fn axis(grain: Grain, count: i64, hour: i8) -> TimeAxis {
        let first = datetime(2025, 11, 3, hour, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap();
        let step = |n: i64| match grain {
            Grain::Hour => Span::new().hours(n),
            Grain::Day => Span::new().days(n),
            Grain::Week => Span::new().weeks(n),
            Grain::Month => Span::new().months(n),
        };
        TimeAxis::new((0..count).map(|n| first.checked_add(step(n)).unwrap()).collect(), grain)
    }

    fn labels(axis: &TimeAxis) -> Vec<String> {
        axis.ticks().into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn labels_never_crowd() {
        for grain in [Grain::Hour, Grain::Day, Grain::Week, Grain::Month] {
            for count in (1..60).chain([90, 365, 400, 2_000, 9_000]) {
                let count = if grain == Grain::Hour { count } else { count.min(2_000) };
                let ticks = axis(grain, count, 7).ticks();
                assert!((1..=WIDE_MAX).contains(&ticks.len()), "{grain:?} {count}: {}", ticks.len());
                let narrow = ticks.iter().filter(|tick| !tick.wide_only).count();
                assert!((1..=NARROW_MAX).contains(&narrow), "{grain:?} {count}: {narrow} when narrow");
                for pair in ticks.windows(2) {
                    assert!(
                        (pair[1].index - pair[0].index) * (WIDE_MAX + 1) >= count as usize - 1
                            || ticks.len() == 2
                    );
                }
            }
        }
    }

    #[test]
    fn hours_are_labelled_at_round_times() {
        assert_eq!(
            labels(&axis(Grain::Hour, 24, 7)),
            ["09:00", "12:00", "15:00", "18:00", "21:00", "4 Nov", "03:00", "06:00"]
        );
        assert_eq!(labels(&axis(Grain::Hour, 72, 7)), ["12:00", "4 Nov", "12:00", "5 Nov", "12:00", "6 Nov"]);
    }

    #[test]
    fn a_new_year_is_named() {
        let days = labels(&axis(Grain::Day, 90, 0));
        assert_eq!(days, ["3 Nov", "17 Nov", "1 Dec", "15 Dec", "29 Dec", "12 Jan 2026", "26 Jan"]);
        assert_eq!(
            labels(&axis(Grain::Month, 14, 0)),
            ["Nov 2025", "Jan 2026", "Mar", "May", "Jul", "Sep", "Nov"]
        );
    }

    #[test]
    fn buckets_are_named_in_full() {
        assert_eq!(axis(Grain::Hour, 1, 7).full(0), "Mon 3 Nov 2025 07:00");
        assert_eq!(axis(Grain::Day, 1, 0).full(0), "Mon 3 Nov 2025");
        assert_eq!(axis(Grain::Week, 1, 0).full(0), "Week of 3 Nov 2025");
        assert_eq!(axis(Grain::Month, 1, 0).full(0), "Nov 2025");
        assert_eq!(axis(Grain::Month, 1, 0).full(1), "");
    }
}
