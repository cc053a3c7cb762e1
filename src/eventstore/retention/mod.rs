//! How long projects keep their events.
//!
//! A project that keeps N days keeps those of the N days before today, in UTC, and of today. From
//! midnight on no question counts what is older, whoever still stores it. The sealer drops it when it
//! comes late; compaction deletes whole segments that are too old, and writes those again that are so in
//! part; and the sealer deletes the persons who are left without events ([`super::sealer`]).
//!
//! How many days is read from the control database now and then. Whoever has not been able to read it
//! for a while deletes nothing: the project may keep more by now.
//!
//! Questions go by the control database's time, and deleting follows an hour behind the earlier of it and
//! the time of the server that holds the rows: two databases whose clocks differ by minutes then agree on
//! what is still to be counted, and one whose clock is wrong by years deletes nothing that the other keeps.

mod preview;

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Clock, Millis, ProjectId, kept_from};
use crate::storage::control::projects;
use crate::storage::{Db, StorageError};

pub use preview::{Preview, preview};

/// For how long nothing is deleted by what was read before.
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// How long after a midnight the day that is no longer kept is deleted.
const DELETED_AFTER_MS: Millis = 3_600_000;

#[derive(Default)]
pub struct Retention {
    known: RwLock<Known>,
    /// The control database's; none in tests, which have one time.
    clock: Option<Arc<dyn Clock>>,
}

#[derive(Default)]
struct Known {
    read_at: Option<Instant>,
    days: HashMap<ProjectId, u32>,
}

impl Retention {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { known: RwLock::default(), clock: Some(clock) }
    }

    pub async fn refresh(&self, control: &Db) -> Result<(), StorageError> {
        let days = projects::list_retentions(control).await?;
        self.set(days.into_iter().collect());
        Ok(())
    }

    fn set(&self, days: HashMap<ProjectId, u32>) {
        let known = Known { read_at: Some(Instant::now()), days };
        *self.known.write().expect("no holder of this lock can panic") = known;
    }

    /// Projects that do not keep their events for ever, each with the first instant that is not to be
    /// deleted by a server whose time is `now`; empty while nothing is known.
    pub fn cuts(&self, now: Millis) -> Cuts {
        let earlier = self.clock.as_ref().map_or(now, |clock| now.min(clock.now_ms()));
        self.cuts_as_known(earlier - DELETED_AFTER_MS, Instant::now())
    }

    fn cuts_as_known(&self, now: Millis, at: Instant) -> Cuts {
        let known = self.known.read().expect("no holder of this lock can panic");
        match known.read_at {
            Some(read_at) if at.duration_since(read_at) < KNOWN_FOR => {
                known.days.iter().map(|(&project_id, &days)| (project_id, kept_from(days, now))).collect()
            }
            _ => Cuts::new(),
        }
    }

    /// Whether any project has a cut: what spares a question for the time.
    pub fn is_any(&self) -> bool {
        !self.known.read().expect("no holder of this lock can panic").days.is_empty()
    }

    /// For a test: nothing from before that day is kept, as of now on that server.
    #[cfg(test)]
    pub async fn from_day(db: &Db, project_id: ProjectId, day: i32) -> Self {
        let retention = Self::default();
        let now = db.now_ms().await.unwrap() - DELETED_AFTER_MS;
        retention.set(HashMap::from([(project_id, (crate::model::utc_day(now) - day) as u32)]));
        retention
    }
}

/// The first instant that is kept.
pub type Cuts = HashMap<ProjectId, Millis>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DAY_MS, ManualClock};

    #[test]
    fn a_server_whose_clock_is_wrong_deletes_nothing_by_it() {
        let noon = 100 * DAY_MS + DAY_MS / 2;
        let retention = Retention::new(Arc::new(ManualClock::new(noon)));
        retention.set(HashMap::from([(ProjectId(1), 30)]));
        for (server, day) in [(noon, 70), (noon + 365 * DAY_MS, 70), (noon - 2 * DAY_MS, 68)] {
            assert_eq!(retention.cuts(server)[&ProjectId(1)], day * DAY_MS);
        }
    }

    #[test]
    fn nothing_is_deleted_by_what_was_read_long_ago() {
        let noon = 100 * DAY_MS + DAY_MS / 2;
        let retention = Retention::default();
        assert_eq!(retention.cuts(noon), Cuts::new());
        retention.set(HashMap::from([(ProjectId(1), 30)]));
        assert_eq!(retention.cuts(noon), Cuts::from([(ProjectId(1), 70 * DAY_MS)]));
        let midnight = 100 * DAY_MS;
        for (now, day) in [(midnight + 3_599_999, 69), (midnight + 3_600_000, 70)] {
            assert_eq!(retention.cuts(now)[&ProjectId(1)], day * DAY_MS, "an hour after midnight");
        }
        let since = retention.known.read().unwrap().read_at.unwrap();
        let later = |millis| since + Duration::from_millis(millis);
        assert_eq!(retention.cuts_as_known(noon, later(599_999)).len(), 1);
        assert_eq!(retention.cuts_as_known(noon, later(600_000)), Cuts::new());
    }
}
