//! Which objects cannot hold a row that counts, told from the catalogue alone.

use super::ScanRequest;
use crate::eventstore::format::{NumberRange, SliceFacts};

/// A property that every row which counts has.
#[derive(Clone, PartialEq, Debug)]
pub struct Need {
    pub property: String,
    /// Its value is a number between these two, both included, and perhaps a little outside; `None`:
    /// it has any value.
    pub range: Option<(f64, f64)>,
}

impl Need {
    fn may_be_met(&self, slice: &SliceFacts) -> bool {
        let Some(facts) = slice.facts_of(&self.property) else { return true };
        match self.range {
            None => !facts.is_empty(),
            Some((low, high)) => facts.iter().filter_map(|fact| fact.range).any(|range| {
                let (least, greatest) = bounds(range);
                least <= high && low <= greatest
            }),
        }
    }
}

/// Integers beyond 2^53 lie between two floats: the range is made wider, never narrower.
fn bounds(range: NumberRange) -> (f64, f64) {
    match range {
        NumberRange::Integer(least, greatest) => ((least as f64).next_down(), (greatest as f64).next_up()),
        NumberRange::Float(least, greatest) => (least, greatest),
    }
}

impl ScanRequest {
    /// Whether the facts of an object can exclude it.
    pub(super) fn is_selective(&self) -> bool {
        self.events.is_some() || !self.needs.is_empty()
    }

    /// Whether a project's rows in an object may hold one that counts.
    pub(super) fn may_match(&self, slice: &SliceFacts) -> bool {
        self.events.as_ref().is_none_or(|events| events.iter().any(|name| slice.may_have_event(name)))
            && self.needs.iter().all(|need| need.may_be_met(slice))
    }
}
