//! Moving the rows of linked persons: out of the runs and segments of this shard, where they are masked,
//! into the journal, marked with the shard of their target. From there they take the way of every other
//! event.
//!
//! A step copies a bounded chunk, the rows of some persons in the order of segments, and advances their
//! cursors in the same transaction: each row is copied once, whatever dies. The set of rows does not
//! change meanwhile, because the sealer gives a masked person no new ones, and compaction keeps those
//! that are still to be copied.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::pass::ShardMemory;
use super::{SealContext, SealError};
use crate::eventstore::format::{
    Columns, HEADER_PART, ObjectKind, ObjectReader, PartSet, RowRanges, StoredRow, Want,
};
use crate::eventstore::object_cache::ObjectCache;
use crate::eventstore::scan::{ListedObject, Listing, ScanError, ScanRequest};
use crate::model::{BatchId, Event, EventId, Millis, PersonNo, ProjectId, ShardNo};
use crate::storage::batch::{BatchEncoder, encode_event};
use crate::storage::server::journal::{self, JournalBatch, JournalEntry};
use crate::storage::server::leases::{self, Lease};
use crate::storage::server::links::{self, Move};
use crate::storage::server::{objects, persons};
use crate::storage::{Db, StorageError};
use crate::telemetry::failpoint;

/// Moves looked at by one step, all of one project.
const MOVES_MAX: usize = 200;
/// A batch of moved events is closed behind this many bytes, so that no statement is too large.
const BATCH_BYTES: usize = 1 << 20;

/// What one step may copy.
#[derive(Clone, Copy, Debug)]
pub struct ChunkLimits {
    pub rows_max: usize,
    pub raw_bytes_max: u64,
}

/// When each move was first seen by this worker.
pub type SeenMoves = HashMap<(ProjectId, String), Millis>;

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Moved {
    pub rows: u64,
    pub finished: u64,
    /// A further step would copy more.
    pub more: bool,
}

/// One step over the moves of a shard. The lease is the sealer's.
pub async fn copy_chunk(
    context: &SealContext,
    db: &Db,
    lease: &Lease,
    memory: &mut ShardMemory,
) -> Result<Moved, SealError> {
    let shard_no = lease.shard_no;
    let listed = links::list_moving(db, shard_no, MOVES_MAX).await?;
    let moves = settled(context, &mut memory.moves, listed);
    let Some(project_id) = moves.first().map(|of| of.project_id) else { return Ok(Moved::default()) };
    let looked_at = moves.len();
    let moves: Vec<Move> = moves.into_iter().filter(|of| of.project_id == project_id).collect();

    let chunk = read_chunk(context.move_chunk, db, shard_no, project_id, &moves).await?;
    let (events, steps) = plan(db, shard_no, project_id, chunk, moves).await?;
    let rows = events.len() as u64;
    // What waits for everything that was committed when the move began waits for these too.
    let began = steps.iter().map(|step| step.of.started_at).min().unwrap_or_default();
    let batches = encode(context, events, began).await?;
    let finished: Vec<String> =
        steps.iter().filter(|step| step.to.is_none()).map(|step| step.of.distinct_id.clone()).collect();
    let moved = Moved {
        rows,
        finished: finished.len() as u64,
        more: finished.len() < looked_at || looked_at == MOVES_MAX,
    };
    let lease = *lease;
    let closing = std::sync::Arc::new((batches, steps, finished));
    db.transaction_after(leases::enter(&lease, context.lease_ms), move |tx| {
        let closing = closing.clone();
        Box::pin(async move {
            let (batches, steps, finished) = &*closing;
            if !leases::is_held(tx, &lease).await? {
                return Err(SealError::LeaseLost);
            }
            for (to, batches) in batches {
                journal::insert_forwarded_in(tx, *to, batches).await?;
            }
            for step in steps {
                if let Some(to) = step.to {
                    links::advance(tx, shard_no, &step.of, to).await?;
                }
            }
            if !finished.is_empty() {
                failpoint::hit("link.before_end");
            }
            links::end(tx, shard_no, project_id, finished).await?;
            leases::leave(tx, &lease).await?;
            Ok(())
        })
    })
    .await?;
    failpoint::hit("link.after_chunk");
    Ok(moved)
}

/// Those moves whose masks are older than any list of a question that is still being answered: a
/// question that listed one shard before the mask has listed the target before the first copy.
fn settled(context: &SealContext, seen: &mut SeenMoves, moves: Vec<Move>) -> Vec<Move> {
    let now = context.clock.now_ms();
    let known: BTreeSet<(ProjectId, String)> =
        moves.iter().map(|of| (of.project_id, of.distinct_id.clone())).collect();
    seen.retain(|key, _| known.contains(key));
    for key in known {
        seen.entry(key).or_insert(now);
    }
    let is_settled = |of: &Move| {
        let since = seen.get(&(of.project_id, of.distinct_id.clone()));
        since.is_some_and(|since| now - since >= context.move_settle_ms)
    };
    moves.into_iter().filter(is_settled).collect()
}

/// The next rows of the persons that move, in the order of segments.
struct Chunk {
    limits: ChunkLimits,
    after: HashMap<PersonNo, Option<(Millis, EventId)>>,
    rows: Vec<StoredRow>,
    raw_bytes: u64,
    /// There were more.
    is_cut: bool,
}

impl Chunk {
    fn push(&mut self, mut row: StoredRow) {
        let Some(after) = self.after.get(&row.person_no) else { return };
        if after.is_some_and(|after| (row.occurred_at, row.event_id) <= after) {
            return;
        }
        self.raw_bytes += row.raw_bytes();
        row.detach();
        self.rows.push(row);
        let ChunkLimits { rows_max, raw_bytes_max } = self.limits;
        if self.rows.len() >= 2 * rows_max || self.raw_bytes >= 2 * raw_bytes_max {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.rows.sort_unstable_by_key(StoredRow::segment_key);
        let mut bytes = 0;
        let fitting = self.rows.iter().take(self.limits.rows_max).take_while(|row| {
            let is_first = bytes == 0;
            bytes += row.raw_bytes();
            is_first || bytes <= self.limits.raw_bytes_max
        });
        let count = fitting.count();
        self.is_cut |= count < self.rows.len();
        self.rows.truncate(count);
        self.raw_bytes = self.rows.iter().map(StoredRow::raw_bytes).sum();
    }
}

async fn read_chunk(
    limits: ChunkLimits,
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    moves: &[Move],
) -> Result<Chunk, SealError> {
    let everything = ScanRequest::everything(project_id);
    let listing = Listing::read(db, &ObjectCache::none(), shard_no, &everything).await.map_err(failed)?;
    let after = moves.iter().map(|of| (of.person_no, of.after)).collect();
    let mut chunk = Chunk { limits, after, rows: Vec::new(), raw_bytes: 0, is_cut: false };
    for object in &listing.objects {
        chunk = read_object(db, object, project_id, chunk).await?;
    }
    chunk.cut();
    Ok(chunk)
}

async fn read_object(
    db: &Db,
    object: &ListedObject,
    project_id: ProjectId,
    mut chunk: Chunk,
) -> Result<Chunk, SealError> {
    let object_id = object.object_id;
    let unreadable = move |source| SealError::Unreadable { object_id, source };
    // Replaced by compaction since it was listed: the next step lists anew.
    let gone = || SealError::ObjectsKeepVanishing;
    let (_, header) = objects::find_headers(db, &[object_id]).await?.into_iter().next().ok_or_else(gone)?;
    let reader = ObjectReader::open(&header).map_err(unreadable)?;
    let rows = match reader.kind() {
        ObjectKind::Segment => {
            let mut person_nos: Vec<PersonNo> = chunk.after.keys().copied().collect();
            person_nos.sort_unstable();
            reader.rows_of_persons(&person_nos)
        }
        ObjectKind::Run => object.rows.clone(),
    };
    if rows == RowRanges::Some(Vec::new()) {
        return Ok(chunk);
    }
    let want = Want { columns: Columns::All, rows };
    let part_nos = reader.parts_for(&want).map_err(unreadable)?;
    let found = objects::find_parts_of(db, object_id, object.bytes, &part_nos).await?.ok_or_else(gone)?;
    let mut parts: PartSet = found.into_iter().collect();
    parts.insert(HEADER_PART, header);
    let read = tokio::task::spawn_blocking(move || {
        for page in reader.read_rows(&want, &parts)? {
            page?.into_iter().filter(|row| row.project_id == project_id).for_each(|row| chunk.push(row));
        }
        Ok(chunk)
    });
    read.await.map_err(SealError::from_join)?.map_err(unreadable)
}

fn failed(error: ScanError) -> SealError {
    match error {
        ScanError::Storage(error) => SealError::Storage(error),
        ScanError::Format { object_id, source } => SealError::Unreadable { object_id, source },
        ScanError::Outrun => SealError::ObjectsKeepVanishing,
        ScanError::Stopped(error) => SealError::Worker(error),
    }
}

/// How far a move gets with this step; `None`: to its end.
struct Step {
    of: Move,
    to: Option<(Millis, EventId)>,
}

/// The rows as events on their way, and what that means for each move.
async fn plan(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    chunk: Chunk,
    moves: Vec<Move>,
) -> Result<(Vec<(ShardNo, Event)>, Vec<Step>), SealError> {
    let id_nos: BTreeSet<_> = chunk.rows.iter().map(|row| row.id_no).collect();
    let id_nos: Vec<_> = id_nos.into_iter().collect();
    let known = persons::find_ids_by_no(db, shard_no, project_id, &id_nos).await?;
    let names: HashMap<_, _> = known.into_iter().map(|id| (id.id_no, id.distinct_id)).collect();
    let last = chunk.rows.last().map(|row| (row.person_no, (row.occurred_at, row.event_id)));
    let of_person: HashMap<PersonNo, &Move> = moves.iter().map(|of| (of.person_no, of)).collect();
    let mut events = Vec::with_capacity(chunk.rows.len());
    for row in chunk.rows {
        let Some(of) = of_person.get(&row.person_no) else { continue };
        let distinct_id = names.get(&row.id_no).cloned().ok_or_else(|| {
            let detail = format!("shard {shard_no} has rows of id {} but not its name", row.id_no);
            StorageError::corrupt("distinct_ids", "id_no", detail)
        })?;
        let route = vec![of.distinct_id.as_str().into(), of.target_id.as_str().into()];
        events.push((of.target_shard, row.into_event(distinct_id.into(), route)));
    }
    let steps = moves.into_iter().filter_map(|of| match last {
        // The last person of a chunk that was cut may have more, and those behind it have not begun.
        Some((person_no, to)) if chunk.is_cut => match of.person_no.cmp(&person_no) {
            std::cmp::Ordering::Less => Some(Step { of, to: None }),
            std::cmp::Ordering::Equal => Some(Step { of, to: Some(to) }),
            std::cmp::Ordering::Greater => None,
        },
        _ => Some(Step { of, to: None }),
    });
    Ok((events, steps.collect()))
}

/// Events into batches for the journal, by the shard where they go.
pub async fn encode(
    context: &SealContext,
    events: Vec<(ShardNo, Event)>,
    inserted_at: Millis,
) -> Result<Vec<(ShardNo, Vec<JournalBatch>)>, SealError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let (clock, random) = (context.clock.clone(), context.random.clone());
    let encoding = tokio::task::spawn_blocking(move || {
        let mut encoder = BatchEncoder::default();
        let mut by_shard: BTreeMap<ShardNo, Vec<Event>> = BTreeMap::new();
        events.into_iter().for_each(|(to, event)| by_shard.entry(to).or_default().push(event));
        let mut encoded = Vec::new();
        for (to, events) in by_shard {
            let mut batches = Vec::new();
            let (mut records, mut count) = (Vec::new(), 0);
            let mut close = |records: &mut Vec<u8>, count: &mut u32| {
                let batch = encoder.encode(*count, [records.as_slice()]);
                let entry = JournalEntry {
                    batch_id: BatchId::time_ordered(&*clock, &*random),
                    events: batch.events,
                    inflated_bytes: batch.inflated_bytes,
                    inserted_at,
                };
                batches.push(JournalBatch { entry, body: batch.body.to_vec() });
                records.clear();
                *count = 0;
            };
            for event in &events {
                encode_event(event, &mut records);
                count += 1;
                if records.len() >= BATCH_BYTES {
                    close(&mut records, &mut count);
                }
            }
            if count > 0 {
                close(&mut records, &mut count);
            }
            encoded.push((to, batches));
        }
        encoded
    });
    encoding.await.map_err(SealError::from_join)
}
