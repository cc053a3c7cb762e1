//! What a pass changes about persons beside their events: the days of their first and last event, and
//! their traits.
//!
//! The days could come from compaction, which reads every row again. But it does so in every tier, up
//! to hours after the event, and would have to read and compare all persons of an object each time. A
//! pass has persons and days in its hands, [`DaysCache`] knows what is stored, and what is left is one
//! row for a person's first event of a day, written in a transaction that is there anyway.

use std::collections::BTreeMap;

use super::persons::ProjectPersons;
use super::traits::{TraitLimits, Traits, has_traits};
use crate::eventstore::format::StoredRow;
use crate::model::{FastMap, Millis, PersonNo, ProjectId, ShardNo, utc_day};
use crate::storage::server::profiles::{self, Days};
use crate::storage::{Db, StorageError, Tx};

/// What the closing transaction writes for one project.
#[derive(Default)]
pub struct ProfileChanges {
    days: Vec<(PersonNo, Days)>,
    traits: Vec<(PersonNo, Vec<u8>)>,
    /// Values of traits that a limit kept out.
    pub traits_dropped: u64,
}

/// Two generations of days that are stored for certain. When the younger is full it becomes the older.
pub struct DaysCache {
    entries_max: usize,
    young: FastMap<(ProjectId, PersonNo), Days>,
    old: FastMap<(ProjectId, PersonNo), Days>,
}

impl DaysCache {
    pub fn new(entries_max: usize) -> Self {
        Self { entries_max: entries_max.max(2), young: FastMap::default(), old: FastMap::default() }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    fn find(&mut self, project_id: ProjectId, person_no: PersonNo) -> Option<Days> {
        let key = (project_id, person_no);
        if let Some(days) = self.young.get(&key) {
            return Some(*days);
        }
        let days = self.old.remove(&key)?;
        self.remember(project_id, person_no, days);
        Some(days)
    }

    fn remember(&mut self, project_id: ProjectId, person_no: PersonNo, days: Days) {
        if self.young.len() >= self.entries_max / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        let known = self.young.entry((project_id, person_no)).or_insert(days);
        *known = union(*known, days);
    }

    /// After the transaction that wrote them has committed.
    pub fn remember_all(&mut self, project_id: ProjectId, changes: &ProfileChanges) {
        for (person_no, days) in &changes.days {
            // Only what this pass was sure of: the stored days are these or more.
            self.remember(project_id, *person_no, *days);
        }
    }
}

fn union(a: Days, b: Days) -> Days {
    (a.0.min(b.0), a.1.max(b.1))
}

/// What these rows, which are stored nowhere yet, change.
pub async fn find_changes(
    db: &Db,
    cache: &mut DaysCache,
    shard_no: ShardNo,
    persons: &ProjectPersons,
    rows: &[StoredRow],
    limits: TraitLimits,
) -> Result<ProfileChanges, StorageError> {
    let Some(project_id) = rows.first().map(|row| row.project_id) else {
        return Ok(ProfileChanges::default());
    };
    let mut changes = ProfileChanges {
        days: widened_days(db, cache, shard_no, project_id, persons, rows).await?,
        ..ProfileChanges::default()
    };
    let mut saying: BTreeMap<PersonNo, Vec<&StoredRow>> = BTreeMap::new();
    for row in rows.iter().filter(|row| has_traits(row)) {
        saying.entry(row.person_no).or_default().push(row);
    }
    let old: Vec<PersonNo> = saying.keys().copied().filter(|&person_no| !persons.is_new(person_no)).collect();
    let stored = profiles::find_profiles(db, shard_no, project_id, &old).await?;
    let mut stored: FastMap<PersonNo, Vec<u8>> =
        stored.into_iter().filter_map(|profile| Some((profile.person_no, profile.traits?))).collect();
    for (person_no, mut rows) in saying {
        // In the order of occurrence, so that a limit leaves the oldest of one pass.
        rows.sort_unstable_by_key(|row| (row.occurred_at, row.event_id));
        let before = stored.remove(&person_no);
        let mut traits = match before.as_deref().map(Traits::decode) {
            None => Traits::default(),
            Some(Ok(traits)) => traits,
            // One person's traits do not hold up a shard, and nothing is written over them.
            Some(Err(error)) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, shard.no = shard_no.0, project.id = %project_id, person_no, "unreadable traits");
                changes.traits_dropped += rows.len() as u64;
                continue;
            }
        };
        changes.traits_dropped += rows.iter().map(|row| traits.apply(row, limits)).sum::<u64>();
        let after = traits.encode();
        if !traits.is_empty() && before.as_ref() != Some(&after) {
            changes.traits.push((person_no, after));
        }
    }
    Ok(changes)
}

/// The days of those persons who have others than are stored, ascending.
async fn widened_days(
    db: &Db,
    cache: &mut DaysCache,
    shard_no: ShardNo,
    project_id: ProjectId,
    persons: &ProjectPersons,
    rows: &[StoredRow],
) -> Result<Vec<(PersonNo, Days)>, StorageError> {
    let mut seen: FastMap<PersonNo, Days> = FastMap::default();
    for row in rows {
        let day = utc_day(row.occurred_at);
        let days = seen.entry(row.person_no).or_insert((day, day));
        *days = union(*days, (day, day));
    }
    let mut known: FastMap<PersonNo, Days> = FastMap::default();
    let mut unknown = Vec::new();
    for &person_no in seen.keys().filter(|&&person_no| !persons.is_new(person_no)) {
        match cache.find(project_id, person_no) {
            Some(days) => {
                known.insert(person_no, days);
            }
            None => unknown.push(person_no),
        }
    }
    for (person_no, days) in profiles::find_days(db, shard_no, project_id, &unknown).await? {
        cache.remember(project_id, person_no, days);
        known.insert(person_no, days);
    }
    let widened = |(person_no, days): (PersonNo, Days)| match known.get(&person_no) {
        None => Some((person_no, days)),
        Some(&stored) => {
            let wider = union(stored, days);
            (wider != stored).then_some((person_no, wider))
        }
    };
    let mut widened: Vec<_> = seen.into_iter().filter_map(widened).collect();
    widened.sort_unstable();
    Ok(widened)
}

impl ProfileChanges {
    pub async fn write(
        &self,
        tx: &mut Tx,
        shard_no: ShardNo,
        project_id: ProjectId,
        now: Millis,
    ) -> Result<(), StorageError> {
        profiles::widen_days(tx, shard_no, project_id, &self.days, now).await?;
        profiles::set_traits(tx, shard_no, project_id, &self.traits, now).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_cache_forgets_the_persons_that_nobody_sees() {
        let project_id = ProjectId(1);
        let mut cache = DaysCache::new(8);
        cache.remember(project_id, 0, (5, 6));
        for n in 1..100 {
            cache.remember(project_id, n, (1, 1));
            assert_eq!(cache.find(project_id, 0), Some((5, 6)));
        }
        assert!(cache.young.len() + cache.old.len() <= 8);
        assert_eq!(cache.find(project_id, 1), None);
        assert_eq!(cache.find(ProjectId(2), 0), None);
    }
}
