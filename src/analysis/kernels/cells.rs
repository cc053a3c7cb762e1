//! What is known of one series: a list of cells, one a bucket of each group.

use serde::{Deserialize, Serialize};

use super::KernelError;
use super::percentile::NumberRuns;
use crate::analysis::exact::NumberSum;
use crate::analysis::number::Number;
use crate::analysis::question::{Measure, PropertyFunction};

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

    /// How many numbers it is, about.
    pub fn count_numbers(&self) -> usize {
        match self {
            Self::Count { rows } => rows.len(),
            Self::Persons { persons, total } => persons.len() + total.len(),
            Self::PerPerson { rows, persons, total } => rows.len() + persons.len() + total.len(),
            Self::Sum { sums } => sums.len(),
            Self::Min { least: numbers } | Self::Max { greatest: numbers } => numbers.len(),
            Self::Percentile { runs } => runs.iter().map(NumberRuns::len).sum(),
            Self::SameAs { .. } => 0,
        }
    }

    /// Sorts in what was added.
    pub fn settle(&mut self, distinct: &mut Distinct) -> Result<(), KernelError> {
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

    /// For finding percentiles of what is merged.
    pub fn compact_few(&mut self) {
        if let Self::Percentile { runs } = self {
            runs.iter_mut().for_each(NumberRuns::compact_few);
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

/// Canonical, so that it does not matter whether 5 or 5.0 came first.
pub fn keep_least(best: &mut Option<Number>, number: Number) {
    if best.is_none_or(|best| number < best) {
        *best = Some(number.canonical());
    }
}

pub fn keep_greatest(best: &mut Option<Number>, number: Number) {
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
