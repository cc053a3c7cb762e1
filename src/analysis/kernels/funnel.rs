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
//! it, see [`super::matching`].
//!
//! Persons come in ranges, see [`super::persons`]. Mostly the blocks of a shard are of different times, one
//! after the other, and within a block rows are in order: so what is known of all persons of a range is kept
//! at once, and rows are taken block by block as they lie. Whoever has a row that comes late, or at the same
//! time as one of an earlier block, is begun anew with all their rows in order.

use std::ops::Range;

use super::matching::{MomentMatching, StepMask};
use super::persons::{for_each_range, length_of_rows};
use super::select::{Columns, Picked, Selection, Selector};
use super::{Cancel, KernelError};
use crate::analysis::question::FunnelQuestion;
use crate::eventstore::RowBlock;
use crate::model::{Millis, PersonNo};

/// About so many rows has a range of persons: some hundred kilobytes of those that match a step.
const RANGE_ROWS: usize = if cfg!(test) { 16 } else { 16_384 };
/// What is kept of the persons of a range is no more than so many times: half a megabyte, and as much again where
/// it matters when steps were reached.
const RANGE_TIMES: usize = if cfg!(test) { 64 } else { 65_536 };

/// With fewer rows than this share of a range's numbers, most of them stand for nobody.
const SPARSE: usize = 8;

pub struct FunnelKernel<'a> {
    pub question: &'a FunnelQuestion,
    pub columns: &'a Columns,
    pub cancel: &'a Cancel,
}

impl FunnelKernel<'_> {
    /// For each step, how many persons of this shard reach it.
    pub fn count_reached(&self, blocks: &[RowBlock]) -> Result<Vec<u64>, KernelError> {
        let mut reached = vec![0_u64; self.question.steps.len()];
        self.walk::<false>(blocks, |_, started, _| {
            reached
                .iter_mut()
                .zip(started)
                .for_each(|(persons, start)| *persons += u64::from(*start != NEVER));
        })?;
        Ok(reached)
    }

    /// Visits every person of this shard who reaches a step, with the time at which they first reached each of
    /// those that they reach.
    pub fn for_each_reached(
        &self,
        blocks: &[RowBlock],
        mut visit: impl FnMut(PersonNo, &[Millis]),
    ) -> Result<(), KernelError> {
        self.walk::<true>(blocks, |person, started, reached_at| {
            let steps = started.iter().take_while(|start| **start != NEVER).count();
            if steps > 0 {
                visit(person, &reached_at[..steps]);
            }
        })
    }

    /// Visits all persons of ranges: for each step a time when it is reached, else [`NEVER`]; and, where times
    /// are asked for, when it first was.
    fn walk<const WITH_TIMES: bool>(
        &self,
        blocks: &[RowBlock],
        mut visit: impl FnMut(PersonNo, &[Millis], &[Millis]),
    ) -> Result<(), KernelError> {
        let steps = self.question.steps.iter();
        let steps: Vec<Selector<'_>> =
            steps.map(|step| Selector { events: &step.events, filters: &step.filters }).collect();
        // In the order of time, where they are of different times.
        let mut blocks: Vec<&RowBlock> = blocks.iter().filter(|block| !block.event.is_empty()).collect();
        blocks.sort_by_key(|block| block.occurred_at.at(0));
        let select = |block| Selection::new(block, self.columns, &self.question.filters, &steps);
        let selections: Vec<Selection<'_>> = blocks.iter().map(|block| select(*block)).collect();
        let mut histories = Histories::<WITH_TIMES>::new(steps.len(), self.question.window);
        let persons: Vec<&[PersonNo]> = blocks.iter().map(|block| &*block.person_no).collect();
        let length_max = (RANGE_TIMES / histories.width) as u32;
        let length = length_of_rows(&persons, RANGE_ROWS).min(length_max);
        for_each_range(&persons, length, self.cancel, |first, ranges| {
            for ((block, selection), rows) in blocks.iter().zip(&selections).zip(ranges) {
                histories.add(block, selection, rows.clone(), first, self.cancel)?;
            }
            let lasts = persons.iter().zip(ranges).filter_map(|(persons, rows)| persons[rows.clone()].last());
            let numbers = lasts.max().map_or(0, |last| (last - first) as usize + 1);
            histories.end_range(numbers, |person, started, at| visit(first + person, started, at));
            Ok(())
        })
    }
}

/// A row that matches a step.
#[derive(Clone, Copy)]
struct Found {
    at: Millis,
    mask: StepMask,
    /// Counted from the first of the range.
    person: u32,
}

impl Found {
    /// Whether both are of one person at one time.
    fn is_with(&self, other: &Self) -> bool {
        self.at == other.at && self.person == other.person
    }
}

/// What the persons of one range did, as far as it matches a step.
struct Histories<const WITH_TIMES: bool> {
    window: Millis,
    /// Of what is kept of a person: one more than there are steps.
    width: usize,
    picked: Picked,
    /// Of each block in order; block after block.
    found: Vec<Found>,
    /// For each person and step the latest time of a first row among the chains that reached it, or [`NEVER`].
    /// Before the first step there is a chain of no rows, which begins with the row that is looked at.
    started: Vec<Millis>,
    /// For each person and step that is reached, when it first was. Empty where times are not asked for.
    reached_at: Vec<Millis>,
    /// Those of whom a row came late.
    late: Vec<u32>,
    matching: MomentMatching,
}

/// Before all times, by more than the longest window.
const NEVER: Millis = Millis::MIN / 2;
const WINDOW_MAX: Millis = Millis::MAX / 4;

impl<const WITH_TIMES: bool> Histories<WITH_TIMES> {
    fn new(steps: usize, window: Option<Millis>) -> Self {
        debug_assert!(steps <= StepMask::BITS as usize);
        Self {
            window: window.unwrap_or(WINDOW_MAX).min(WINDOW_MAX),
            width: steps + 1,
            picked: Picked::default(),
            found: Vec::new(),
            started: Vec::new(),
            reached_at: Vec::new(),
            late: Vec::new(),
            matching: MomentMatching::new(steps),
        }
    }

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
            let Picked { rows, wanted, whole, .. } = &self.picked;
            let (persons, every): (&[PersonNo], _) = (&block.person_no, selection.every());
            let found = |at, mask, person: PersonNo| Found { at, mask, person: person - first };
            match (whole, wanted.as_slice()) {
                (Some(rows), []) => {
                    let persons = persons[rows.clone()].iter();
                    let found = |person: &PersonNo, at| found(at, every, *person);
                    block.occurred_at.append_range(rows.clone(), persons, &mut self.found, found);
                }
                (Some(rows), wanted) => {
                    let others = persons[rows.clone()].iter().zip(wanted);
                    let found = |(person, mask): (&PersonNo, &StepMask), at| found(at, *mask, *person);
                    block.occurred_at.append_range(rows.clone(), others, &mut self.found, found);
                }
                (None, []) => {
                    let found = |_, row, at| found(at, every, persons[row as usize]);
                    block.occurred_at.append_to(rows, &mut self.found, found);
                }
                (None, wanted) => {
                    let found = |place: usize, row, at| found(at, wanted[place], persons[row as usize]);
                    block.occurred_at.append_to(rows, &mut self.found, found);
                }
            }
        }
        Ok(())
    }

    /// Visits as many persons as the range has numbers, or those with rows where these are few, and forgets what was
    /// found.
    fn end_range(&mut self, numbers: usize, mut visit: impl FnMut(u32, &[Millis], &[Millis])) {
        if self.found.is_empty() {
            return;
        }
        let mut found = std::mem::take(&mut self.found);
        // Few rows of many persons are put in order, and their persons numbered anew.
        let is_sparse = found.len() < numbers / SPARSE;
        let mut persons = Vec::new();
        if is_sparse {
            found.sort_by_key(|found| (found.person, found.at));
            for found in &mut found {
                if persons.last() != Some(&found.person) {
                    persons.push(found.person);
                }
                found.person = persons.len() as u32 - 1;
            }
        }
        let numbers = if is_sparse { persons.len() } else { numbers };
        self.started.clear();
        self.started.resize(numbers * self.width, NEVER);
        if WITH_TIMES {
            self.reached_at.resize(numbers * self.width, NEVER);
        }
        self.take(&found);
        if !self.late.is_empty() {
            let mut is_late = vec![false; numbers];
            for person in self.late.drain(..) {
                is_late[person as usize] = true;
                self.started[person as usize * self.width..][..self.width].fill(NEVER);
            }
            found.retain(|found| is_late[found.person as usize]);
            found.sort_by_key(|found| (found.person, found.at));
            self.take(&found);
        }
        for (number, started) in (0..).zip(self.started.chunks_exact(self.width)) {
            let (place, person) =
                (number * self.width, persons.get(number).copied().unwrap_or(number as u32));
            let reached_at = if WITH_TIMES { &self.reached_at[place + 1..place + self.width] } else { &[] };
            visit(person, &started[1..], reached_at);
        }
        found.clear();
        self.found = found;
    }

    /// Takes rows, each person's in the order of time or else noting that they are late.
    fn take(&mut self, found: &[Found]) {
        let (width, window) = (self.width, self.window);
        let mut started = std::mem::take(&mut self.started);
        let mut left = found;
        while let [row, others @ ..] = left {
            let Found { at, mask, person } = *row;
            let place = person as usize * width;
            let own = &mut started[place..place + width];
            let last_at = std::mem::replace(&mut own[0], at);
            let mut serve = |step: usize| {
                let [before, reached] = &mut own[step..step + 2] else { return };
                // Without branches: which step a row serves cannot be foretold.
                let start = alive(*before, at, window);
                if WITH_TIMES && *reached == NEVER && start != NEVER {
                    self.reached_at[place + step + 1] = at;
                }
                *reached = (*reached).max(start);
            };
            let shares_its_moment = others.first().is_some_and(|other| other.is_with(row));
            if last_at < at && !shares_its_moment {
                left = others;
                if mask.is_power_of_two() {
                    serve(mask.trailing_zeros() as usize);
                    continue;
                }
                // From the last step down: a row must not follow itself.
                let mut mask = mask;
                while mask != 0 {
                    let step = mask.ilog2() as usize;
                    mask &= !(1 << step);
                    serve(step);
                }
                continue;
            }
            if last_at >= at {
                // All of theirs will be taken again.
                if self.late.last() != Some(&person) {
                    self.late.push(person);
                }
                left = others;
                continue;
            }
            let count = left.iter().take_while(|other| other.is_with(row)).count();
            let (moment, later) = left.split_at(count);
            self.take_moment(moment, own);
            left = later;
        }
        self.started = started;
    }

    /// All rows of one person at one time; `started` is theirs.
    fn take_moment(&mut self, rows: &[Found], started: &mut [Millis]) {
        let Some(&Found { at, person, .. }) = rows.first() else { return };
        let steps = self.width - 1;
        self.matching.load(rows.iter().map(|found| found.mask));
        let before: [Millis; StepMask::BITS as usize] =
            std::array::from_fn(
                |done| if done < steps { alive(started[done], at, self.window) } else { NEVER },
            );
        for (done, &start) in before[..steps].iter().enumerate() {
            if start != NEVER {
                let reach = self.matching.reach_from(done);
                for (started, step) in started[done + 1..=reach].iter_mut().zip(done + 1..) {
                    if WITH_TIMES && *started == NEVER {
                        self.reached_at[person as usize * self.width + step] = at;
                    }
                    *started = (*started).max(start);
                }
            }
        }
    }
}

/// When a chain that began then may still go on at `at`, its start, or else [`NEVER`].
fn alive(start: Millis, at: Millis, window: Millis) -> Millis {
    if at - start <= window { start } else { NEVER }
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

    /// When each step was reached first.
    fn reached_at(rows: &[(Millis, StepMask)], steps: usize, window: Option<Millis>) -> Vec<Millis> {
        let mut histories = Histories::<true>::new(steps, window);
        let mut found = Vec::new();
        histories.found.extend(rows.iter().map(|&(at, mask)| Found { at, mask, person: 0 }));
        histories.end_range(1, |_, started, reached_at| {
            let steps = started.iter().take_while(|start| **start != NEVER).count();
            found.extend_from_slice(&reached_at[..steps]);
        });
        found
    }

    fn reached(rows: &[(Millis, StepMask)], steps: usize, window: Option<Millis>) -> usize {
        let mut histories = Histories::<false>::new(steps, window);
        let mut reached = 0;
        histories.found.extend(rows.iter().map(|&(at, mask)| Found { at, mask, person: 0 }));
        histories.end_range(1, |_, started, _| {
            reached = started.iter().filter(|start| **start != NEVER).count();
        });
        reached
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
            // As they come of several blocks: in order, or not.
            let as_they_come = rows.clone();
            rows.sort_by_key(|row| row.0);
            let reached_at = self::reached_at(&rows, steps, window);
            prop_assert_eq!(reached_at.len(), search(&rows, steps, window));
            prop_assert_eq!(&self::reached_at(&as_they_come, steps, window), &reached_at);
            for rows in [&rows, &as_they_come] {
                prop_assert_eq!(reached(rows, steps, window), reached_at.len());
            }
            // A step is first reached at the end of the shortest history that reaches it.
            for (step, &at) in reached_at.iter().enumerate() {
                let until = |at| rows.partition_point(|&(time, _)| time <= at);
                prop_assert!(search(&rows[..until(at)], steps, window) > step);
                prop_assert!(search(&rows[..until(at - 1)], steps, window) <= step);
            }
        }
    }

    #[test]
    fn few_persons_of_many_numbers_are_found_whoever_comes_first() {
        let found = |at, mask, person| Found { at, mask, person };
        // The rows of 900 come late.
        let rows = [found(9, B, 3), found(20, B, 900), found(5, A, 3), found(7, A, 900), found(8, A, 17)];
        for numbers in [901, 5_000] {
            let mut histories = Histories::<true>::new(2, None);
            let mut reached = Vec::new();
            // Twice: nothing is left of the first time.
            for _ in 0..2 {
                reached.clear();
                histories.found.extend(rows);
                histories.end_range(numbers, |person, started, reached_at| {
                    let steps = started.iter().take_while(|start| **start != NEVER).count();
                    reached.push((person, reached_at[..steps].to_vec()));
                });
            }
            assert_eq!(reached, [(3, vec![5, 9]), (17, vec![8]), (900, vec![7, 20])]);
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
