//! Trends over the blocks of one shard.
//!
//! A *cell* is a bucket of a group of a series; the groups of a series lie one after another. Rows are
//! taken a chunk at a time: of each the rows that any series counts are picked and get their cell, and
//! then every series adds them to what it knows, while all of that is still in the processor's cache.
//!
//! Without unique persons the blocks come one after the other, else in ranges of persons, see
//! [`super::unique`].

use std::ops::Range;

use super::cells::{Distinct, SeriesCells, keep_greatest, keep_least};
use super::chunk::{Chunk, SeriesRows};
use super::group_cells::{GroupCells, NO_CELL};
use super::grouped::Grouped;
use super::groups::{GroupCodes, GroupIndex, GroupKey, GroupTotals, Groups, ValueCodes, check_values};
use super::persons::for_each_range;
use super::select::{Columns, Picked, Selection, Selector};
use super::unique::{UniquePersons, Walk};
use super::{Cancel, KernelError};
use crate::analysis::question::{
    BreakdownBy, Measure, QuestionLimits, Series, TrendsBreakdown, TrendsQuestion,
};
use crate::analysis::time::Buckets;
use crate::eventstore::{ByQuarter, PropertyColumn, RowBlock, Times};
use crate::model::{FastMap, Interned, PersonNo};

pub struct TrendsKernel<'a> {
    pub question: &'a TrendsQuestion,
    pub limits: &'a QuestionLimits,
    pub buckets: &'a Buckets,
    pub columns: &'a Columns,
    pub cancel: &'a Cancel,
}

/// What a question has to know of one block.
struct BlockReader<'a> {
    block: &'a RowBlock,
    selection: Selection<'a>,
    buckets: BucketOf<'a>,
    groups: Option<GroupCells<'a>>,
    /// What each series measures.
    measured: Vec<Option<&'a PropertyColumn>>,
    /// Nothing is asked but how many rows each group has.
    counts_groups: bool,
}

/// Rows that count are in the range, so each has a bucket.
enum BucketOf<'a> {
    Only,
    Quarters(ByQuarter<'a>),
    Times { buckets: &'a Buckets, times: &'a Times },
}

impl BlockReader<'_> {
    /// Whether the groups of the picked rows tell all, and are counted.
    fn try_count_groups(&mut self, chunk: &Chunk) -> bool {
        let groups = self.groups.as_mut().filter(|_| self.counts_groups && chunk.picked.wanted.is_empty());
        groups.is_some_and(|groups| groups.try_count(&chunk.picked))
    }

    /// Gives all picked rows their cells.
    fn find_cells(&mut self, chunk: &mut Chunk) {
        let (rows, cells) = (&chunk.picked.rows, &mut chunk.cells);
        cells.clear();
        match &self.buckets {
            BucketOf::Only => {}
            BucketOf::Quarters(by_quarter) => match &chunk.picked.whole {
                Some(rows) => by_quarter.append_range(rows.clone(), cells),
                None => by_quarter.append_to(rows, cells),
            },
            BucketOf::Times { buckets, times } => {
                cells.extend(rows.iter().map(|&row| buckets.find(times.at(row as usize)).unwrap_or(NO_CELL)));
            }
        }
        match (&mut self.groups, &self.buckets) {
            (None, _) => {}
            (Some(groups), BucketOf::Only) => groups.find(&chunk.picked, cells),
            (Some(groups), _) => {
                groups.find(&chunk.picked, &mut chunk.first_cells);
                // What has no bucket or no group has no cell.
                let add = |(cell, first): (&mut u32, &u32)| *cell = cell.saturating_add(*first);
                cells.iter_mut().zip(&chunk.first_cells).for_each(add);
            }
        }
    }
}

/// Cells of all series that are measured in the first round of a breakdown: some hundred kilobytes, also
/// as a partial answer between processes. Few in tests, so that these meet both ways.
const CELLS_AT_ONCE_MAX: usize = if cfg!(test) { 24 } else { 16_384 };

/// What is found of all series, block by block.
struct Measured {
    series: Vec<SeriesCells>,
    /// For the series that count persons.
    unique: Vec<Option<UniquePersons>>,
    /// Who is in which cell, of one chunk.
    seen: Vec<(u32, u32)>,
    /// The rows of each cell, counted once per series, when somebody asks for them.
    rows: Option<Vec<u64>>,
    distinct: Distinct,
}

impl TrendsKernel<'_> {
    /// The first round of a breakdown: matching rows per value.
    pub fn count_groups(&self, blocks: &[RowBlock], by: &BreakdownBy) -> Result<GroupTotals, KernelError> {
        let mut totals: FastMap<GroupKey<&Interned>, u64> = FastMap::default();
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
                if let Some(stand_for) = &block.stand_for {
                    for (place, (&code, &row)) in codes.iter().zip(&picked.rows).enumerate() {
                        counts[code as usize] +=
                            picked.times(place, series) * u64::from(stand_for[row as usize]);
                    }
                } else if picked.wanted.is_empty() {
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
        let series = &self.question.series;
        // A cell of a percentile holds numbers, as many for a value that is not shown as for one that is.
        if series.iter().any(|series| series.measure.is_percentile()) {
            return Ok(None);
        }
        let counts_persons = series.iter().any(|series| series.measure.counts_persons());
        let mut values_max = CELLS_AT_ONCE_MAX / (self.buckets.len() * series.len());
        if counts_persons {
            values_max = values_max.min(breakdown.limit);
        }
        let keys = ValueCodes::list(blocks, &breakdown.by, self.columns, values_max);
        let Some((keys, of_blocks)) = keys else { return Ok(None) };
        let groups = Groups { chosen: keys, has_other: false };
        // Mostly the cells tell the rows.
        let are_counted = series.iter().all(|series| series.measure == Measure::Count);
        let (cells, counted) = self.measure_rows(blocks, Some((&groups, of_blocks)), !are_counted)?;
        let rows = if are_counted { sum_rows(&cells, groups.len(), self.buckets.len()) } else { counted };
        let grouped = Grouped::new(groups.chosen, rows, cells, self.buckets.len())?;
        check_values(grouped.len(), &breakdown.by, self.limits.breakdown_values_max)?;
        Ok(Some(grouped))
    }

    /// All cells of all series.
    pub fn measure(
        &self,
        blocks: &[RowBlock],
        groups: Option<&Groups>,
    ) -> Result<Vec<SeriesCells>, KernelError> {
        let groups = groups.map(|groups| (groups, Vec::new()));
        self.measure_rows(blocks, groups, false).map(|(series, _)| series)
    }

    /// With the rows of each group, if they are asked for. The codes of the blocks may be known.
    fn measure_rows(
        &self,
        blocks: &[RowBlock],
        groups: Option<(&Groups, Vec<GroupCodes<'_>>)>,
        with_rows: bool,
    ) -> Result<(Vec<SeriesCells>, Vec<u64>), KernelError> {
        let (groups, codes) = groups.map_or((None, Vec::new()), |(groups, codes)| (Some(groups), codes));
        let index = groups.filter(|_| codes.is_empty()).map(GroupIndex::new);
        let mut codes = codes.into_iter();
        let group_count = groups.map_or(1, Groups::len);
        let cells = group_count * self.buckets.len();
        let series = &self.question.series;
        let mut reader = |block| self.reader(block, index.as_ref(), codes.next());
        let mut readers: Vec<BlockReader<'_>> = blocks.iter().map(&mut reader).collect();
        let empty = |number: usize| match find_same(series, number) {
            Some(series) => SeriesCells::SameAs { series },
            None => SeriesCells::empty(&series[number].measure, cells, group_count),
        };
        let mut found = Measured {
            series: (0..series.len()).map(empty).collect(),
            unique: series.iter().map(|_| None).collect(),
            seen: Vec::new(),
            rows: with_rows.then(|| vec![0; cells]),
            distinct: Distinct { total: 0, max: self.limits.percentile_values_max },
        };
        let mut chunk = Chunk::default();
        let counts_persons = series.iter().filter(|series| series.measure.counts_persons()).count();
        if counts_persons == 0 {
            for reader in &mut readers {
                let rows = 0..reader.block.event.len();
                self.add_rows(reader, rows, 0, &mut chunk, &mut found)?;
                found.add_counted(reader);
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
        let rows = found.rows.unwrap_or_default();
        let of_groups = rows.chunks_exact(self.buckets.len()).map(|rows| rows.iter().sum());
        Ok((found.series, of_groups.collect()))
    }

    fn select<'b>(&'b self, block: &'b RowBlock) -> Selection<'b> {
        let series = self.question.series.iter();
        let selectors: Vec<Selector<'b>> =
            series.map(|series| Selector { events: &series.events, filters: &series.filters }).collect();
        Selection::new(block, self.columns, &self.question.filters, &selectors)
    }

    fn reader<'b>(
        &'b self,
        block: &'b RowBlock,
        index: Option<&'b GroupIndex<'b>>,
        codes: Option<GroupCodes<'b>>,
    ) -> BlockReader<'b> {
        let buckets = match (self.buckets.len(), block.quarters.is_empty()) {
            (1, _) => BucketOf::Only,
            (_, true) => BucketOf::Times { buckets: self.buckets, times: &block.occurred_at },
            (_, false) => BucketOf::Quarters(block.quarters.by_table(self.buckets.by_quarter())),
        };
        let breakdown = self.question.breakdown.as_ref().filter(|_| index.is_some());
        let new_codes = |breakdown: &TrendsBreakdown| {
            let values = ValueCodes::new(block, &breakdown.by, self.columns);
            GroupCodes { values, groups: Vec::new() }
        };
        let codes = codes.or_else(|| breakdown.map(new_codes));
        let groups = codes.map(|codes| GroupCells::new(codes, index, self.buckets.len() as u32));
        let measured = self
            .question
            .series
            .iter()
            .map(|series| series.measure.property().map(|property| self.columns.of(block, property)));
        let measured = measured.collect();
        let counts_groups = matches!(buckets, BucketOf::Only)
            && block.stand_for.is_none()
            && self.question.series.iter().all(|series| series.measure == Measure::Count);
        BlockReader { block, selection: self.select(block), buckets, groups, measured, counts_groups }
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
            if reader.try_count_groups(chunk) {
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
            if let (Some(stand_for), SeriesCells::Count { rows }) = (&reader.block.stand_for, &mut *cells) {
                chunk.for_each_of(number, |row, cell| rows[cell] += u64::from(stand_for[row]));
                continue;
            }
            debug_assert!(
                reader.block.stand_for.is_none(),
                "rows that are counted together are only counted"
            );
            cells.add_chunk(chunk, number, reader.measured[number], &mut self.distinct)?;
            if let Some(unique) = &mut self.unique[number] {
                let persons: &[PersonNo] = &reader.block.person_no;
                let person = |row: &u32| persons[*row as usize] - first;
                let Chunk { picked: Picked { rows, wanted, whole, .. }, cells, .. } = chunk;
                if let (Some(rows), false, true) = (whole, cells.is_empty(), wanted.is_empty()) {
                    let persons = persons[rows.clone()].iter().map(|person| person - first);
                    unique.see(persons.zip(cells.iter().copied()));
                } else if wanted.is_empty() && cells.is_empty() {
                    unique.see(rows.iter().map(|row| (person(row), 0)));
                } else if wanted.is_empty() {
                    // A row without a cell is seen nowhere.
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
            let (every, rows) = (self.series.len() as u64, rows.as_mut_slice());
            let mut add = |cell: u32, times: u64| {
                if let Some(rows) = rows.get_mut(cell as usize) {
                    *rows += times;
                }
            };
            if chunk.picked.wanted.is_empty() {
                chunk.cells.iter().for_each(|&cell| add(cell, every));
            } else {
                let wanted = chunk.cells.iter().zip(&chunk.picked.wanted);
                wanted.for_each(|(&cell, bits)| add(cell, bits.count_ones().into()));
            }
        }
        Ok(())
    }

    /// What was counted by groups.
    fn add_counted(&mut self, reader: &BlockReader<'_>) {
        let Some(groups) = &reader.groups else { return };
        for cells in &mut self.series {
            if let SeriesCells::Count { rows } = cells {
                groups.counted().for_each(|(cell, of_group)| rows[cell as usize] += of_group);
            }
        }
        let every = self.series.len() as u64;
        if let Some(rows) = &mut self.rows {
            groups.counted().for_each(|(cell, of_group)| rows[cell as usize] += every * of_group);
        }
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

/// The rows of each group, counted once per series.
fn sum_rows(series: &[SeriesCells], groups: usize, buckets: usize) -> Vec<u64> {
    let mut sums = vec![0; groups];
    for cells in series {
        if let SeriesCells::Count { rows } = cells {
            let of_groups = rows.chunks_exact(buckets).map(|rows| rows.iter().sum::<u64>());
            sums.iter_mut().zip(of_groups).for_each(|(sum, rows)| *sum += rows);
        }
    }
    sums
}

/// The median and the p95 of one property are read off the same numbers: the series before this one that
/// has them.
fn find_same(series: &[Series], number: usize) -> Option<usize> {
    series[..number].iter().position(|other| is_same_but_percent(&series[number], other))
}

impl SeriesCells {
    /// The rows of a chunk that count for a series, but for unique persons.
    fn add_chunk(
        &mut self,
        chunk: &Chunk,
        series: usize,
        column: Option<&PropertyColumn>,
        distinct: &mut Distinct,
    ) -> Result<(), KernelError> {
        if let Self::Count { rows } | Self::PerPerson { rows, .. } = self {
            let rows = rows.as_mut_slice();
            match (&*chunk.cells, &*chunk.picked.wanted) {
                ([], []) => rows[0] += chunk.picked.rows.len() as u64,
                (cells, []) => {
                    cells.iter().filter(|cell| **cell != NO_CELL).for_each(|&cell| rows[cell as usize] += 1);
                }
                _ => chunk.for_each_of(series, |_, cell| rows[cell] += 1),
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
}

fn is_same_but_percent(a: &Series, b: &Series) -> bool {
    let of_property = a.measure.property().filter(|_| a.measure.is_percentile() && b.measure.is_percentile());
    of_property.is_some()
        && of_property == b.measure.property()
        && a.events == b.events
        && a.filters == b.filters
}
