//! When things happen: growth, weekdays, hours of the day where the customers live, a sale.

use super::dice::fixed_unit;
use super::world::COUNTRIES;
use crate::model::{DAY_MS, Millis, utc_day};

const HOUR_MS: Millis = 3_600_000;

/// Share of activity in each local hour, from midnight.
const HOURS: [f64; 24] = [
    0.35, 0.20, 0.12, 0.09, 0.10, 0.18, 0.38, 0.62, 0.80, 0.92, 1.00, 1.05, 1.15, 1.05, 0.98, 0.95, 1.00,
    1.10, 1.25, 1.40, 1.50, 1.35, 0.95, 0.60,
];

/// The largest of [`HOURS`].
pub(super) const BUSIEST: f64 = 1.5;

/// From Monday.
const WEEKDAYS: [f64; 7] = [1.00, 0.97, 0.98, 1.02, 0.93, 0.84, 1.12];

/// How much more happens at the end than at the start.
const GROWTH: f64 = 0.45;

const SALE: f64 = 1.5;

/// How busy people are at `at` in a place `utc_offset_hours` east of Greenwich.
pub(super) fn local_activity(at: Millis, utc_offset_hours: i64) -> f64 {
    let hour = (at + utc_offset_hours * HOUR_MS).rem_euclid(DAY_MS) / HOUR_MS;
    HOURS[hour as usize]
}

/// Maps the share of all events that lie before a moment to that moment.
pub(super) struct Rhythm {
    from: Millis,
    until: Millis,
    /// Weight of all hours before hour n, one longer than there are hours.
    before: Vec<f64>,
    /// First day of the sale; it lasts from Friday to Sunday.
    sale_from: Option<i32>,
}

impl Rhythm {
    /// Preconditions: `from < until`, `from` at a UTC midnight.
    pub(super) fn new(seed: u64, from: Millis, until: Millis) -> Self {
        let sale_from = sale_start(from, until);
        let hours = (until - from + HOUR_MS - 1) / HOUR_MS;
        let mut before = vec![0.0];
        let mut sum = 0.0;
        for n in 0..hours {
            let at = from + n * HOUR_MS;
            let part = (until - at).min(HOUR_MS) as f64 / HOUR_MS as f64;
            sum += part * hour_weight(seed, at, from, until, sale_from);
            before.push(sum);
        }
        Self { from, until, before, sale_from }
    }

    /// The moment before which the share `part` of `[0, 1)` of all events lies.
    pub(super) fn moment(&self, part: f64) -> Millis {
        let total = self.before.last().copied().unwrap_or(1.0);
        let wanted = part * total;
        let hour = self.before.partition_point(|&sum| sum <= wanted).clamp(1, self.before.len() - 1) - 1;
        let (low, high) = (self.before[hour], self.before[hour + 1]);
        let start = self.from + hour as Millis * HOUR_MS;
        let length = (self.until - start).min(HOUR_MS) as f64;
        let inside = if high > low { (wanted - low) / (high - low) * length } else { 0.0 };
        (start + inside as Millis).clamp(self.from, self.until - 1)
    }

    pub(super) fn is_sale(&self, at: Millis) -> bool {
        self.sale_from.is_some_and(|day| (day..day + 3).contains(&utc_day(at)))
    }
}

fn hour_weight(seed: u64, at: Millis, from: Millis, until: Millis, sale_from: Option<i32>) -> f64 {
    let day = utc_day(at);
    let everywhere: f64 =
        COUNTRIES.iter().map(|(country, share)| share * local_activity(at, country.utc_offset_hours)).sum();
    let growth = 1.0 + GROWTH * (at - from) as f64 / (until - from) as f64;
    let sale = if sale_from.is_some_and(|first| (first..first + 3).contains(&day)) { SALE } else { 1.0 };
    let day_noise = 0.93 + 0.14 * fixed_unit(seed, "day", day as u64);
    let hour_noise = 0.90 + 0.20 * fixed_unit(seed, "hour", (at / HOUR_MS) as u64);
    everywhere * WEEKDAYS[weekday(day)] * growth * sale * day_noise * hour_noise
}

/// 0 is Monday; 1970-01-01 was a Thursday.
fn weekday(day: i32) -> usize {
    (day + 3).rem_euclid(7) as usize
}

/// The last Friday that lies a week or more before the end: late enough to be on every chart's
/// right half, early enough that the days after it show the fall.
fn sale_start(from: Millis, until: Millis) -> Option<i32> {
    let mut day = utc_day(until) - 8;
    while weekday(day) != 4 {
        day -= 1;
    }
    (day > utc_day(from)).then_some(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_rise_and_stay_inside() {
        let from = 20_000 * DAY_MS;
        let until = from + 9 * DAY_MS + 5_400_000;
        let rhythm = Rhythm::new(1, from, until);
        let mut last = from;
        for n in 0..1_000 {
            let at = rhythm.moment(f64::from(n) / 1_000.0);
            assert!(at >= last && at < until);
            last = at;
        }
        assert_eq!(rhythm.moment(0.0), from);
        assert!(rhythm.moment(0.999_999) > until - HOUR_MS);
    }

    #[test]
    fn the_busiest_hour_is_named() {
        assert_eq!(HOURS.iter().copied().fold(0.0, f64::max), BUSIEST);
    }
}
