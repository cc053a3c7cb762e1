//! Trends over the blocks of one shard.
//!
//! Everything but unique persons is a pass over each block by itself. Unique persons need all rows
//! of a person together: per cell the last person seen is kept, so a person is new to a cell when
//! it is another than the last. That takes no hashing, and 4 bytes a cell.
//!
//! A *cell* is a bucket of a group of a series; the groups of a series lie one after another.

use serde::{Deserialize, Serialize};

use super::groups::{GroupTotals, Groups, NO_GROUP, RowGroups};
use super::percentile::NumberRuns;
use super::persons::for_each_person;
use super::select::{Columns, select_events, select_rows};
use super::{Cancel, KernelError};
use crate::analysis::exact::NumberSum;
use crate::analysis::number::Number;
use crate::analysis::question::{
    BreakdownBy, Measure, PropertyFunction, QuestionLimits, Series, TrendsQuestion,
};
use crate::analysis::time::Buckets;
use crate::eventstore::{PropertyColumn, RowBlock};
use crate::model::PersonNo;

pub struct TrendsKernel<'a> {
    pub question: &'a TrendsQuestion,
    pub limits: &'a QuestionLimits,
    pub buckets: &'a Buckets,
    pub columns: &'a Columns,
    pub cancel: &'a Cancel,
}

/// What one or more shards know about one series; each list has one entry a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SeriesCells {
    Count {
        rows: Vec<u64>,
    },
    Persons {
        persons: Vec<u64>,
        /// One a group: unique over the whole range.
        total: Vec<u64>,
    },
    PerPerson {
        rows: Vec<u64>,
        persons: Vec<u64>,
        total: Vec<u64>,
    },
    /// Sums and averages.
    Sum {
        sums: Vec<NumberSum>,
    },
    Min {
        least: Vec<Option<Number>>,
    },
    Max {
        greatest: Vec<Option<Number>>,
    },
    Percentile {
        runs: Vec<NumberRuns>,
    },
}

/// A row's bucket when it is not in the range.
const NO_BUCKET: u32 = u32::MAX;

/// The cell of a row that does not count.
const NO_CELL: u32 = u32::MAX;

/// One block with what is known of its rows.
struct Prepared {
    buckets: Vec<u32>,
    /// `None` without a breakdown: all rows are of group 0.
    groups: Option<Vec<u32>>,
    /// One mask a series.
    masks: Vec<Vec<bool>>,
}

impl Prepared {
    fn cell(&self, series: usize, row: usize, buckets: usize) -> u32 {
        if !self.masks[series][row] {
            return NO_CELL;
        }
        let group = self.groups.as_ref().map_or(0, |groups| groups[row]);
        if group == NO_GROUP { NO_CELL } else { group * buckets as u32 + self.buckets[row] }
    }
}

impl TrendsKernel<'_> {
    /// The first round of a breakdown: matching rows per value.
    pub fn count_groups(&self, blocks: &[RowBlock], by: &BreakdownBy) -> Result<GroupTotals, KernelError> {
        let mut totals = GroupTotals::default();
        for block in blocks {
            self.cancel.check()?;
            let masks = self.masks(block);
            let groups = RowGroups::new(block, by, self.columns, &any_of(&masks));
            let mut counts = vec![0_u64; groups.keys.len()];
            for mask in &masks {
                for (&code, _) in groups.codes.iter().zip(mask).filter(|(_, within)| **within) {
                    counts[code as usize] += 1;
                }
            }
            for (key, rows) in groups.keys.into_iter().zip(counts) {
                totals.add(key, rows);
            }
            totals.check(by, self.limits.breakdown_values_max)?;
        }
        Ok(totals)
    }

    /// All cells of all series.
    pub fn measure(
        &self,
        blocks: &[RowBlock],
        groups: Option<&Groups>,
    ) -> Result<Vec<SeriesCells>, KernelError> {
        let group_count = groups.map_or(1, Groups::len);
        let cells = group_count * self.buckets.len();
        let series = &self.question.series;
        let mut found: Vec<SeriesCells> =
            series.iter().map(|series| SeriesCells::empty(&series.measure, cells, group_count)).collect();

        let mut prepared = Vec::with_capacity(blocks.len());
        for block in blocks {
            self.cancel.check()?;
            prepared.push(self.prepare(block, groups));
        }
        let mut distinct = Distinct { total: 0, max: self.limits.percentile_values_max };
        for (number, (series, cells)) in series.iter().zip(&mut found).enumerate() {
            for (block, prepared) in blocks.iter().zip(&prepared) {
                self.cancel.check()?;
                let cell = |row| prepared.cell(number, row, self.buckets.len());
                let column = series.measure.property().map(|property| self.columns.of(block, property));
                cells.add_block(block.len(), cell, column, &mut distinct)?;
            }
            cells.settle(&mut distinct)?;
        }
        self.count_persons(blocks, &prepared, &mut found)?;
        Ok(found)
    }

    fn masks(&self, block: &RowBlock) -> Vec<Vec<bool>> {
        let rows = select_rows(block, self.question.when.range, &self.question.filters, self.columns);
        let mask =
            |series: &Series| select_events(&rows, block, &series.events, &series.filters, self.columns);
        self.question.series.iter().map(mask).collect()
    }

    fn prepare(&self, block: &RowBlock, groups: Option<&Groups>) -> Prepared {
        let masks = self.masks(block);
        let groups = match (groups, &self.question.breakdown) {
            (Some(groups), Some(breakdown)) => {
                let mut rows = RowGroups::new(block, &breakdown.by, self.columns, &any_of(&masks));
                let assigned = groups.assign(&rows.keys);
                for code in rows.codes.iter_mut().filter(|code| **code != NO_GROUP) {
                    *code = assigned[*code as usize];
                }
                Some(rows.codes)
            }
            _ => None,
        };
        let bucket = |&at| self.buckets.find(at).unwrap_or(NO_BUCKET);
        Prepared { buckets: block.occurred_at.iter().map(bucket).collect(), groups, masks }
    }

    fn count_persons(
        &self,
        blocks: &[RowBlock],
        prepared: &[Prepared],
        found: &mut [SeriesCells],
    ) -> Result<(), KernelError> {
        let mut counters: Vec<PersonCounter<'_>> = found
            .iter_mut()
            .enumerate()
            .filter_map(|(series, cells)| PersonCounter::new(series, cells))
            .collect();
        if counters.is_empty() {
            return Ok(());
        }
        let buckets = self.buckets.len();
        for_each_person(blocks, self.cancel, |person, slices| {
            for counter in &mut counters {
                for slice in slices {
                    let block = &prepared[slice.block];
                    for row in slice.rows.clone() {
                        let cell = block.cell(counter.series, row, buckets);
                        if cell != NO_CELL {
                            counter.see(person, cell as usize, buckets);
                        }
                    }
                }
            }
        })
    }
}

/// Counts the persons of one series, told in ascending order of persons.
struct PersonCounter<'a> {
    series: usize,
    persons: &'a mut [u64],
    total: &'a mut [u64],
    last_in_cell: Vec<Option<PersonNo>>,
    last_in_group: Vec<Option<PersonNo>>,
}

impl<'a> PersonCounter<'a> {
    fn new(series: usize, cells: &'a mut SeriesCells) -> Option<Self> {
        match cells {
            SeriesCells::Persons { persons, total } | SeriesCells::PerPerson { persons, total, .. } => {
                let (last_in_cell, last_in_group) = (vec![None; persons.len()], vec![None; total.len()]);
                Some(Self { series, persons, total, last_in_cell, last_in_group })
            }
            _ => None,
        }
    }

    fn see(&mut self, person: PersonNo, cell: usize, buckets: usize) {
        if self.last_in_cell[cell] == Some(person) {
            return;
        }
        self.last_in_cell[cell] = Some(person);
        self.persons[cell] += 1;
        let group = cell / buckets;
        if self.last_in_group[group] != Some(person) {
            self.last_in_group[group] = Some(person);
            self.total[group] += 1;
        }
    }
}

/// Distinct numbers held for percentiles, over all cells of all series.
pub struct Distinct {
    pub total: usize,
    pub max: usize,
}

impl Distinct {
    pub fn grow(&mut self, by: usize) -> Result<(), KernelError> {
        self.total += by;
        if self.total > self.max {
            let what = "a median or percentile of this question".to_owned();
            return Err(KernelError::TooManyValues { what, max: self.max });
        }
        Ok(())
    }
}

impl SeriesCells {
    pub fn empty(measure: &Measure, cells: usize, groups: usize) -> Self {
        use PropertyFunction::{Avg, Max, Median, Min, P90, P95, P99, Sum};
        match measure {
            Measure::Count => Self::Count { rows: vec![0; cells] },
            Measure::Persons => Self::Persons { persons: vec![0; cells], total: vec![0; groups] },
            Measure::PerPerson => {
                Self::PerPerson { rows: vec![0; cells], persons: vec![0; cells], total: vec![0; groups] }
            }
            Measure::OfProperty(Sum | Avg, _) => Self::Sum { sums: vec![NumberSum::default(); cells] },
            Measure::OfProperty(Min, _) => Self::Min { least: vec![None; cells] },
            Measure::OfProperty(Max, _) => Self::Max { greatest: vec![None; cells] },
            Measure::OfProperty(Median | P90 | P95 | P99, _) => {
                Self::Percentile { runs: vec![NumberRuns::default(); cells] }
            }
        }
    }

    /// All rows of a block that count, but for unique persons.
    fn add_block(
        &mut self,
        rows_in_block: usize,
        cell: impl Fn(usize) -> u32,
        column: Option<&PropertyColumn>,
        distinct: &mut Distinct,
    ) -> Result<(), KernelError> {
        let cells = (0..rows_in_block).map(|row| (row, cell(row))).filter(|&(_, cell)| cell != NO_CELL);
        if let Self::Count { rows } | Self::PerPerson { rows, .. } = self {
            cells.for_each(|(_, cell)| rows[cell as usize] += 1);
            return Ok(());
        }
        let Some(column) = column else { return Ok(()) };
        let numbers = cells.filter_map(|(row, cell)| Some((cell as usize, number_at(column, row)?)));
        match self {
            Self::Count { .. } | Self::PerPerson { .. } | Self::Persons { .. } => {}
            Self::Sum { sums } => numbers.for_each(|(cell, number)| sums[cell].add(number)),
            Self::Min { least } => numbers.for_each(|(cell, number)| keep_least(&mut least[cell], number)),
            Self::Max { greatest } => {
                numbers.for_each(|(cell, number)| keep_greatest(&mut greatest[cell], number))
            }
            Self::Percentile { runs } => {
                for (cell, number) in numbers {
                    distinct.grow(runs[cell].add(number))?;
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, distinct: &mut Distinct) -> Result<(), KernelError> {
        if let Self::Percentile { runs } = self {
            for runs in runs {
                distinct.grow(runs.settle())?;
            }
        }
        Ok(())
    }

    /// Adds what another shard knows: its persons are others.
    pub fn merge(&mut self, other: Self) -> Result<(), KernelError> {
        match (self, other) {
            (Self::Count { rows }, Self::Count { rows: other }) => add_all(rows, &other),
            (Self::Persons { persons, total }, Self::Persons { persons: other, total: other_total }) => {
                add_all(persons, &other)?;
                add_all(total, &other_total)
            }
            (
                Self::PerPerson { rows, persons, total },
                Self::PerPerson { rows: other, persons: other_persons, total: other_total },
            ) => {
                add_all(rows, &other)?;
                add_all(persons, &other_persons)?;
                add_all(total, &other_total)
            }
            (Self::Sum { sums }, Self::Sum { sums: other }) => zip_with(sums, other, NumberSum::merge),
            (Self::Min { least }, Self::Min { least: other }) => zip_with(least, other, |best, other| {
                other.into_iter().for_each(|number| keep_least(best, number))
            }),
            (Self::Max { greatest }, Self::Max { greatest: other }) => {
                zip_with(greatest, other, |best, other| {
                    other.into_iter().for_each(|number| keep_greatest(best, number));
                })
            }
            (Self::Percentile { runs }, Self::Percentile { runs: other }) => {
                zip_with(runs, other, |runs, other| runs.merge(&other))
            }
            _ => Err(KernelError::PartialMismatch),
        }
    }

    /// How many distinct numbers are held.
    pub fn distinct_numbers(&self) -> usize {
        match self {
            Self::Percentile { runs } => runs.iter().map(NumberRuns::len).sum(),
            _ => 0,
        }
    }
}

/// Integers and floats are read together; other types are no numbers.
fn number_at(column: &PropertyColumn, row: usize) -> Option<Number> {
    if let Some(integer) = column.integers.as_ref().and_then(|integers| integers.get(row)) {
        return Some(Number::Integer(integer));
    }
    column.floats.as_ref().and_then(|floats| floats.get(row)).map(Number::Float)
}

/// Canonical, so that it does not matter whether 5 or 5.0 came first.
fn keep_least(best: &mut Option<Number>, number: Number) {
    if best.is_none_or(|best| number < best) {
        *best = Some(number.canonical());
    }
}

fn keep_greatest(best: &mut Option<Number>, number: Number) {
    if best.is_none_or(|best| number > best) {
        *best = Some(number.canonical());
    }
}

fn any_of(masks: &[Vec<bool>]) -> Vec<bool> {
    let mut any = masks.first().cloned().unwrap_or_default();
    for mask in masks.iter().skip(1) {
        any.iter_mut().zip(mask).for_each(|(any, &within)| *any |= within);
    }
    any
}

fn add_all(counts: &mut [u64], others: &[u64]) -> Result<(), KernelError> {
    if counts.len() != others.len() {
        return Err(KernelError::PartialMismatch);
    }
    counts.iter_mut().zip(others).for_each(|(count, other)| *count += other);
    Ok(())
}

fn zip_with<T>(cells: &mut [T], others: Vec<T>, merge: impl Fn(&mut T, T)) -> Result<(), KernelError> {
    if cells.len() != others.len() {
        return Err(KernelError::PartialMismatch);
    }
    cells.iter_mut().zip(others).for_each(|(cell, other)| merge(cell, other));
    Ok(())
}
