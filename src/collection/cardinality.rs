//! A bound on how many different event and property names one project may have.
//!
//! A client that writes ids into names would otherwise fill every menu, catalogue row and column
//! directory. Names are remembered as hashes, in this process and for the current UTC day only: a
//! project that has used up its names by mistake can go on tomorrow, and memory stays flat however
//! many projects and names there are. It is a guard, not an exact count over all replicas.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::model::{FastSet, Millis, ProjectId, hash64, utc_day};

/// Projects remembered at a time; beyond it the memory of all is given up, which only lets more
/// names pass.
const PROJECTS_MAX: usize = 10_000;

/// Names remembered in all projects together, 8 bytes each and as much again for the table.
const NAMES_MAX: usize = 2_000_000;

pub struct Cardinality {
    event_names_max: usize,
    property_names_max: usize,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    day: i32,
    names: usize,
    projects: HashMap<ProjectId, Names>,
}

#[derive(Default)]
struct Names {
    events: FastSet<u64>,
    properties: FastSet<u64>,
}

/// What a project has too many of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TooMany {
    EventNames { limit: usize },
    PropertyNames { limit: usize },
}

impl Cardinality {
    pub fn new(event_names_max: usize, property_names_max: usize) -> Self {
        Self { event_names_max, property_names_max, seen: Mutex::default() }
    }

    /// Remembers an event's names, or says which of them would be one too many; then none of them is
    /// remembered.
    pub fn admit<'a>(
        &self,
        project_id: ProjectId,
        now: Millis,
        event: &str,
        properties: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<(), TooMany> {
        let event = hash64(event.as_bytes());
        let properties = properties.map(|name| hash64(name.as_bytes()));
        let mut seen = self.seen.lock().expect("no holder of this lock can panic");
        let day = utc_day(now);
        if seen.day != day || seen.projects.len() > PROJECTS_MAX || seen.names > NAMES_MAX {
            *seen = Seen { day, ..Seen::default() };
        }
        let seen = &mut *seen;
        let names = seen.projects.entry(project_id).or_default();

        let limit = self.event_names_max;
        let is_new_event = !names.events.contains(&event);
        if is_new_event && names.events.len() >= limit {
            return Err(TooMany::EventNames { limit });
        }
        let limit = self.property_names_max;
        let new_properties = properties.clone().filter(|name| !names.properties.contains(name)).count();
        if new_properties > 0 && names.properties.len() + new_properties > limit {
            return Err(TooMany::PropertyNames { limit });
        }
        if is_new_event {
            names.events.insert(event);
        }
        if new_properties > 0 {
            names.properties.extend(properties);
        }
        seen.names += usize::from(is_new_event) + new_properties;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DAY_MS;

    #[test]
    fn names_beyond_the_limit_are_refused_and_known_ones_go_on() {
        let cardinality = Cardinality::new(2, 3);
        let admit = |project, event, properties: &[&str]| {
            cardinality.admit(ProjectId(project), 0, event, properties.iter().copied())
        };
        assert_eq!(admit(1, "a", &["x", "y"]), Ok(()));
        assert_eq!(admit(1, "b", &[]), Ok(()));
        assert_eq!(admit(1, "c", &[]), Err(TooMany::EventNames { limit: 2 }));
        assert_eq!(admit(1, "a", &["z", "w"]), Err(TooMany::PropertyNames { limit: 3 }));
        assert_eq!(admit(1, "a", &["x", "z"]), Ok(()));
        assert_eq!(admit(1, "b", &["w"]), Err(TooMany::PropertyNames { limit: 3 }));
        assert_eq!(admit(2, "c", &["w"]), Ok(()), "another project has its own names");
    }

    #[test]
    fn a_new_day_begins_anew() {
        let cardinality = Cardinality::new(1, 1);
        let admit = |now, event| cardinality.admit(ProjectId(1), now, event, std::iter::empty());
        assert!(admit(0, "a").is_ok());
        assert!(admit(DAY_MS - 1, "b").is_err());
        assert!(admit(DAY_MS, "b").is_ok());
    }

    #[test]
    fn memory_stays_flat_over_many_projects() {
        let cardinality = Cardinality::new(10_000, 10_000);
        for project in 0..30_000 {
            cardinality.admit(ProjectId(project), 0, "a", ["x"].into_iter()).unwrap();
        }
        let seen = cardinality.seen.lock().unwrap();
        assert!(seen.projects.len() <= PROJECTS_MAX + 1 && seen.names <= NAMES_MAX);
    }
}
