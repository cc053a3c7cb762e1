//! Everybody who is this person: the ids that links connect, in either direction, and their numbers.

use std::collections::{BTreeMap, BTreeSet};

use super::body::Work;
use super::{ErasureKind, later, later_scan};
use crate::eventstore::held::{self, Persons};
use crate::eventstore::scan::ScanError;
use crate::model::{BatchId, IdHash, LINK_EVENT, Millis, PersonNo, ProjectId, ServerId, ShardNo, shards_of};
use crate::storage::batch::BatchDecoder;
use crate::storage::control::projects::Project;
use crate::storage::server::journal::JournalBatch;
use crate::storage::server::{erasure, journal, links, masks, objects, tombstones};
use crate::storage::{Db, Server, StorageError};
use crate::tickets::{RunError, fail};

/// Ids of one person; more are no person, and would not fit into a ticket.
const IDS_MAX: usize = 10_000;
/// Inflated bytes of batches that are looked through at a time.
const BATCHES_BYTES_MAX: u64 = 32 << 20;
const BATCHES_MAX: usize = 200_000;
/// How often a list of objects is made again because one has been replaced meanwhile.
const LIST_ATTEMPTS: usize = 5;

impl ErasureKind {
    /// Adds to `work` what the servers know that answer; true when that was more than before. Servers
    /// that are away are left out.
    pub(super) async fn find(&self, project: &Project, work: &mut Work) -> Result<bool, RunError> {
        let before = (work.ids.clone(), work.persons.clone());
        let linked = self.waiting_links(project).await?;
        work.ids.insert(work.distinct_id.clone());
        let mut asked = BTreeSet::new();
        loop {
            let next: BTreeSet<String> = work.ids.difference(&asked).cloned().collect();
            if next.is_empty() {
                break;
            }
            for shard_no in self.shards_of(project) {
                let Ok(db) = self.shards.db_of(shard_no) else { continue };
                match erasure::find_known(db, shard_no, project.project_id, &next).await {
                    Ok(known) => {
                        work.ids.extend(known.ids);
                        if !known.persons.is_empty() {
                            work.persons.entry(shard_no).or_default().extend(known.persons);
                        }
                    }
                    Err(error) if error.is_transient() => {}
                    Err(error) => return Err(later(error)),
                }
            }
            for (one, other) in &linked {
                if next.contains(one) {
                    work.ids.insert(other.clone());
                } else if next.contains(other) {
                    work.ids.insert(one.clone());
                }
            }
            asked.extend(next);
            if work.ids.len() > IDS_MAX {
                let detail = format!("The person has more than {IDS_MAX} distinct ids.");
                return Err(fail("too_many_ids", detail));
            }
        }
        let has_grown = (&work.ids, &work.persons) != (&before.0, &before.1);
        for (&shard_no, persons) in &work.persons {
            let known = before.1.get(&shard_no);
            let new: Vec<PersonNo> =
                persons.iter().copied().filter(|no| !known.is_some_and(|known| known.contains(no))).collect();
            if let Ok(db) = self.shards.db_of(shard_no) {
                work.events +=
                    count_shown(db, shard_no, project.project_id, new).await.map_err(later_scan)?;
            }
        }
        Ok(has_grown)
    }

    pub(super) fn shards_of(&self, project: &Project) -> Vec<ShardNo> {
        shards_of(project.project_id, project.span, self.shards.count())
    }

    /// Links that wait in a journal: of ids of this project, both ends. Only those that will be followed:
    /// each id has one link, the first that was heard, and through somebody who was erased before nobody
    /// is connected.
    async fn waiting_links(&self, project: &Project) -> Result<Vec<(String, String)>, RunError> {
        let project_id = project.project_id;
        let shards: BTreeSet<ShardNo> = self.shards_of(project).into_iter().collect();
        let mut waiting = Vec::new();
        for server in self.shards.servers() {
            match links_on(server, &shards, self.shards.installation_id(), project_id).await {
                Ok(links) => waiting.extend(links),
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(later(error)),
            }
        }
        waiting.sort_by_key(|link: &Waiting| link.batch_id);
        let mut linked: BTreeMap<String, String> = BTreeMap::new();
        for Waiting { shard_no, ends: [one, other], .. } in waiting {
            let Ok(home) = self.shards.db_of(shard_no) else { continue };
            let id = std::slice::from_ref(&one);
            let stored = links::find_links(home, shard_no, project_id, id).await.map_err(later)?;
            if stored.is_empty() {
                linked.entry(one).or_insert(other);
            }
        }
        Ok(linked.into_iter().collect())
    }
}

async fn links_on(
    server: &Server,
    shards: &BTreeSet<ShardNo>,
    installation_id: ServerId,
    project_id: ProjectId,
) -> Result<Vec<Waiting>, StorageError> {
    let db = server.db()?;
    let mut linked = Vec::new();
    for shard_no in journal::list_shards(db).await?.into_iter().filter(|shard_no| shards.contains(shard_no)) {
        let entries = journal::list_oldest(db, shard_no, BATCHES_MAX).await?;
        let mut rest = entries.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|entry| {
                let is_first = bytes == 0;
                bytes += u64::from(entry.inflated_bytes).max(1);
                is_first || bytes <= BATCHES_BYTES_MAX
            });
            let (some, later) = rest.split_at(fits.count());
            rest = later;
            let ids: Vec<BatchId> = some.iter().map(|entry| entry.batch_id).collect();
            let batches = journal::read(db, shard_no, &ids).await?;
            let read = tokio::task::spawn_blocking(move || links_in(&batches, shard_no, project_id));
            linked.extend(read.await.unwrap_or_default());
        }
    }
    without_erased(db, installation_id, project_id, linked).await
}

/// The links of a project in some batches. What cannot be read is no link that a sealer could follow.
fn links_in(batches: &[JournalBatch], shard_no: ShardNo, project_id: ProjectId) -> Vec<Waiting> {
    let mut decoder = BatchDecoder::default();
    let mut waiting = Vec::new();
    for batch in batches {
        let Ok(salvaged) = decoder.salvage(&batch.body) else { continue };
        let of_project = salvaged.batch.events.into_iter().filter(|event| event.project_id == project_id);
        for event in of_project.filter(|event| event.event == LINK_EVENT) {
            let since = event.occurred_at.min(event.received_at);
            let Some(target_id) = event.anonymous_id else { continue };
            let ends = [event.distinct_id.to_string(), target_id.to_string()];
            waiting.push(Waiting { batch_id: batch.entry.batch_id, shard_no, ends, since });
        }
    }
    waiting
}

/// A link with both its ends, and since when it is there.
struct Waiting {
    batch_id: BatchId,
    /// The home of the linked id.
    shard_no: ShardNo,
    /// The linked id and its target.
    ends: [String; 2],
    since: Millis,
}

/// Those that the sealer will not drop.
async fn without_erased(
    db: &Db,
    installation_id: ServerId,
    project_id: ProjectId,
    waiting: Vec<Waiting>,
) -> Result<Vec<Waiting>, StorageError> {
    let hash = |id: &String| IdHash::of(installation_id, project_id, id);
    let hashes: BTreeSet<IdHash> = waiting.iter().flat_map(|link| &link.ends).map(hash).collect();
    let hashes: Vec<IdHash> = hashes.into_iter().collect();
    let erased: BTreeMap<IdHash, Millis> =
        tombstones::find(db, project_id, &hashes).await?.into_iter().collect();
    let is_erased = |link: &Waiting| {
        link.ends.iter().any(|id| erased.get(&hash(id)).is_some_and(|&until| link.since <= until))
    };
    Ok(waiting.into_iter().filter(|link| !is_erased(link)).collect())
}

/// Stored rows of those of the persons that no mask hides yet.
async fn count_shown(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    mut persons: Vec<PersonNo>,
) -> Result<u64, ScanError> {
    if !persons.is_empty() {
        let masked = masks::find_versions(db, shard_no, project_id, &persons).await?;
        persons.retain(|no| !masked.iter().any(|(masked, _)| masked == no));
    }
    if persons.is_empty() {
        return Ok(0);
    }
    let persons = Persons::from([(project_id, persons)]);
    'again: for _ in 0..LIST_ATTEMPTS {
        let mut rows = 0;
        let mut listed = objects::list_runs(db, shard_no).await?;
        listed.extend(objects::list_segments(db, shard_no, project_id, Millis::MIN, Millis::MAX).await?);
        for object in listed {
            match held::count_held(db, &object, &held::facts_of(&object)?, &persons).await? {
                Some(held) => rows += held.values().sum::<u64>(),
                None => continue 'again,
            }
        }
        return Ok(rows);
    }
    Err(ScanError::Outrun)
}
