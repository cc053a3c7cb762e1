//! Which rows of an object somebody wants.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::SliceFacts;

/// Rows of an object by number, ascending and apart.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RowRanges {
    All,
    Some(Vec<Range<u64>>),
}

impl RowRanges {
    pub fn one(range: Range<u64>) -> Self {
        Self::Some(if range.is_empty() { Vec::new() } else { Vec::from([range]) })
    }

    /// Precondition: ascending.
    pub fn of_numbers(numbers: impl IntoIterator<Item = u64>) -> Self {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for row in numbers {
            match ranges.last_mut() {
                Some(range) if range.end == row => range.end += 1,
                _ => ranges.push(row..row + 1),
            }
        }
        Self::Some(ranges)
    }

    /// Whether there are none for certain.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Some(ranges) if ranges.iter().all(Range::is_empty))
    }

    /// The numbers of the rows; of all rows without an end.
    pub fn numbers(&self) -> Box<dyn Iterator<Item = u64> + '_> {
        match self {
            Self::All => Box::new(0_u64..),
            Self::Some(ranges) => Box::new(ranges.iter().cloned().flatten()),
        }
    }

    /// Where a project's rows lie in a run.
    pub fn of_slice(slice: &SliceFacts) -> Self {
        Self::one(slice.first_row..slice.first_row + slice.rows)
    }

    /// Where a project's rows of these days (inclusive) lie in a run.
    pub fn of_days(slice: &SliceFacts, day_from: i32, day_to: i32) -> Self {
        let before =
            |day: i32| -> u64 { slice.days.iter().take_while(|(d, _)| *d < day).map(|(_, rows)| rows).sum() };
        let start = slice.first_row + before(day_from);
        let end = slice.first_row + before(day_to.saturating_add(1));
        Self::one(start..end)
    }
}
