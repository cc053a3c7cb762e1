//! Exact percentiles: every number with how often it came.

use serde::{Deserialize, Serialize};

use crate::analysis::number::Number;

/// A multiset of numbers: sorted runs, and numbers not yet sorted into them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NumberRuns {
    /// Ascending, each number once, in canonical form.
    runs: Vec<(Number, u64)>,
    #[serde(skip)]
    pending: Vec<Number>,
}

/// Every whole number up to here is a float: 2^53.
const EXACT_MAX: u64 = 1 << 53;

/// Fewer pending numbers than this are not worth sorting in.
const PENDING_MIN: usize = 1_024;

impl NumberRuns {
    /// Gives by how much the number of runs grew, when it sorted.
    pub fn add(&mut self, number: Number) -> usize {
        self.pending.push(number.canonical());
        // Sorting in as many as are there keeps the cost of each addition logarithmic.
        if self.pending.len() >= PENDING_MIN.max(self.runs.len()) { self.settle() } else { 0 }
    }

    /// Sorts the pending numbers in; gives by how much the number of runs grew.
    pub fn settle(&mut self) -> usize {
        sort(&mut self.pending);
        let mut added: Vec<(Number, u64)> = Vec::new();
        for number in self.pending.drain(..) {
            match added.last_mut() {
                Some((last, count)) if *last == number => *count += 1,
                _ => added.push((number, 1)),
            }
        }
        let before = self.runs.len();
        self.runs = merge_runs(&self.runs, &added);
        self.runs.len() - before
    }

    /// Precondition: both are settled, as those that were serialised are.
    pub fn merge(&mut self, other: &Self) {
        self.runs = merge_runs(&self.runs, &other.runs);
    }

    /// All of them together. Precondition: settled.
    pub fn concat(all: &[Self]) -> Self {
        let mut numbers: Vec<(Number, u64)> = all.iter().flat_map(|runs| runs.runs.iter().copied()).collect();
        numbers.sort_unstable_by_key(|&(number, _)| number);
        numbers.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            kept.1 += if same { next.1 } else { 0 };
            same
        });
        Self { runs: numbers, pending: Vec::new() }
    }

    /// How many different numbers there are. Precondition: settled.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// The percentile by linear interpolation between closest ranks: of `n` numbers from 0 to
    /// `n − 1`, the one at `(n − 1) × percent / 100`. At a whole rank it is the number itself,
    /// else `low + (high − low) × fraction` in floats. `None` of no numbers.
    pub fn percentile(&self, percent: u64) -> Option<Number> {
        let count: u64 = self.runs.iter().map(|&(_, count)| count).sum();
        let position = u128::from(count.checked_sub(1)?) * u128::from(percent);
        let (rank, rest) = ((position / 100) as u64, (position % 100) as u64);
        let low = self.at_rank(rank)?;
        if rest == 0 {
            return Some(low);
        }
        let high = self.at_rank(rank + 1)?;
        Some(if low == high { low } else { Number::Float(interpolate(low.to_f64(), high.to_f64(), rest)) })
    }

    fn at_rank(&self, rank: u64) -> Option<Number> {
        let mut left = rank;
        for &(number, count) in &self.runs {
            if left < count {
                return Some(number);
            }
            left -= count;
        }
        None
    }
}

/// Numbers that are floats to the last bit, as nearly all are, are compared as such. Precondition: in
/// canonical form.
fn sort(numbers: &mut [Number]) {
    let exact = |number: &Number| match *number {
        Number::Integer(integer) => integer.unsigned_abs() <= EXACT_MAX,
        Number::Float(_) => true,
    };
    if !numbers.iter().all(exact) {
        return numbers.sort_unstable();
    }
    let mut floats: Vec<f64> = numbers.iter().map(|number| number.to_f64()).collect();
    floats.sort_unstable_by(f64::total_cmp);
    numbers.iter_mut().zip(floats).for_each(|(number, float)| *number = Number::Float(float).canonical());
}

fn interpolate(low: f64, high: f64, rest: u64) -> f64 {
    let fraction = rest as f64 / 100.0;
    let between = low + (high - low) * fraction;
    // The distance of two floats may be beyond the largest float.
    if between.is_finite() { between } else { low * (1.0 - fraction) + high * fraction }
}

fn merge_runs(a: &[(Number, u64)], b: &[(Number, u64)]) -> Vec<(Number, u64)> {
    let mut merged = Vec::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    while let (Some(&(left, left_count)), Some(&(right, right_count))) = (a.peek(), b.peek()) {
        merged.push(match left.cmp(&right) {
            std::cmp::Ordering::Less => (left, left_count),
            std::cmp::Ordering::Greater => (right, right_count),
            std::cmp::Ordering::Equal => (left, left_count + right_count),
        });
        a.next_if(|_| left <= right);
        b.next_if(|_| right <= left);
    }
    merged.extend(a);
    merged.extend(b);
    merged
}

#[cfg(test)]
mod tests {
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
        for numbers in [all.clone(), all.into_iter().filter(|number| number.to_f64().abs() < 1e15).collect()]
        {
            let (mut sorted, mut expected) = (numbers.clone(), numbers);
            sorted.reverse();
            sort(&mut sorted);
            expected.sort_unstable();
            assert_eq!(format!("{sorted:?}"), format!("{expected:?}"));
        }
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
            assert_eq!(runs(numbers).percentile(percent), expected, "{name}");
        }
    }

    #[test]
    fn merged_parts_are_the_whole() {
        let numbers: Vec<f64> = (0..10_000).map(|n| f64::from(n * 7919 % 1_000) / 4.0).collect();
        let (left, right) = numbers.split_at(3_000);
        let mut merged = runs(left);
        merged.merge(&runs(right));
        assert_eq!(merged, runs(&numbers));
        assert_eq!(merged.len(), 1_000);
        assert_eq!(NumberRuns::concat(&[runs(left), runs(&[]), runs(right)]), merged);
    }
}
