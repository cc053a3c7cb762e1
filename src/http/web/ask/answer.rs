//! From an answer to what the page shows of it: a chart, totals, and every value as a table.

use jiff::{Timestamp, Zoned};

use super::words::{measure_in_words, window_in_words};
use crate::{
    analysis::{
        Answer, Breakdown, FunnelAnswer, Granularity, Number, Outcome, Question, TrendsAnswer,
        TrendsAnswerSeries, format_window,
    },
    http::web::{
        chart::{self, COLOURS, Grain, Series, TimeAxis, TimeChart},
        format,
        sort::Sort,
        views::{SeriesRow, ValueTable},
    },
    model::Millis,
};

/// Numbers in the table of values: 20,000 are about 60 KB on the wire.
const CELLS_MAX: usize = 20_000;
const COLUMNS_MAX: usize = 60;

/// The parts of an answer that a page shows.
#[derive(Default)]
pub struct Shown {
    pub chart: String,
    pub series: Vec<SeriesRow>,
    /// Totals that bars may compare: one measure, nothing below zero.
    pub comparable: bool,
    pub table: Option<ValueTable>,
    /// "showing the first 8 of 11 series".
    pub remarks: Vec<String>,
}

impl Shown {
    /// Puts both tables in the order that was asked for; `bucket` and `c0`, `c1`, … are columns of the
    /// table of values.
    pub fn sort(&mut self, sort: &Sort) {
        match sort.column() {
            "total" => self.series.sort_by(|a, b| sort.numbers(a.total, b.total)),
            "value" => self.series.sort_by(|a, b| sort.apply(a.value.cmp(&b.value))),
            "label" => self.series.sort_by(|a, b| sort.apply(a.label.cmp(&b.label))),
            "bucket" => {
                if let Some(table) = &mut self.table {
                    table.rows.sort_by(|a, b| sort.apply(a.0.cmp(&b.0)));
                }
            }
            column => {
                let at = column.strip_prefix('c').and_then(|number| number.parse::<usize>().ok());
                if let (Some(at), Some(table)) = (at, &mut self.table) {
                    let cell = |values: &[Option<f64>]| values.get(at).copied().flatten();
                    table.rows.sort_by(|a, b| sort.numbers(cell(&a.1), cell(&b.1)));
                }
            }
        }
    }
}

/// How an answer is to be shown.
pub struct Manner<'a> {
    /// Columns instead of lines.
    pub columns: bool,
    pub heading: &'a str,
    pub now: Millis,
    /// Where the persons of a funnel's step are listed; steps count from 1.
    pub persons_href: &'a dyn Fn(usize, Outcome) -> String,
}

pub fn show(question: &Question, answer: &Answer, manner: &Manner) -> Shown {
    match answer {
        Answer::Trends(trends) => show_trends(question, trends, manner),
        Answer::Funnel(funnel) => show_funnel(funnel, manner.persons_href),
        // They have a page of their own.
        Answer::Persons(_) => Shown::default(),
    }
}

/// "4 steps within 7 days", or `None` for questions that are better named by their words.
pub fn funnel_heading(question: &Question) -> Option<String> {
    let Question::Funnel(funnel) = question else {
        return None;
    };
    let steps = funnel.steps.len();
    Some(match funnel.window {
        Some(window) => format!("{steps} steps within {}", window_in_words(&format_window(window))),
        None => format!("{steps} steps, in any time"),
    })
}

fn show_funnel(funnel: &FunnelAnswer, persons_href: &dyn Fn(usize, Outcome) -> String) -> Shown {
    let steps: Vec<chart::FunnelStep> = funnel
        .steps
        .iter()
        .zip(1..)
        .map(|(step, number)| chart::FunnelStep {
            label: step.label.clone(),
            persons: step.persons,
            reached_href: persons_href(number, Outcome::Converted),
            dropped_href: persons_href(number, Outcome::Dropped),
        })
        .collect();
    Shown { chart: chart::funnel(&steps), ..Shown::default() }
}

fn show_trends(question: &Question, trends: &TrendsAnswer, manner: &Manner) -> Shown {
    let &Manner { columns, heading, now, .. } = manner;
    let labels: Vec<String> = trends.series.iter().map(label).collect();
    let same_label = labels.windows(2).all(|pair| pair[0] == pair[1]);
    let rows: Vec<SeriesRow> = trends
        .series
        .iter()
        .zip(&labels)
        .enumerate()
        .map(|(number, (series, label))| SeriesRow {
            label: label.clone(),
            value: series.breakdown.as_ref().map(breakdown_in_words),
            total: series.total.map(Number::to_f64),
            drawn: (number < COLOURS).then_some(number),
        })
        .collect();
    let one_measure = trends.series.windows(2).all(|pair| pair[0].measure == pair[1].measure);
    let comparable = one_measure && rows.len() > 1 && rows.iter().all(|row| row.total.unwrap_or(0.0) >= 0.0);
    let granularity = match question {
        Question::Trends(trends) => trends.granularity,
        Question::Funnel(_) | Question::Persons(_) => None,
    };
    let Some(granularity) = granularity else {
        let rows = rows.into_iter().map(|row| SeriesRow { drawn: None, ..row }).collect();
        return Shown { series: rows, comparable, ..Shown::default() };
    };

    let starts = started(&trends.buckets, question, now);
    let range = question.when().range;
    let buckets = starts.len();
    let unfinished = buckets < trends.buckets.len() || range.to > now;
    let axis = TimeAxis::new(starts, grain(granularity));
    // What tells the series apart: the value of the breakdown, the label, or both.
    let name = |number: usize| match (&rows[number].value, same_label) {
        (Some(value), true) => value.clone(),
        (Some(value), false) => format!("{}: {value}", labels[number]),
        (None, _) => labels[number].clone(),
    };
    let values = |series: &TrendsAnswerSeries| -> Vec<Option<f64>> {
        series.values.iter().take(buckets).map(|value| value.map(Number::to_f64)).collect()
    };
    let drawn: Vec<Series> = trends
        .series
        .iter()
        .take(COLOURS)
        .enumerate()
        .map(|(number, series)| Series { label: name(number), values: values(series), previous: None })
        .collect();
    let whole = trends.series.iter().all(|series| matches!(series.measure.as_str(), "count" | "persons"));
    let drawing = TimeChart { name: heading, axis: &axis, series: &drawn, unfinished, whole };
    let mut remarks = Vec::new();
    if trends.series.len() > COLOURS {
        remarks.push(format!("The chart shows the first {COLOURS} of {} series", trends.series.len()));
    }
    let shown_columns = trends.series.len().min(COLUMNS_MAX);
    if shown_columns < trends.series.len() {
        remarks.push(format!("The table of values shows the first {COLUMNS_MAX}"));
    }
    let shown_rows = buckets.min((CELLS_MAX / shown_columns.max(1)).max(1));
    let table = ValueTable {
        columns: (0..shown_columns).map(name).collect(),
        rows: (buckets - shown_rows..buckets)
            .map(|at| {
                let cells = trends.series.iter().take(shown_columns);
                let cells = cells.map(|series| series.values.get(at).copied().flatten().map(Number::to_f64));
                (axis.iso(at), cells.collect())
            })
            .collect(),
        rows_total: buckets,
    };
    Shown {
        chart: if columns { chart::columns(&drawing) } else { chart::line(&drawing) },
        series: rows,
        comparable,
        table: Some(table),
        remarks,
    }
}

/// The buckets that have begun: those still to come hold nothing and would draw a fall to zero.
pub fn started(buckets: &[String], question: &Question, now: Millis) -> Vec<Zoned> {
    let zone = &question.when().zone;
    buckets
        .iter()
        .filter_map(|text| text.parse::<Timestamp>().ok())
        .filter(|start| start.as_millisecond() <= now)
        .map(|start| start.to_zoned(zone.clone()))
        .collect()
}

pub fn grain(granularity: Granularity) -> Grain {
    match granularity {
        Granularity::Hour => Grain::Hour,
        Granularity::Day => Grain::Day,
        Granularity::Week => Grain::Week,
        Granularity::Month => Grain::Month,
    }
}

fn label(series: &TrendsAnswerSeries) -> String {
    measure_in_words(&series.measure, series.property.as_deref(), &series.label)
}

fn breakdown_in_words(value: &Breakdown) -> String {
    match value {
        Breakdown::Absent => "(not set)".to_owned(),
        Breakdown::Bool(flag) => flag.to_string(),
        Breakdown::Number(Number::Integer(integer)) => integer.to_string(),
        Breakdown::Number(Number::Float(float)) => format::number(*float),
        Breakdown::Text(text) if text.is_empty() => "(empty)".to_owned(),
        Breakdown::Text(text) => text.clone(),
        Breakdown::Json(json) => json.to_string(),
        Breakdown::Other => "Other values".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::analysis::ProjectSettings;

    /// 2025-11-03T10:00:00Z.
    const NOW: Millis = 1_762_164_000_000;

    fn question(json: serde_json::Value) -> Question {
        Question::parse(&json, &ProjectSettings::new("Europe/Berlin", NOW)).unwrap()
    }

    fn shown(question_json: serde_json::Value, answer: serde_json::Value) -> Shown {
        let answer: Answer = serde_json::from_value(answer).unwrap();
        let persons_href = |step: usize, outcome: Outcome| format!("/who?step={step}&{}", outcome.word());
        let manner = Manner { columns: false, heading: "Heading", now: NOW, persons_href: &persons_href };
        show(&question(question_json), &answer, &manner)
    }

    #[test]
    fn days_that_have_not_begun_are_left_out_and_today_is_dashed() {
        let asked = json!({"kind": "trends", "from": "2025-11-01", "to": "2025-11-06", "granularity": "day",
            "series": [{"event": "a", "measure": "count"}]});
        let answer = json!({"kind": "trends",
            "buckets": ["2025-10-31T23:00:00Z", "2025-11-01T23:00:00Z", "2025-11-02T23:00:00Z", "2025-11-03T23:00:00Z", "2025-11-04T23:00:00Z"],
            "series": [{"label": "a", "measure": "count", "values": [5, 7, 2, 0, 0], "total": 14}]});
        let shown = shown(asked, answer);
        let table = shown.table.unwrap();
        assert_eq!(table.rows.len(), 3);
        assert_eq!(table.rows[2], ("2025-11-03".to_owned(), vec![Some(2.0)]));
        assert!(shown.chart.contains("line unfinished c1"));
        assert!(!shown.comparable, "one series has nothing to be compared with");
    }

    #[test]
    fn a_breakdown_names_its_values() {
        let asked = json!({"kind": "trends", "from": "2025-10-01", "to": "2025-10-03", "granularity": "day",
            "series": [{"measure": "count"}], "breakdown": {"property": "p"}});
        let series = |breakdown: serde_json::Value, n: i64| json!({"label": "every event", "measure": "count", "breakdown": breakdown, "values": [n, n], "total": 2 * n});
        let mut all: Vec<_> = (0..9).map(|n| series(json!(format!("v{n}")), 20 - n)).collect();
        all.extend([
            series(json!(null), 3),
            series(json!(""), 2),
            series(json!(12345), 1),
            series(json!("$other"), 1),
        ]);
        let answer = json!({"kind": "trends", "buckets": ["2025-09-30T22:00:00Z", "2025-10-01T22:00:00Z"], "series": all});
        let shown = shown(asked, answer);
        let values: Vec<_> = shown.series.iter().map(|row| row.value.clone().unwrap()).collect();
        assert_eq!(values[9..], ["(not set)", "(empty)", "12345", "Other values"]);
        assert_eq!(shown.series.iter().filter(|row| row.drawn.is_some()).count(), COLOURS);
        assert_eq!(shown.remarks, ["The chart shows the first 8 of 13 series"]);
        assert_eq!(shown.table.as_ref().unwrap().columns[0], "v0", "equal labels are not repeated");
        assert!(shown.comparable);
        assert!(!shown.chart.contains("unfinished"));

        let mut shown = shown;
        shown.sort(&Sort::read(&vec![("sort".into(), "total".into())]));
        assert_eq!(shown.series[0].value.as_deref(), Some("12345"), "the fewest first");
        shown.sort(&Sort::read(&vec![("sort".into(), "-bucket".into())]));
        assert_eq!(shown.table.unwrap().rows[0].0, "2025-10-02");
    }

    #[test]
    fn without_a_granularity_there_are_only_totals() {
        let asked = json!({"kind": "trends", "from": "2025-10-01", "to": "2025-10-03",
            "series": [{"measure": "avg", "property": "p"}]});
        let answer = json!({"kind": "trends", "buckets": ["2025-09-30T22:00:00Z"], "series": [
            {"label": "every event", "measure": "avg", "property": "p", "values": [null], "total": null}]});
        let shown = shown(asked, answer);
        assert!(shown.chart.is_empty() && shown.table.is_none());
        assert_eq!(shown.series[0].label, "Average of p of every event");
        assert_eq!(shown.series[0].total, None);
    }

    #[test]
    fn a_funnel_is_its_own_table() {
        let asked = json!({"kind": "funnel", "from": "2025-10-01", "to": "2025-10-03", "window": "14d",
            "steps": [{"event": "a"}, {"event": "b"}]});
        assert_eq!(funnel_heading(&question(asked.clone())).unwrap(), "2 steps within 14 days");
        let answer =
            json!({"kind": "funnel", "steps": [{"label": "a", "persons": 10}, {"label": "b", "persons": 4}]});
        let shown = shown(asked, answer);
        assert!(
            shown.chart.contains("<a href=\"/who?step=2&amp;dropped\">6 persons</a> (60"),
            "{}",
            shown.chart
        );
        assert!(shown.chart.contains("<a href=\"/who?step=1&amp;converted\""), "{}", shown.chart);
        assert!(shown.series.is_empty());
    }
}
