//! Trends over the blocks of one shard.
//!
//! A *cell* is a bucket of a group of a series; the groups of a series lie one after another. Of each
//! block the rows that any series counts are picked first, and get their cell once: what follows
//! touches only those.
//!
//! Everything but unique persons is a pass over each block by itself; for those see [`super::unique`].

use serde::{Deserialize, Serialize};

use super::groups::{GroupKey, GroupTotals, Groups, NO_GROUP, RowGroups, check_values};
use super::percentile::NumberRuns;
use super::select::{Columns, Rows, Wanted, narrow, passes_of, select_events, wanted_by_all};
use super::unique::{Seen, UniquePersons};
use super::{Cancel, KernelError};
use crate::analysis::exact::NumberSum;
use crate::analysis::number::Number;
use crate::analysis::question::{
    BreakdownBy, EventSelector, Measure, PropertyFunction, QuestionLimits, Series, TrendsQuestion,
};
use crate::analysis::time::Buckets;
use crate::eventstore::{PropertyColumn, RowBlock};
use crate::model::FastMap;

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
    rows: Rows,
    /// For each of `rows` the series that count it; without it all of them do.
    series: Option<Vec<Wanted>>,
}

/// The same, with the cell of each row.
struct Prepared {
    picked: Picked,
    /// Without it all rows are in the first cell.
    cells: Option<Vec<u32>>,
}

impl Picked {
    /// The rows of a series, by their place in the list.
    fn for_each_of(&self, series: usize, mut visit: impl FnMut(usize, usize)) {
        match &self.series {
            None => self.rows.for_each(visit),
            Some(bits) => self.rows.for_each(|place, row| {
                if bits[place] >> series & 1 == 1 {
                    visit(place, row);
                }
            }),
        }
    }
}

impl Prepared {
    /// The rows of a series that count, with their cells.
    fn for_each_of(&self, series: usize, mut visit: impl FnMut(usize, usize)) {
        match &self.cells {
            None => self.picked.for_each_of(series, |_, row| visit(row, 0)),
            Some(cells) => self.picked.for_each_of(series, |place, row| {
                let cell = cells[place];
                if cell != NO_CELL {
                    visit(row, cell as usize);
                }
            }),
        }
    }
}

impl TrendsKernel<'_> {
    /// The first round of a breakdown: matching rows per value.
    pub fn count_groups(&self, blocks: &[RowBlock], by: &BreakdownBy) -> Result<GroupTotals, KernelError> {
        let mut totals: FastMap<GroupKey, u64> = FastMap::default();
        for block in blocks {
            self.cancel.check()?;
            let picked = self.pick(block);
            let groups = RowGroups::new(block, by, self.columns, &picked.rows);
            let mut counts = vec![0_u64; groups.keys.len()];
            for series in 0..self.question.series.len() {
                picked.for_each_of(series, |place, _| counts[groups.codes[place] as usize] += 1);
            }
            for (key, rows) in groups.keys.into_iter().zip(counts).filter(|(_, rows)| *rows > 0) {
                *totals.entry(key).or_insert(0) += rows;
            }
            check_values(totals.len(), by, self.limits.breakdown_values_max)?;
        }
        Ok(totals.into_iter().collect::<Vec<_>>().into())
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
        for (number, series) in series.iter().enumerate() {
            let (before, rest) = found.split_at_mut(number);
            let cells = &mut rest[0];
            // The median and the p95 of one property are read off the same numbers.
            let same =
                self.question.series[..number].iter().position(|other| is_same_but_percent(series, other));
            if let Some(same) = same {
                *cells = before[same].clone();
                distinct.grow(cells.distinct_numbers())?;
                continue;
            }
            for (block, prepared) in blocks.iter().zip(&prepared) {
                self.cancel.check()?;
                let column = series.measure.property().map(|property| self.columns.of(block, property));
                cells.add_block(prepared, number, column, &mut distinct)?;
            }
            cells.settle(&mut distinct)?;
        }
        self.count_persons(blocks, &prepared, &mut found)?;
        Ok(found)
    }

    fn pick(&self, block: &RowBlock) -> Picked {
        let selectors: Vec<&EventSelector> =
            self.question.series.iter().map(|series| &series.events).collect();
        match (select_events(block, &selectors), self.question.series.as_slice()) {
            ((mut rows, None), series) => {
                narrow(&mut rows, block, &self.question.filters, self.columns);
                if let [only] = series {
                    narrow(&mut rows, block, &only.filters, self.columns);
                } else if series.iter().any(|series| !series.filters.is_empty()) {
                    let every = vec![wanted_by_all(series.len()); rows.len()];
                    let wanted = self.narrow_series(block, &rows, every);
                    return Picked { rows, series: Some(wanted) };
                }
                Picked { rows, series: None }
            }
            ((rows, Some(wanted)), _) => {
                let wanted = self.narrow_series(block, &rows, wanted);
                let filters = passes_of(block, &self.question.filters, self.columns);
                let (mut kept, mut kept_wanted) = (Vec::new(), Vec::new());
                rows.for_each(|place, row| {
                    if wanted[place] != 0 && filters.iter().all(|passes| passes.row(row)) {
                        kept.push(row as u32);
                        kept_wanted.push(wanted[place]);
                    }
                });
                Picked { rows: Rows::Some(kept), series: Some(kept_wanted) }
            }
        }
    }

    /// Takes from each row the series whose own filters it does not pass.
    fn narrow_series(&self, block: &RowBlock, rows: &Rows, mut wanted: Vec<Wanted>) -> Vec<Wanted> {
        for (number, series) in self.question.series.iter().enumerate() {
            for passes in passes_of(block, &series.filters, self.columns) {
                rows.for_each(|place, row| {
                    if wanted[place] >> number & 1 == 1 && !passes.row(row) {
                        wanted[place] &= !(1 << number);
                    }
                });
            }
        }
        wanted
    }

    fn prepare(&self, block: &RowBlock, groups: Option<&Groups>) -> Prepared {
        let picked = self.pick(block);
        let mut cells = None;
        if self.buckets.len() > 1 {
            let mut buckets = Vec::with_capacity(picked.rows.len());
            // Rows that count are in the range, so each has a bucket.
            let bucket = |row: usize| self.buckets.find(block.occurred_at[row]).unwrap_or(NO_CELL);
            picked.rows.for_each(|_, row| buckets.push(bucket(row)));
            cells = Some(buckets);
        }
        if let (Some(groups), Some(breakdown)) = (groups, &self.question.breakdown) {
            let rows = RowGroups::new(block, &breakdown.by, self.columns, &picked.rows);
            let assigned = groups.assign(&rows.keys);
            let buckets = self.buckets.len() as u32;
            let mut cells_of_groups = cells.unwrap_or_else(|| vec![0; picked.rows.len()]);
            for (cell, &code) in cells_of_groups.iter_mut().zip(&rows.codes) {
                *cell = match assigned[code as usize] {
                    NO_GROUP => NO_CELL,
                    group => group * buckets + *cell,
                };
            }
            cells = Some(cells_of_groups);
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
            let (SeriesCells::Persons { persons, total } | SeriesCells::PerPerson { persons, total, .. }) =
                cells
            else {
                continue;
            };
            let mut seen: Vec<Seen> = Vec::with_capacity(blocks.len());
            for (block, prepared) in blocks.iter().zip(prepared) {
                self.cancel.check()?;
                let mut of_block = Seen::with_capacity(prepared.picked.rows.len());
                prepared.for_each_of(series, |row, cell| of_block.push(block.person_no[row], cell as u32));
                seen.push(of_block);
            }
            UniquePersons { cells: persons, groups: total, buckets }.count(&seen, self.cancel)?;
        }
        Ok(())
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

    /// All rows of a block that count for a series, but for unique persons.
    fn add_block(
        &mut self,
        prepared: &Prepared,
        series: usize,
        column: Option<&PropertyColumn>,
        distinct: &mut Distinct,
    ) -> Result<(), KernelError> {
        if let Self::Count { rows } | Self::PerPerson { rows, .. } = self {
            prepared.for_each_of(series, |_, cell| rows[cell] += 1);
            return Ok(());
        }
        let Some(column) = column else { return Ok(()) };
        let rows = SeriesRows { prepared, series, column };
        match self {
            Self::Count { .. } | Self::PerPerson { .. } | Self::Persons { .. } => {}
            Self::Sum { sums } => rows.for_each_number(|cell, number| sums[cell].add(number)),
            Self::Min { least } => rows.for_each_number(|cell, number| keep_least(&mut least[cell], number)),
            Self::Max { greatest } => {
                rows.for_each_number(|cell, number| keep_greatest(&mut greatest[cell], number));
            }
            Self::Percentile { runs } => {
                let mut grown = Ok(());
                rows.for_each_number(|cell, number| {
                    if grown.is_ok() {
                        grown = distinct.grow(runs[cell].add(number));
                    }
                });
                grown?;
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

fn is_same_but_percent(a: &Series, b: &Series) -> bool {
    let of_property = a.measure.property().filter(|_| a.measure.is_percentile() && b.measure.is_percentile());
    of_property.is_some()
        && of_property == b.measure.property()
        && a.events == b.events
        && a.filters == b.filters
}

/// The rows of a block that count for a series, and the column that it measures.
struct SeriesRows<'a> {
    prepared: &'a Prepared,
    series: usize,
    column: &'a PropertyColumn,
}

impl SeriesRows<'_> {
    fn for_each_number(&self, mut visit: impl FnMut(usize, Number)) {
        self.prepared.for_each_of(self.series, |row, cell| {
            if let Some(number) = number_at(self.column, row) {
                visit(cell, number);
            }
        });
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
