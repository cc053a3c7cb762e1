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

use std::sync::Arc;

use bytes::Bytes;
use columns::{ColumnCache, Known};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;

use super::format::{Columns, FormatError, HEADER_PART, ObjectReader, PartSet, RowRanges, Want};
use super::{RowBlock, RowColumns, begins_a_quarter};
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
        self.blocks.iter().map(|block| block.rows().len() as u64).sum()
    }
}

/// Reads for the whole process. Cheap to clone.
#[derive(Clone)]
pub struct Scanner {
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
    pub fn new(decoders: usize, columns_bytes_max: usize, metrics: &Metrics) -> Self {
        Self {
            decoders: Arc::new(Semaphore::new(decoders.max(1))),
            columns: Arc::new(ColumnCache::new(columns_bytes_max, metrics)),
            metrics: ScanMetrics::new(metrics),
        }
    }

    /// To be told by whoever asks several shards for one question.
    pub fn observe_question(&self, bytes: u64) {
        self.metrics.question_bytes.observe(bytes as f64);
    }

    /// Forgets the columns that are kept, after an erasure: objects that are gone would leave only as
    /// others come.
    pub fn forget_columns(&self) {
        self.columns.clear();
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
            let known = self.columns.find(&object, with, &request.properties);
            (object, known)
        });
        let wanted: Vec<(ListedObject, Known)> = wanted.collect();
        let to_read = wanted.iter().filter(|(_, known)| !known.is_complete());
        let ids: Vec<ObjectId> = to_read.map(|(object, _)| object.object_id).collect();
        let headers = objects::find_headers(db, &ids).await?;
        if headers.len() < ids.len() {
            return Ok(None);
        }
        let mut headers: std::collections::HashMap<ObjectId, Bytes> = headers.into_iter().collect();
        let masked = Arc::new(listing.masked);
        let reads = wanted.into_iter().map(|(object, known)| {
            let header = headers.remove(&object.object_id);
            self.read_object(db, request, object, known, header, masked.clone())
        });
        // In the order of the list, so that the same objects always give the same blocks.
        let found: Vec<Option<(RowBlock, u64)>> =
            stream::iter(reads).buffered(FETCHES_AT_ONCE).try_collect().await?;
        let Some(read) = found.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
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
        header: Option<Bytes>,
        masked: Arc<Vec<PersonNo>>,
    ) -> Result<Option<(RowBlock, u64)>, ScanError> {
        let object_id = object.object_id;
        let (from, to) = (request.from, request.to);
        let reaches_beyond = request.reaches_beyond(&object);
        let is_narrow = reaches_beyond || !masked.is_empty();
        let narrow = move |block: &mut RowBlock| {
            if reaches_beyond {
                block.count_within(from, to);
            }
            block.leave_out(&masked);
        };
        if known.is_complete() {
            let mut block = known.complete_with(RowBlock::default());
            if is_narrow {
                block = self
                    .decode(object_id, move || {
                        narrow(&mut block);
                        Ok(block)
                    })
                    .await?;
            }
            return Ok(Some((block, 0)));
        }
        let unreadable = |source| ScanError::Format { object_id, source };
        let Some(header) = header else { return Ok(None) };
        let reader = ObjectReader::open(&header).map_err(unreadable)?;
        let (with, missing) = known.missing(&request.properties);
        let columns = Columns::Block { with, properties: missing.clone() };
        let want = Want { columns, rows: object.rows.clone() };
        let part_nos = reader.parts_for(&want).map_err(unreadable)?;
        let Some(parts) = objects::find_parts_of(db, object_id, object.bytes, &part_nos).await? else {
            return Ok(None);
        };
        let mut parts: PartSet = parts.into_iter().collect();
        parts.insert(HEADER_PART, header);
        let bytes = parts.bytes() as u64;

        let columns = self.columns.clone();
        let block = self.decode(object_id, move || {
            let read = reader.read_block(&want, &parts)?;
            columns.keep(&object, &missing, &read);
            let mut block = known.complete_with(read);
            narrow(&mut block);
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

impl ScanRequest {
    /// Whether an object has rows of other times too.
    fn reaches_beyond(&self, object: &ListedObject) -> bool {
        self.from > object.min_at || object.max_at >= self.to
    }

    /// The columns of an object that are needed: those asked for, and those that tell which rows count.
    fn columns_of(&self, object: &ListedObject, has_masked: bool) -> RowColumns {
        let persons = self.with.persons || has_masked;
        // Rows of a run are in order of persons only when they are put in it, by persons and times.
        let is_run = object.rows != RowRanges::All;
        let tells_range = begins_a_quarter(self.from) && begins_a_quarter(self.to);
        let reaches_beyond = self.reaches_beyond(object);
        let times = self.with.times || (reaches_beyond && !tells_range) || (persons && is_run);
        let quarters = self.with.quarters || (reaches_beyond && !times);
        RowColumns { persons, times, quarters }
    }
}

impl ListedObject {
    /// How many of its rows will be decoded.
    pub fn rows_to_read(&self) -> u64 {
        match &self.rows {
            RowRanges::All => self.events,
            RowRanges::Some(ranges) => ranges.iter().map(|range| range.end - range.start).sum(),
        }
    }
}
