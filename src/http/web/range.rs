//! The range of days that a page looks at, as its address says: `?range=30d`, or
//! `?range=custom&from=2025-11-01&to=2025-11-30`, both days included.

use jiff::{Span, civil::Date, tz::TimeZone};

use super::{chart::Grain, format};
use crate::model::Millis;

/// The parameters of an address, in order.
pub type Params = Vec<(String, String)>;

/// The first value of a name; empty ones count as absent.
pub fn param<'a>(params: &'a Params, name: &str) -> Option<&'a str> {
    params.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
}

/// An address: `path` with its parameters, escaped.
pub fn address(path: &str, params: &Params) -> String {
    let query = serde_urlencoded::to_string(params).unwrap_or_default();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// Key, what people read, and how many days before today it begins.
pub const PRESETS: [(&str, &str); 7] = [
    ("today", "Today"),
    ("yesterday", "Yesterday"),
    ("7d", "Last 7 days"),
    ("30d", "Last 30 days"),
    ("90d", "Last 90 days"),
    ("12mo", "Last 12 months"),
    ("custom", "Custom range"),
];

const DEFAULT: &str = "30d";

/// Longer ranges are refused by nobody, but a page of daily points would say nothing.
const DAYS_BY_DAY_MAX: i64 = 184;
const DAYS_BY_WEEK_MAX: i64 = 366 * 3;

#[derive(Clone, PartialEq, Debug)]
pub struct Range {
    key: &'static str,
    /// Both included.
    pub first: Date,
    pub last: Date,
    today: Date,
    pub compare: bool,
}

impl Range {
    /// What the address asks for; the last 30 days when it says nothing, or nothing readable.
    pub fn read(params: &Params, now: Millis, zone: &TimeZone) -> Self {
        let today = format::zoned(now, zone).date();
        let key = param(params, "range").and_then(|asked| PRESETS.iter().find(|(key, _)| *key == asked));
        let key = key.map_or(DEFAULT, |(key, _)| *key);
        let compare = param(params, "compare") != Some("0");
        let date = |name| param(params, name).and_then(|text| text.parse::<Date>().ok());
        let back = |span: Span| today.checked_sub(span).unwrap_or(today);
        let (key, first, last) = match key {
            "today" => (key, today, today),
            "yesterday" => (key, back(Span::new().days(1)), back(Span::new().days(1))),
            "7d" => (key, back(Span::new().days(6)), today),
            "90d" => (key, back(Span::new().days(89)), today),
            "12mo" => (key, back(Span::new().months(12)), today),
            "custom" => match (date("from"), date("to")) {
                (Some(from), Some(to)) => (key, from.min(to), from.max(to)),
                (Some(from), None) => (key, from, today.max(from)),
                _ => (DEFAULT, back(Span::new().days(29)), today),
            },
            _ => (DEFAULT, back(Span::new().days(29)), today),
        };
        Self { key, first, last, today, compare }
    }

    /// As a question says it: `from`, and `to` exclusive.
    pub fn bounds(&self) -> (String, String) {
        (self.first.to_string(), self.last.tomorrow().unwrap_or(self.last).to_string())
    }

    /// The same number of days right before. While the range is still running, it ends at the
    /// same hour as now, so that like is compared with like.
    pub fn previous_bounds(&self, now: Millis, zone: &TimeZone) -> (String, String) {
        let back = |date: Date| date.checked_sub(Span::new().days(self.days())).unwrap_or(date);
        let first = back(self.first);
        if !self.is_running() {
            return (first.to_string(), self.first.to_string());
        }
        let hour = 3_600_000;
        let next_hour = format::zoned((now.div_euclid(hour) + 1) * hour, zone);
        let to = next_hour
            .checked_sub(Span::new().days(self.days()))
            .map_or_else(|_| self.first.to_string(), |to| to.timestamp().to_string());
        (first.to_string(), to)
    }

    pub fn days(&self) -> i64 {
        self.first.until(self.last).map_or(1, |span| i64::from(span.get_days()) + 1)
    }

    /// Its last day has not ended.
    pub fn is_running(&self) -> bool {
        self.last >= self.today
    }

    pub fn grain(&self) -> Grain {
        match self.days() {
            ..=2 => Grain::Hour,
            3..=DAYS_BY_DAY_MAX => Grain::Day,
            _ if self.days() <= DAYS_BY_WEEK_MAX => Grain::Week,
            _ => Grain::Month,
        }
    }

    /// The parameters that lead here.
    pub fn params(&self) -> Params {
        let mut params = vec![("range".to_owned(), self.key.to_owned())];
        if self.key == "custom" {
            params.push(("from".to_owned(), self.first.to_string()));
            params.push(("to".to_owned(), self.last.to_string()));
        }
        params
    }

    pub fn key(&self) -> &'static str {
        self.key
    }

    pub fn is_custom(&self) -> bool {
        self.key == "custom"
    }

    /// `1 Nov – 30 Nov 2025`.
    pub fn in_words(&self) -> String {
        if self.first == self.last {
            return format::day_month_year(self.first);
        }
        let first = if self.first.year() == self.last.year() {
            format::day_month(self.first)
        } else {
            format::day_month_year(self.first)
        };
        format!("{first} – {}", format::day_month_year(self.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-11-23T03:30:00Z.
    const NOW: Millis = 1_763_868_600_000;

    fn range(query: &str) -> Range {
        let params: Params = serde_urlencoded::from_str(query).unwrap();
        Range::read(&params, NOW, &TimeZone::get("America/New_York").unwrap())
    }

    #[test]
    fn ranges_are_days_of_the_projects_zone() {
        // In New York it is still the 22nd.
        for (query, first, to, grain) in [
            ("", "2025-10-24", "2025-11-23", Grain::Day),
            ("range=today", "2025-11-22", "2025-11-23", Grain::Hour),
            ("range=yesterday", "2025-11-21", "2025-11-22", Grain::Hour),
            ("range=7d", "2025-11-16", "2025-11-23", Grain::Day),
            ("range=12mo", "2024-11-22", "2025-11-23", Grain::Week),
            ("range=custom&from=2025-11-30&to=2025-11-01", "2025-11-01", "2025-12-01", Grain::Day),
            ("range=custom&from=nonsense&to=2025-11-01", "2025-10-24", "2025-11-23", Grain::Day),
            ("range=custom&from=2010-12-01&to=2020-12-09", "2010-12-01", "2020-12-10", Grain::Month),
            ("range=what", "2025-10-24", "2025-11-23", Grain::Day),
        ] {
            let range = range(query);
            assert_eq!(range.bounds(), (first.to_owned(), to.to_owned()), "{query}");
            assert_eq!(range.grain(), grain, "{query}");
        }
    }

    #[test]
    fn the_previous_period_is_as_long_and_ends_at_the_same_hour() {
        let zone = TimeZone::get("America/New_York").unwrap();
        let previous = range("range=7d").previous_bounds(NOW, &zone);
        assert_eq!(previous, ("2025-11-09".into(), "2025-11-16T04:00:00Z".into()));
        let previous = range("range=yesterday").previous_bounds(NOW, &zone);
        assert_eq!(previous, ("2025-11-20".into(), "2025-11-21".into()));
    }

    #[test]
    fn a_range_leads_back_to_itself() {
        for query in ["range=7d", "range=custom&from=2025-11-01&to=2025-11-05"] {
            let first = range(query);
            assert_eq!(address("", &first.params()), format!("?{query}"));
        }
        assert_eq!(
            range("range=custom&from=2024-12-30&to=2025-01-02").in_words(),
            "30 Dec 2024 – 2 Jan 2025"
        );
    }
}
