//! From merged cells to the numbers of an answer.

use super::answer::{
    Breakdown, FunnelAnswer, FunnelAnswerStep, PersonsAnswer, PersonsAnswerPerson, TrendsAnswer,
    TrendsAnswerSeries,
};
use super::exact::NumberSum;
use super::kernels::cells::SeriesCells;
use super::kernels::groups::Groups;
use super::kernels::percentile::percentile;
use super::kernels::step_persons::StepPersons;
use super::number::Number;
use super::question::{FunnelQuestion, Measure, PersonsQuestion, PropertyFunction, TrendsQuestion};
use super::time::{Buckets, format_instant};

pub(super) fn finish_trends(
    question: &TrendsQuestion,
    buckets: &Buckets,
    groups: Option<&Groups>,
    cells: &[SeriesCells],
) -> TrendsAnswer {
    let labels: Vec<Option<Breakdown>> = match groups {
        None => vec![None],
        Some(groups) => groups.labels().into_iter().map(Some).collect(),
    };
    let mut series = Vec::with_capacity(labels.len() * cells.len());
    for (asked, own) in question.series.iter().zip(cells) {
        let cells = match own {
            SeriesCells::SameAs { series } => cells.get(*series).unwrap_or(own),
            own => own,
        };
        for (group, breakdown) in labels.iter().enumerate() {
            let (values, total) = finish_group(&asked.measure, cells, group, buckets.len());
            series.push(TrendsAnswerSeries {
                label: asked.events.label(),
                measure: asked.measure.word().to_owned(),
                property: asked.measure.property().map(str::to_owned),
                breakdown: breakdown.clone(),
                values,
                total,
            });
        }
    }
    TrendsAnswer { buckets: buckets.starts().iter().map(|&start| format_instant(start)).collect(), series }
}

pub(super) fn finish_funnel(question: &FunnelQuestion, reached: &[u64]) -> FunnelAnswer {
    let steps = question.steps.iter().zip(reached);
    let steps = steps.map(|(step, &persons)| FunnelAnswerStep { label: step.events.label(), persons });
    FunnelAnswer { steps: steps.collect() }
}

pub(super) fn finish_persons(question: &PersonsQuestion, found: StepPersons) -> PersonsAnswer {
    let persons = found.persons.into_iter().map(|person| PersonsAnswerPerson {
        distinct_id: person.distinct_id,
        reached_at: format_instant(person.reached_at),
    });
    PersonsAnswer {
        step: question.step,
        outcome: question.outcome,
        label: question.funnel.steps[question.step - 1].events.label(),
        total: found.total,
        persons: persons.collect(),
    }
}

/// The values of one group's buckets, and the total over its range.
fn finish_group(
    measure: &Measure,
    cells: &SeriesCells,
    group: usize,
    buckets: usize,
) -> (Vec<Option<Number>>, Option<Number>) {
    let range = group * buckets..(group + 1) * buckets;
    match cells {
        SeriesCells::Count { rows } => {
            let rows = &rows[range];
            (rows.iter().map(|&rows| count(rows)).collect(), count(rows.iter().sum()))
        }
        SeriesCells::Persons { persons, total } => {
            (persons[range].iter().map(|&persons| count(persons)).collect(), count(total[group]))
        }
        SeriesCells::PerPerson { rows, persons, total } => {
            let (rows, persons) = (&rows[range.clone()], &persons[range]);
            let values =
                rows.iter().zip(persons).map(|(&rows, &persons)| per_person(rows, persons)).collect();
            (values, per_person(rows.iter().sum(), total[group]))
        }
        SeriesCells::Sum { sums } => {
            let finish: fn(&NumberSum) -> Option<Number> = match measure {
                Measure::OfProperty(PropertyFunction::Avg, _) => |sum| sum.average().map(Number::Float),
                _ => |sum| Some(sum.total()),
            };
            let mut total = NumberSum::default();
            sums[range.clone()].iter().for_each(|sum| total.merge(sum.clone()));
            (sums[range].iter().map(finish).collect(), finish(&total))
        }
        SeriesCells::Min { least } => {
            (least[range.clone()].to_vec(), least[range].iter().copied().flatten().min())
        }
        SeriesCells::Max { greatest } => {
            (greatest[range.clone()].to_vec(), greatest[range].iter().copied().flatten().max())
        }
        // Only where nothing stands for it.
        SeriesCells::SameAs { .. } => (vec![None; buckets], None),
        SeriesCells::Percentile { runs } => {
            let percent = percent(measure);
            let runs = &runs[range];
            let values = runs.iter().map(|runs| percentile(std::slice::from_ref(runs), percent)).collect();
            (values, percentile(runs, percent))
        }
    }
}

fn percent(measure: &Measure) -> u64 {
    match measure {
        Measure::OfProperty(PropertyFunction::P90, _) => 90,
        Measure::OfProperty(PropertyFunction::P95, _) => 95,
        Measure::OfProperty(PropertyFunction::P99, _) => 99,
        _ => 50,
    }
}

fn count(rows: u64) -> Option<Number> {
    // Nobody has 2^63 events.
    Some(Number::Integer(rows as i64))
}

fn per_person(rows: u64, persons: u64) -> Option<Number> {
    (persons > 0).then(|| Number::Float(rows as f64 / persons as f64))
}
