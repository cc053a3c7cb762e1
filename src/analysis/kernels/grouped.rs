//! A breakdown of few values in one round: the rows of each value, which rank them, together with all that
//! the second round would find.
//!
//! What the values beyond the limit have is put together as `$other` in the end. Of unique persons that
//! cannot be done, so these take a second round when there are more values than may be shown.

use serde::{Deserialize, Serialize};

use super::KernelError;
use super::cells::SeriesCells;
use super::groups::{GroupKey, GroupTotals, Groups, KeyNumbers, choose};
use crate::model::FastMap;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Grouped {
    keys: Vec<GroupKey>,
    /// For each key, matching rows.
    rows: Vec<u64>,
    /// One a series; of none before the first shard.
    series: Vec<SeriesCells>,
}

impl Grouped {
    /// Without the keys that have no rows. Precondition: the series have a group for each key.
    pub fn new(
        mut keys: Vec<GroupKey>,
        mut rows: Vec<u64>,
        series: Vec<SeriesCells>,
        buckets: usize,
    ) -> Result<Self, KernelError> {
        let mut kept = 0..;
        let to: Vec<Option<usize>> =
            rows.iter().map(|rows| if *rows > 0 { kept.next() } else { None }).collect();
        let groups = kept.start;
        let series = regroup(series, &to, groups, buckets)?;
        let mut of_keys = to.iter();
        keys.retain(|_| of_keys.next().is_some_and(Option::is_some));
        rows.retain(|rows| *rows > 0);
        Ok(Self { keys, rows, series })
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Of all series.
    pub fn count_numbers(&self) -> usize {
        self.len() + self.series.iter().map(SeriesCells::count_numbers).sum::<usize>()
    }

    pub fn into_totals(self) -> GroupTotals {
        self.keys.into_iter().zip(self.rows).collect::<Vec<_>>().into()
    }

    /// Adds what other shards know: their persons are others.
    pub fn merge(&mut self, others: Vec<Self>, buckets: usize) -> Result<(), KernelError> {
        let mut places = KeyNumbers::default();
        let mut series = Vec::with_capacity(others.len() + 1);
        let (mut keys, mut rows) = (Vec::new(), Vec::new());
        for part in [std::mem::take(self)].into_iter().chain(others) {
            let mut to = Vec::with_capacity(part.keys.len());
            for (key, of_part) in part.keys.into_iter().zip(part.rows) {
                let place = places.find(&key.as_ref(), keys.len() as u32) as usize;
                if place == keys.len() {
                    keys.push(key);
                    rows.push(0);
                }
                rows[place] += of_part;
                to.push(Some(place));
            }
            series.push((part.series, to));
        }
        let groups = keys.len();
        let mut series = series.into_iter();
        let (mut merged, to) = series.next().unwrap_or_default();
        merged = regroup(merged, &to, groups, buckets)?;
        for (other, to) in series {
            let other = regroup(other, &to, groups, buckets)?;
            if merged.len() != other.len() {
                return Err(KernelError::PartialMismatch);
            }
            for (cells, other) in merged.iter_mut().zip(other) {
                cells.merge(other)?;
            }
        }
        *self = Self { keys, rows, series: merged };
        Ok(())
    }

    /// The groups of the answer, with their cells unless it takes another round to find them.
    pub fn choose(
        self,
        limit: usize,
        buckets: usize,
    ) -> Result<(Groups, Option<Vec<SeriesCells>>), KernelError> {
        let Self { keys, rows, series } = self;
        let groups = choose(keys.iter().zip(rows).collect(), limit);
        if groups.has_other && !series.iter().all(SeriesCells::adds_up) {
            return Ok((groups, None));
        }
        let places: FastMap<&GroupKey, usize> = groups.chosen.iter().zip(0..).collect();
        let other = groups.chosen.len();
        let to: Vec<Option<usize>> =
            keys.iter().map(|key| Some(places.get(key).copied().unwrap_or(other))).collect();
        let series = regroup(series, &to, groups.len(), buckets)?;
        Ok((groups, Some(series)))
    }
}

fn regroup(
    series: Vec<SeriesCells>,
    to: &[Option<usize>],
    groups: usize,
    buckets: usize,
) -> Result<Vec<SeriesCells>, KernelError> {
    series.into_iter().map(|cells| cells.regroup(to, groups, buckets)).collect()
}
