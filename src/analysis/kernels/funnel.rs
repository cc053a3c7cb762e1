//! Funnels by the rule `distinct`.
//!
//! A person reaches step k when there are k different rows r1 … rk, each matching its step, with
//! time(ri) ≤ time(ri+1) and time(rk) − time(r1) ≤ window. Rows of equal time may be taken in any
//! order. Any row of step 1 may be the first.
//!
//! One pass over a person's rows in time order, a group of equal times at once. Per step k it keeps
//! the *latest* time of r1 among all chains that reached k so far: a chain that began later can do
//! whatever an earlier one can, so one number per step is enough, and rows of earlier times can
//! never be taken twice. Only inside a group does it matter which row serves which step: from step
//! j on a group carries a chain as far as the steps j+1 … j' can be matched to different rows of
//! it, a bipartite matching. The matching slides: the rows of a group serve an interval of steps
//! whose ends only grow, with augmenting paths (Kuhn's algorithm) at its end. Steps with as many
//! rows in the group as the funnel has steps always find one, so that only scarce steps need a
//! place in the matching, and a group costs its rows times the steps they match, at most.

use std::ops::Range;

use super::persons::{for_each_range, length_of_rows};
use super::select::{Columns, Picked, Selection, Selector, Wanted};
use super::{Cancel, KernelError};
use crate::analysis::question::FunnelQuestion;
use crate::eventstore::RowBlock;
use crate::model::{Millis, PersonNo};

/// Bit k: the row matches step k, counted from 0.
type StepMask = Wanted;

/// About so many rows has a range of persons: some hundred kilobytes of those that match a step.
const RANGE_ROWS: usize = if cfg!(test) { 16 } else { 8_192 };

pub struct FunnelKernel<'a> {
    pub question: &'a FunnelQuestion,
    pub columns: &'a Columns,
    pub cancel: &'a Cancel,
}

impl FunnelKernel<'_> {
    /// For each step, how many persons of this shard reach it.
    pub fn count_reached(&self, blocks: &[RowBlock]) -> Result<Vec<u64>, KernelError> {
        let mut reached = vec![0_u64; self.question.steps.len()];
        self.for_each_reached(blocks, |_, reached_at| {
            reached[..reached_at.len()].iter_mut().for_each(|persons| *persons += 1);
        })?;
        Ok(reached)
    }

    /// Visits every person of this shard who has a row of any step, with the time at which they first
    /// reached each of the steps that they reach.
    pub fn for_each_reached(
        &self,
        blocks: &[RowBlock],
        mut visit: impl FnMut(PersonNo, &[Millis]),
    ) -> Result<(), KernelError> {
        let steps = self.question.steps.iter();
        let steps: Vec<Selector<'_>> =
            steps.map(|step| Selector { events: &step.events, filters: &step.filters }).collect();
        let selections: Vec<Selection<'_>> = blocks
            .iter()
            .map(|block| Selection::new(block, self.columns, &self.question.filters, &steps))
            .collect();
        let mut rule = DistinctRule::new(steps.len(), self.question.window);
        let persons: Vec<&[PersonNo]> = blocks.iter().map(|block| &*block.person_no).collect();
        let length = length_of_rows(&persons, RANGE_ROWS);
        let mut histories = Histories::default();
        for_each_range(&persons, length, self.cancel, |first, ranges| {
            for ((block, selection), rows) in blocks.iter().zip(&selections).zip(ranges) {
                histories.add(block, selection, rows.clone(), first, self.cancel)?;
            }
            histories.for_each(|person, rows| visit(first + person, rule.reach(rows)));
            Ok(())
        })
    }
}

/// What the persons of one range did, as far as it matches a step.
#[derive(Default)]
struct Histories {
    picked: Picked,
    /// As they come.
    found: Vec<Found>,
    /// For each person where their rows end in `rows`.
    ends: Vec<usize>,
    rows: Vec<Served>,
}

/// A row: when it was, and which steps it matches.
type Served = (Millis, StepMask);

struct Found {
    at: Millis,
    mask: StepMask,
    /// Counted from the first of the range.
    person: u32,
}

impl Histories {
    fn add(
        &mut self,
        block: &RowBlock,
        selection: &Selection<'_>,
        mut rows: Range<usize>,
        first: PersonNo,
        cancel: &Cancel,
    ) -> Result<(), KernelError> {
        debug_assert!(block.stand_for.is_none(), "rows that are counted together are only counted");
        while !rows.is_empty() {
            cancel.check()?;
            rows.start = selection.pick_chunk(rows.clone(), &mut self.picked);
            let (Picked { rows, wanted, .. }, before) = (&self.picked, self.found.len());
            let persons: &[PersonNo] = &block.person_no;
            let found = |row: u32, mask| Found { at: 0, mask, person: persons[row as usize] - first };
            if wanted.is_empty() {
                self.found.extend(rows.iter().map(|&row| found(row, selection.every())));
            } else {
                self.found.extend(rows.iter().zip(wanted).map(|(&row, &mask)| found(row, mask)));
            }
            block.occurred_at.write_of(rows, self.found[before..].iter_mut().map(|found| &mut found.at));
        }
        Ok(())
    }

    /// Visits the rows of each person in time order, and forgets all.
    fn for_each(&mut self, mut visit: impl FnMut(u32, &[Served])) {
        let Self { found, ends, rows, .. } = self;
        if found.is_empty() {
            return;
        }
        let persons = found.iter().map(|found| found.person as usize + 1).max().unwrap_or(0);
        // Sorted by counting: first how many each one has, then where they begin, and with all of them
        // in place where they end.
        ends.clear();
        ends.resize(persons, 0);
        found.iter().for_each(|found| ends[found.person as usize] += 1);
        let mut begin = 0;
        for end in ends.iter_mut() {
            (*end, begin) = (begin, begin + *end);
        }
        rows.resize(found.len(), (0, 0));
        for Found { at, mask, person } in found.drain(..) {
            let end = &mut ends[person as usize];
            rows[*end] = (at, mask);
            *end += 1;
        }
        let mut begin = 0;
        for (person, &end) in (0..).zip(ends.iter()) {
            let own = &mut rows[begin..end];
            begin = end;
            if own.is_empty() {
                continue;
            }
            // Of each block they are in order, and blocks are mostly of other times.
            if !own.is_sorted_by_key(|&(at, _)| at) {
                own.sort_by_key(|&(at, _)| at);
            }
            visit(person, own);
        }
    }
}

/// The rule for one person at a time; keeps its working memory between persons.
struct DistinctRule {
    steps: usize,
    window: Millis,
    /// Per step, the latest time of a first row among the chains that reached it, or [`NEVER`]; before the
    /// first step there is a chain of no rows, which begins with the row that is looked at.
    started: [Millis; 1 + StepMask::BITS as usize],
    /// For each step that is reached, when it first was.
    reached_at: Vec<Millis>,
    group: GroupMatching,
}

/// Before all times, by more than the longest window.
const NEVER: Millis = Millis::MIN / 2;
const WINDOW_MAX: Millis = Millis::MAX / 4;

impl DistinctRule {
    fn new(steps: usize, window: Option<Millis>) -> Self {
        debug_assert!(steps <= StepMask::BITS as usize);
        let window = window.unwrap_or(WINDOW_MAX).min(WINDOW_MAX);
        let started = [NEVER; 1 + StepMask::BITS as usize];
        Self {
            steps,
            window,
            started,
            reached_at: Vec::with_capacity(steps),
            group: GroupMatching::new(steps),
        }
    }

    /// When a person first reaches each of the steps that they reach. Precondition: rows are in time
    /// order, masks not 0.
    fn reach(&mut self, rows: &[(Millis, StepMask)]) -> &[Millis] {
        self.started[..=self.steps].fill(NEVER);
        self.reached_at.clear();
        let mut next = 1;
        let mut left = rows;
        while let [(at, mask), others @ ..] = left {
            let at = *at;
            self.started[0] = at;
            if others.first().is_some_and(|other| other.0 == at) {
                let (group, later) = left.split_at(left.partition_point(|row| row.0 == at));
                self.take_group(group);
                left = later;
            } else {
                self.take_row(at, *mask);
                left = others;
            }
            // Steps are reached in order, so those that are new follow those that are known.
            while self.started[next] != NEVER {
                self.reached_at.push(at);
                next += 1;
                // Chains end at the last step: nobody gets further.
                if next > self.steps {
                    return &self.reached_at;
                }
            }
        }
        &self.reached_at
    }

    fn take_row(&mut self, at: Millis, mask: StepMask) {
        // Without branches: which step a row serves cannot be foretold.
        let mut serve = |step: usize| {
            let start = self.alive(step, at);
            self.started[step + 1] = self.started[step + 1].max(start);
        };
        if mask.is_power_of_two() {
            return serve(mask.trailing_zeros() as usize);
        }
        // From the last step down: a row must not follow itself.
        let mut left = mask;
        while left != 0 {
            let step = (StepMask::BITS - 1 - left.leading_zeros()) as usize;
            left &= !(1 << step);
            serve(step);
        }
    }

    fn take_group(&mut self, group: &[(Millis, StepMask)]) {
        let at = group[0].0;
        self.group.load(group);
        let before: [Millis; StepMask::BITS as usize] =
            std::array::from_fn(|done| if done < self.steps { self.alive(done, at) } else { NEVER });
        for (done, &start) in before[..self.steps].iter().enumerate() {
            if start != NEVER {
                let reach = self.group.reach_from(done);
                for started in &mut self.started[done + 1..reach + 1] {
                    *started = (*started).max(start);
                }
            }
        }
    }

    /// The latest start of a chain of so many steps that may still go on at `at`, or [`NEVER`].
    fn alive(&self, done: usize, at: Millis) -> Millis {
        let start = self.started[done];
        if at - start <= self.window { start } else { NEVER }
    }
}

/// Which steps the rows of one moment can serve together.
struct GroupMatching {
    steps: usize,
    /// Per step, the rows that match it; not listed beyond as many as there are steps.
    rows_of: Vec<Vec<u32>>,
    /// Per row, the step it serves.
    serves: Vec<Option<usize>>,
    /// Per row, the search that saw it last.
    seen: Vec<u32>,
    search: u32,
    /// The steps that are matched: from here …
    matched_from: usize,
    /// … up to here, exclusive.
    matched_to: usize,
}

impl GroupMatching {
    fn new(steps: usize) -> Self {
        let rows_of = vec![Vec::with_capacity(steps); steps];
        Self {
            steps,
            rows_of,
            serves: Vec::new(),
            seen: Vec::new(),
            search: 0,
            matched_from: 0,
            matched_to: 0,
        }
    }

    fn load(&mut self, group: &[(Millis, StepMask)]) {
        self.rows_of.iter_mut().for_each(Vec::clear);
        for (row, &(_, mask)) in group.iter().enumerate() {
            let mut left = mask;
            while left != 0 {
                let step = left.trailing_zeros() as usize;
                left &= left - 1;
                if self.rows_of[step].len() < self.steps {
                    self.rows_of[step].push(row as u32);
                }
            }
        }
        self.serves.clear();
        self.serves.resize(group.len(), None);
        self.seen.clear();
        self.seen.resize(group.len(), 0);
        self.search = 0;
        self.matched_from = 0;
        self.matched_to = 0;
    }

    /// How far the group carries a chain that has `done` steps: the steps from `done` up to there,
    /// exclusive, can be served by different rows. To be asked in ascending order.
    fn reach_from(&mut self, done: usize) -> usize {
        for step in self.matched_from..done.min(self.matched_to) {
            if let Some(row) = self.row_serving(step) {
                self.serves[row] = None;
            }
        }
        self.matched_from = done;
        self.matched_to = self.matched_to.max(done);
        // No more steps than rows: without this, every full group would search in vain.
        let most = self.steps.min(done + self.serves.len());
        while self.matched_to < most && self.match_step(self.matched_to) {
            self.matched_to += 1;
        }
        self.matched_to
    }

    fn match_step(&mut self, step: usize) -> bool {
        if self.is_plentiful(step) {
            return true;
        }
        self.search += 1;
        self.find_row(step)
    }

    /// An augmenting path: a free row, or one whose step can move to another.
    fn find_row(&mut self, step: usize) -> bool {
        for index in 0..self.rows_of[step].len() {
            let row = self.rows_of[step][index] as usize;
            if self.seen[row] == self.search {
                continue;
            }
            self.seen[row] = self.search;
            if self.serves[row].is_none_or(|served| self.find_row(served)) {
                self.serves[row] = Some(step);
                return true;
            }
        }
        false
    }

    /// So many rows that one is left whatever the other steps take.
    fn is_plentiful(&self, step: usize) -> bool {
        self.rows_of[step].len() >= self.steps
    }

    fn row_serving(&self, step: usize) -> Option<usize> {
        let row = self.rows_of[step].iter().find(|row| self.serves[**row as usize] == Some(step));
        row.map(|&row| row as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every choice of different rows, tried one by one.
    fn search(rows: &[(Millis, StepMask)], steps: usize, window: Option<Millis>) -> usize {
        fn extend(
            rows: &[(Millis, StepMask)],
            steps: usize,
            window: Option<Millis>,
            taken: &mut Vec<usize>,
        ) -> usize {
            let mut best = taken.len();
            if taken.len() == steps {
                return best;
            }
            for row in 0..rows.len() {
                let (at, mask) = rows[row];
                let fits = taken.last().is_none_or(|&last| rows[last].0 <= at)
                    && taken
                        .first()
                        .is_none_or(|&first| window.is_none_or(|window| at - rows[first].0 <= window));
                if mask >> taken.len() & 1 == 1 && fits && !taken.contains(&row) {
                    taken.push(row);
                    best = best.max(extend(rows, steps, window, taken));
                    taken.pop();
                }
            }
            best
        }
        extend(rows, steps, window, &mut Vec::new())
    }

    fn reached(rows: &[(Millis, StepMask)], steps: usize, window: Option<Millis>) -> usize {
        DistinctRule::new(steps, window).reach(rows).len()
    }

    const A: StepMask = 0b1;
    const B: StepMask = 0b10;
    const ABA: StepMask = 0b101;

    #[test]
    fn rows_are_different_and_equal_times_are_in_favour() {
        type Case = (&'static str, usize, Option<Millis>, &'static [(Millis, StepMask)], usize);
        let cases: [Case; 14] = [
            ("nothing", 2, None, &[], 0),
            ("only the second step", 2, None, &[(0, B)], 0),
            ("in order", 2, None, &[(0, A), (1, B)], 2),
            ("out of order", 2, None, &[(0, B), (1, A)], 1),
            ("at one time, stored the wrong way round", 2, None, &[(5, B), (5, A)], 2),
            ("at the end of the window", 2, Some(10), &[(0, A), (10, B)], 2),
            ("after the window", 2, Some(10), &[(0, A), (11, B)], 1),
            ("a later start is in the window", 2, Some(10), &[(0, A), (5, A), (12, B)], 2),
            ("the same step twice needs two rows", 2, None, &[(0, 0b11)], 1),
            ("the same step twice, at one time", 2, None, &[(0, 0b11), (0, 0b11)], 2),
            ("a, b, a with one a", 3, None, &[(0, ABA), (0, B)], 2),
            ("a, b, a with two at one time", 3, None, &[(0, ABA), (0, B), (0, ABA)], 3),
            ("a row that fits two steps is left to the scarce one", 2, None, &[(0, 0b11), (0, 0b01)], 2),
            (
                "a chain goes on through a group",
                4,
                Some(9),
                &[(0, 0b1), (5, 0b110), (5, 0b010), (9, 0b1000)],
                4,
            ),
        ];
        for (name, steps, window, rows, expected) in cases {
            assert_eq!(reached(rows, steps, window), expected, "{name}");
            assert_eq!(search(rows, steps, window), expected, "{name}, by search");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn the_rule_is_an_exhaustive_search(
            steps in 2..=5_usize,
            window in prop::option::of(0..6_i64),
            // Few times, so that most rows share theirs.
            mut rows in prop::collection::vec((0..7_i64, 1..32_u32), 0..9),
        ) {
            for row in &mut rows {
                row.1 &= (1 << steps) - 1;
            }
            rows.retain(|row| row.1 != 0);
            rows.sort_by_key(|row| row.0);
            let mut rule = DistinctRule::new(steps, window);
            let reached_at = rule.reach(&rows);
            prop_assert_eq!(reached_at.len(), search(&rows, steps, window));
            // A step is first reached at the end of the shortest history that reaches it.
            for (step, &at) in reached_at.iter().enumerate() {
                let until = |at| rows.partition_point(|&(time, _)| time <= at);
                prop_assert!(search(&rows[..until(at)], steps, window) > step);
                prop_assert!(search(&rows[..until(at - 1)], steps, window) <= step);
            }
        }
    }

    #[test]
    fn as_many_steps_as_there_may_be_and_a_window_of_all_times() {
        let day = |n: i64| 1_700_000_000_000 + n * 86_400_000;
        let in_order: Vec<_> = (0..StepMask::BITS).map(|step| (day(step.into()), 1 << step)).collect();
        assert_eq!(reached(&in_order, 32, Some(Millis::MAX)), 32);
        assert_eq!(reached(&in_order, 32, Some(31 * 86_400_000)), 32);
        assert_eq!(reached(&in_order, 32, Some(31 * 86_400_000 - 1)), 31);
        let at_once: Vec<_> = (0..StepMask::BITS).rev().map(|step| (day(0), 1 << step)).collect();
        assert_eq!(reached(&at_once, 32, None), 32);
    }

    #[test]
    fn a_million_rows_of_one_person_take_moments() {
        // Twenty steps, nearly all of which every row matches, in groups of two, of nineteen and in
        // one. No chain leaves its group, and only the last case may end early.
        for (size, expected) in [(2, 2), (19, 19), (1_000_000, 20)] {
            let rows: Vec<(Millis, StepMask)> =
                (0..1_000_000).map(|row| (row / size * 100, 0xf_ffff & !(1 << (row % 20)))).collect();
            assert_eq!(reached(&rows, 20, Some(50)), expected, "groups of {size}");
        }
    }
}
