//! Who an event's distinct id is: dense numbers per shard and project.
//!
//! [`PersonsCache`] remembers the numbers of ids seen lately. It belongs to one shard and one
//! fence: whoever else may have held the lease in between may have given numbers too. Numbers that
//! a pass gives out are remembered only after its transaction has committed.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::model::{Event, FastMap, FastSet, IdNo, PersonNo, ProjectId, ShardNo};
use crate::storage::server::persons::{self, KnownId, ProjectCounters};
use crate::storage::{Db, StorageError};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Numbers {
    pub id_no: IdNo,
    pub person_no: PersonNo,
}

/// Two generations of numbers by a 128-bit hash of project and id: when the younger is full it
/// becomes the older, and what is used again moves back.
pub struct PersonsCache {
    entries_max: usize,
    young: HashMap<u128, Numbers>,
    old: HashMap<u128, Numbers>,
}

impl PersonsCache {
    pub fn new(entries_max: usize) -> Self {
        Self { entries_max: entries_max.max(2), young: HashMap::new(), old: HashMap::new() }
    }

    fn find(&mut self, project_id: ProjectId, distinct_id: &str) -> Option<Numbers> {
        let key = key(project_id, distinct_id);
        if let Some(numbers) = self.young.get(&key) {
            return Some(*numbers);
        }
        let numbers = self.old.remove(&key)?;
        self.insert(key, numbers);
        Some(numbers)
    }

    pub fn remember(&mut self, project_id: ProjectId, id: &KnownId) {
        let numbers = Numbers { id_no: id.id_no, person_no: id.person_no };
        self.insert(key(project_id, &id.distinct_id), numbers);
    }

    fn insert(&mut self, key: u128, numbers: Numbers) {
        if self.young.len() >= self.entries_max / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, numbers);
    }
}

fn key(project_id: ProjectId, distinct_id: &str) -> u128 {
    xxh3_128_with_seed(distinct_id.as_bytes(), project_id.0.into())
}

/// What a pass found out about one project.
#[derive(Default)]
pub struct ProjectPersons {
    pub counters: ProjectCounters,
    /// Ids that get their numbers with this pass, each with a person of its own.
    pub new: Vec<KnownId>,
    numbers: FastMap<String, Numbers>,
}

impl ProjectPersons {
    pub fn numbers(&self, distinct_id: &str) -> Option<Numbers> {
        self.numbers.get(distinct_id).copied()
    }

    /// Whether the person has rows from before this pass.
    pub fn is_new(&self, person_no: PersonNo) -> bool {
        person_no >= self.counters.next_person_no
    }

    pub fn next_numbers(&self) -> (PersonNo, IdNo) {
        let given = self.new.len() as u32;
        (self.counters.next_person_no + given, self.counters.next_id_no + given)
    }
}

/// Numbers for every distinct id of one project's events, in the order of the ids so that equal
/// passes give equal numbers.
pub async fn resolve<'e>(
    db: &Db,
    cache: &mut PersonsCache,
    shard_no: ShardNo,
    project_id: ProjectId,
    events: impl Iterator<Item = &'e Event>,
) -> Result<ProjectPersons, StorageError> {
    let distinct_ids: FastSet<&str> = events.map(|event| event.distinct_id.as_str()).collect();
    let mut found = ProjectPersons::default();
    let mut unknown = Vec::new();
    for distinct_id in distinct_ids {
        match cache.find(project_id, distinct_id) {
            Some(numbers) => {
                found.numbers.insert(distinct_id.to_owned(), numbers);
            }
            None => unknown.push(distinct_id.to_owned()),
        }
    }
    unknown.sort_unstable();
    for id in persons::find_ids(db, shard_no, project_id, &unknown).await? {
        cache.remember(project_id, &id);
        let numbers = Numbers { id_no: id.id_no, person_no: id.person_no };
        found.numbers.insert(id.distinct_id, numbers);
    }
    found.counters = persons::get_counters(db, shard_no, project_id).await?;
    for distinct_id in unknown {
        if found.numbers.contains_key(&distinct_id) {
            continue;
        }
        let given = found.new.len() as u32;
        let numbers = Numbers {
            id_no: found.counters.next_id_no + given,
            person_no: found.counters.next_person_no + given,
        };
        found.numbers.insert(distinct_id.clone(), numbers);
        found.new.push(KnownId { distinct_id, id_no: numbers.id_no, person_no: numbers.person_no });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, no: u32) -> KnownId {
        KnownId { distinct_id: name.to_owned(), id_no: no, person_no: no }
    }

    #[test]
    fn the_same_id_in_two_projects_is_two_persons() {
        let mut cache = PersonsCache::new(10);
        cache.remember(ProjectId(1), &known("u", 5));
        assert_eq!(cache.find(ProjectId(2), "u"), None);
        assert_eq!(cache.find(ProjectId(1), "u").map(|numbers| numbers.person_no), Some(5));
    }

    #[test]
    fn a_full_cache_forgets_the_ids_that_nobody_asks_for() {
        let mut cache = PersonsCache::new(8);
        cache.remember(ProjectId(1), &known("kept", 0));
        for n in 1..100 {
            cache.remember(ProjectId(1), &known(&format!("u{n}"), n));
            assert!(cache.find(ProjectId(1), "kept").is_some());
        }
        assert!(cache.young.len() + cache.old.len() <= 8);
        assert_eq!(cache.find(ProjectId(1), "u1"), None);
    }
}
