//! Trends over the blocks of one shard.
//!
//! A *cell* is a bucket of a group of a series; the groups of a series lie one after another. Of each
//! block the rows that any series counts are picked first, and get their cell once: what follows
//! touches only those.
//!
//! Everything but unique persons is a pass over each block by itself. Unique persons need all rows
//! of a person together: per cell the last person seen is kept, so a person is new to a cell when
//! it is another than the last. That takes no hashing, and 4 bytes a cell.

use serde::{Deserialize, Serialize};

use super::groups::{GroupTotals, Groups, NO_GROUP, RowGroups};
use super::percentile::NumberRuns;
use super::persons::for_each_person_of;
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

/// The cell of a row whose value no group asks for.
const NO_CELL: u32 = u32::MAX;

/// The rows of one block that count for any series.
struct Picked {
    /// Ascending.
    rows: Vec<u32>,
    /// One mask a series over `rows`; none when there is one series, which has them all.
    masks: Vec<Vec<bool>>,
}

/// The same, with the cell of each row.
struct Prepared {
    picked: Picked,
    cells: Vec<u32>,
}

impl Picked {
    /// The rows of a series, by their place in the list.
    fn of_series(&self, series: usize) -> impl Iterator<Item = usize> {
        let mask = self.masks.get(series);
        (0..self.rows.len()).filter(move |&place| mask.is_none_or(|mask| mask[place]))
    }
}

impl Prepared {
    /// The rows of a series that count, with their cells.
    fn of_series(&self, series: usize) -> impl Iterator<Item = (usize, usize)> {
        let places = self.picked.of_series(series).map(|place| (place, self.cells[place]));
        let places = places.filter(|&(_, cell)| cell != NO_CELL);
        places.map(|(place, cell)| (self.picked.rows[place] as usize, cell as usize))
    }
}

impl TrendsKernel<'_> {
    /// The first round of a breakdown: matching rows per value.
    pub fn count_groups(&self, blocks: &[RowBlock], by: &BreakdownBy) -> Result<GroupTotals, KernelError> {
        let mut totals = GroupTotals::default();
        for block in blocks {
            self.cancel.check()?;
            let picked = self.pick(block);
            let groups = RowGroups::new(block, by, self.columns, &picked.rows);
            let mut counts = vec![0_u64; groups.keys.len()];
            for series in 0..self.question.series.len() {
                picked.of_series(series).for_each(|place| counts[groups.codes[place] as usize] += 1);
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
                let column = series.measure.property().map(|property| self.columns.of(block, property));
                cells.add_block(prepared.of_series(number), column, &mut distinct)?;
            }
            cells.settle(&mut distinct)?;
        }
        self.count_persons(blocks, &prepared, &mut found)?;
        Ok(found)
    }

    fn pick(&self, block: &RowBlock) -> Picked {
        let within = select_rows(block, self.question.when.range, &self.question.filters, self.columns);
        let mask =
            |series: &Series| select_events(&within, block, &series.events, &series.filters, self.columns);
        let masks: Vec<Vec<bool>> = self.question.series.iter().map(mask).collect();
        match masks.as_slice() {
            [only] => Picked { rows: places(only.iter().copied()), masks: Vec::new() },
            several => {
                let rows = places((0..block.len()).map(|row| several.iter().any(|mask| mask[row])));
                let of_rows =
                    |mask: &Vec<bool>| rows.iter().map(|&row| mask[row as usize]).collect::<Vec<bool>>();
                Picked { masks: several.iter().map(of_rows).collect(), rows }
            }
        }
    }

    fn prepare(&self, block: &RowBlock, groups: Option<&Groups>) -> Prepared {
        let picked = self.pick(block);
        // Picked rows are in the range, so each has a bucket; with one bucket it is that.
        let bucket = |row: u32| match self.buckets.len() {
            1 => 0,
            _ => self.buckets.find(block.occurred_at[row as usize]).unwrap_or_default(),
        };
        let mut cells: Vec<u32> = picked.rows.iter().map(|&row| bucket(row)).collect();
        if let (Some(groups), Some(breakdown)) = (groups, &self.question.breakdown) {
            let rows = RowGroups::new(block, &breakdown.by, self.columns, &picked.rows);
            let assigned = groups.assign(&rows.keys);
            let buckets = self.buckets.len() as u32;
            for (cell, &code) in cells.iter_mut().zip(&rows.codes) {
                *cell = match assigned[code as usize] {
                    NO_GROUP => NO_CELL,
                    group => group * buckets + *cell,
                };
            }
        }
        Prepared { picked, cells }
    }

    fn count_persons(
        &self,
        blocks: &[RowBlock],
        prepared: &[Prepared],
        found: &mut [SeriesCells],
    ) -> Result<(), KernelError> {
        let buckets = self.buckets.len();
        for (series, cells) in found.iter_mut().enumerate() {
            let Some(mut counter) = PersonCounter::new(cells) else { continue };
            let mut persons: Vec<Vec<PersonNo>> = Vec::with_capacity(blocks.len());
            let mut cells: Vec<Vec<u32>> = Vec::with_capacity(blocks.len());
            for (block, prepared) in blocks.iter().zip(prepared) {
                self.cancel.check()?;
                let counted = prepared.of_series(series);
                let (block_persons, block_cells) =
                    counted.map(|(row, cell)| (block.person_no[row], cell as u32)).unzip();
                persons.push(block_persons);
                cells.push(block_cells);
            }
            let persons: Vec<&[PersonNo]> = persons.iter().map(Vec::as_slice).collect();
            for_each_person_of(&persons, self.cancel, |person, slices| {
                for slice in slices {
                    for &cell in &cells[slice.block][slice.rows.clone()] {
                        counter.see(person, cell as usize, buckets);
                    }
                }
            })?;
        }
        Ok(())
    }
}

/// The numbers of those that are set.
fn places(set: impl Iterator<Item = bool>) -> Vec<u32> {
    set.zip(0..).filter_map(|(set, place)| set.then_some(place)).collect()
}

/// Counts the persons of one series, told in ascending order of persons.
struct PersonCounter<'a> {
    persons: &'a mut [u64],
    total: &'a mut [u64],
    last_in_cell: Vec<Option<PersonNo>>,
    last_in_group: Vec<Option<PersonNo>>,
}

impl<'a> PersonCounter<'a> {
    fn new(cells: &'a mut SeriesCells) -> Option<Self> {
        match cells {
            SeriesCells::Persons { persons, total } | SeriesCells::PerPerson { persons, total, .. } => {
                let (last_in_cell, last_in_group) = (vec![None; persons.len()], vec![None; total.len()]);
                Some(Self { persons, total, last_in_cell, last_in_group })
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

    /// All rows of a block that count with their cells, but for unique persons.
    fn add_block(
        &mut self,
        counted: impl Iterator<Item = (usize, usize)>,
        column: Option<&PropertyColumn>,
        distinct: &mut Distinct,
    ) -> Result<(), KernelError> {
        if let Self::Count { rows } | Self::PerPerson { rows, .. } = self {
            counted.for_each(|(_, cell)| rows[cell] += 1);
            return Ok(());
        }
        let Some(column) = column else { return Ok(()) };
        let numbers = counted.filter_map(|(row, cell)| Some((cell, number_at(column, row)?)));
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
