//! Trends over the blocks of one shard.
//!
//! A *cell* is a bucket of a group of a series; the groups of a series lie one after another. Rows are
//! taken a chunk at a time: of each the rows that any series counts are picked and get their cell, and
//! then every series adds them to what it knows, while all of that is still in the processor's cache.
//!
//! Without unique persons the blocks come one after the other, else in ranges of persons, see
//! [`super::unique`].

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::grouped::Grouped;
use super::groups::{GroupIndex, GroupKey, GroupTotals, Groups, NO_GROUP, ValueCodes, check_values};
use super::percentile::NumberRuns;
use super::persons::for_each_range;
use super::select::{Columns, Picked, Selection, Selector};
use super::unique::{UniquePersons, Walk};
use super::{Cancel, KernelError};
use crate::analysis::exact::NumberSum;
use crate::analysis::number::Number;
use crate::analysis::question::{
    BreakdownBy, Measure, PropertyFunction, QuestionLimits, Series, TrendsBreakdown, TrendsQuestion,
};
use crate::analysis::time::Buckets;
use crate::eventstore::{ByQuarter, PropertyColumn, RowBlock};
use crate::model::{FastMap, Millis, PersonNo};

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
    /// What an earlier series knows, counted from 0.
    SameAs {
        series: usize,
    },
}

/// The cell of a row whose value no group asks for.
const NO_CELL: u32 = u32::MAX;

/// The rows of a chunk that count for any series, with their cells.
#[derive(Default)]
struct Chunk {
    picked: Picked,
    /// For each picked row; empty when there is only one cell.
    cells: Vec<u32>,
    /// For each picked row, when there are groups.
    groups: Vec<u32>,
}

impl Chunk {
    /// The rows of a series that count, with their cells.
    fn for_each_of(&self, series: usize, mut visit: impl FnMut(usize, usize)) {
        let rows = &self.picked.rows;
        if self.cells.is_empty() {
            self.picked.for_each_of(series, |place| visit(rows[place] as usize, 0));
        } else {
            self.picked.for_each_of(series, |place| {
                let cell = self.cells[place];
                if cell != NO_CELL {
                    visit(rows[place] as usize, cell as usize);
                }
            });
        }
    }
}

/// What a question has to know of one block.
struct BlockReader<'a> {
    block: &'a RowBlock,
    selection: Selection<'a>,
    buckets: BucketOf<'a>,
    groups: Option<GroupOf<'a>>,
    /// What each series measures.
    measured: Vec<Option<&'a PropertyColumn>>,
}

/// Rows that count are in the range, so each has a bucket.
enum BucketOf<'a> {
    Only,
    Quarters(ByQuarter<'a, u32>),
    Times { buckets: &'a Buckets, times: &'a [Millis] },
}

struct GroupOf<'a> {
    index: GroupIndex<'a>,
    values: ValueCodes<'a>,
    /// By code, of those that are known so far.
    assigned: Vec<u32>,
    buckets: u32,
}

impl BlockReader<'_> {
    /// Gives all picked rows their cells.
    fn find_cells(&mut self, chunk: &mut Chunk) {
        let (rows, cells) = (&chunk.picked.rows, &mut chunk.cells);
        cells.clear();
        match &self.buckets {
            BucketOf::Only => {}
            BucketOf::Quarters(by_quarter) => by_quarter.append_to(rows, cells),
            BucketOf::Times { buckets, times } => {
                cells.extend(rows.iter().map(|&row| buckets.find(times[row as usize]).unwrap_or(NO_CELL)));
            }
        }
        if let Some(groups) = &mut self.groups {
            groups.values.find(rows, &mut chunk.groups);
            let known = groups.assigned.len();
            groups.assigned.extend(groups.values.keys[known..].iter().map(|key| groups.index.find(key)));
            cells.resize(rows.len(), 0);
            for (cell, group) in cells.iter_mut().zip(&mut chunk.groups) {
                // A code until here.
                *group = groups.assigned[*group as usize];
                *cell = match *group {
                    NO_GROUP => NO_CELL,
                    group => group * groups.buckets + *cell,
                };
            }
        }
    }
}

/// Cells of all series that are measured in the first round of a breakdown: some hundred kilobytes, also
/// as a partial answer between processes.
const CELLS_AT_ONCE_MAX: usize = 16_384;

/// What is found of all series, block by block.
struct Measured {
    series: Vec<SeriesCells>,
    /// For the series that count persons.
    unique: Vec<Option<UniquePersons>>,
    /// Who is in which cell, of one chunk.
    seen: Vec<(u32, u32)>,
    /// For each group its rows, counted once per series, when somebody asks for them.
    rows: Option<Vec<u64>>,
    distinct: Distinct,
}

impl TrendsKernel<'_> {
    /// The first round of a breakdown: matching rows per value.
    pub fn count_groups(&self, blocks: &[RowBlock], by: &BreakdownBy) -> Result<GroupTotals, KernelError> {
        let mut totals: FastMap<GroupKey<&str>, u64> = FastMap::default();
        let (mut picked, mut codes) = (Picked::default(), Vec::new());
        let series = self.question.series.len() as u64;
        for block in blocks {
            let mut values = ValueCodes::new(block, by, self.columns);
            let mut counts = Vec::new();
            let selection = self.select(block);
            let mut rows = 0..block.event.len();
            while !rows.is_empty() {
                self.cancel.check()?;
                rows.start = selection.pick_chunk(rows.clone(), &mut picked);
                values.find(&picked.rows, &mut codes);
                counts.resize(values.keys.len(), 0_u64);
                if picked.wanted.is_empty() {
                    codes.iter().for_each(|&code| counts[code as usize] += series);
                } else {
                    let wanted = codes.iter().zip(&picked.wanted);
                    wanted.for_each(|(&code, bits)| counts[code as usize] += u64::from(bits.count_ones()));
                }
            }
            for (key, rows) in values.keys.into_iter().zip(counts).filter(|(_, rows)| *rows > 0) {
                *totals.entry(key).or_insert(0) += rows;
            }
            check_values(totals.len(), by, self.limits.breakdown_values_max)?;
        }
        let owned = totals.into_iter().map(|(key, rows)| (key.into_owned(), rows));
        Ok(owned.collect::<Vec<_>>().into())
    }

    /// Both rounds of a breakdown at once; `None` when its values are too many for that.
    pub fn measure_groups(
        &self,
        blocks: &[RowBlock],
        breakdown: &TrendsBreakdown,
    ) -> Result<Option<Grouped>, KernelError> {
        let Some(keys) = ValueCodes::list(blocks, &breakdown.by, self.columns) else { return Ok(None) };
        let series = &self.question.series;
        let counts_persons = series.iter().any(|series| series.measure.counts_persons());
        if (counts_persons && keys.len() > breakdown.limit)
            || keys.len() * self.buckets.len() * series.len() > CELLS_AT_ONCE_MAX
        {
            return Ok(None);
        }
        let groups = Groups { chosen: keys, has_other: false };
        let (series, rows) = self.measure_rows(blocks, Some(&groups), true)?;
        let grouped = Grouped::new(groups.chosen, rows, series, self.buckets.len())?;
        check_values(grouped.len(), &breakdown.by, self.limits.breakdown_values_max)?;
        Ok(Some(grouped))
    }

    /// All cells of all series.
    pub fn measure(
        &self,
        blocks: &[RowBlock],
        groups: Option<&Groups>,
    ) -> Result<Vec<SeriesCells>, KernelError> {
        self.measure_rows(blocks, groups, false).map(|(series, _)| series)
    }

    /// With the rows of each group, if they are asked for.
    fn measure_rows(
        &self,
        blocks: &[RowBlock],
        groups: Option<&Groups>,
        with_rows: bool,
    ) -> Result<(Vec<SeriesCells>, Vec<u64>), KernelError> {
        let group_count = groups.map_or(1, Groups::len);
        let cells = group_count * self.buckets.len();
        let series = &self.question.series;
        let mut readers: Vec<BlockReader<'_>> =
            blocks.iter().map(|block| self.reader(block, groups)).collect();
        let empty = |number: usize| match find_same(series, number) {
            Some(series) => SeriesCells::SameAs { series },
            None => SeriesCells::empty(&series[number].measure, cells, group_count),
        };
        let mut found = Measured {
            series: (0..series.len()).map(empty).collect(),
            unique: series.iter().map(|_| None).collect(),
            seen: Vec::new(),
            rows: with_rows.then(|| vec![0; group_count]),
            distinct: Distinct { total: 0, max: self.limits.percentile_values_max },
        };
        let mut chunk = Chunk::default();
        let counts_persons = series.iter().filter(|series| series.measure.counts_persons()).count();
        if counts_persons == 0 {
            for reader in &mut readers {
                let rows = 0..reader.block.event.len();
                self.add_rows(reader, rows, 0, &mut chunk, &mut found)?;
            }
        } else {
            let persons: Vec<&[PersonNo]> = blocks.iter().map(|block| &*block.person_no).collect();
            let walk = Walk::new(&persons, cells * counts_persons);
            for (unique, series) in found.unique.iter_mut().zip(series) {
                let counts_persons = series.measure.counts_persons();
                *unique = counts_persons.then(|| UniquePersons::new(walk, cells, self.buckets.len()));
            }
            for_each_range(&persons, walk.length, self.cancel, |first, ranges| {
                for (reader, rows) in readers.iter_mut().zip(ranges) {
                    self.add_rows(reader, rows.clone(), first, &mut chunk, &mut found)?;
                }
                found.end_range();
                Ok(())
            })?;
        }
        for cells in &mut found.series {
            cells.settle(&mut found.distinct)?;
        }
        Ok((found.series, found.rows.unwrap_or_default()))
    }

    fn select<'b>(&'b self, block: &'b RowBlock) -> Selection<'b> {
        let series = self.question.series.iter();
        let selectors: Vec<Selector<'b>> =
            series.map(|series| Selector { events: &series.events, filters: &series.filters }).collect();
        Selection::new(block, self.columns, &self.question.filters, &selectors)
    }

    fn reader<'b>(&'b self, block: &'b RowBlock, groups: Option<&'b Groups>) -> BlockReader<'b> {
        let buckets = match (self.buckets.len(), block.quarters.is_empty()) {
            (1, _) => BucketOf::Only,
            (_, true) => BucketOf::Times { buckets: self.buckets, times: &block.occurred_at },
            (_, false) => {
                BucketOf::Quarters(block.quarters.by_quarter(|at| self.buckets.find(at).unwrap_or(NO_CELL)))
            }
        };
        let groups = groups.zip(self.question.breakdown.as_ref()).map(|(groups, breakdown)| GroupOf {
            index: GroupIndex::new(groups),
            values: ValueCodes::new(block, &breakdown.by, self.columns),
            assigned: Vec::new(),
            buckets: self.buckets.len() as u32,
        });
        let measured = self
            .question
            .series
            .iter()
            .map(|series| series.measure.property().map(|property| self.columns.of(block, property)));
        let measured = measured.collect();
        BlockReader { block, selection: self.select(block), buckets, groups, measured }
    }

    /// Some rows of a block; `first` is the first person of the range.
    fn add_rows(
        &self,
        reader: &mut BlockReader<'_>,
        mut rows: Range<usize>,
        first: PersonNo,
        chunk: &mut Chunk,
        found: &mut Measured,
    ) -> Result<(), KernelError> {
        while !rows.is_empty() {
            self.cancel.check()?;
            rows.start = reader.selection.pick_chunk(rows.clone(), &mut chunk.picked);
            if chunk.picked.rows.is_empty() {
                continue;
            }
            reader.find_cells(chunk);
            found.add_chunk(reader, first, chunk)?;
        }
        Ok(())
    }
}

impl Measured {
    fn add_chunk(
        &mut self,
        reader: &BlockReader<'_>,
        first: PersonNo,
        chunk: &Chunk,
    ) -> Result<(), KernelError> {
        for (number, cells) in self.series.iter_mut().enumerate() {
            cells.add_chunk(chunk, number, reader.measured[number], &mut self.distinct)?;
            if let Some(unique) = &mut self.unique[number] {
                let persons = &reader.block.person_no;
                let person = |row: &u32| persons[*row as usize] - first;
                let Chunk { picked: Picked { rows, wanted }, cells, .. } = chunk;
                if wanted.is_empty() && cells.is_empty() {
                    unique.see(rows.iter().map(|row| (person(row), 0)));
                } else if wanted.is_empty() && reader.groups.is_none() {
                    unique.see(rows.iter().map(person).zip(cells.iter().copied()));
                } else {
                    self.seen.clear();
                    chunk
                        .for_each_of(number, |row, cell| self.seen.push((persons[row] - first, cell as u32)));
                    unique.see(self.seen.iter().copied());
                }
            }
        }
        if let Some(rows) = &mut self.rows {
            let every = self.series.len() as u64;
            for (place, &group) in chunk.groups.iter().enumerate() {
                let times = chunk.picked.wanted.get(place).map_or(every, |bits| bits.count_ones().into());
                if let Some(rows) = rows.get_mut(group as usize) {
                    *rows += times;
                }
            }
        }
        Ok(())
    }

    fn end_range(&mut self) {
        for (cells, unique) in self.series.iter_mut().zip(&mut self.unique) {
            let (SeriesCells::Persons { persons, total } | SeriesCells::PerPerson { persons, total, .. }) =
                cells
            else {
                continue;
            };
            if let Some(unique) = unique {
                unique.end_range(persons, total);
            }
        }
    }
}

/// The median and the p95 of one property are read off the same numbers: the series before this one that
/// has them.
fn find_same(series: &[Series], number: usize) -> Option<usize> {
    series[..number].iter().position(|other| is_same_but_percent(&series[number], other))
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

    /// The rows of a chunk that count for a series, but for unique persons.
    fn add_chunk(
        &mut self,
        chunk: &Chunk,
        series: usize,
        column: Option<&PropertyColumn>,
        distinct: &mut Distinct,
    ) -> Result<(), KernelError> {
        if let Self::Count { rows } | Self::PerPerson { rows, .. } = self {
            if chunk.cells.is_empty() && chunk.picked.wanted.is_empty() {
                rows[0] += chunk.picked.rows.len() as u64;
            } else {
                chunk.for_each_of(series, |_, cell| rows[cell] += 1);
            }
            return Ok(());
        }
        let Some(column) = column else { return Ok(()) };
        let rows = SeriesRows { chunk, series, column };
        match self {
            Self::Count { .. } | Self::PerPerson { .. } | Self::Persons { .. } | Self::SameAs { .. } => {}
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
                zip_with(runs, other, NumberRuns::merge)
            }
            (Self::SameAs { series }, Self::SameAs { series: other }) if *series == other => Ok(()),
            _ => Err(KernelError::PartialMismatch),
        }
    }

    /// Whether several groups can be put together.
    pub fn adds_up(&self) -> bool {
        !matches!(self, Self::Persons { .. } | Self::PerPerson { .. })
    }

    /// With other groups: for each of the present ones where it goes, if anywhere. Precondition: what does
    /// not add up does not meet.
    pub fn regroup(self, to: &[Option<usize>], groups: usize, buckets: usize) -> Result<Self, KernelError> {
        let target = Regroup { to, groups };
        let add = |sum: &mut u64, more: u64| *sum += more;
        Ok(match self {
            Self::Count { rows } => Self::Count { rows: target.moved(rows, buckets, add)? },
            Self::Persons { persons, total } => Self::Persons {
                persons: target.moved(persons, buckets, add)?,
                total: target.moved(total, 1, add)?,
            },
            Self::PerPerson { rows, persons, total } => Self::PerPerson {
                rows: target.moved(rows, buckets, add)?,
                persons: target.moved(persons, buckets, add)?,
                total: target.moved(total, 1, add)?,
            },
            Self::Sum { sums } => Self::Sum { sums: target.moved(sums, buckets, NumberSum::merge)? },
            Self::Min { least } => Self::Min {
                least: target.moved(least, buckets, |best, other| {
                    other.into_iter().for_each(|number| keep_least(best, number));
                })?,
            },
            Self::Max { greatest } => Self::Max {
                greatest: target.moved(greatest, buckets, |best, other| {
                    other.into_iter().for_each(|number| keep_greatest(best, number));
                })?,
            },
            Self::Percentile { runs } => {
                Self::Percentile { runs: target.moved(runs, buckets, NumberRuns::merge)? }
            }
            Self::SameAs { series } => Self::SameAs { series },
        })
    }

    /// Holds each distinct number of a cell once.
    pub fn compact(&mut self) {
        if let Self::Percentile { runs } = self {
            runs.iter_mut().for_each(NumberRuns::compact);
        }
    }

    /// How many numbers are held; those of one cell differ once they are compact.
    pub fn distinct_numbers(&self) -> usize {
        match self {
            Self::Percentile { runs } => runs.iter().map(NumberRuns::len).sum(),
            _ => 0,
        }
    }
}

/// Where each group goes, if anywhere, and how many there will be.
struct Regroup<'a> {
    to: &'a [Option<usize>],
    groups: usize,
}

impl Regroup<'_> {
    /// `width`: how many cells a group has.
    fn moved<T: Clone + Default>(
        &self,
        cells: Vec<T>,
        width: usize,
        merge: impl Fn(&mut T, T),
    ) -> Result<Vec<T>, KernelError> {
        if cells.len() != self.to.len() * width {
            return Err(KernelError::PartialMismatch);
        }
        let mut moved = vec![T::default(); self.groups * width];
        for (place, cell) in cells.into_iter().enumerate() {
            if let Some(group) = self.to[place / width] {
                merge(&mut moved[group * width + place % width], cell);
            }
        }
        Ok(moved)
    }
}

fn is_same_but_percent(a: &Series, b: &Series) -> bool {
    let of_property = a.measure.property().filter(|_| a.measure.is_percentile() && b.measure.is_percentile());
    of_property.is_some()
        && of_property == b.measure.property()
        && a.events == b.events
        && a.filters == b.filters
}

/// The rows of a chunk that count for a series, and the column that it measures.
struct SeriesRows<'a> {
    chunk: &'a Chunk,
    series: usize,
    column: &'a PropertyColumn,
}

impl SeriesRows<'_> {
    fn for_each_number(&self, mut visit: impl FnMut(usize, Number)) {
        self.chunk.for_each_of(self.series, |row, cell| {
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
