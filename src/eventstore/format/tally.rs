//! Counts of names, of which only so many are remembered.
//!
//! A client that writes ids into names may send a hundred thousand of them. Whoever counts them keeps
//! up to twice as many as are to be listed and then forgets the rarest (lossy counting, after Manku
//! and Motwani): what is frequent stays, memory is bounded, and what was forgotten is known to have
//! been.

use std::cmp::Reverse;

use super::names::Names;
use crate::model::Millis;

pub(super) struct Tally<V> {
    names: Names,
    /// By number.
    counted: Vec<Counted<V>>,
    /// The first so many, by number, are never forgotten.
    pinned: usize,
    listed_max: usize,
    has_forgotten: bool,
}

/// What is known of one name.
#[derive(Clone, Debug)]
pub(super) struct Counted<V> {
    pub rows: u64,
    pub last_at: Millis,
    /// It may have had more rows, which were forgotten.
    pub is_partial: bool,
    pub value: V,
}

impl<V: Default> Tally<V> {
    /// Lists `listed_max` names in the end, those of `pinned` before all others.
    pub fn new<'n>(listed_max: usize, pinned: impl Iterator<Item = &'n str>) -> Self {
        let mut tally = Self {
            names: Names::default(),
            counted: Vec::new(),
            pinned: 0,
            listed_max,
            has_forgotten: false,
        };
        for name in pinned {
            tally.number(0, name.as_bytes());
        }
        tally.pinned = tally.counted.len();
        tally
    }

    /// One more row of a name, which stands at this position of its row.
    pub fn add(&mut self, position: usize, name: &[u8], at: Millis) -> &mut V {
        let mut number = self.number(position, name);
        if self.counted.len() - self.pinned > 2 * self.listed_max.max(1) {
            // The newest is among the rarest: it is counted after the others went.
            self.forget();
            number = self.number(position, name);
        }
        let counted = &mut self.counted[number];
        counted.rows += 1;
        counted.last_at = counted.last_at.max(at);
        &mut counted.value
    }

    fn number(&mut self, position: usize, name: &[u8]) -> usize {
        let number = self.names.number(position, name);
        if number == self.counted.len() {
            let is_partial = self.has_forgotten;
            self.counted.push(Counted { rows: 0, last_at: Millis::MIN, is_partial, value: V::default() });
        }
        number
    }

    /// Keeps as many as will be listed.
    fn forget(&mut self) {
        self.has_forgotten = true;
        let names = std::mem::take(&mut self.names).into_names();
        let mut known: Vec<_> = names.into_iter().zip(std::mem::take(&mut self.counted)).collect();
        let mut others = known.split_off(self.pinned);
        // By name among equals, so that the same rows always leave the same names.
        others.sort_unstable_by(|(a, x), (b, y)| (Reverse(x.rows), a).cmp(&(Reverse(y.rows), b)));
        others.truncate(self.listed_max);
        for (name, counted) in known.into_iter().chain(others) {
            self.names.number(0, name.as_bytes());
            self.counted.push(counted);
        }
    }

    /// The names that are listed, sorted, and whether there were more.
    pub fn finish(mut self) -> (Vec<(String, Counted<V>)>, bool) {
        let unused = |known: &[Counted<V>]| known.iter().filter(|counted| counted.rows == 0).count();
        let listed_max = self.listed_max.max(self.pinned);
        if self.counted.len() - unused(&self.counted) > listed_max {
            self.listed_max = listed_max - (self.pinned - unused(&self.counted[..self.pinned]));
            self.forget();
        }
        let mut known: Vec<_> = self.names.into_names().into_iter().zip(self.counted).collect();
        known.retain(|(_, counted)| counted.rows > 0);
        known.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        (known, self.has_forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(tally: Tally<()>) -> (Vec<(String, u64, bool)>, bool) {
        let (names, more) = tally.finish();
        (names.into_iter().map(|(name, counted)| (name, counted.rows, counted.is_partial)).collect(), more)
    }

    fn row(name: &str, rows: u64, is_partial: bool) -> (String, u64, bool) {
        (name.to_owned(), rows, is_partial)
    }

    #[test]
    fn as_many_as_are_listed_are_all_listed_and_one_more_is_not() {
        for (names, expected, more) in [
            (vec!["b", "a", "b"], vec![row("a", 1, false), row("b", 2, false)], false),
            (vec!["c", "b", "a", "b", "c"], vec![row("b", 2, false), row("c", 2, false)], true),
        ] {
            let mut tally = Tally::new(2, std::iter::empty());
            for name in names {
                tally.add(0, name.as_bytes(), 0);
            }
            assert_eq!(listed(tally), (expected, more));
        }
    }

    #[test]
    fn the_frequent_ones_outlast_a_flood_and_pinned_ones_are_counted_from_the_first_row() {
        let mut tally = Tally::<()>::new(10, ["rare", "never"].into_iter());
        tally.add(0, b"rare", 7);
        for n in 0..100_000 {
            tally.add(0, format!("junk{n:06}").as_bytes(), 0);
            if n % 3 == 0 {
                tally.add(1, b"early", n);
            }
            if n > 50_000 && n % 2 == 0 {
                tally.add(1, b"late", 0);
            }
            assert!(tally.counted.len() <= 2 + 21);
        }
        let (names, more) = tally.finish();
        assert!(more && names.len() <= 10);
        let find = |name: &str| names.iter().find(|(n, _)| n == name).map(|(_, counted)| counted);
        let early = find("early").unwrap();
        assert_eq!((early.rows, early.last_at, early.is_partial), (33_334, 99_999, false));
        let late = find("late").unwrap();
        // It may have been forgotten while it was as rare as the others.
        assert!((24_990..25_000).contains(&late.rows) && late.is_partial, "{late:?}");
        let rare = find("rare").unwrap();
        assert_eq!((rare.rows, rare.last_at, rare.is_partial), (1, 7, false));
        assert!(find("never").is_none());
    }
}
