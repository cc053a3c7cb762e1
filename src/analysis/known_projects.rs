//! What was read of projects, for later questions that presume that it still holds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::model::ProjectId;
use crate::storage::control::projects::Project;

/// Each as it was read last, however long ago.
#[derive(Default)]
pub(super) struct KnownProjects(Mutex<HashMap<ProjectId, Arc<Project>>>);

impl KnownProjects {
    /// More than most installations have.
    const MAX: usize = if cfg!(test) { 5 } else { 1_000 };

    pub(super) fn find(&self, project_id: ProjectId) -> Option<Arc<Project>> {
        self.lock().get(&project_id).cloned()
    }

    pub(super) fn keep(&self, project: Arc<Project>) {
        let mut known = self.lock();
        if known.len() >= Self::MAX && !known.contains_key(&project.project_id) {
            known.clear();
        }
        known.insert(project.project_id, project);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ProjectId, Arc<Project>>> {
        self.0.lock().expect("no holder of this lock can panic")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_projects_are_known_each_as_it_was_last() {
        let project = |n, span| {
            Arc::new(Project {
                project_id: ProjectId(n),
                name: "shop".to_owned(),
                time_zone: "UTC".to_owned(),
                span,
                created_at: 0,
                retention_days: None,
                erasure_epoch: 0,
            })
        };
        let known = KnownProjects::default();
        assert!(known.find(ProjectId(1)).is_none());
        (0..KnownProjects::MAX as u32).for_each(|n| known.keep(project(n, 1)));
        known.keep(project(1, 2));
        let span_of = |n| known.find(ProjectId(n)).map(|project| project.span);
        assert_eq!([0, 1, 7].map(span_of), [Some(1), Some(2), None]);
        known.keep(project(7, 3));
        assert_eq!([0, 1, 7].map(span_of), [None, None, Some(3)], "all others are forgotten");
    }
}
