//! Rows of one project in one shard, as blocks for a question.
//!
//! A [`Listing`] says what a shard holds at one point in time: the live runs and segments, the masks
//! and the data version; [`list_shards`] those of all shards of a project. [`Scanner::read`] then reads
//! parts by autocommit: a long scan never holds a transaction open. Objects that compaction replaces in
//! the meantime stay readable for a grace period; a scan that is slower than that finds a part missing
//! and its caller begins again with new lists. It never gives fewer rows.
//!
//! Decoding runs on blocking threads, as many at a time as the process is given.

mod columns;
mod listing;
mod menu;
mod moment;
mod prune;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use columns::{Asked, ColumnCache, Known};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;

use super::format::{Columns, FormatError, PartSet, RowRanges, Want};
use super::object_cache::{ObjectCache, OpenObject};
use super::{COUNT_STEPS, RowBlock, RowColumns, begins_a_quarter};
use crate::model::{Millis, ObjectId, PersonNo, ProjectId};
use crate::storage::server::objects;
use crate::storage::{Db, StorageError};
use crate::telemetry::Metrics;

pub use listing::{ListedObject, Listing};
pub use menu::{MenuEvent, MenuProperty, ProjectMenu};
pub use moment::list_shards;
pub use prune::Need;

/// Objects that are fetched at the same time; their parts lie in memory until they are decoded.
const FETCHES_AT_ONCE: usize = 4;
/// So many rows are looked through sooner than another thread has begun to.
const ROWS_AT_ONCE_MAX: u64 = 20_000;

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
    #[error("a decoding thread ended early")]
    Stopped(#[from] tokio::task::JoinError),
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
    /// Only rows of these events count; `None`: of all. Blocks hold rows of others too.
    pub events: Option<Vec<String>>,
    /// What every row that counts has. Blocks hold rows without it too.
    pub needs: Vec<Need>,
    /// Nothing is done with rows but to count them, by event and by steps of this length: one of
    /// [`COUNT_STEPS`]. A block may then have rows that stand for several events.
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

/// Reads for the whole process. Cheap to clone.
#[derive(Clone)]
pub struct Scanner {
    objects: ObjectCache,
    decoders: Arc<Semaphore>,
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
    /// `decoders`: how many objects are decoded at the same time; the number of cores is right.
    /// `columns_bytes_max`: memory for columns that are kept.
    pub fn new(objects: ObjectCache, decoders: usize, columns_bytes_max: usize, metrics: &Metrics) -> Self {
        Self {
            objects,
            decoders: Arc::new(Semaphore::new(decoders.max(1))),
            columns: Arc::new(ColumnCache::new(columns_bytes_max, metrics)),
            metrics: ScanMetrics::new(metrics),
        }
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

    /// How many rows of a list need not be read and decoded, since what a question asks of them is kept, or
    /// is counted already.
    pub fn rows_at_hand(&self, request: &ScanRequest, listing: &Listing) -> u64 {
        let is_at_hand = |object: &&ListedObject| {
            let with = request.columns_of(object, !listing.masked.is_empty());
            let (columns, project_id) = (&self.columns, request.project_id);
            match request.step_of(object).filter(|_| !with.persons && !with.times) {
                // Most objects that are not small have these counts.
                Some(step_max) if object.rows_to_read() > ROWS_AT_ONCE_MAX => {
                    !matches!(columns.find_rollup(object, project_id, step_max), Asked::Known(None))
                }
                _ => columns.has_all(object, project_id, with, &request.properties),
            }
        };
        listing.objects.iter().filter(is_at_hand).map(ListedObject::rows_to_read).sum()
    }

    /// What a list says; `None` when an object of it is gone.
    pub async fn read(
        &self,
        db: &Db,
        request: &ScanRequest,
        listing: Listing,
    ) -> Result<Option<ShardRows>, ScanError> {
        let wanted = listing.objects.into_iter().map(|object| {
            let with = request.columns_of(&object, !listing.masked.is_empty());
            let (columns, project_id) = (&self.columns, request.project_id);
            let step_max = request.step_of(&object).filter(|_| !with.persons && !with.times);
            let rollup = match step_max {
                Some(step_max) => columns.find_rollup(&object, project_id, step_max),
                None => Asked::Not,
            };
            let asks_rollup = step_max.filter(|_| rollup.is_missing());
            let known = match rollup {
                Asked::Known(Some(block)) => {
                    columns.observe_rollup(true);
                    Known::of_rollup(block)
                }
                _ => columns.find(&object, project_id, with, &request.properties),
            };
            Wanted { object, known, asks_rollup }
        });
        let wanted: Vec<Wanted> = wanted.collect();
        let to_read =
            wanted.iter().filter(|wanted| wanted.asks_rollup.is_some() || !wanted.known.is_complete());
        let ids: Vec<ObjectId> = to_read.map(|wanted| wanted.object.object_id).collect();
        let opened = self.objects.open(db, &ids).await?;
        if opened.len() < ids.len() {
            self.objects.forget_lists();
            return Ok(None);
        }
        let mut opened: HashMap<ObjectId, OpenObject> =
            opened.into_iter().map(|opened| (opened.object_id, opened)).collect();
        let masked = Arc::new(listing.masked);
        let mut read: Vec<(RowBlock, u64)> = vec![Default::default(); wanted.len()];
        let mut reads = Vec::new();
        for (place, Wanted { object, mut known, asks_rollup }) in wanted.into_iter().enumerate() {
            let narrow = request.narrow(&object, &masked);
            let opened = opened.remove(&object.object_id);
            if let (Some(step_max), Some(opened)) = (asks_rollup, &opened) {
                let object_id = object.object_id;
                let rollup = opened.reader.read_rollup();
                let rollup = rollup.map_err(|source| ScanError::Format { object_id, source })?;
                self.columns.keep_rollup(&object, request.project_id, &rollup);
                let usable = rollup.filter(|(step_ms, _)| *step_ms <= step_max);
                if let Some((_, block)) = usable {
                    self.columns.observe_rollup(false);
                    known = Known::of_rollup(block);
                }
                read[place].1 = opened.bytes_read;
            }
            let is_little = known.is_rollup() || object.rows_to_read() <= ROWS_AT_ONCE_MAX;
            if known.is_complete() && (is_little || !narrow.leaves_out()) {
                let mut block = known.complete_with(RowBlock::default());
                narrow.apply(&mut block);
                read[place].0 = block;
                continue;
            }
            // In a box: what waits for several of them moves them about.
            let reading = Box::pin(self.read_object(db, request, object, known, opened, narrow));
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
        blocks.retain(|block| block.rows().len() > 0);
        Ok(Some(ShardRows { blocks, bytes }))
    }

    async fn read_object(
        &self,
        db: &Db,
        request: &ScanRequest,
        object: ListedObject,
        known: Known,
        opened: Option<OpenObject>,
        narrow: Narrow,
    ) -> Result<Option<(RowBlock, u64)>, ScanError> {
        let object_id = object.object_id;
        if known.is_complete() {
            let block = self.decode(object_id, move || {
                let mut block = known.complete_with(RowBlock::default());
                narrow.apply(&mut block);
                Ok(block)
            });
            return Ok(Some((block.await?, 0)));
        }
        let unreadable = |source| ScanError::Format { object_id, source };
        let Some(OpenObject { reader, bytes_read: header_bytes, .. }) = opened else { return Ok(None) };
        let (with, missing) = known.missing(&request.properties);
        let columns = Columns::Block { with, properties: missing.clone() };
        let want = Want { columns, rows: object.rows.clone() };
        let part_nos = reader.parts_for(&want).map_err(unreadable)?;
        let Some(parts) = objects::find_parts_of(db, object_id, object.bytes, &part_nos).await? else {
            return Ok(None);
        };
        let parts: PartSet = parts.into_iter().collect();
        let bytes = header_bytes + parts.bytes() as u64;

        let (columns, project_id) = (self.columns.clone(), request.project_id);
        let block = self.decode(object_id, move || {
            let read = reader.read_block(&want, &parts)?;
            columns.keep(&object, project_id, &missing, &read);
            let mut block = known.complete_with(read);
            narrow.apply(&mut block);
            Ok(block)
        });
        Ok(Some((block.await?, bytes)))
    }

    /// On a thread of its own, as many at a time as there are decoders.
    async fn decode(
        &self,
        object_id: ObjectId,
        work: impl FnOnce() -> Result<RowBlock, FormatError> + Send + 'static,
    ) -> Result<RowBlock, ScanError> {
        let permit = self.decoders.clone().acquire_owned().await.expect("the semaphore is never closed");
        let decoded = tokio::task::spawn_blocking(move || {
            // With the thread and not with the caller, who may be gone before it ends.
            let _permit = permit;
            work()
        });
        decoded.await?.map_err(|source| ScanError::Format { object_id, source })
    }
}

/// What is known of an object of a list before anything of it is read.
struct Wanted {
    object: ListedObject,
    known: Known,
    /// A rollup by steps of this length would do, and it is not known whether the object has one.
    asks_rollup: Option<Millis>,
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

    /// By how long steps the rows of an object may be counted together, if at all.
    fn step_of(&self, object: &ListedObject) -> Option<Millis> {
        let step_max = self.counted_by?;
        let reaches_beyond = self.reaches_beyond(object);
        let tells_range = |step: &Millis| {
            !reaches_beyond || [self.from, self.to].iter().all(|at| at.rem_euclid(*step) == 0)
        };
        COUNT_STEPS.into_iter().rev().filter(|step| *step <= step_max).find(tells_range)
    }

    /// The columns of an object that are needed: those asked for, and those that tell which rows count.
    fn columns_of(&self, object: &ListedObject, has_masked: bool) -> RowColumns {
        // Rows of a run are in order of persons only when they are put in it, by persons and times; and what
        // is kept of it has to have one order.
        let is_run = object.is_run();
        let persons = self.with.persons || has_masked || is_run;
        let tells_range = begins_a_quarter(self.from) && begins_a_quarter(self.to);
        let reaches_beyond = self.reaches_beyond(object);
        let times = self.with.times || (reaches_beyond && !tells_range) || is_run;
        let quarters = self.with.quarters || (reaches_beyond && !times);
        RowColumns { persons, times, quarters }
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
