//! Who is behind a step of a funnel: the persons that the funnel kernel counts there, the latest first.
//!
//! All are counted, and a shard keeps no more than the question's limit. Persons of equal time are
//! ordered by what they are called, which a kernel does not know: it only knows numbers, and those
//! differ from one spread over shards to another. So it gives [`NumberedPersons`], with everybody who
//! shares the time at which the limit falls, and whoever looks their names up puts them in order and
//! cuts ([`StepPersons::take`]). What is held beyond the limit is twelve bytes for each person of that
//! one moment.

use serde::{Deserialize, Serialize};

use super::KernelError;
use super::funnel::FunnelKernel;
use crate::analysis::question::{Outcome, PersonsQuestion};
use crate::eventstore::RowBlock;
use crate::model::{Millis, PersonNo};

/// Persons of one shard that have no names yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberedPersons {
    /// Of all, not only those below.
    pub total: u64,
    /// The latest first: as many as are asked for, and whoever is as late as the last of them.
    pub persons: Vec<(Millis, PersonNo)>,
}

/// The persons of one shard, or of several merged, as they are answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPersons {
    pub total: u64,
    pub persons: Vec<StepPerson>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPerson {
    /// When they first reached the last step that all of the asked persons reached.
    pub reached_at: Millis,
    pub distinct_id: String,
}

impl StepPersons {
    /// Takes more persons in and keeps the `limit` latest; of equal times, those of the smaller ids.
    pub fn take(&mut self, more: impl IntoIterator<Item = StepPerson>, limit: usize) {
        self.persons.extend(more);
        self.persons.sort_unstable_by(|a, b| {
            b.reached_at.cmp(&a.reached_at).then_with(|| a.distinct_id.cmp(&b.distinct_id))
        });
        self.persons.truncate(limit);
    }

    /// A person is in one shard only.
    pub fn merge(&mut self, other: Self, limit: usize) {
        self.total += other.total;
        self.take(other.persons, limit);
    }
}

impl FunnelKernel<'_> {
    /// Precondition: `asked.funnel` is the kernel's question.
    pub fn find_persons(
        &self,
        asked: &PersonsQuestion,
        blocks: &[RowBlock],
    ) -> Result<NumberedPersons, KernelError> {
        let step = asked.reached_step();
        let mut latest = Latest::new(asked.limit);
        let mut total = 0;
        self.for_each_reached(blocks, |person, reached_at| {
            let is_asked = match asked.outcome {
                Outcome::Converted => reached_at.len() > step,
                Outcome::Dropped => reached_at.len() == step + 1,
            };
            if is_asked {
                total += 1;
                latest.push(reached_at[step], person);
            }
        })?;
        Ok(NumberedPersons { total, persons: latest.finish() })
    }
}

/// The latest of many, with all that are as late as the last of them.
struct Latest {
    limit: usize,
    kept: Vec<(Millis, PersonNo)>,
    /// When so many are kept, those that are too early are dropped.
    full: usize,
}

impl Latest {
    fn new(limit: usize) -> Self {
        Self { limit, kept: Vec::new(), full: 2 * limit }
    }

    fn push(&mut self, at: Millis, person: PersonNo) {
        self.kept.push((at, person));
        if self.kept.len() >= self.full {
            self.cut();
            // Twice what could not be dropped, so that dropping costs no more than keeping.
            self.full = 2 * self.kept.len();
        }
    }

    fn cut(&mut self) {
        if self.kept.len() > self.limit {
            let last = self.limit - 1;
            let (_, &mut (least, _), _) = self.kept.select_nth_unstable_by(last, |a, b| b.0.cmp(&a.0));
            self.kept.retain(|&(at, _)| at >= least);
        }
    }

    fn finish(mut self) -> Vec<(Millis, PersonNo)> {
        self.cut();
        self.kept.sort_unstable_by(|a, b| b.cmp(a));
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_latest_and_whoever_is_as_late_as_the_last_are_kept(
            times in prop::collection::vec(0..12_i64, 0..200),
            limit in 1..20_usize,
        ) {
            let mut latest = Latest::new(limit);
            let mut all: Vec<(Millis, PersonNo)> = times.into_iter().zip(0..).collect();
            for &(at, person) in &all {
                latest.push(at, person);
            }
            all.sort_unstable_by(|a, b| b.cmp(a));
            if let Some(&(least, _)) = all.get(limit - 1) {
                all.retain(|&(at, _)| at >= least);
            }
            prop_assert_eq!(latest.finish(), all);
        }
    }

    #[test]
    fn memory_is_bounded_by_the_limit_and_one_moment() {
        let mut latest = Latest::new(100);
        for n in 0..1_000_000 {
            latest.push(n, n as PersonNo);
            assert!(latest.kept.len() < 200);
        }
        assert_eq!(latest.finish().len(), 100);
    }

    #[test]
    fn equal_times_are_ordered_by_id_and_the_total_is_of_all() {
        let person = |at: Millis, id: &str| StepPerson { reached_at: at, distinct_id: id.to_owned() };
        let mut merged = StepPersons { total: 2, persons: vec![person(5, "b"), person(4, "z")] };
        merged.merge(StepPersons { total: 3, persons: vec![person(5, "a"), person(5, "c")] }, 3);
        assert_eq!(merged.total, 5);
        assert_eq!(merged.persons, [person(5, "a"), person(5, "b"), person(5, "c")]);
    }
}
