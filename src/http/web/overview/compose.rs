//! From the answers to the page: figures, two charts, a list.

use super::questions::Questions;
use crate::{
    analysis::{Answer, Breakdown, Number, TrendsAnswer, TrendsAnswerSeries},
    http::web::{
        ask::answer::started,
        asking::Outcome,
        chart::{self, Series, TimeAxis, TimeChart},
        format,
        range::{Range, address},
        views::{Figure, Frame, Note, OverviewPage, Panel, RangeBar, TopEvent},
    },
};

pub struct Answers {
    pub now: Outcome,
    pub top: Outcome,
    pub before: Option<Outcome>,
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
    notes: Vec<Note>,
) -> OverviewPage {
    let Answers { now, top, before } = answers;
    let waiting = [Some(&now), Some(&top), before.as_ref()]
        .into_iter()
        .flatten()
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
    let top_events = match (&top, trends(&top)) {
        (_, Some(answer)) => Some(top_events(answer, &frame, range)),
        (Outcome::Waiting(_), None) => None,
        _ => Some(Vec::new()),
    };
    OverviewPage {
        frame,
        range: bar,
        notes,
        figures,
        events,
        persons,
        top_events,
        waiting,
        first_event_awaited: false,
        refresh_href: String::new(),
    }
}

fn trends(outcome: &Outcome) -> Option<&TrendsAnswer> {
    match outcome {
        Outcome::Answered(_, answer) => match &**answer {
            Answer::Trends(trends) => Some(trends),
            Answer::Funnel(_) => None,
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
    let one = [Series { label: label.to_owned(), values: values(current), previous: previous.map(values) }];
    let unfinished = range.is_running();
    chart::line(&TimeChart { name, axis: &axis, series: &one, unfinished, whole: true })
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

fn top_events(answer: &TrendsAnswer, frame: &Frame, range: &Range) -> Vec<TopEvent> {
    let name_of = |series: &TrendsAnswerSeries| match &series.breakdown {
        Some(Breakdown::Text(name)) => Some(name.clone()),
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
    answer
        .series
        .iter()
        .filter(|series| series.measure == "count")
        .filter_map(|series| Some((name_of(series)?, number(series.total))))
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| {
            let mut params = range.params();
            params.push(("s0.event".into(), name.clone()));
            params.push(("s0.measure".into(), "count".into()));
            TopEvent { href: address(&frame.href("ask"), &params), persons: persons(&name), name, count }
        })
        .collect()
}
