//! Hiding the person: from the next question on, and for ever.

use super::body::Work;
use super::{ErasureKind, LATER, later};
use crate::model::{IdHash, Millis};
use crate::storage::control::projects::Project;
use crate::storage::server::erasure::{self, EraseError};
use crate::storage::server::{journal, tombstones};
use crate::telemetry::failpoint;
use crate::tickets::{RunError, TicketRun};

/// Events of the person may come and name more of their ids while they are masked; each time all is
/// looked at again. More often than this is a new run's task.
const ATTEMPTS: usize = 10;

impl ErasureKind {
    pub(super) fn is_masked(&self, project: &Project, work: &Work) -> bool {
        self.shards_of(project).iter().all(|shard_no| work.masked.contains(shard_no))
    }

    /// Masks the person in all shards. Where a server is away the run ends with what could be done, and
    /// the next one goes on; the others are masked meanwhile.
    pub(super) async fn mask(
        &self,
        run: &TicketRun,
        project: &Project,
        work: &mut Work,
    ) -> Result<(), RunError> {
        for _ in 0..ATTEMPTS {
            if work.erased_until.is_none() {
                work.erased_until = Some(self.latest_known_now().await);
            }
            if self.find(project, work).await? {
                // Other ids are to be erased everywhere too.
                work.masked.clear();
            }
            // Before anything is deleted that led to it.
            self.save(run, work).await?;
            failpoint::hit("erasure.after_find");
            match self.mask_found(run, project, work).await? {
                Masked::All => return Ok(()),
                Masked::Some => return Err(RunError::Later(LATER)),
                Masked::Grown => {}
            }
        }
        Err(RunError::Later(LATER))
    }

    async fn mask_found(
        &self,
        run: &TicketRun,
        project: &Project,
        work: &mut Work,
    ) -> Result<Masked, RunError> {
        let project_id = project.project_id;
        let installation_id = self.shards.installation_id();
        let until = work.erased_until.unwrap_or(run.created_at);
        let hashes: Vec<IdHash> =
            work.ids.iter().map(|id| IdHash::of(installation_id, project_id, id)).collect();
        // On every server: shards may move, and what is forwarded is dropped where it arrives. Before
        // the leases are taken away, so that the next pass of every shard knows them.
        let mut away = Vec::new();
        for server in self.shards.servers() {
            let written = match server.db() {
                Ok(db) => tombstones::insert(db, project_id, &hashes, until).await,
                Err(error) => Err(error),
            };
            match written {
                Ok(()) => {}
                Err(error) if error.is_transient() => away.push(server.server_id),
                Err(error) => return Err(later(error)),
            }
        }
        failpoint::hit("erasure.after_tombstones");
        for shard_no in self.shards_of(project) {
            if work.masked.contains(&shard_no) || away.contains(&self.shards.server_of(shard_no).server_id) {
                continue;
            }
            let Ok(db) = self.shards.db_of(shard_no) else { continue };
            let now = self.clock.now_ms();
            match erasure::erase(db, shard_no, project_id, &work.known_in(shard_no), now).await {
                Ok(()) => {
                    work.masked.insert(shard_no);
                    failpoint::hit("erasure.after_shard");
                }
                Err(EraseError::Grown) => return Ok(Masked::Grown),
                Err(EraseError::Storage(error)) if error.is_transient() => {}
                Err(EraseError::Storage(error)) => return Err(later(error)),
            }
        }
        self.save(run, work).await?;
        Ok(if self.is_masked(project, work) { Masked::All } else { Masked::Some })
    }

    /// The latest of the clocks that times of arrival come from, of those that answer.
    async fn latest_known_now(&self) -> Millis {
        let mut latest = self.clock.now_ms();
        for server in self.shards.servers() {
            if let Ok(db) = server.db()
                && let Ok(now) = journal::database_now(db).await
            {
                latest = latest.max(now);
            }
        }
        latest
    }

    /// The same of all servers.
    pub(super) async fn latest_now(&self) -> Result<Millis, RunError> {
        let mut latest = self.clock.now_ms();
        for server in self.shards.servers() {
            let db = server.db().map_err(later)?;
            latest = latest.max(journal::database_now(db).await.map_err(later)?);
        }
        Ok(latest)
    }
}

enum Masked {
    All,
    /// A server is away, or did not get to it in time.
    Some,
    /// There is more to be found.
    Grown,
}
