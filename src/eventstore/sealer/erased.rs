//! Events of erased persons, which are dropped wherever they come from: a resend, a journal that waited
//! for its server, rows that were on their way to another shard.
//!
//! An erasure leaves a tombstone for every distinct id, and takes the lease of every shard of the
//! project away after that. So what is remembered here for as long as a lease lasts cannot be older
//! than an erasure.

use crate::model::{Event, FastMap, FastSet, IdHash, LINK_EVENT, Millis, ProjectId, ServerId, ShardNo};
use crate::storage::server::{masks, tombstones};
use crate::storage::{Db, StorageError};

/// What the worker of one shard knows of erasures and masks while its lease lasts.
pub struct ErasedIds {
    installation_id: ServerId,
    /// Until when at most something of a project is erased; nearly all events are later. `None`: no one
    /// of the project ever was.
    latest: FastMap<ProjectId, Option<Millis>>,
    /// The shard's. Only its own passes and erasures raise it.
    mask_version: Option<i64>,
}

impl ErasedIds {
    pub fn new(installation_id: ServerId) -> Self {
        Self { installation_id, latest: FastMap::default(), mask_version: None }
    }

    /// Up to which masks the rows of a pass obey that begins now.
    pub async fn mask_version(&mut self, db: &Db, shard_no: ShardNo) -> Result<i64, StorageError> {
        match self.mask_version {
            Some(known) => Ok(known),
            None => {
                let version = masks::read_versions(db, shard_no).await?.masks;
                self.mask_version = Some(version);
                Ok(version)
            }
        }
    }

    /// A pass has masked somebody.
    pub fn masks_were_set(&mut self) {
        self.mask_version = None;
    }

    /// Takes those events out that occurred or arrived until their ids were erased; how many.
    pub async fn drop_erased(&mut self, db: &Db, events: &mut Vec<Event>) -> Result<u64, StorageError> {
        let mut asked: FastMap<ProjectId, FastSet<IdHash>> = FastMap::default();
        for event in events.iter() {
            let project_id = event.project_id;
            let latest = match self.latest.get(&project_id) {
                Some(&latest) => latest,
                None => {
                    let latest = tombstones::find_latest(db, project_id).await?;
                    self.latest.insert(project_id, latest);
                    latest
                }
            };
            if latest.is_some_and(|latest| since(event) <= latest) {
                asked.entry(project_id).or_default().extend(self.hashes(event));
            }
        }
        if asked.is_empty() {
            return Ok(0);
        }
        let mut erased: FastMap<(ProjectId, IdHash), Millis> = FastMap::default();
        for (project_id, ids) in asked {
            let ids: Vec<IdHash> = ids.into_iter().collect();
            let found = tombstones::find(db, project_id, &ids).await?;
            erased.extend(found.into_iter().map(|(id, until)| ((project_id, id), until)));
        }
        let before = events.len();
        if !erased.is_empty() {
            events.retain(|event| {
                let until = self.hashes(event).filter_map(|id| erased.get(&(event.project_id, id)));
                !until.into_iter().any(|&until| since(event) <= until)
            });
        }
        Ok((before - events.len()) as u64)
    }

    /// Every id that the event belongs to: its own, those it has passed, and the other end of a link.
    fn hashes(&self, event: &Event) -> impl Iterator<Item = IdHash> {
        let target = event.anonymous_id.as_ref().filter(|_| event.event == LINK_EVENT);
        let ids = std::iter::once(&event.distinct_id).chain(&event.route).chain(target);
        ids.map(|id| IdHash::of(self.installation_id, event.project_id, id))
    }
}

/// A device whose clock is ahead has sent what is yet to occur: it arrived before the erasure all the
/// same.
fn since(event: &Event) -> Millis {
    event.occurred_at.min(event.received_at)
}
