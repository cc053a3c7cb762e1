//! Rows of one project in one shard, as blocks for a question.
//!
//! A [`Listing`] says what a shard holds at one point in time: the live runs and segments, the masks
//! and the data version; [`list_shards`] those of all shards of a project. [`Scanner::read`] then reads
//! parts by autocommit: a long scan never holds a transaction open. Objects that compaction replaces in
//! the meantime stay readable for a grace period; a scan that is slower than that finds a part missing
//! and its caller begins again with new lists. It never gives fewer rows.
//!
//! Decoding runs on [`Cores`].

mod columns;
mod listing;
mod menu;
mod moment;
mod projection;
mod prune;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use columns::{Asked, ColumnCache, KeptRows};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::format::{Columns, FormatError, ObjectReader, PartSet, PartSlice, RowRanges, Want};
use super::object_cache::{ObjectCache, OpenObject};
use super::{COUNT_STEPS, Cores, EndedEarly, RowBlock, RowColumns, begins_a_quarter};
use crate::model::{Millis, ObjectId, PersonNo, ProjectId};
use crate::storage::server::objects;
use crate::storage::{Db, StorageError};
use crate::telemetry::Metrics;

pub use listing::{ListedObject, Listing};
pub use menu::{MenuEvent, MenuProperty, ProjectMenu};
pub use moment::list_shards;
use projection::{AskedEvents, Found, projected};
pub use prune::Need;

/// Objects that are fetched at the same time; their parts lie in memory until they are decoded.
const FETCHES_AT_ONCE: usize = 4;
/// So many rows are looked through sooner than another thread has begun to.
const ROWS_AT_ONCE_MAX: u64 = if cfg!(test) { 150 } else { 20_000 };
/// And so many bytes of rollups, in zstd, are read in less than a millisecond.
const ROLLUP_BYTES_AT_ONCE_MAX: usize = if cfg!(test) { 100 } else { 64 << 10 };

#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Stored bytes are not what was written: page someone.
    #[error("the object {object_id} cannot be read")]
    Format {
        object_id: ObjectId,
        #[source]
        source: FormatError,
    },
    #[error("what a shard holds was replaced faster than it could be read")]
    Outrun,
    #[error(transparent)]
    Stopped(#[from] EndedEarly),
}

impl From<tokio::task::JoinError> for ScanError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Stopped(error.into())
    }
}

impl ScanError {
    /// Whether the same scan may succeed later without anybody's doing.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Storage(error) => error.is_transient(),
            Self::Outrun => true,
            Self::Format { .. } | Self::Stopped(_) => false,
        }
    }
}

/// What to read from a shard.
#[derive(Clone, PartialEq, Debug)]
pub struct ScanRequest {
    pub project_id: ProjectId,
    /// Inclusive.
    pub from: Millis,
    /// Exclusive.
    pub to: Millis,
    pub with: RowColumns,
    /// Literal names. The columns of every block are in this order.
    pub properties: Vec<String>,
    /// Only rows of these events count; `None`: of all. Blocks may hold rows of others too.
    pub events: Option<Vec<String>>,
    /// What every row that counts has. Blocks hold rows without it too.
    pub needs: Vec<Need>,
    /// Nothing is done with rows but to count them, by event and by steps of this length: one of
    /// [`COUNT_STEPS`]. No properties are asked for then, and a block may have rows that stand for several
    /// events.
    pub counted_by: Option<Millis>,
}

/// All rows of a shard that a request covers.
#[derive(Clone, Debug, Default)]
pub struct ShardRows {
    pub blocks: Vec<RowBlock>,
    /// Of all parts that were read.
    pub bytes: u64,
}

impl ShardRows {
    pub fn rows(&self) -> u64 {
        self.blocks.iter().map(RowBlock::events).sum()
    }
}

/// Rows that a question need not read and decode.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RowsAtHand {
    /// Whoever counts needs not even look at them.
    pub counted: u64,
    /// All that is asked of them is kept from before.
    pub kept: u64,
}

/// Reads for the whole process. Cheap to clone.
#[derive(Clone)]
pub struct Scanner {
    objects: ObjectCache,
    cores: Cores,
    columns: Arc<ColumnCache>,
    metrics: ScanMetrics,
}

#[derive(Clone)]
struct ScanMetrics {
    bytes: prometheus::IntCounter,
    objects: prometheus::IntCounterVec,
    question_bytes: prometheus::Histogram,
}

impl ScanMetrics {
    fn new(metrics: &Metrics) -> Self {
        Self {
            bytes: metrics.counter("weir_scan_bytes_total", "Stored bytes that questions have read."),
            objects: metrics.counters(
                "weir_scan_objects_total",
                "Runs and segments of the asked days, by whether a question had to read them.",
                &["outcome"],
            ),
            question_bytes: metrics.bytes(
                "weir_question_read_bytes",
                "Stored bytes that one question has read, of all its shards.",
            ),
        }
    }
}

impl Scanner {
    /// `cores`: how many objects are decoded at the same time.
    /// `columns_bytes_max`: memory for columns that are kept.
    pub fn new(objects: ObjectCache, cores: usize, columns_bytes_max: usize, metrics: &Metrics) -> Self {
        Self {
            objects,
            cores: Cores::new(cores),
            columns: Arc::new(ColumnCache::new(columns_bytes_max, metrics)),
            metrics: ScanMetrics::new(metrics),
        }
    }

    /// The threads that it decodes on, for whoever counts.
    pub fn cores(&self) -> &Cores {
        &self.cores
    }

    /// To be told by whoever asks several shards for one question.
    pub fn observe_question(&self, bytes: u64) {
        self.metrics.question_bytes.observe(bytes as f64);
    }

    /// What is known of objects, for lists.
    pub fn objects(&self) -> &ObjectCache {
        &self.objects
    }

    /// Forgets what is kept of rows, after an erasure: objects that are gone would leave only as others
    /// come.
    pub fn forget_rows(&self) {
        self.columns.clear();
        self.objects.forget();
    }

    /// What of a list's rows a question need not read and decode.
    pub fn rows_at_hand(&self, request: &ScanRequest, listing: &Listing) -> RowsAtHand {
        let mut at_hand = RowsAtHand::default();
        let events = AskedEvents::of(request);
        for object in &listing.objects {
            let with = request.columns_of(object, listing.masks(object));
            let rows = object.rows_to_read();
            let (columns, project_id) = (&self.columns, request.project_id);
            let rollup = match request.step_of(object, with).filter(|_| rows > ROWS_AT_ONCE_MAX) {
                Some(step_max) => columns.find_rollup(object.object_id, project_id, step_max),
                None => Asked::Not,
            };
            match rollup {
                // Where it is not known, it is presumed: most segments that are not small are counted.
                Asked::Known(Some(_)) | Asked::Missing => at_hand.counted += rows,
                Asked::Known(None) | Asked::Not => {
                    if self.has_all(request, events.as_ref(), object, with) {
                        at_hand.kept += rows;
                    }
                }
            }
        }
        at_hand
    }

    /// What a list says; `None` when an object of it is gone.
    pub async fn read(
        &self,
        db: &Db,
        request: &ScanRequest,
        listing: Listing,
    ) -> Result<Option<ShardRows>, ScanError> {
        let events = AskedEvents::of(request);
        let wanted = listing.objects.iter().cloned().map(|object| {
            let is_masked = listing.masks(&object);
            self.look_up(request, events.as_ref(), object, is_masked)
        });
        let wanted: Vec<Wanted> = wanted.collect();
        let is_at_hand =
            |wanted: &&Wanted| wanted.found.as_ref().is_some_and(|found| found.known.is_complete());
        let to_read = wanted.iter().filter(|wanted| !is_at_hand(wanted));
        let ids: Vec<ObjectId> = to_read.map(|wanted| wanted.object.object_id).collect();
        let opened = self.objects.open(db, &ids).await?;
        if opened.len() < ids.len() {
            self.objects.forget_lists();
            return Ok(None);
        }
        let mut opened: HashMap<ObjectId, OpenObject> =
            opened.into_iter().map(|opened| (opened.object_id, opened)).collect();
        let Some(mut rollups) = self.read_rollups(db, request.project_id, &wanted, &opened).await? else {
            self.objects.forget_lists();
            return Ok(None);
        };
        let (masked, nobody) = (Arc::new(listing.masked), Arc::default());
        let mut read: Vec<(RowBlock, u64)> = vec![Default::default(); wanted.len()];
        let mut reads = Vec::new();
        for (place, Wanted { object, with, found, .. }) in wanted.into_iter().enumerate() {
            let masked = if object.obeys_masks { &nobody } else { &masked };
            let narrow = request.narrow(&object, masked);
            let opened = opened.remove(&object.object_id);
            let (found, rollup_bytes) = match (found, rollups.remove(&object.object_id)) {
                (Some(found), _) => (found, 0),
                (None, Some((block, bytes))) => {
                    self.columns.observe_rollup(false);
                    (Found::of_rollup(block), bytes)
                }
                (None, None) => (self.look_for(request, events.as_ref(), &object, with), 0),
            };
            let is_little = found.known.is_rollup() || object.rows_to_read() <= ROWS_AT_ONCE_MAX;
            if found.is_complete() && (is_little || !narrow.leaves_out()) {
                let mut block = found.known.complete_with(RowBlock::default());
                narrow.apply(&mut block);
                read[place] = (block, opened.map_or(0, |opened| opened.bytes_read) + rollup_bytes);
                continue;
            }
            // In a box: what waits for several of them moves them about.
            let reading = Box::pin(self.read_object(db, request, object, found, opened, narrow));
            reads.push(async move { Ok::<_, ScanError>((place, reading.await?)) });
        }
        let mut reads = stream::iter(reads).buffer_unordered(FETCHES_AT_ONCE);
        while let Some((place, found)) = reads.try_next().await? {
            let Some(found) = found else {
                self.objects.forget_lists();
                return Ok(None);
            };
            // In the order of the list, so that the same objects always give the same blocks.
            read[place] = found;
        }
        drop(reads);
        let bytes = read.iter().map(|(_, bytes)| bytes).sum();
        self.metrics.bytes.inc_by(bytes);
        self.metrics.objects.with_label_values(&["read"]).inc_by(read.len() as u64);
        self.metrics.objects.with_label_values(&["pruned"]).inc_by(listing.pruned);
        let mut blocks: Vec<RowBlock> = read.into_iter().map(|(block, _)| block).collect();
        blocks.retain(|block| block.row_count() > 0);
        Ok(Some(ShardRows { blocks, bytes }))
    }

    /// What is known of an object before anything of it is read.
    fn look_up(
        &self,
        request: &ScanRequest,
        events: Option<&AskedEvents>,
        object: ListedObject,
        is_masked: bool,
    ) -> Wanted {
        let with = request.columns_of(&object, is_masked);
        let (columns, project_id) = (&self.columns, request.project_id);
        let step_max = request.step_of(&object, with);
        let rollup = match step_max {
            Some(step_max) => columns.find_rollup(object.object_id, project_id, step_max),
            None => Asked::Not,
        };
        let found = match rollup {
            Asked::Missing => None,
            Asked::Known(Some(block)) => {
                columns.observe_rollup(true);
                Some(Found::of_rollup(block))
            }
            Asked::Known(None) | Asked::Not => Some(self.look_for(request, events, &object, with)),
        };
        Wanted { object, with, found, step_max }
    }

    /// The rollups of objects of which it was not known whether they have one, where they will do, and how many
    /// bytes beside part 0 were read for each; `None` when an object is gone.
    async fn read_rollups(
        &self,
        db: &Db,
        project_id: ProjectId,
        wanted: &[Wanted],
        opened: &HashMap<ObjectId, OpenObject>,
    ) -> Result<Option<HashMap<ObjectId, (RowBlock, u64)>>, ScanError> {
        let asked = wanted.iter().filter(|wanted| wanted.found.is_none()).filter_map(|wanted| {
            let opened = opened.get(&wanted.object.object_id)?;
            let reader = opened.reader.clone();
            Some((wanted.object.object_id, wanted.step_max?, reader, PartSet::default()))
        });
        let mut fetched: Vec<(ObjectId, Millis, ObjectReader, PartSet)> = asked.collect();
        let (mut slices, mut owners) = (Vec::new(), Vec::new());
        for (owner, (object_id, step_max, reader, _)) in fetched.iter().enumerate() {
            for slice in reader.slices_for_rollup(*step_max) {
                let PartSlice { part_no, start, end } = slice;
                slices.push(objects::Slice { object_id: *object_id, part_no, bytes: start..end });
                owners.push((owner, slice));
            }
        }
        for ((owner, slice), bytes) in owners.into_iter().zip(objects::find_slices(db, &slices).await?) {
            let Some(bytes) = bytes else { return Ok(None) };
            fetched[owner].3.insert_slice(slice, bytes);
        }
        let bytes: usize =
            fetched.iter().map(|(_, step_max, reader, _)| reader.rollup_bytes(*step_max)).sum();
        let columns = self.columns.clone();
        let work = move || {
            let mut found = HashMap::new();
            for (object_id, step_max, reader, parts) in fetched {
                let rollup = reader.read_rollup(step_max, &parts);
                let rollup = rollup.map_err(|source| ScanError::Format { object_id, source })?;
                columns.keep_rollup(object_id, project_id, step_max, &rollup);
                found.extend(rollup.map(|block| (object_id, (block, parts.bytes() as u64))));
            }
            Ok(Some(found))
        };
        if bytes <= ROLLUP_BYTES_AT_ONCE_MAX { work() } else { self.cores.run(work).await? }
    }

    async fn read_object(
        &self,
        db: &Db,
        request: &ScanRequest,
        object: ListedObject,
        Found { known, properties, projecting }: Found,
        opened: Option<OpenObject>,
        narrow: Narrow,
    ) -> Result<Option<(RowBlock, u64)>, ScanError> {
        let object_id = object.object_id;
        if known.is_complete() {
            let block = self.decode(object_id, move || {
                let whole = known.complete_with(RowBlock::default());
                let mut block = projected(projecting, whole);
                narrow.apply(&mut block);
                Ok(block)
            });
            return Ok(Some((block.await?, opened.map_or(0, |opened| opened.bytes_read))));
        }
        let unreadable = |source| ScanError::Format { object_id, source };
        let Some(OpenObject { reader, bytes_read: header_bytes, .. }) = opened else { return Ok(None) };
        let (with, missing) = known.missing(&properties);
        let projecting = match projecting {
            Some(projecting) if projecting.has_no_rows(&reader) => {
                return Ok(Some((projecting.keep(RowBlock::default()), header_bytes)));
            }
            other => other,
        };
        let whole = Want {
            columns: Columns::Block { with, properties: missing.clone(), of_events: None },
            rows: object.rows.clone(),
        };
        let of_events = projecting.as_ref().map(|projecting| projecting.want(&reader, &whole));
        let of_events = of_events.transpose().map_err(unreadable)?.flatten();
        let is_of_events = of_events.is_some();
        let want = of_events.unwrap_or(whole);
        let part_nos = reader.parts_for(&want).map_err(unreadable)?;
        let Some(parts) = objects::find_parts_of(db, object_id, object.bytes, &part_nos).await? else {
            return Ok(None);
        };
        let parts: PartSet = parts.into_iter().collect();
        let bytes = header_bytes + parts.bytes() as u64;

        let (columns, project_id) = (self.columns.clone(), request.project_id);
        let block = self.decode(object_id, move || {
            let read = reader.read_block(&want, &parts)?;
            let mut block = match projecting {
                Some(projecting) if is_of_events => projecting.keep(read),
                projecting => {
                    columns.keep(&object, project_id, KeptRows::All, &missing, &read);
                    projected(projecting, known.complete_with(read))
                }
            };
            narrow.apply(&mut block);
            Ok(block)
        });
        Ok(Some((block.await?, bytes)))
    }

    async fn decode(
        &self,
        object_id: ObjectId,
        work: impl FnOnce() -> Result<RowBlock, FormatError> + Send + 'static,
    ) -> Result<RowBlock, ScanError> {
        self.cores.run(work).await?.map_err(|source| ScanError::Format { object_id, source })
    }
}

/// What is known of an object of a list before anything of it is read.
struct Wanted {
    object: ListedObject,
    /// The columns that are needed where no rollup will do.
    with: RowColumns,
    /// `None`: a rollup may do, and it is not known whether the object has one.
    found: Option<Found>,
    /// A rollup will do that has steps of this length at most.
    step_max: Option<Millis>,
}

/// Which rows of a block do not count.
struct Narrow {
    /// Those outside.
    range: Option<Range<Millis>>,
    /// Those of these persons.
    masked: Arc<Vec<PersonNo>>,
}

impl Narrow {
    /// Whether there may be such rows.
    fn leaves_out(&self) -> bool {
        self.range.is_some() || !self.masked.is_empty()
    }

    fn apply(&self, block: &mut RowBlock) {
        if let Some(range) = &self.range {
            block.count_within(range.start, range.end);
        }
        block.leave_out(&self.masked);
    }
}

impl ScanRequest {
    fn narrow(&self, object: &ListedObject, masked: &Arc<Vec<PersonNo>>) -> Narrow {
        Narrow { range: self.reaches_beyond(object).then_some(self.from..self.to), masked: masked.clone() }
    }

    /// Whether an object has rows of other times too.
    fn reaches_beyond(&self, object: &ListedObject) -> bool {
        self.from > object.min_at || object.max_at >= self.to
    }

    /// By how long steps the rows of an object, of which these columns are needed, may be counted together, if
    /// at all.
    fn step_of(&self, object: &ListedObject, with: RowColumns) -> Option<Millis> {
        let step_max = self.counted_by.filter(|_| !with.persons && !with.times)?;
        let reaches_beyond = self.reaches_beyond(object);
        let tells_range = |step: &Millis| {
            !reaches_beyond || [self.from, self.to].iter().all(|at| at.rem_euclid(*step) == 0)
        };
        COUNT_STEPS.into_iter().rev().filter(|step| *step <= step_max).find(tells_range)
    }

    /// The columns of an object that are needed: those asked for, and those that tell which rows count.
    fn columns_of(&self, object: &ListedObject, is_masked: bool) -> RowColumns {
        // Rows of a run are in order of persons only when they are put in it, by persons and times; and what
        // is kept of it has to have one order.
        let is_run = object.is_run();
        let persons = self.with.persons || is_masked || is_run;
        let tells_range = begins_a_quarter(self.from) && begins_a_quarter(self.to);
        let reaches_beyond = self.reaches_beyond(object);
        let times = self.with.times || (reaches_beyond && !tells_range) || is_run;
        let quarters = self.with.quarters || (reaches_beyond && !times);
        RowColumns { persons, times, quarters }
    }
}

impl Listing {
    /// Whether an object may have rows of persons who are masked.
    fn masks(&self, object: &ListedObject) -> bool {
        !self.masked.is_empty() && !object.obeys_masks
    }
}

impl ListedObject {
    fn is_run(&self) -> bool {
        self.rows != RowRanges::All
    }

    /// How many of its rows will be decoded.
    pub fn rows_to_read(&self) -> u64 {
        match &self.rows {
            RowRanges::All => self.events,
            RowRanges::Some(ranges) => ranges.iter().map(|range| range.end - range.start).sum(),
        }
    }
}
