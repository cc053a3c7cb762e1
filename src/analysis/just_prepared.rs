//! What a submission has just read of its project, for the run that mostly follows at once.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::ProjectSettings;
use crate::model::ProjectId;
use crate::storage::control::projects::Project;

#[derive(Default)]
pub(super) struct JustPrepared(Mutex<HashMap<Key, Kept>>);

/// The project and a hash of its question, which may name somebody.
type Key = (ProjectId, [u8; 32]);
type Kept = (Instant, Project, ProjectSettings);

impl JustPrepared {
    const AGE_MAX: Duration = Duration::from_secs(1);
    /// Of submissions whose runs did not come.
    const KEPT_MAX: usize = 100;

    pub(super) fn keep(&self, body: &[u8], project: Project, settings: ProjectSettings) {
        let mut kept = self.0.lock().expect("no holder of this lock can panic");
        kept.retain(|_, (at, ..)| at.elapsed() < Self::AGE_MAX);
        if kept.len() < Self::KEPT_MAX {
            kept.insert(
                (project.project_id, Sha256::digest(body).into()),
                (Instant::now(), project, settings),
            );
        }
    }

    pub(super) fn take(&self, project_id: ProjectId, body: &[u8]) -> Option<(Project, ProjectSettings)> {
        let mut kept = self.0.lock().expect("no holder of this lock can panic");
        let (at, project, settings) = kept.remove(&(project_id, Sha256::digest(body).into()))?;
        (at.elapsed() < Self::AGE_MAX).then_some((project, settings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::control::projects::Project;

    #[test]
    fn what_was_read_serves_one_run_of_the_same_question_and_is_not_kept_without_end() {
        let prepared = JustPrepared::default();
        let project = |n| Project {
            project_id: ProjectId(n),
            name: "shop".to_owned(),
            time_zone: "UTC".to_owned(),
            span: 1,
            created_at: 0,
            retention_days: None,
            erasure_epoch: 0,
        };
        let keep = |n, body: &[u8]| prepared.keep(body, project(n), ProjectSettings::new("UTC", 0));
        keep(1, b"a");
        assert!(prepared.take(ProjectId(2), b"a").is_none() && prepared.take(ProjectId(1), b"b").is_none());
        assert_eq!(prepared.take(ProjectId(1), b"a").unwrap().0.project_id, ProjectId(1));
        assert!(prepared.take(ProjectId(1), b"a").is_none(), "a later run reads it again");
        for n in 0..2 * JustPrepared::KEPT_MAX as u32 {
            keep(n, b"a");
        }
        assert_eq!(prepared.0.lock().unwrap().len(), JustPrepared::KEPT_MAX);
    }
}
