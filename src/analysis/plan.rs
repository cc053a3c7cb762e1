//! A question as rounds over shards.
//!
//! In a round every shard turns its blocks into a [`Partial`]; the partials merge in any order and
//! any grouping; from the merged one the plan derives the next round or the answer. Rounds and
//! partials are serialisable, so that another process may run a shard.

use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::finish::{finish_funnel, finish_persons, finish_trends};
use super::kernels::cells::{Distinct, SeriesCells};
use super::kernels::funnel::FunnelKernel;
use super::kernels::grouped::Grouped;
use super::kernels::groups::{GroupTotals, Groups, check_values};
use super::kernels::select::Columns;
use super::kernels::step_persons::{NumberedPersons, StepPersons};
use super::kernels::trends::TrendsKernel;
use super::kernels::{Cancel, KernelError};
use super::question::{
    BreakdownBy, EventSelector, Filter, FunnelQuestion, Measure, PersonsQuestion, Question, QuestionLimits,
    TrendsQuestion,
};
use super::time::{Buckets, TimeRange};
use crate::eventstore::scan::Need;
use crate::eventstore::{RowBlock, RowColumns};
use crate::model::Millis;

pub struct Plan {
    work: Work,
    limits: QuestionLimits,
    columns: Columns,
}

enum Work {
    Trends(TrendsQuestion, Buckets),
    Funnel(FunnelQuestion),
    Persons(PersonsQuestion),
}

/// What a round asks of every shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Round {
    /// How many matching rows each value of the breakdown has.
    GroupTotals,
    /// The cells of all series, for these groups when the question has a breakdown.
    Trends(Option<Groups>),
    Funnel,
    Persons,
}

/// What one shard, or several merged, found in a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Partial {
    version: u16,
    body: PartialBody,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum PartialBody {
    GroupTotals(GroupTotals),
    /// The same of few values, with what the next round would find.
    Grouped(Grouped),
    Trends(Vec<SeriesCells>),
    /// Persons that reach each step.
    Funnel(Vec<u64>),
    /// Of one shard, and not to be merged until they have names.
    Numbered(NumberedPersons),
    Persons(StepPersons),
}

/// Raised with every change to a partial's shape, so that replicas of two releases that share a
/// question do not misread each other.
pub(super) const PARTIAL_VERSION: u16 = 2;

pub enum Next {
    Round(Round),
    Done(Answer),
}

/// What a question reads, for whoever gets the rows.
#[derive(Clone, PartialEq, Debug)]
pub struct Reads {
    pub range: TimeRange,
    /// Names of events; `None` means every event. Blocks may hold rows of others too, but of no other
    /// times than the range that count.
    pub events: Option<Vec<String>>,
    pub with: RowColumns,
    /// The order of the columns in every block.
    pub properties: Vec<String>,
    /// What every row that counts has. Blocks may hold rows without it too.
    pub needs: Vec<Need>,
    /// Nothing is done with rows but to count them, by event and by steps of this length.
    pub counted_by: Option<Millis>,
}

impl Partial {
    /// How many there are to put together, about.
    pub fn count_numbers(&self) -> usize {
        match &self.body {
            PartialBody::GroupTotals(totals) => totals.len(),
            PartialBody::Grouped(grouped) => grouped.count_numbers(),
            PartialBody::Trends(series) => series.iter().map(SeriesCells::count_numbers).sum(),
            PartialBody::Funnel(reached) => reached.len(),
            PartialBody::Numbered(numbered) => numbered.persons.len(),
            PartialBody::Persons(persons) => persons.persons.len(),
        }
    }
}

impl Plan {
    pub fn new(question: &Question, limits: &QuestionLimits) -> Self {
        let columns = Columns::new(properties(question).into_iter());
        let work = match question {
            Question::Trends(question) => Work::Trends(question.clone(), question.buckets()),
            Question::Funnel(question) => Work::Funnel(question.clone()),
            Question::Persons(question) => Work::Persons(question.clone()),
        };
        Self { work, limits: limits.clone(), columns }
    }

    pub fn reads(&self) -> Reads {
        let (range, selectors): (TimeRange, Vec<&EventSelector>) = match &self.work {
            Work::Trends(question, _) => {
                (question.when.range, question.series.iter().map(|series| &series.events).collect())
            }
            Work::Funnel(question) | Work::Persons(PersonsQuestion { funnel: question, .. }) => {
                (question.when.range, question.steps.iter().map(|step| &step.events).collect())
            }
        };
        let names: Option<Vec<&[String]>> = selectors.into_iter().map(EventSelector::names).collect();
        let events = names.map(|names| {
            let mut events = names.concat();
            events.sort_unstable();
            events.dedup();
            events
        });
        let filters = match &self.work {
            Work::Trends(question, _) => &question.filters,
            Work::Funnel(question) | Work::Persons(PersonsQuestion { funnel: question, .. }) => {
                &question.filters
            }
        };
        let with = match &self.work {
            Work::Trends(question, buckets) => RowColumns {
                persons: question.series.iter().any(|series| series.measure.counts_persons()),
                times: buckets.len() > 1 && !buckets.are_of_few_quarters(),
                quarters: buckets.len() > 1 && buckets.are_of_few_quarters(),
            },
            Work::Funnel(_) | Work::Persons(_) => RowColumns::ALL,
        };
        let needs = filters.iter().filter_map(Filter::need).collect();
        let properties = self.columns.names().to_vec();
        let counted_by = match &self.work {
            Work::Trends(question, buckets) => {
                let counts_only = question.series.iter().all(|series| series.measure == Measure::Count);
                (counts_only && properties.is_empty()).then(|| buckets.longest_step()).flatten()
            }
            Work::Funnel(_) | Work::Persons(_) => None,
        };
        Reads { range, events, with, properties, needs, counted_by }
    }

    pub fn first_round(&self) -> Round {
        match &self.work {
            Work::Trends(question, _) if question.breakdown.is_some() => Round::GroupTotals,
            Work::Trends(..) => Round::Trends(None),
            Work::Funnel(_) => Round::Funnel,
            Work::Persons(_) => Round::Persons,
        }
    }

    /// Whether it matters which person a row is of: a number means another person in each shard.
    pub fn tells_persons_apart(&self) -> bool {
        match &self.work {
            Work::Trends(question, _) => question.series.iter().any(|series| series.measure.counts_persons()),
            Work::Funnel(_) | Work::Persons(_) => true,
        }
    }

    pub fn names_persons(&self) -> bool {
        matches!(self.work, Work::Persons(_))
    }

    /// How many rounds there will be; all must see the same rows.
    pub fn rounds(&self) -> usize {
        if self.first_round() == Round::GroupTotals { 2 } else { 1 }
    }

    /// One shard's part of a round. Blocks the thread.
    pub fn run(&self, round: &Round, blocks: &[RowBlock], cancel: &Cancel) -> Result<Partial, KernelError> {
        let body = match (&self.work, round) {
            (Work::Trends(question, buckets), round) => {
                let (limits, columns) = (&self.limits, &self.columns);
                let kernel = TrendsKernel { question, limits, buckets, columns, cancel };
                match (round, &question.breakdown) {
                    (Round::GroupTotals, Some(breakdown)) => {
                        match kernel.measure_groups(blocks, breakdown)? {
                            Some(grouped) => PartialBody::Grouped(grouped),
                            None => PartialBody::GroupTotals(kernel.count_groups(blocks, &breakdown.by)?),
                        }
                    }
                    (Round::Trends(groups), _) => {
                        PartialBody::Trends(kernel.measure(blocks, groups.as_ref())?)
                    }
                    _ => return Err(KernelError::PartialMismatch),
                }
            }
            (Work::Funnel(question), Round::Funnel) => {
                let kernel = FunnelKernel { question, columns: &self.columns, cancel };
                PartialBody::Funnel(kernel.count_reached(blocks)?)
            }
            (Work::Persons(question), Round::Persons) => {
                let kernel = FunnelKernel { question: &question.funnel, columns: &self.columns, cancel };
                PartialBody::Numbered(kernel.find_persons(question, blocks)?)
            }
            (Work::Funnel(_) | Work::Persons(_), _) => return Err(KernelError::PartialMismatch),
        };
        Ok(Partial { version: PARTIAL_VERSION, body })
    }

    pub fn merge(&self, round: &Round, partials: Vec<Partial>) -> Result<Partial, KernelError> {
        // Of no blocks it is the neutral one.
        let mut merged = match self.run(round, &[], &Cancel::default())?.into_numbered() {
            Ok(_) => Partial::of_persons(StepPersons::default()),
            Err(partial) => partial,
        };
        let mut grouped = Vec::new();
        for partial in partials {
            if partial.version != PARTIAL_VERSION {
                return Err(KernelError::PartialMismatch);
            }
            match partial.body {
                PartialBody::Grouped(some) => grouped.push(some),
                body => self.merge_body(&mut merged.body, body)?,
            }
        }
        self.merge_grouped(&mut merged.body, grouped)?;
        Ok(merged)
    }

    /// Precondition: `merged` is of all shards.
    pub fn next(&self, round: &Round, merged: Partial) -> Result<Next, KernelError> {
        Ok(match (&self.work, round, merged.body) {
            (Work::Trends(question, _), Round::GroupTotals, PartialBody::GroupTotals(totals)) => {
                let limit = question.breakdown.as_ref().map_or(0, |breakdown| breakdown.limit);
                Next::Round(Round::Trends(Some(totals.choose(limit))))
            }
            (Work::Trends(question, buckets), Round::GroupTotals, PartialBody::Grouped(grouped)) => {
                let limit = question.breakdown.as_ref().map_or(0, |breakdown| breakdown.limit);
                match grouped.choose(limit, buckets.len())? {
                    (groups, None) => Next::Round(Round::Trends(Some(groups))),
                    (groups, Some(cells)) => {
                        let answer = finish_trends(question, buckets, Some(&groups), &cells);
                        Next::Done(Answer::Trends(answer))
                    }
                }
            }
            (Work::Trends(question, buckets), Round::Trends(groups), PartialBody::Trends(mut cells)) => {
                cells.iter_mut().for_each(SeriesCells::compact_few);
                Next::Done(Answer::Trends(finish_trends(question, buckets, groups.as_ref(), &cells)))
            }
            (Work::Funnel(question), Round::Funnel, PartialBody::Funnel(reached)) => {
                Next::Done(Answer::Funnel(finish_funnel(question, &reached)))
            }
            (Work::Persons(question), Round::Persons, PartialBody::Persons(found)) => {
                Next::Done(Answer::Persons(finish_persons(question, found)))
            }
            _ => return Err(KernelError::PartialMismatch),
        })
    }

    fn merge_body(&self, merged: &mut PartialBody, other: PartialBody) -> Result<(), KernelError> {
        if let (PartialBody::Grouped(grouped), PartialBody::GroupTotals(_)) = (&mut *merged, &other) {
            // Somebody met too many values: so they are for all.
            *merged = PartialBody::GroupTotals(std::mem::take(grouped).into_totals());
        }
        match (merged, other) {
            (PartialBody::GroupTotals(totals), PartialBody::GroupTotals(other)) => {
                self.merge_totals(totals, other)
            }
            (PartialBody::Trends(cells), PartialBody::Trends(other)) if cells.len() == other.len() => {
                for (cells, other) in cells.iter_mut().zip(other) {
                    cells.merge(other)?;
                }
                let max = self.limits.percentile_values_max;
                if cells.iter().map(SeriesCells::distinct_numbers).sum::<usize>() > max {
                    cells.iter_mut().for_each(SeriesCells::compact);
                }
                let mut distinct = Distinct { total: 0, max };
                cells.iter().try_for_each(|cells| distinct.grow(cells.distinct_numbers()))
            }
            (PartialBody::Funnel(reached), PartialBody::Funnel(other)) if reached.len() == other.len() => {
                reached.iter_mut().zip(other).for_each(|(persons, other)| *persons += other);
                Ok(())
            }
            (PartialBody::Persons(found), PartialBody::Persons(other)) => {
                found.merge(other, self.persons_limit());
                Ok(())
            }
            _ => Err(KernelError::PartialMismatch),
        }
    }

    /// All at once: most values are in all of them, so that one by one each value would be looked up anew for
    /// every shard.
    fn merge_grouped(&self, merged: &mut PartialBody, others: Vec<Grouped>) -> Result<(), KernelError> {
        if others.is_empty() {
            return Ok(());
        }
        match (merged, &self.work) {
            (PartialBody::Grouped(grouped), Work::Trends(_, buckets)) => {
                grouped.merge(others, buckets.len())?;
                check_values(grouped.len(), self.broken_down_by(), self.limits.breakdown_values_max)
            }
            (PartialBody::GroupTotals(totals), _) => {
                others.into_iter().try_for_each(|other| self.merge_totals(totals, other.into_totals()))
            }
            _ => Err(KernelError::PartialMismatch),
        }
    }

    fn merge_totals(&self, totals: &mut GroupTotals, other: GroupTotals) -> Result<(), KernelError> {
        totals.merge(other);
        check_values(totals.len(), self.broken_down_by(), self.limits.breakdown_values_max)
    }

    /// For questions without a breakdown it does not matter.
    fn broken_down_by(&self) -> &BreakdownBy {
        let breakdown = match &self.work {
            Work::Trends(question, _) => question.breakdown.as_ref(),
            Work::Funnel(_) | Work::Persons(_) => None,
        };
        breakdown.map_or(&BreakdownBy::Event, |breakdown| &breakdown.by)
    }

    /// How many persons a partial of named ones holds at most.
    pub(super) fn persons_limit(&self) -> usize {
        match &self.work {
            Work::Persons(question) => question.limit,
            Work::Trends(..) | Work::Funnel(_) => 0,
        }
    }
}

impl Partial {
    pub(super) fn of_persons(persons: StepPersons) -> Self {
        Self { version: PARTIAL_VERSION, body: PartialBody::Persons(persons) }
    }

    /// The persons that must be named before this can be merged; the partial itself when it has none.
    pub(super) fn into_numbered(self) -> Result<NumberedPersons, Self> {
        match self.body {
            PartialBody::Numbered(numbered) => Ok(numbered),
            body => Err(Self { body, ..self }),
        }
    }
}

fn properties(question: &Question) -> Vec<&str> {
    fn of_filters(filters: &[Filter]) -> impl Iterator<Item = &str> {
        filters.iter().map(|filter| filter.property.as_str())
    }
    match question {
        Question::Trends(question) => {
            let breakdown = question.breakdown.as_ref().and_then(|breakdown| match &breakdown.by {
                BreakdownBy::Event => None,
                BreakdownBy::Property(property) => Some(property.as_str()),
            });
            let series = question.series.iter();
            let series =
                series.flat_map(|series| of_filters(&series.filters).chain(series.measure.property()));
            of_filters(&question.filters).chain(series).chain(breakdown).collect()
        }
        Question::Funnel(question) | Question::Persons(PersonsQuestion { funnel: question, .. }) => {
            let steps = question.steps.iter().flat_map(|step| of_filters(&step.filters));
            of_filters(&question.filters).chain(steps).collect()
        }
    }
}
