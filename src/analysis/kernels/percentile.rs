//! Exact percentiles: every number with how often it came.
//!
//! Numbers are collected, sorted into runs now and then, and never merged unless there are too many: the
//! number at a rank is found by looking into all runs at once.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::analysis::number::Number;

/// A multiset of numbers: sorted runs, and numbers not yet sorted into one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NumberRuns {
    runs: Vec<Run>,
    #[serde(skip)]
    pending: Pending,
}

/// Ascending, each number once, in canonical form, with how many numbers there are up to it.
type Run = Vec<(Number, u64)>;

#[derive(Clone, Debug, Default, PartialEq)]
struct Pending {
    /// Those that are floats to the last bit, as nearly all are, as [keys](key_of): they sort quickly.
    floats: Vec<i64>,
    others: Vec<Number>,
}

/// Every whole number up to here is a float: 2^53.
const EXACT_MAX: u64 = 1 << 53;

/// Fewer pending numbers than this are not worth sorting.
const PENDING_MIN: usize = if cfg!(test) { 8 } else { 4_096 };

/// So many numbers of a cell are sorted sooner than each percentile is looked up in many runs.
const FEW: usize = if cfg!(test) { 16 } else { 2_048 };
/// In so few runs a percentile is looked up sooner than they are put together.
const FEW_RUNS: usize = 2;

/// The [key](key_of) of a number that is a float to the last bit.
fn exact_key(number: Number) -> Option<i64> {
    match number {
        Number::Integer(integer) if integer.unsigned_abs() > EXACT_MAX => None,
        Number::Integer(integer) => Some(key_of(integer as f64)),
        // A whole number that is larger is canonically an integer; and of two zeros there is one.
        Number::Float(float) if float.abs() > EXACT_MAX as f64 => None,
        Number::Float(float) => Some(key_of(float + 0.0)),
    }
}

/// Each number of a run, with how often it came.
fn counts_of(run: &[(Number, u64)]) -> impl Iterator<Item = (Number, u64)> {
    let before = std::iter::once(0).chain(run.iter().map(|(_, end)| *end));
    run.iter().zip(before).map(|((number, end), before)| (*number, end - before))
}

impl Pending {
    fn add(&mut self, number: Number) {
        match exact_key(number) {
            Some(key) => self.floats.push(key),
            None => self.others.push(number.canonical()),
        }
    }

    fn len(&self) -> usize {
        self.floats.len() + self.others.len()
    }

    fn take_run(&mut self) -> Run {
        self.floats.sort_unstable();
        self.others.sort_unstable();
        let mut floats = Vec::with_capacity(self.floats.len());
        let run = run_of(self.floats.drain(..));
        floats.extend(run.map(|(key, end)| (Number::Float(float_of(key)).canonical(), end)));
        let others: Run = run_of(self.others.drain(..)).collect();
        if others.is_empty() { floats } else { merge_runs(&floats, &others) }
    }
}

/// A whole number that sorts as its float does: [`f64::total_cmp`] compares by the same.
fn key_of(float: f64) -> i64 {
    turned(float.to_bits() as i64)
}

fn float_of(key: i64) -> f64 {
    f64::from_bits(turned(key) as u64)
}

/// Of negative ones all bits but the sign; twice is none.
fn turned(bits: i64) -> i64 {
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// Equal neighbours once, with how many there are up to the last of them.
fn run_of<T: PartialEq + Copy>(sorted: impl Iterator<Item = T>) -> impl Iterator<Item = (T, u64)> {
    let mut sorted = sorted.peekable();
    let mut end = 0;
    std::iter::from_fn(move || {
        let number = sorted.next()?;
        end += 1;
        while sorted.next_if(|next| *next == number).is_some() {
            end += 1;
        }
        Some((number, end))
    })
}

impl NumberRuns {
    /// Gives by how much the number of runs' entries grew, when it sorted.
    pub fn add(&mut self, number: Number) -> usize {
        self.pending.add(number);
        // Sorting in as many as are there keeps the cost of each addition logarithmic.
        let pending = self.pending.len();
        if pending >= PENDING_MIN && pending >= self.len() { self.settle() } else { 0 }
    }

    /// Sorts the pending numbers in; gives by how much the number of different ones grew.
    pub fn settle(&mut self) -> usize {
        if self.pending.len() == 0 {
            return 0;
        }
        let before = self.len();
        let run = self.pending.take_run();
        self.runs.push(run);
        self.compact();
        self.len() - before
    }

    /// Precondition: both are settled, as those that were serialised are.
    pub fn merge(&mut self, other: Self) {
        self.runs.extend(other.runs);
    }

    /// Puts all runs into one.
    pub fn compact(&mut self) {
        while self.runs.len() > 1 {
            let merged = self.runs.chunks(2).map(|pair| match pair {
                [a, b] => merge_runs(a, b),
                one => one.concat(),
            });
            self.runs = merged.collect();
        }
    }

    /// Puts them into one where that takes less than looking into all of them for each percentile.
    pub fn compact_few(&mut self) {
        if self.runs.len() <= FEW_RUNS || self.len() > FEW {
            return;
        }
        let keys =
            self.runs.iter().flat_map(|run| counts_of(run).map(|(number, count)| (exact_key(number), count)));
        // One after the other they would be merged, and each comparison of two numbers be foretold wrongly.
        let keys: Option<Vec<(i64, u64)>> = keys.map(|(key, count)| Some((key?, count))).collect();
        let Some(mut keys) = keys else { return self.compact() };
        keys.sort_unstable_by_key(|(key, _)| *key);
        let mut end = 0;
        let of_number = |same: &[(i64, u64)]| {
            end += same.iter().map(|(_, count)| count).sum::<u64>();
            (Number::Float(float_of(same[0].0)).canonical(), end)
        };
        let run = keys.chunk_by(|(key, _), (next, _)| key == next).map(of_number).collect();
        self.runs = vec![run];
    }

    /// How many different numbers there are at most, and exactly when compact. Precondition: settled.
    pub fn len(&self) -> usize {
        self.runs.iter().map(Vec::len).sum()
    }
}

/// The percentile of some multisets together, by linear interpolation between closest ranks: of `n`
/// numbers from 0 to `n − 1`, the one at `(n − 1) × percent / 100`. At a whole rank it is the number
/// itself, else `low + (high − low) × fraction` in floats. `None` of no numbers.
///
/// Precondition: they are settled.
pub fn percentile(all: &[NumberRuns], percent: u64) -> Option<Number> {
    let runs = Ranked::new(all);
    let position = u128::from(runs.count().checked_sub(1)?) * u128::from(percent);
    let (rank, rest) = ((position / 100) as u64, (position % 100) as u64);
    let (low, next) = runs.at_rank(rank)?;
    if rest == 0 {
        return Some(low);
    }
    let high = next?;
    Some(if low == high { low } else { Number::Float(interpolate(low.to_f64(), high.to_f64(), rest)) })
}

/// Runs in which a rank can be looked up.
struct Ranked<'a>(Vec<&'a Run>);

/// How many numbers the first entries of a run are.
fn count_of(run: &Run, entries: usize) -> u64 {
    entries.checked_sub(1).map_or(0, |last| run[last].1)
}

impl<'a> Ranked<'a> {
    fn new(all: &'a [NumberRuns]) -> Self {
        Self(all.iter().flat_map(|runs| &runs.runs).filter(|run| !run.is_empty()).collect())
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|run| count_of(run, run.len())).sum()
    }

    /// The number with so many before it, and the one after. Of each run a range of entries may still have it.
    /// The median of the middles of these ranges, each as often as its range is long, has a quarter of all
    /// entries on either side: so each step by middles leaves out a quarter of what is left. Every other one looks
    /// where the number would lie if all runs were alike, as they mostly are, and leaves few.
    fn at_rank(&self, rank: u64) -> Option<(Number, Option<Number>)> {
        let mut ranges: Vec<Range<usize>> = self.0.iter().map(|run| 0..run.len()).collect();
        // Made once: a step takes less time than making them.
        let mut middles: Vec<(Number, usize)> = Vec::with_capacity(ranges.len());
        let mut borders: Vec<(usize, usize)> = Vec::with_capacity(ranges.len());
        // How many numbers there are before all ranges, and up to their ends.
        let (mut before_all, mut up_to_all) = (0, self.count());
        let mut is_by_rank = false;
        loop {
            is_by_rank = !is_by_rank;
            let left = self.0.iter().zip(&ranges).filter(|(_, range)| !range.is_empty());
            let of_numbers = (rank - before_all) as f64 / (up_to_all - before_all).max(1) as f64;
            let place = |range: &Range<usize>| match is_by_rank {
                true => range.start + ((range.len() as f64 * of_numbers) as usize).min(range.len() - 1),
                false => range.start + range.len() / 2,
            };
            middles.clear();
            middles.extend(left.map(|(run, range)| (run[place(range)].0, range.len())));
            middles.sort_unstable_by_key(|(number, _)| *number);
            let half = middles.iter().map(|(_, len)| len).sum::<usize>() / 2;
            let mut before = 0;
            let median = middles.iter().find(|(_, len)| {
                before += len;
                before > half
            });
            let pivot = median.map(|(number, _)| *number)?;
            // For each run, where the numbers below the pivot end, and where the pivot itself does.
            borders.clear();
            borders.extend(self.0.iter().zip(&ranges).map(|(run, range)| {
                let left = &run[range.clone()];
                let below = range.start + left.partition_point(|(number, _)| *number < pivot);
                let is_there = run.get(below).is_some_and(|(number, _)| *number == pivot);
                (below, below + usize::from(is_there))
            }));
            let below: u64 = self.0.iter().zip(&borders).map(|(run, border)| count_of(run, border.0)).sum();
            let up_to: u64 = self.0.iter().zip(&borders).map(|(run, border)| count_of(run, border.1)).sum();
            if rank < below {
                up_to_all = below;
                ranges.iter_mut().zip(&borders).for_each(|(range, border)| range.end = border.0);
            } else if rank < up_to {
                let following = self.0.iter().zip(&borders).filter_map(|(run, border)| run.get(border.1));
                let following = following.map(|(number, _)| *number).min();
                return Some((pivot, if rank + 1 < up_to { Some(pivot) } else { following }));
            } else {
                before_all = up_to;
                ranges.iter_mut().zip(&borders).for_each(|(range, border)| range.start = border.1);
            }
        }
    }
}

fn interpolate(low: f64, high: f64, rest: u64) -> f64 {
    let fraction = rest as f64 / 100.0;
    let between = low + (high - low) * fraction;
    // The distance of two floats may be beyond the largest float.
    if between.is_finite() { between } else { low * (1.0 - fraction) + high * fraction }
}

fn merge_runs(a: &[(Number, u64)], b: &[(Number, u64)]) -> Run {
    let mut merged = Vec::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    let (mut end_a, mut end_b) = (0, 0);
    loop {
        let number = match (a.peek(), b.peek()) {
            (Some((left, _)), Some((right, _))) => *left.min(right),
            (Some((only, _)), None) | (None, Some((only, _))) => *only,
            (None, None) => return merged,
        };
        if let Some((_, end)) = a.next_if(|(next, _)| *next == number) {
            end_a = end;
        }
        if let Some((_, end)) = b.next_if(|(next, _)| *next == number) {
            end_b = end;
        }
        merged.push((number, end_a + end_b));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn runs(numbers: &[f64]) -> NumberRuns {
        let mut runs = NumberRuns::default();
        numbers.iter().for_each(|&number| _ = runs.add(Number::Float(number)));
        runs.settle();
        runs
    }

    #[test]
    fn both_ways_of_sorting_give_one_order() {
        let whole = [i64::MIN, -(1 << 53) - 1, -(1 << 53), -7, 0, 3, 1 << 53, (1 << 53) + 1, i64::MAX];
        let floats = [-1e300, -2.5, -0.0, 0.5, 2.5, 7.0, 1e18, 1e300];
        let all: Vec<Number> = whole
            .map(Number::Integer)
            .into_iter()
            .chain(floats.map(Number::Float))
            .map(Number::canonical)
            .collect();
        let mut runs = NumberRuns::default();
        all.iter().rev().for_each(|&number| _ = runs.add(number));
        runs.settle();
        let mut expected = all;
        expected.sort_unstable();
        // The two zeros are one number.
        let expected: Vec<_> = run_of(expected.into_iter()).collect();
        assert_eq!(expected.len(), 16);
        assert_eq!(format!("{:?}", runs.runs), format!("{:?}", [expected]));
    }

    #[test]
    fn keys_sort_as_their_floats_do_and_give_them_back() {
        let floats = [f64::MIN, -2.5, -5e-324, -0.0, 0.0, 5e-324, 0.5, 2.5, f64::MAX];
        let keys = floats.map(key_of);
        assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
        assert_eq!(keys.map(float_of).map(f64::to_bits), floats.map(f64::to_bits));
    }

    #[test]
    fn percentiles_lie_between_closest_ranks() {
        let cases: [(&str, &[f64], u64, Option<Number>); 9] = [
            ("of nothing", &[], 50, None),
            ("of one", &[7.0], 99, Some(Number::Integer(7))),
            ("a whole rank", &[3.0, 1.0, 2.0], 50, Some(Number::Integer(2))),
            ("between two", &[1.0, 2.0], 50, Some(Number::Float(1.5))),
            ("between equals", &[2.0, 2.0], 50, Some(Number::Integer(2))),
            ("a tenth from the top", &[1.0, 2.0, 3.0], 90, Some(Number::Float(2.8))),
            ("p99 of 101", &(0..101).map(f64::from).collect::<Vec<_>>(), 99, Some(Number::Integer(99))),
            ("floats", &[0.25, 0.5], 50, Some(Number::Float(0.375))),
            ("far apart", &[f64::MIN, f64::MAX], 50, Some(Number::Integer(0))),
        ];
        for (name, numbers, percent, expected) in cases {
            assert_eq!(percentile(&[runs(numbers)], percent), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn putting_few_together_is_merging_them(
            parts in prop::collection::vec(
                prop::collection::vec(
                    prop_oneof![
                        (-3..4_i64).prop_map(Number::Integer),
                        (-3..4_i64).prop_map(|n| Number::Float(n as f64 / 2.0)),
                        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(Number::Float),
                        Just(Number::Float(-0.0)),
                        prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(1 << 53), Just((1 << 53) + 1)]
                            .prop_map(Number::Integer),
                    ],
                    0..12,
                ),
                0..5,
            ),
        ) {
            let mut together = NumberRuns::default();
            for part in parts {
                let mut runs = NumberRuns::default();
                part.into_iter().for_each(|number| _ = runs.add(number));
                runs.settle();
                together.merge(runs);
            }
            let mut compact = together.clone();
            compact.compact();
            let are_few = together.len() <= FEW;
            together.compact_few();
            prop_assert!(together.runs.len() <= FEW_RUNS || !are_few);
            together.compact();
            prop_assert_eq!(format!("{:?}", together.runs.concat()), format!("{:?}", compact.runs.concat()));
        }
    }

    #[test]
    fn merged_parts_are_the_whole() {
        let numbers: Vec<f64> = (0..10_000).map(|n| f64::from(n * 7919 % 1_000) / 4.0).collect();
        let whole = runs(&numbers);
        assert_eq!(whole.len(), 1_000);
        let (left, right) = numbers.split_at(3_000);
        let parts = [runs(left), runs(&[]), runs(right)];
        let mut merged = runs(left);
        merged.merge(runs(right));
        for percent in [0, 1, 50, 90, 95, 99, 100] {
            let expected = percentile(std::slice::from_ref(&whole), percent);
            assert_eq!(percentile(&parts, percent), expected, "{percent}");
            assert_eq!(percentile(std::slice::from_ref(&merged), percent), expected, "{percent}");
        }
        assert!(merged.len() > 1_000);
        merged.compact();
        assert_eq!(merged, whole);
    }

    proptest! {
        #[test]
        fn every_rank_is_that_of_all_numbers_sorted(
            parts in prop::collection::vec(
                prop::collection::vec(
                    prop_oneof![
                        (-3..4_i64).prop_map(Number::Integer),
                        any::<i64>().prop_map(Number::Integer),
                        (-8..8_i64).prop_map(|n| Number::Float(n as f64 / 2.0)),
                    ],
                    0..20,
                ),
                0..6,
            ),
        ) {
            let runs: Vec<NumberRuns> = parts
                .iter()
                .map(|numbers| {
                    let mut runs = NumberRuns::default();
                    numbers.iter().for_each(|&number| _ = runs.add(number));
                    runs.settle();
                    runs
                })
                .collect();
            let mut sorted: Vec<Number> = parts.concat().into_iter().map(Number::canonical).collect();
            sorted.sort_unstable();
            let ranked = Ranked::new(&runs);
            prop_assert_eq!(ranked.count(), sorted.len() as u64);
            for (rank, expected) in sorted.iter().enumerate() {
                let found = ranked.at_rank(rank as u64);
                let expected = Some((expected, sorted.get(rank + 1)));
                prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"));
            }
            prop_assert_eq!(ranked.at_rank(sorted.len() as u64), None);
        }
    }
}
