//! What a submission has just read of its project, for the run that mostly follows at once, and for later
//! submissions that presume that it still holds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::ProjectSettings;
use crate::model::ProjectId;
use crate::storage::control::projects::Project;

#[derive(Default)]
pub(super) struct JustPrepared {
    for_runs: Mutex<HashMap<Key, Kept>>,
    latest: Mutex<HashMap<ProjectId, Arc<Project>>>,
}

/// The project and a hash of its question, which may name somebody.
type Key = (ProjectId, [u8; 32]);
type Kept = (Instant, Arc<Project>, ProjectSettings);

impl JustPrepared {
    const AGE_MAX: Duration = Duration::from_secs(1);
    /// Of submissions whose runs did not come.
    const KEPT_MAX: usize = 100;
    /// More projects than most installations have.
    const LATEST_MAX: usize = if cfg!(test) { 5 } else { 1_000 };

    /// As it was read last, however long ago.
    pub(super) fn latest(&self, project_id: ProjectId) -> Option<Arc<Project>> {
        self.latest.lock().expect("no holder of this lock can panic").get(&project_id).cloned()
    }

    pub(super) fn keep_latest(&self, project: Arc<Project>) {
        let mut latest = self.latest.lock().expect("no holder of this lock can panic");
        if latest.len() >= Self::LATEST_MAX && !latest.contains_key(&project.project_id) {
            latest.clear();
        }
        latest.insert(project.project_id, project);
    }

    pub(super) fn keep(&self, body: &[u8], project: Arc<Project>, settings: ProjectSettings) {
        let mut kept = self.for_runs.lock().expect("no holder of this lock can panic");
        kept.retain(|_, (at, ..)| at.elapsed() < Self::AGE_MAX);
        if kept.len() < Self::KEPT_MAX {
            kept.insert(
                (project.project_id, Sha256::digest(body).into()),
                (Instant::now(), project, settings),
            );
        }
    }

    pub(super) fn take(&self, project_id: ProjectId, body: &[u8]) -> Option<(Arc<Project>, ProjectSettings)> {
        let mut kept = self.for_runs.lock().expect("no holder of this lock can panic");
        let (at, project, settings) = kept.remove(&(project_id, Sha256::digest(body).into()))?;
        (at.elapsed() < Self::AGE_MAX).then_some((project, settings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::control::projects::Project;

    fn project(n: u32) -> Arc<Project> {
        Arc::new(Project {
            project_id: ProjectId(n),
            name: "shop".to_owned(),
            time_zone: "UTC".to_owned(),
            span: 1,
            created_at: 0,
            retention_days: None,
            erasure_epoch: 0,
        })
    }

    #[test]
    fn the_latest_of_few_projects_are_known() {
        let prepared = JustPrepared::default();
        assert!(prepared.latest(ProjectId(1)).is_none());
        for n in 0..JustPrepared::LATEST_MAX as u32 {
            prepared.keep_latest(project(n));
        }
        prepared.keep_latest(Arc::new(Project { span: 2, ..(*project(1)).clone() }));
        assert_eq!(prepared.latest(ProjectId(1)).unwrap().span, 2);
        assert_eq!(prepared.latest(ProjectId(0)).unwrap().span, 1);
        prepared.keep_latest(project(7));
        assert!(prepared.latest(ProjectId(7)).is_some());
        assert_eq!(prepared.latest.lock().unwrap().len(), 1);
    }

    #[test]
    fn what_was_read_serves_one_run_of_the_same_question_and_is_not_kept_without_end() {
        let prepared = JustPrepared::default();
        let keep = |n, body: &[u8]| prepared.keep(body, project(n), ProjectSettings::new("UTC", 0));
        keep(1, b"a");
        assert!(prepared.take(ProjectId(2), b"a").is_none() && prepared.take(ProjectId(1), b"b").is_none());
        assert_eq!(prepared.take(ProjectId(1), b"a").unwrap().0.project_id, ProjectId(1));
        assert!(prepared.take(ProjectId(1), b"a").is_none(), "a later run reads it again");
        for n in 0..2 * JustPrepared::KEPT_MAX as u32 {
            keep(n, b"a");
        }
        assert_eq!(prepared.for_runs.lock().unwrap().len(), JustPrepared::KEPT_MAX);
    }
}
