//! Links: whose events go on to somebody else.
//!
//! A link says that a distinct id belongs to another one, its target; both sit in the home shard of the
//! linked id. Followed, it is a *pointer*: [`Pointers::route`] takes every event along the pointers of
//! this shard, as far as they lead, and the event either stays with the id at the end or goes into the
//! journal of the shard where its target lives, with the ids it has passed in its route.
//!
//! Every id has one link at most, the first that was heard; others are counted as conflicts. So ids
//! form trees, and each tree has one end, which is the person; or one circle. An event that comes to an
//! id it has passed already is on a circle, and knows all of it: the smallest id on it drops its
//! pointer and is the end from then on, whoever notices.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytestring::ByteString;

use super::homes::Homes;
use super::pass::ShardMemory;
use crate::model::{Event, FastMap, Millis, PersonNo, ProjectId, ShardNo};
use crate::storage::server::links::{self, Link, LinkState, WaitingLink};
use crate::storage::server::{masks, persons};
use crate::storage::{Db, StorageError, Tx};

/// Links that one pass begins to follow; as many moves begin with its transaction.
const STARTS_MAX: usize = 500;
/// Ids that an event may pass. A longer chain is cut there, as a circle would be: no project links so
/// many ids in a row but to find out what happens.
const PASSED_MAX: usize = 256;

/// A link as an event says it.
#[derive(Clone, Debug)]
pub struct SaidLink {
    pub project_id: ProjectId,
    pub distinct_id: String,
    pub target_id: String,
}

/// A pointer that a pass sets.
#[derive(Debug)]
pub struct Start {
    pub project_id: ProjectId,
    pub link: Link,
    pub target_shard: ShardNo,
    /// Who the id was until now: masked, and its rows follow.
    pub person_no: Option<PersonNo>,
}

/// What a pass does about links.
#[derive(Default, Debug)]
pub struct LinkChanges {
    pub starts: Vec<Start>,
    /// Their targets do not answer, or too many start already.
    pub waits: Vec<WaitingLink>,
    /// Another link of the id came first.
    pub conflicts: u64,
    /// There are waiting links that a further pass would start.
    pub more: bool,
    /// Pointers that were found to lead back to themselves.
    pub dropped: Vec<(ProjectId, Link)>,
}

impl LinkChanges {
    /// What was remembered of the linked ids does not hold any more, whether or not this pass has events
    /// of theirs.
    pub fn forget(&self, memory: &mut ShardMemory) {
        for Start { project_id, link, .. } in &self.starts {
            memory.persons.forget(*project_id, &link.distinct_id);
            memory.unlinked.remove(project_id);
        }
    }

    /// In the closing transaction. What was resolved for this pass already obeys it.
    pub async fn write(&self, tx: &mut Tx, shard_no: ShardNo, now: Millis) -> Result<(), StorageError> {
        for waiting in &self.waits {
            let WaitingLink { project_id, distinct_id, target_id } = waiting.clone();
            let link = Link { distinct_id, target_id, target_shard: None, state: LinkState::Recorded };
            links::put_link(tx, shard_no, project_id, &link, None, now).await?;
            links::wait(tx, shard_no, waiting, now).await?;
        }
        let mut done: BTreeMap<ProjectId, Vec<String>> = BTreeMap::new();
        for Start { project_id, link, target_shard, person_no } in &self.starts {
            links::put_link(tx, shard_no, *project_id, link, *person_no, now).await?;
            match *person_no {
                Some(person_no) => {
                    masks::insert(tx, shard_no, *project_id, person_no, "moved", now).await?;
                    links::start(tx, shard_no, *project_id, link, *target_shard, person_no).await?;
                }
                // Nothing of it ever came, so there is nothing to move.
                None => done.entry(*project_id).or_default().push(link.distinct_id.clone()),
            }
        }
        for (project_id, ids) in done {
            links::end(tx, shard_no, project_id, &ids).await?;
        }
        for (project_id, link) in &self.dropped {
            links::put_link(tx, shard_no, *project_id, link, None, now).await?;
        }
        Ok(())
    }
}

/// Which of the links said now, and of those that wait, begin to be followed.
pub async fn choose_links(
    db: &Db,
    homes: &Homes,
    shard_no: ShardNo,
    said: Vec<SaidLink>,
) -> Result<LinkChanges, StorageError> {
    let mut changes = LinkChanges::default();
    let waiting = links::list_waiting(db, shard_no, STARTS_MAX).await?;
    let is_full = waiting.len() == STARTS_MAX;
    if waiting.is_empty() && said.is_empty() {
        return Ok(changes);
    }
    // The first of each id, in the order in which they came.
    let mut first: BTreeMap<ProjectId, Vec<Candidate>> = BTreeMap::new();
    for waiting in waiting {
        let WaitingLink { project_id, distinct_id, target_id } = waiting;
        first.entry(project_id).or_default().push(Candidate { distinct_id, target_id, is_new: false });
    }
    for (project_id, said) in first_said(db, shard_no, said, &mut changes.conflicts).await? {
        let of_project = first.entry(project_id).or_default();
        for said in said {
            match of_project.iter().find(|known| known.distinct_id == said.distinct_id) {
                None => of_project.push(said),
                Some(known) if known.target_id == said.target_id => {}
                Some(_) => changes.conflicts += 1,
            }
        }
    }
    let mut answers = HashMap::new();
    for (project_id, candidates) in first {
        let mut starting = Vec::new();
        for Candidate { distinct_id, target_id, is_new } in candidates {
            let home = homes.find_home(project_id, &target_id).await?;
            let does_answer = match home {
                None => false,
                Some(home) if home == shard_no => true,
                Some(home) => match answers.get(&home) {
                    Some(&known) => known,
                    None => {
                        let does_answer = homes.does_answer(home).await;
                        answers.insert(home, does_answer);
                        does_answer
                    }
                },
            };
            match home.filter(|_| does_answer) {
                Some(home) if changes.starts.len() + starting.len() < STARTS_MAX => {
                    let target_shard = Some(home);
                    let link = Link { distinct_id, target_id, target_shard, state: LinkState::Linked };
                    starting.push((link, home));
                }
                startable => {
                    changes.more |= startable.is_some();
                    if is_new {
                        changes.waits.push(WaitingLink { project_id, distinct_id, target_id });
                    }
                }
            }
        }
        let ids: Vec<String> = starting.iter().map(|(link, _)| link.distinct_id.clone()).collect();
        let known = persons::find_ids(db, shard_no, project_id, &ids).await?;
        let person_of: HashMap<_, _> = known.into_iter().map(|id| (id.distinct_id, id.person_no)).collect();
        changes.starts.extend(starting.into_iter().map(|(link, target_shard)| {
            let person_no = person_of.get(&link.distinct_id).copied();
            Start { project_id, link, target_shard, person_no }
        }));
    }
    changes.more |= is_full && !changes.starts.is_empty();
    Ok(changes)
}

struct Candidate {
    distinct_id: String,
    target_id: String,
    is_new: bool,
}

/// The links said now of ids that have none yet.
async fn first_said(
    db: &Db,
    shard_no: ShardNo,
    said: Vec<SaidLink>,
    conflicts: &mut u64,
) -> Result<BTreeMap<ProjectId, Vec<Candidate>>, StorageError> {
    let mut by_project: BTreeMap<ProjectId, Vec<SaidLink>> = BTreeMap::new();
    for link in said.into_iter().filter(|link| link.distinct_id != link.target_id) {
        by_project.entry(link.project_id).or_default().push(link);
    }
    let mut new = BTreeMap::new();
    for (project_id, said) in by_project {
        let ids: BTreeSet<&str> = said.iter().map(|link| link.distinct_id.as_str()).collect();
        let ids: Vec<String> = ids.into_iter().map(str::to_owned).collect();
        let stored = links::find_links(db, shard_no, project_id, &ids).await?;
        let mut targets: HashMap<String, String> =
            stored.into_iter().map(|link| (link.distinct_id, link.target_id)).collect();
        let candidates: &mut Vec<Candidate> = new.entry(project_id).or_default();
        for SaidLink { distinct_id, target_id, .. } in said {
            match targets.get(&distinct_id) {
                None => {
                    targets.insert(distinct_id.clone(), target_id.clone());
                    candidates.push(Candidate { distinct_id, target_id, is_new: true });
                }
                Some(known) if *known == target_id => {}
                Some(_) => *conflicts += 1,
            }
        }
    }
    Ok(new)
}

/// The pointers of one project that the events of a pass may follow.
pub struct Pointers {
    shard_no: ShardNo,
    links: HashMap<String, Link>,
}

/// Where the events of a project go.
#[derive(Default, Debug)]
pub struct Routed {
    /// Without their routes.
    pub staying: Vec<Event>,
    /// The id that an event as sent belongs to, where that is another one.
    pub roots: FastMap<String, String>,
    pub leaving: Vec<(ShardNo, Event)>,
    /// Links whose pointers are dropped.
    pub dropped: Vec<Link>,
}

impl Pointers {
    /// Loads what leads on from the ids at which the events have arrived. Ids in the cache have no
    /// pointer, and those of `starts` get theirs with this pass. Most projects have no links at all, which
    /// is asked once.
    pub async fn load(
        db: &Db,
        memory: &mut ShardMemory,
        shard_no: ShardNo,
        project_id: ProjectId,
        events: &[Event],
        starts: &[Start],
    ) -> Result<Self, StorageError> {
        let ShardMemory { persons: cache, unlinked, .. } = memory;
        let mut links = HashMap::new();
        for start in starts.iter().filter(|start| start.project_id == project_id) {
            links.insert(start.link.distinct_id.clone(), start.link.clone());
        }
        let mut pointers = Self { shard_no, links };
        let has_any = match unlinked.contains(&project_id) {
            true => false,
            false => links::has_any(db, shard_no, project_id).await?,
        };
        if !has_any && pointers.links.is_empty() {
            unlinked.insert(project_id);
            return Ok(pointers);
        }
        let mut asked = BTreeSet::new();
        let mut next: BTreeSet<String> = events.iter().map(|event| arrived_at(event).to_owned()).collect();
        for _ in 0..PASSED_MAX {
            asked.extend(next.iter().cloned());
            if has_any {
                let unknown = |id: &&String| !pointers.links.contains_key(*id) && !cache.has(project_id, id);
                let ids: Vec<String> = next.iter().filter(unknown).cloned().collect();
                let found = links::find_links(db, shard_no, project_id, &ids).await?;
                let found = found.into_iter().filter(|link| link.state == LinkState::Linked);
                pointers.links.extend(found.map(|link| (link.distinct_id.clone(), link)));
            }
            let targets = next.iter().filter_map(|id| pointers.links.get(id));
            let here = targets.filter(|link| link.target_shard == Some(shard_no));
            next = here.map(|link| link.target_id.clone()).filter(|id| !asked.contains(id)).collect();
            if next.is_empty() {
                break;
            }
        }
        Ok(pointers)
    }

    /// Takes every event along the pointers.
    pub fn route(mut self, events: Vec<Event>) -> Routed {
        if self.links.is_empty() && events.iter().all(|event| event.route.is_empty()) {
            return Routed { staying: events, ..Routed::default() };
        }
        let mut dropped = Vec::new();
        loop {
            let ends: Vec<End> = events.iter().map(|event| self.follow(event)).collect();
            let circles: BTreeSet<&String> = ends
                .iter()
                .filter_map(|end| match end {
                    End::Circle(id) => Some(id),
                    _ => None,
                })
                .collect();
            if circles.is_empty() {
                return finish(events, ends, dropped);
            }
            // Again from the start, so that all events of an id end at the same one.
            for id in circles {
                dropped.extend(self.links.remove(id).map(|link| Link { state: LinkState::Dropped, ..link }));
            }
        }
    }

    fn follow(&self, event: &Event) -> End {
        let mut passed: Vec<&str> = match event.route.split_last() {
            Some((_, passed)) => passed.iter().map(|id| &**id).collect(),
            None => Vec::new(),
        };
        let mut id = arrived_at(event);
        loop {
            let Some(link) = self.links.get(id) else { return End::Here(id.to_owned()) };
            if let Some(at) = passed.iter().position(|known| *known == id) {
                if passed[at..].iter().min() == Some(&id) {
                    return End::Circle(id.to_owned());
                }
                // Only the circle is kept, turned so that it ends here.
                passed.drain(..=at);
            } else if passed.len() >= PASSED_MAX {
                return End::Circle(id.to_owned());
            }
            passed.push(id);
            id = &link.target_id;
            if let Some(shard_no) = link.target_shard.filter(|shard_no| *shard_no != self.shard_no) {
                passed.push(id);
                return End::There(shard_no, passed.into_iter().map(ByteString::from).collect());
            }
        }
    }
}

enum End {
    Here(String),
    There(ShardNo, Vec<ByteString>),
    /// The id whose pointer is to be dropped.
    Circle(String),
}

/// The id that an event has come to: its own, or the target that its route leads to.
fn arrived_at(event: &Event) -> &str {
    event.route.last().unwrap_or(&event.distinct_id)
}

fn finish(events: Vec<Event>, ends: Vec<End>, dropped: Vec<Link>) -> Routed {
    let mut routed = Routed { dropped, ..Routed::default() };
    for (mut event, end) in events.into_iter().zip(ends) {
        match end {
            End::Here(root) | End::Circle(root) => {
                event.route = Vec::new();
                if event.distinct_id != root {
                    routed.roots.insert(event.distinct_id.to_string(), root);
                }
                routed.staying.push(event);
            }
            End::There(shard_no, route) => {
                event.route = route;
                routed.leaving.push((shard_no, event));
            }
        }
    }
    routed
}
