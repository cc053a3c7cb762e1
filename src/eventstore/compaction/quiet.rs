//! Since when nothing has come.
//!
//! The catalogue does not say which objects came from sealing and which from a merge, so a compactor
//! remembers what it has seen and what it wrote itself. What another process merged looks like news, and so
//! does what it wrote itself if the answer of the database was lost: then the wait begins anew, and nothing
//! else. Rows that come in runs are no news of their project's segments when they leave the runs.

use std::collections::{HashMap, HashSet};

use crate::model::{Millis, ObjectId, ProjectId};
use crate::storage::server::objects::ObjectRow;

/// The live objects of one shard.
#[derive(Default)]
pub(super) struct Arrivals {
    seen: HashSet<ObjectId>,
    /// Of the segments of a project; of the runs, which are of all projects, under none.
    latest: HashMap<Option<ProjectId>, Millis>,
}

impl Arrivals {
    /// `objects` are all that are live now. Of those of a process that has just begun all are news.
    pub fn look<'o>(&mut self, objects: impl Iterator<Item = &'o ObjectRow>, now: Millis) {
        let mut seen = HashSet::with_capacity(self.seen.len());
        let mut latest = HashMap::with_capacity(self.latest.len());
        for object in objects {
            let is_known = self.seen.contains(&object.object_id);
            let before = self.latest.get(&object.project_id).filter(|_| is_known);
            let at = latest.entry(object.project_id).or_insert(Millis::MIN);
            *at = (*at).max(before.copied().unwrap_or(now));
            seen.insert(object.object_id);
        }
        *self = Self { seen, latest };
    }

    /// Outputs of a merge are no news.
    pub fn wrote(&mut self, object_id: ObjectId) {
        self.seen.insert(object_id);
    }

    /// The projects with segments of which none has come since `since`, and none when that is so of runs.
    pub fn quiet_since(&self, since: Millis) -> HashSet<Option<ProjectId>> {
        let quiet = self.latest.iter().filter(|(_, latest)| **latest <= since);
        quiet.map(|(project_id, _)| *project_id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ShardNo;
    use crate::storage::server::objects::ObjectKind;

    fn segment(n: u8, project_id: ProjectId) -> ObjectRow {
        ObjectRow {
            object_id: ObjectId([n; 16]),
            kind: ObjectKind::Segment,
            shard_no: ShardNo(0),
            project_id: Some(project_id),
            events: 1,
            bytes: 1,
            parts: 1,
            min_at: 0,
            max_at: 0,
            tier: 0,
            mask_version: 0,
            facts: Vec::new(),
            created_at: 0,
        }
    }

    #[test]
    fn a_project_is_quiet_until_something_comes_that_was_not_merged_here() {
        let (one, other) = (ProjectId(1), ProjectId(2));
        let mut arrivals = Arrivals::default();
        let quiet_since = |arrivals: &Arrivals, since| {
            let mut quiet: Vec<_> = arrivals.quiet_since(since).into_iter().flatten().collect();
            quiet.sort();
            quiet
        };
        let mut objects = vec![segment(1, one), segment(2, other)];
        arrivals.look(objects.iter(), 100);
        assert_eq!(quiet_since(&arrivals, 99), []);
        assert_eq!(quiet_since(&arrivals, 100), [one, other]);
        objects.push(segment(3, other));
        arrivals.look(objects.iter(), 200);
        assert_eq!(quiet_since(&arrivals, 199), [one], "something came of the other");
        arrivals.wrote(ObjectId([4; 16]));
        arrivals.look([segment(4, other)].iter(), 300);
        assert_eq!(quiet_since(&arrivals, 200), [other], "its own; of the first one nothing is left");
        assert!(!arrivals.quiet_since(Millis::MAX).contains(&None), "no runs are there");
    }
}
