//! One pass over the oldest batches of one shard: decode, resolve persons, drop duplicates, write,
//! and close with one short transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::doubts::{self, Broken, Doubts, Sift};
use super::duplicates::{OpenedCache, Probe};
use super::erased::ErasedIds;
use super::expired::drop_expired;
use super::links::{self, LinkChanges, Pointers, SaidLink};
use super::moves;
use super::persons::{self, PersonsCache, ProjectPersons};
use super::profiles::{self, DaysCache, ProfileChanges};
use super::resends::{Dropped, drop_repeated, drop_stored};
use super::{SealContext, SealError};
use crate::eventstore::Placement;
use crate::eventstore::format::{StoredRow, write_run, write_segment};
use crate::model::{BatchId, Event, FastSet, Millis, ObjectId, ProjectId, ShardNo};
use crate::storage::server::failed_events::{self, FailedEvent};
use crate::storage::server::journal::{self, JournalBatch};
use crate::storage::server::leases::{self, Lease};
use crate::storage::server::objects::{self, NewObject, ObjectKind};
use crate::storage::{Db, StorageError, Tx};
use crate::telemetry::failpoint;

/// Batches looked at by one pass; up to eight times as many where they are so small that all of them are
/// taken.
const PASS_BATCHES_MIN: usize = 4_000;
const PASS_BATCHES_MAX: usize = 32_000;
pub use crate::model::LINK_EVENT;

/// What the worker of one shard remembers between passes, for as long as its lease lasts.
pub struct ShardMemory {
    pub persons: PersonsCache,
    pub days: DaysCache,
    pub opened: OpenedCache,
    /// Projects without links in this shard.
    pub unlinked: FastSet<ProjectId>,
    /// Whose events are dropped.
    pub erased: ErasedIds,
    /// When each move was first seen.
    pub moves: moves::SeenMoves,
    /// Batches that the next pass looks at.
    pub looked_at: LookedAt,
}

/// Batches that a pass looks at.
#[derive(Clone, Copy)]
pub struct LookedAt(usize);

impl Default for LookedAt {
    fn default() -> Self {
        Self(PASS_BATCHES_MIN)
    }
}

impl ShardMemory {
    /// Some are not there any more.
    pub fn forget_persons(&mut self) {
        self.persons.clear();
        self.days.clear();
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct PassOutcome {
    pub batches: u64,
    pub events: u64,
    pub rows: u64,
    /// Of the run and the segments that hold them.
    pub bytes: u64,
    pub duplicates: u64,
    /// Duplicates that were compared with what is stored, and those of them with other content.
    pub compared: u64,
    pub changed: u64,
    pub links: u64,
    /// Values of traits that a limit kept out of a profile.
    pub traits_dropped: u64,
    /// Events that went on to the shard of who they belong to.
    pub relayed: u64,
    /// Links that came too late: their ids belong to somebody else.
    pub conflicts: u64,
    /// Links that are followed from now on.
    pub started: u64,
    /// Events and whole batches that cannot be sealed and were put aside.
    pub broken: u64,
    /// Events of persons who were erased.
    pub erased: u64,
    /// Events that are older than their project keeps.
    pub expired: u64,
    /// Whether the journal had more than one pass takes.
    pub more: bool,
}

impl PassOutcome {
    fn drop(&mut self, dropped: Dropped) {
        self.duplicates += dropped.rows;
        self.compared += dropped.compared;
        self.changed += dropped.changed;
    }
}

/// What a pass has read.
#[derive(Default)]
pub struct Content {
    /// In the order of their batches: the first of several equal events wins.
    pub events: Vec<Event>,
    pub broken: Vec<Broken>,
    /// Exactly these go from the journal.
    pub batch_ids: Vec<BatchId>,
    /// When the first of them was committed.
    pub inserted_at: Option<Millis>,
    /// Batches that stay for another try.
    pub held_back: usize,
}

pub async fn run_pass(
    context: &SealContext,
    db: &Db,
    lease: &Lease,
    memory: &mut ShardMemory,
    doubts: &mut Doubts,
) -> Result<PassOutcome, SealError> {
    let looked_at = &mut memory.looked_at;
    let (batches, more) = read_journal(context, db, lease.shard_no, looked_at, doubts.batches_max()).await?;
    if batches.is_empty() {
        // Links may have waited for a server that is there by now.
        return seal(context, db, lease, memory, Content::default(), Ending::Commit).await;
    }
    let reading = tokio::task::spawn_blocking(move || {
        let read = doubts::read_batches(&batches);
        (batches, read)
    });
    let (batches, read) = reading.await.map_err(SealError::from_join)?;
    let mut content = doubts.read(batches, read);
    if content.batch_ids.is_empty() {
        return Ok(PassOutcome { more, ..PassOutcome::default() });
    }
    if doubts.is_alone() {
        let mut sift = Sift::new(std::mem::take(&mut content.events));
        while let Some(events) = sift.next() {
            let trial = Content { events, inserted_at: content.inserted_at, ..Content::default() };
            if let Err(error) = seal(context, db, lease, memory, trial, Ending::RollBack).await {
                sift.judge(error)?;
            }
        }
        let (sound, broken) = sift.finish();
        content.events = sound;
        content.broken.extend(broken);
    }
    let outcome = seal(context, db, lease, memory, content, Ending::Commit).await?;
    Ok(PassOutcome { more: more | outcome.more, ..outcome })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Commit,
    /// All the way to the last statement, and then nothing has happened.
    RollBack,
}

/// From events to stored rows, or to the last step before.
async fn seal(
    context: &SealContext,
    db: &Db,
    lease: &Lease,
    memory: &mut ShardMemory,
    content: Content,
    ending: Ending,
) -> Result<PassOutcome, SealError> {
    let shard_no = lease.shard_no;
    let now = context.clock.now_ms();
    let Content { mut events, broken, batch_ids, inserted_at, held_back: _ } = content;
    // Before anything that is to obey the masks is read.
    let mask_version = memory.erased.mask_version(db, shard_no).await?;
    let mut outcome = PassOutcome {
        batches: batch_ids.len() as u64,
        events: events.len() as u64,
        broken: broken.len() as u64,
        erased: memory.erased.drop_erased(db, &mut events).await?,
        expired: drop_expired(context, db, &mut events).await?,
        ..PassOutcome::default()
    };
    let mut by_project: BTreeMap<ProjectId, Vec<Event>> = BTreeMap::new();
    let mut said = Vec::new();
    if events.windows(2).all(|two| two[0].project_id == two[1].project_id)
        && events.iter().all(|event| event.event != LINK_EVENT)
    {
        // Most passes of a busy shard: nothing has to be moved.
        by_project
            .extend(events.first().map(|event| event.project_id).map(|project_id| (project_id, events)));
    } else {
        for event in events {
            match (&*event.event, event.anonymous_id) {
                (LINK_EVENT, Some(target_id)) => {
                    let Event { project_id, distinct_id, .. } = event;
                    said.push(SaidLink {
                        project_id,
                        distinct_id: distinct_id.into(),
                        target_id: target_id.into(),
                    });
                }
                (_, anonymous_id) => {
                    by_project.entry(event.project_id).or_default().push(Event { anonymous_id, ..event });
                }
            }
        }
    }
    outcome.links = said.len() as u64;
    let mut links = links::choose_links(db, &context.homes, shard_no, said).await?;
    links.forget(memory);
    outcome.conflicts = links.conflicts;
    outcome.started = links.starts.len() as u64;
    outcome.more = links.more;
    if batch_ids.is_empty() && by_project.is_empty() && links.starts.is_empty() && broken.is_empty() {
        return Ok(outcome);
    }

    let mut projects = BTreeMap::new();
    let mut rows = BTreeMap::new();
    let mut probes = BTreeMap::new();
    let mut leaving = Vec::new();
    for (project_id, events) in by_project {
        let pointers = Pointers::load(db, memory, shard_no, project_id, &events, &links.starts).await?;
        let mut routed = pointers.route(events);
        let persons = persons::resolve(db, &mut memory.persons, shard_no, project_id, &routed).await?;
        links.dropped.extend(routed.dropped.drain(..).map(|link| (project_id, link)));
        leaving.append(&mut routed.leaving);
        if !routed.staying.is_empty() {
            let of_project = stored_rows(routed.staying, persons).await?;
            rows.insert(project_id, of_project.rows);
            outcome.drop(of_project.repeated);
            probes.insert(project_id, Arc::new(of_project.probes));
            projects.insert(project_id, of_project.persons);
        }
    }
    outcome.relayed = leaving.len() as u64;
    // What has waited since then is still waited for.
    let inserted_at = inserted_at.unwrap_or(now);
    let relayed = moves::encode(context, leaving, inserted_at).await?;
    outcome.drop(drop_stored(db, &mut memory.opened, shard_no, &probes, &mut rows).await?);
    outcome.rows = rows.values().map(Vec::len).sum::<usize>() as u64;

    let mut profiles = BTreeMap::new();
    for (project_id, rows) in &rows {
        let (persons, limits) = (&projects[project_id], context.traits);
        let changes = profiles::find_changes(db, &mut memory.days, shard_no, persons, rows, limits).await?;
        outcome.traits_dropped += changes.traits_dropped;
        profiles.insert(*project_id, changes);
    }
    let made = write_objects(context, shard_no, mask_version, rows).await?;
    let mut objects_made = Vec::new();
    // What is rolled back leaves no parts behind that somebody would have to clear away.
    if ending == Ending::Commit {
        for object in made {
            objects_made.push((object.kind(), object.object_id));
            outcome.bytes += object.bytes();
            objects::upload(db, object, now).await?;
        }
        failpoint::hit("seal.after_parts");
    }
    let failed_id = || BatchId::time_ordered(&*context.clock, &*context.random);
    let closing = Arc::new(Closing {
        lease: *lease,
        objects: objects_made,
        projects,
        profiles,
        links,
        relayed,
        broken: broken.into_iter().map(|broken| broken.put_aside(failed_id(), now)).collect(),
        batch_ids,
        now,
        ending,
    });
    let shared = closing.clone();
    let closed = db.transaction_after(leases::enter(lease, context.lease_ms), move |tx| {
        let closing = shared.clone();
        Box::pin(async move { closing.run(tx).await })
    });
    if let Err(error) = closed.await {
        closing.discard(db).await;
        return Err(error);
    }
    failpoint::hit("seal.after_commit");
    if outcome.started > 0 {
        memory.erased.masks_were_set();
        failpoint::hit("link.after_mask");
    }
    for (project_id, persons) in &closing.projects {
        persons.new.iter().for_each(|id| memory.persons.remember(*project_id, id));
    }
    for (project_id, changes) in &closing.profiles {
        memory.days.remember_all(*project_id, changes);
    }
    Ok(outcome)
}

/// The oldest batches up to a bound of inflated bytes, at least one; and whether there are more.
async fn read_journal(
    context: &SealContext,
    db: &Db,
    shard_no: ShardNo,
    looked_at: &mut LookedAt,
    batches_max: usize,
) -> Result<(Vec<JournalBatch>, bool), StorageError> {
    let limit = looked_at.0;
    let entries = journal::list_oldest(db, shard_no, limit).await?;
    let mut bytes = 0;
    let taken: Vec<BatchId> = entries
        .iter()
        .take(batches_max)
        .take_while(|entry| {
            let fits = bytes == 0 || bytes + u64::from(entry.inflated_bytes) <= context.pass_bytes_max;
            bytes += u64::from(entry.inflated_bytes).max(1);
            fits
        })
        .map(|entry| entry.batch_id)
        .collect();
    let more = taken.len() < entries.len() || entries.len() == limit;
    looked_at.0 = if taken.len() == limit { (2 * limit).min(PASS_BATCHES_MAX) } else { PASS_BATCHES_MIN };
    Ok((journal::read(db, shard_no, &taken).await?, more))
}

/// The events of one project as rows.
struct ProjectRows {
    persons: ProjectPersons,
    rows: Vec<StoredRow>,
    /// Of the persons who have rows from before this pass.
    probes: Vec<Probe>,
    /// Events that this pass had twice.
    repeated: Dropped,
}

async fn stored_rows(events: Vec<Event>, persons: ProjectPersons) -> Result<ProjectRows, SealError> {
    let making = tokio::task::spawn_blocking(move || {
        let of_event = |event: Event| {
            let numbers = persons.numbers(&event.distinct_id).ok_or(SealError::Unresolved)?;
            Ok(StoredRow {
                project_id: event.project_id,
                person_no: numbers.person_no,
                id_no: numbers.id_no,
                occurred_at: event.occurred_at,
                received_at: event.received_at,
                event: event.event,
                event_id: event.event_id,
                time_source: event.time_source,
                properties: event.properties,
            })
        };
        let mut rows = events.into_iter().map(of_event).collect::<Result<Vec<_>, SealError>>()?;
        let repeated = drop_repeated(&mut rows);
        let old = rows.iter().filter(|row| !persons.is_new(row.person_no));
        let probes = old.map(Probe::of).collect();
        Ok(ProjectRows { persons, rows, probes, repeated })
    });
    making.await.map_err(SealError::from_join)?
}

/// A segment for each project with enough rows, and one run for all the others.
async fn write_objects(
    context: &SealContext,
    shard_no: ShardNo,
    mask_version: i64,
    rows: BTreeMap<ProjectId, Vec<StoredRow>>,
) -> Result<Vec<NewObject>, SealError> {
    let (segment_rows_min, segment_rows_max) = (context.segment_rows_min, context.segment_rows_max);
    let options = context.write;
    let random = context.random.clone();
    let written = tokio::task::spawn_blocking(move || -> Result<Vec<NewObject>, SealError> {
        let place = |project_id, object| {
            let object_id = ObjectId::random(&*random);
            Placement { object_id, shard_no, project_id, tier: 0, mask_version }.place(object)
        };
        let mut made = Vec::new();
        let mut mixed = Vec::new();
        for (project_id, mut rows) in rows {
            if rows.len() < segment_rows_min {
                mixed.append(&mut rows);
                continue;
            }
            // Keys are a quarter of a row, and sorting moves what it sorts often.
            rows.sort_by_cached_key(StoredRow::segment_key);
            for rows in rows.chunks(segment_rows_max) {
                let object = write_segment(rows, &options).map_err(SealError::Format)?;
                made.push(place(Some(project_id), object));
            }
        }
        if !mixed.is_empty() {
            mixed.sort_by_cached_key(StoredRow::run_key);
            let object = write_run(&mixed, &options).map_err(SealError::Format)?;
            made.push(place(None, object));
        }
        Ok(made)
    });
    written.await.map_err(SealError::from_join)?
}

/// The short transaction at the end: all of a pass, or nothing.
struct Closing {
    lease: Lease,
    objects: Vec<(ObjectKind, ObjectId)>,
    projects: BTreeMap<ProjectId, ProjectPersons>,
    profiles: BTreeMap<ProjectId, ProfileChanges>,
    links: LinkChanges,
    relayed: Vec<(ShardNo, Vec<JournalBatch>)>,
    broken: Vec<FailedEvent>,
    batch_ids: Vec<BatchId>,
    now: Millis,
    ending: Ending,
}

impl Closing {
    /// What was uploaded for nothing goes at once: it may hold rows of somebody who is being erased.
    async fn discard(&self, db: &Db) {
        for &(kind, object_id) in &self.objects {
            let discarded = objects::discard(db, kind, self.lease.shard_no, object_id, self.now).await;
            if let Err(error) = discarded {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, object.id = %object_id, "left for compaction to give up");
            }
        }
    }

    async fn run(&self, tx: &mut Tx) -> Result<(), SealError> {
        use crate::storage::server::persons as stored;
        let shard_no = self.lease.shard_no;
        if !leases::is_held(tx, &self.lease).await? {
            return Err(SealError::LeaseLost);
        }
        failpoint::hit("seal.in_closing");
        for (project_id, persons) in &self.projects {
            stored::insert_new(tx, shard_no, *project_id, &persons.new, self.now).await?;
            stored::insert_persons(tx, shard_no, *project_id, &persons.anew, self.now).await?;
            stored::put_ids(tx, shard_no, *project_id, &persons.linked).await?;
            let (next_person_no, next_id_no) = persons.next_numbers();
            stored::raise_counters(tx, shard_no, *project_id, next_person_no, next_id_no).await?;
        }
        for (project_id, changes) in &self.profiles {
            changes.write(tx, shard_no, *project_id, self.now).await?;
        }
        self.links.write(tx, shard_no, self.now).await?;
        for (to, batches) in &self.relayed {
            journal::insert_forwarded_in(tx, *to, batches).await?;
        }
        for kind in [ObjectKind::Run, ObjectKind::Segment] {
            let of_kind = self.objects.iter().filter(|(k, _)| *k == kind);
            let ids: Vec<ObjectId> = of_kind.map(|(_, object_id)| *object_id).collect();
            if !objects::make_live(tx, kind, shard_no, &ids).await? {
                return Err(SealError::ObjectGivenUp);
            }
        }
        if !self.broken.is_empty() {
            failed_events::insert_in(tx, &self.broken).await?;
        }
        // Exactly the batches that were read: one with a smaller id may have been committed since.
        let deleted = journal::delete(tx, shard_no, &self.batch_ids).await?;
        if deleted != self.batch_ids.len() as u64 {
            return Err(SealError::JournalChanged { expected: self.batch_ids.len() as u64, deleted });
        }
        leases::leave(tx, &self.lease).await?;
        match self.ending {
            Ending::Commit => Ok(()),
            Ending::RollBack => Err(SealError::RolledBack),
        }
    }
}
