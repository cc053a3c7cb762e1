//! A chart in words, for those who do not see it.

use std::fmt::Write;

use super::{Series, TimeChart};
use crate::http::web::format::number;

/// More series than this are left to the table.
const SERIES_MAX: usize = 4;

/// "Persons per day rose from 1,020 (Sat 1 Nov 2025) to 1,310 (…). Highest 1,502 (…)."
pub fn describe(chart: &TimeChart<'_>) -> String {
    let single = chart.series.len() == 1;
    let mut text = String::new();
    for series in chart.series.iter().take(SERIES_MAX) {
        let name = if single { chart.name.to_owned() } else { format!("{}, {}", chart.name, series.label) };
        text.push_str(&describe_series(&name, series, chart));
    }
    if chart.series.len() > SERIES_MAX {
        let _ = write!(text, "{} more series are in the table. ", chart.series.len() - SERIES_MAX);
    }
    text.trim_end().to_owned()
}

fn describe_series(name: &str, series: &Series, chart: &TimeChart<'_>) -> String {
    // A bucket that is still running would make every description end in a fall.
    let finished = chart.axis.len() - usize::from(chart.unfinished && chart.axis.len() > 1);
    let known: Vec<(usize, f64)> = series
        .values
        .iter()
        .take(finished)
        .enumerate()
        .filter_map(|(at, value)| value.filter(|v| v.is_finite()).map(|value| (at, value)))
        .collect();
    let at = |index: usize| chart.axis.full(index);
    let (Some(&first), Some(&last)) = (known.first(), known.last()) else {
        return format!("{name}: no values. ");
    };
    if known.len() == 1 {
        return format!("{name}: {} ({}). ", number(first.1), at(first.0));
    }
    let highest = known.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a }).unwrap_or(first);
    let lowest = known.iter().copied().reduce(|a, b| if b.1 < a.1 { b } else { a }).unwrap_or(first);
    if highest.1 == lowest.1 {
        return format!("{name} stayed at {} from {} to {}. ", number(first.1), at(first.0), at(last.0));
    }
    let verb = match last.1.total_cmp(&first.1) {
        std::cmp::Ordering::Greater => "rose",
        std::cmp::Ordering::Less => "fell",
        std::cmp::Ordering::Equal => "went",
    };
    format!(
        "{name} {verb} from {} ({}) to {} ({}). Highest {} ({}), lowest {} ({}). ",
        number(first.1),
        at(first.0),
        number(last.1),
        at(last.0),
        number(highest.1),
        at(highest.0),
        number(lowest.1),
        at(lowest.0),
    )
}
