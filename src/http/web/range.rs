//! The range of days that a page looks at, as its address says: `?range=30d`, or
//! `?range=custom&from=2025-11-01&to=2025-11-30`, both days included.

use actix_web::HttpRequest;
use jiff::{Span, civil::Date, tz::TimeZone};

use super::{chart::Grain, format};
use crate::http::ApiError;
use crate::model::Millis;

/// The parameters of an address, in order.
pub type Params = Vec<(String, String)>;

/// The parameters of a page's own address.
pub fn params_of(request: &HttpRequest) -> Result<Params, ApiError> {
    serde_urlencoded::from_str(request.query_string())
        .map_err(|error| ApiError::malformed(format!("The address cannot be read: {error}.")))
}

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
pub const PRESETS: [(&str, &str); 8] = [
    ("today", "Today"),
    ("yesterday", "Yesterday"),
    ("7d", "Last 7 days"),
    ("30d", "Last 30 days"),
    ("90d", "Last 90 days"),
    ("12mo", "Last 12 months"),
    (DATA, "Last 30 days with data"),
    ("custom", "Custom range"),
];

const DEFAULT: &str = "30d";
/// The 30 days that end with the latest event: what a page opens on when nothing happened since.
const DATA: &str = "data";

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
    /// What the address asks for; when it says nothing, or nothing readable, the last 30 days, or
    /// those that end with the latest event (`last_at`) when none of them has one.
    pub fn read(params: &Params, now: Millis, zone: &TimeZone, last_at: Option<Millis>) -> Self {
        let today = format::zoned(now, zone).date();
        let last_day = last_at.map_or(today, |at| format::zoned(at, zone).date().min(today));
        let days = Days { today, last_day };
        let key = param(params, "range").and_then(|asked| PRESETS.iter().find(|(key, _)| *key == asked));
        let is_quiet = last_day < today.checked_sub(Span::new().days(29)).unwrap_or(today);
        let key = key.map_or(if is_quiet { DATA } else { DEFAULT }, |(key, _)| *key);
        let compare = param(params, "compare") != Some("0");
        let (key, first, last) = match days.changed(params, key) {
            Some((from, to)) => ("custom", from.min(to), from.max(to)),
            None => days.of(params, key),
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

fn date(params: &Params, name: &str) -> Option<Date> {
    param(params, name).and_then(|text| text.parse().ok())
}

/// From where ranges are counted back.
struct Days {
    today: Date,
    last_day: Date,
}

impl Days {
    /// The days that a key means today, with the key that they are then shown as.
    fn of(&self, params: &Params, key: &'static str) -> (&'static str, Date, Date) {
        let today = self.today;
        let before = |day: Date, span: Span| day.checked_sub(span).unwrap_or(day);
        let back = |span: Span| before(today, span);
        match (key, date(params, "from"), date(params, "to")) {
            ("today", _, _) => (key, today, today),
            ("yesterday", _, _) => (key, back(Span::new().days(1)), back(Span::new().days(1))),
            ("7d", _, _) => (key, back(Span::new().days(6)), today),
            ("90d", _, _) => (key, back(Span::new().days(89)), today),
            ("12mo", _, _) => (key, back(Span::new().months(12)), today),
            (DATA, _, _) => (key, before(self.last_day, Span::new().days(29)), self.last_day),
            ("custom", Some(from), Some(to)) => (key, from.min(to), from.max(to)),
            ("custom", Some(from), None) => (key, from, today.max(from)),
            _ => (DEFAULT, back(Span::new().days(29)), today),
        }
    }

    /// Without scripts the menu and both days are sent together, and `shown` says what the menu was:
    /// whoever left it there and changed a day means the days.
    fn changed(&self, params: &Params, key: &'static str) -> Option<(Date, Date)> {
        let days = (date(params, "from")?, date(params, "to")?);
        let (_, first, last) = self.of(params, key);
        (param(params, "shown") == Some(key) && days != (first, last)).then_some(days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-11-23T03:30:00Z.
    const NOW: Millis = 1_763_868_600_000;

    fn range(query: &str) -> Range {
        let params: Params = serde_urlencoded::from_str(query).unwrap();
        Range::read(&params, NOW, &TimeZone::get("America/New_York").unwrap(), None)
    }

    #[test]
    fn a_project_that_fell_silent_opens_on_its_last_days_with_data() {
        let zone = TimeZone::get("America/New_York").unwrap();
        let read = |query: &str, last: &str| {
            let params: Params = serde_urlencoded::from_str(query).unwrap();
            let last_at = last.parse::<jiff::Timestamp>().unwrap().as_millisecond();
            Range::read(&params, NOW, &zone, Some(last_at))
        };
        for (name, query, last, key, first, to) in [
            ("busy", "", "2025-11-22T12:00:00Z", "30d", "2025-10-24", "2025-11-23"),
            ("the edge", "", "2025-10-24T12:00:00Z", "30d", "2025-10-24", "2025-11-23"),
            ("silent", "", "2025-10-23T12:00:00Z", "data", "2025-09-24", "2025-10-24"),
            ("years ago", "", "1998-06-30T12:00:00Z", "data", "1998-06-01", "1998-07-01"),
            ("asked for", "range=30d", "1998-06-30T12:00:00Z", "30d", "2025-10-24", "2025-11-23"),
            ("from the future", "", "2026-01-01T00:00:00Z", "30d", "2025-10-24", "2025-11-23"),
        ] {
            let range = read(query, last);
            assert_eq!((range.key(), range.bounds()), (key, (first.to_owned(), to.to_owned())), "{name}");
        }
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
            // Sent without scripts: nothing changed, another preset, other days.
            ("range=7d&shown=7d&from=2025-11-16&to=2025-11-22", "2025-11-16", "2025-11-23", Grain::Day),
            ("range=7d&shown=30d&from=2025-10-24&to=2025-11-22", "2025-11-16", "2025-11-23", Grain::Day),
            ("range=7d&shown=7d&from=2025-11-01&to=2025-11-22", "2025-11-01", "2025-11-23", Grain::Day),
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
