//! From the answers to the page: figures, two charts, a list.

use super::questions::Questions;
use crate::{
    analysis::{Answer, Breakdown, Number, TrendsAnswer, TrendsAnswerSeries},
    http::web::{
        ask::{
            answer::started,
            form::{AskForm, BY_EVENT, FilterForm},
        },
        asking::Outcome,
        chart::{self, Series, TimeAxis, TimeChart},
        format,
        range::{Range, address},
        views::{Figure, Frame, Menus, OverviewPage, Panel, RangeBar, TopList, TopRow, TopRows},
    },
};

pub struct Answers {
    pub now: Outcome,
    pub top: Outcome,
    /// Of the questions' lists, in their order.
    pub lists: Vec<Outcome>,
    pub before: Option<Outcome>,
}

/// What is counted at all, and how it is chosen.
pub struct Filtering {
    pub form: AskForm,
    pub error: Option<String>,
    pub menus: Menus,
}

/// The series of the counting questions, in their order.
const EVENTS: usize = 0;
const PERSONS: usize = 1;
const PER_PERSON: usize = 2;

pub fn compose(
    frame: Frame,
    bar: RangeBar,
    questions: &Questions,
    answers: Answers,
    filtering: Filtering,
) -> OverviewPage {
    let Answers { now, top, lists, before } = answers;
    let waiting = [&now, &top]
        .into_iter()
        .chain(&lists)
        .chain(&before)
        .any(|outcome| matches!(outcome, Outcome::Waiting(_)));
    let range = &bar.range;
    let per = range.grain().word();
    let current = trends(&now);
    let previous = before.as_ref().and_then(trends);

    let panel = |series: usize, name: &str, label: &str| match (&now, current) {
        (_, Some(current)) => {
            Panel::Ready(draw(questions, &frame, range, current, previous, series, name, label))
        }
        (Outcome::Failed { ticket, detail }, None) => Panel::Failed {
            detail: detail.clone(),
            ticket_href: ticket.as_ref().map(|ticket| frame.href(&format!("tickets/{}", ticket.ticket_id))),
        },
        _ => Panel::Waiting,
    };
    let events = panel(EVENTS, &format!("Events per {per}"), "Events");
    let persons = panel(PERSONS, &format!("Persons per {per}"), "Persons");

    let figure = |label: &str, value: &dyn Fn(&TrendsAnswer) -> Option<f64>| {
        let failed = matches!(now, Outcome::Failed { .. });
        let value_now = current.and_then(value);
        let value_before = previous.and_then(value);
        Figure {
            label: label.to_owned(),
            value: match (current, failed) {
                (Some(_), _) => Some(value_now.map_or_else(|| "–".to_owned(), format::number)),
                (None, true) => Some("–".to_owned()),
                (None, false) => None,
            },
            change: previous
                .and(current)
                .map(|_| format::change(value_now.unwrap_or(0.0), value_before.unwrap_or(0.0))),
            before: value_before.filter(|before| *before != 0.0).map(format::number),
        }
    };
    let total =
        |series: usize| move |answer: &TrendsAnswer| answer.series.get(series)?.total.map(Number::to_f64);
    let running = range.is_running();
    let mean =
        |answer: &TrendsAnswer| mean_of_finished(answer.series.get(PERSONS)?, answer, running, frame.now);
    let figures = vec![
        figure("Events", &total(EVENTS)),
        figure("Persons", &total(PERSONS)),
        figure("Events per person", &|answer| total(PER_PERSON)(answer).map(two_decimals)),
        figure(&format!("Persons per {per}, mean"), &|answer| mean(answer).map(f64::round)),
    ];
    let filters = filtering.form.filter_params();
    let asks = |own: &[(&str, &str)]| {
        let mut params = range.params();
        params.extend(own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        params.extend(filters.iter().cloned());
        address(&frame.href("ask"), &params)
    };
    let mut shown = vec![TopList {
        title: "Top events",
        of: "Event",
        rows: ranked(&top, |name| asks(&[("s0.event", name), ("s0.measure", "count")])),
        all_href: asks(&[("s0.measure", "count"), ("granularity", "none"), ("by", BY_EVENT)]),
    }];
    for (list, outcome) in questions.lists.iter().zip(&lists) {
        let one = |value: &str| {
            let mut form = filtering.form.clone();
            form.filters.push(FilterForm {
                property: list.property.into(),
                op: "eq".into(),
                value: value.into(),
            });
            let mut params = range.params();
            params.push(("s0.measure".into(), "persons".into()));
            params.extend(form.filter_params());
            address(&frame.href("ask"), &params)
        };
        shown.push(TopList {
            title: list.title,
            of: list.of,
            rows: ranked(outcome, one),
            all_href: asks(&[("s0.measure", "count"), ("granularity", "none"), ("by", list.property)]),
        });
    }
    OverviewPage {
        frame,
        range: bar,
        notes: Vec::new(),
        figures,
        events,
        persons,
        lists: shown,
        filters: filtering.form.filters,
        filter_error: filtering.error,
        menus: filtering.menus,
        waiting,
        first_event_awaited: false,
        refresh_href: String::new(),
    }
}

fn trends(outcome: &Outcome) -> Option<&TrendsAnswer> {
    match outcome {
        Outcome::Answered(_, answer, _) => match &**answer {
            Answer::Trends(trends) => Some(trends),
            Answer::Funnel(_) | Answer::Persons(_) => None,
        },
        _ => None,
    }
}

#[expect(clippy::too_many_arguments, reason = "everything that one chart is made of")]
fn draw(
    questions: &Questions,
    frame: &Frame,
    range: &Range,
    current: &TrendsAnswer,
    previous: Option<&TrendsAnswer>,
    series: usize,
    name: &str,
    label: &str,
) -> String {
    let starts = started(&current.buckets, &questions.now, frame.now);
    let buckets = starts.len();
    let axis = TimeAxis::new(starts, range.grain());
    let values = |answer: &TrendsAnswer| -> Vec<Option<f64>> {
        let values = answer.series.get(series).map(|series| series.values.as_slice()).unwrap_or_default();
        values.iter().take(buckets).map(|value| value.map(Number::to_f64)).collect()
    };
    let previous = previous.map(values).filter(|values| has_happened(values));
    let one = [Series { label: label.to_owned(), values: values(current), previous }];
    let unfinished = range.is_running();
    chart::line(&TimeChart { name, axis: &axis, series: &one, unfinished, whole: true })
}

/// A period before a project's first event would be a line at zero, and a legend for it.
fn has_happened(values: &[Option<f64>]) -> bool {
    values.iter().flatten().any(|&value| value != 0.0)
}

/// The mean over buckets that have ended: today would pull it down all morning.
fn mean_of_finished(
    series: &TrendsAnswerSeries,
    answer: &TrendsAnswer,
    running: bool,
    now: crate::model::Millis,
) -> Option<f64> {
    let begun = answer
        .buckets
        .iter()
        .filter_map(|start| start.parse::<jiff::Timestamp>().ok())
        .filter(|start| start.as_millisecond() <= now)
        .count();
    let finished = if running && begun > 1 { begun - 1 } else { begun };
    let values: Vec<f64> =
        series.values.iter().take(finished).map(|value| value.map_or(0.0, Number::to_f64)).collect();
    if values.is_empty() { None } else { Some(values.iter().sum::<f64>() / values.len() as f64) }
}

fn two_decimals(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The names of a breakdown with their counts; what has no name is left out.
fn ranked(outcome: &Outcome, href: impl Fn(&str) -> String) -> TopRows {
    let answer = match (outcome, trends(outcome)) {
        (_, Some(answer)) => answer,
        (Outcome::Failed { detail, .. }, None) => return TopRows::Failed(detail.clone()),
        _ => return TopRows::Waiting,
    };
    let name_of = |series: &TrendsAnswerSeries| match &series.breakdown {
        Some(Breakdown::Text(name)) if !name.is_empty() => Some(name.clone()),
        _ => None,
    };
    let number = |value: Option<Number>| value.map_or(0, |value| value.to_f64() as u64);
    let persons = |name: &str| {
        let found = answer
            .series
            .iter()
            .find(|series| series.measure == "persons" && name_of(series).as_deref() == Some(name));
        found.map(|series| number(series.total))
    };
    let rows = answer
        .series
        .iter()
        .filter(|series| series.measure == "count")
        .filter_map(|series| Some((name_of(series)?, number(series.total))))
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| TopRow { href: href(&name), persons: persons(&name), name, count });
    TopRows::Ready(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_in_which_nothing_happened_is_not_drawn() {
        assert!(!has_happened(&[]));
        assert!(!has_happened(&[None, Some(0.0), Some(0.0)]));
        assert!(has_happened(&[None, Some(0.0), Some(1.0)]));
    }
}
