//! Who an event's distinct id is: dense numbers per shard and project.
//!
//! [`PersonsCache`] remembers the numbers of ids seen lately. It belongs to one shard and one
//! fence: whoever else may have held the lease in between may have given numbers too. Numbers that
//! a pass gives out are remembered only after its transaction has committed. Only ids that belong to
//! nobody else are remembered: whose links lead on is looked up every time.

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::links::Routed;
use crate::model::{FastMap, FastSet, IdNo, PersonNo, ProjectId, ShardNo};
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
    young: FastMap<u128, Numbers>,
    old: FastMap<u128, Numbers>,
}

impl PersonsCache {
    pub fn new(entries_max: usize) -> Self {
        Self { entries_max: entries_max.max(2), young: FastMap::default(), old: FastMap::default() }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
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

    pub fn has(&self, project_id: ProjectId, distinct_id: &str) -> bool {
        let key = key(project_id, distinct_id);
        self.young.contains_key(&key) || self.old.contains_key(&key)
    }

    /// The id belongs to another one from now on.
    pub fn forget(&mut self, project_id: ProjectId, distinct_id: &str) {
        let key = key(project_id, distinct_id);
        self.young.remove(&key);
        self.old.remove(&key);
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
    /// Ids that belong to a person who has others: new here, or another's until now.
    pub linked: Vec<KnownId>,
    /// New persons of ids that are known: their old numbers are masked.
    pub anew: Vec<PersonNo>,
    next: (PersonNo, IdNo),
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
        self.next
    }

    fn give_person(&mut self) -> PersonNo {
        self.next.0 += 1;
        self.next.0 - 1
    }

    fn give_id(&mut self) -> IdNo {
        self.next.1 += 1;
        self.next.1 - 1
    }
}

/// Numbers for every distinct id of one project's events, in the order of the ids so that equal
/// passes give equal numbers. An id that belongs to another one has a number of its own and the person
/// of that other.
pub async fn resolve(
    db: &Db,
    cache: &mut PersonsCache,
    shard_no: ShardNo,
    project_id: ProjectId,
    routed: &Routed,
) -> Result<ProjectPersons, StorageError> {
    let mut wanted: FastSet<&str> = routed.staying.iter().map(|event| &*event.distinct_id).collect();
    wanted.extend(routed.roots.values().map(String::as_str));
    let belongs_to = |distinct_id: &str| routed.roots.get(distinct_id);
    let is_dropped = |distinct_id: &str| routed.dropped.iter().any(|link| link.distinct_id == distinct_id);
    let mut found = ProjectPersons::default();
    let mut unknown = Vec::new();
    for distinct_id in wanted {
        match cache.find(project_id, distinct_id).filter(|_| belongs_to(distinct_id).is_none()) {
            Some(numbers) => {
                found.numbers.insert(distinct_id.to_owned(), numbers);
            }
            None => unknown.push(distinct_id.to_owned()),
        }
    }
    unknown.sort_unstable();
    let mut known: FastMap<String, Numbers> = FastMap::default();
    for id in persons::find_ids(db, shard_no, project_id, &unknown).await? {
        if belongs_to(&id.distinct_id).is_none() && !is_dropped(&id.distinct_id) {
            cache.remember(project_id, &id);
        }
        known.insert(id.distinct_id, Numbers { id_no: id.id_no, person_no: id.person_no });
    }
    found.counters = persons::get_counters(db, shard_no, project_id).await?;
    found.next = (found.counters.next_person_no, found.counters.next_id_no);
    let (linked, own): (Vec<String>, Vec<String>) =
        unknown.into_iter().partition(|distinct_id| belongs_to(distinct_id).is_some());
    for distinct_id in own {
        let numbers = match known.get(&distinct_id) {
            Some(numbers) if !is_dropped(&distinct_id) => *numbers,
            // Where a circle of links ends now: whoever it was is masked.
            Some(&Numbers { id_no, .. }) => {
                let person_no = found.give_person();
                found.anew.push(person_no);
                found.linked.push(KnownId { distinct_id: distinct_id.clone(), id_no, person_no });
                Numbers { id_no, person_no }
            }
            None => {
                let numbers = Numbers { id_no: found.give_id(), person_no: found.give_person() };
                let Numbers { id_no, person_no } = numbers;
                found.new.push(KnownId { distinct_id: distinct_id.clone(), id_no, person_no });
                numbers
            }
        };
        found.numbers.insert(distinct_id, numbers);
    }
    for distinct_id in linked {
        let root = belongs_to(&distinct_id).and_then(|root| found.numbers(root));
        let person_no = root.map(|numbers| numbers.person_no).unwrap_or_default();
        let stored = known.get(&distinct_id).copied();
        let id_no = stored.map_or_else(|| found.give_id(), |numbers| numbers.id_no);
        if stored.is_none_or(|numbers| numbers.person_no != person_no) {
            found.linked.push(KnownId { distinct_id: distinct_id.clone(), id_no, person_no });
        }
        found.numbers.insert(distinct_id, Numbers { id_no, person_no });
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
