//! Whether anything still holds the person: a journal, spill included, or an object in any state.

use std::collections::{BTreeMap, BTreeSet};

use super::ErasureKind;
use super::body::Work;
use crate::eventstore::held::{self, Persons};
use crate::eventstore::scan::ScanError;
use crate::model::{Millis, ObjectId, PersonNo, ProjectId, ShardNo};
use crate::storage::control::projects::Project;
use crate::storage::server::{journal, masks, objects};
use crate::storage::{Db, StorageError};
use crate::tickets::TicketRun;

/// Objects of one shard that may be behind an erasure.
const OBJECTS_MAX: usize = 100_000;

/// What need not be looked at again: an object never gets rows that it did not have.
#[derive(Default)]
pub(super) struct SeenClear {
    objects: BTreeSet<ObjectId>,
}

impl ErasureKind {
    pub(super) async fn is_clear(
        &self,
        run: &TicketRun,
        project: &Project,
        work: &Work,
        seen: &mut SeenClear,
    ) -> Result<bool, ScanError> {
        run.progress.reset();
        let shards = self.shards_of(project);
        let until = work.wait_until.unwrap_or(Millis::MAX);
        if !self.are_journals_clear(&shards, until).await? {
            return Ok(false);
        }
        let mut is_clear = true;
        for shard_no in shards {
            let db = self.shards.db_of(shard_no)?;
            while objects::delete_given_up(db, shard_no).await? > 0 {}
            let persons = work.persons.get(&shard_no);
            let is_shard_clear = match persons.filter(|persons| !persons.is_empty()) {
                Some(persons) => is_shard_clear(db, shard_no, project.project_id, persons, seen).await?,
                None => true,
            };
            if is_shard_clear {
                run.progress.add_shard();
            }
            is_clear &= is_shard_clear;
        }
        Ok(is_clear)
    }

    /// Whether all batches of these shards are gone that were committed until then, on every server. All
    /// are looked at twice: a batch that was brought home between two looks is found there by the second.
    async fn are_journals_clear(&self, shards: &[ShardNo], until: Millis) -> Result<bool, StorageError> {
        for server in self.shards.servers().iter().chain(self.shards.servers()) {
            let waiting = journal::list_waiting(server.db()?).await?;
            if waiting.iter().any(|(shard_no, oldest)| shards.contains(shard_no) && *oldest <= until) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

async fn is_shard_clear(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    persons: &BTreeSet<PersonNo>,
    seen: &mut SeenClear,
) -> Result<bool, ScanError> {
    let persons: Vec<PersonNo> = persons.iter().copied().collect();
    let versions = masks::find_versions(db, shard_no, project_id, &persons).await?;
    // Masks are taken away when nothing is left that they could hide.
    let Some(version) = versions.iter().map(|(_, version)| *version).max() else { return Ok(true) };
    let persons: Persons = BTreeMap::from([(project_id, persons)]);
    for listed in objects::list_below(db, shard_no, version, OBJECTS_MAX).await? {
        let object = listed.object;
        if seen.objects.contains(&object.object_id) {
            continue;
        }
        match held::count_held(db, &object, &held::facts_of(&object)?, &persons).await? {
            Some(held) if held.is_empty() => {
                seen.objects.insert(object.object_id);
            }
            // One whose parts are gone while its row is not is being deleted.
            Some(_) | None => return Ok(false),
        }
    }
    Ok(true)
}
