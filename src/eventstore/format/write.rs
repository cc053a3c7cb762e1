//! Sorted rows into an object: pages, parts, filter and facts.

use std::sync::Arc;

use arrow_schema::Schema;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use super::columns::{Access, Layout};
use super::facts::SliceCount;
use super::filter::{self, Filter, identity_hash};
use super::header::{Header, ObjectKind, Rest};
use super::parts::{PART_BYTES, PartTable, cut};
use super::plan::{SegmentPlan, widen};
use super::rollup::{Rollup, RollupBuilder};
use super::times::{EventTimes, EventTimesBuilder};
use super::write_columns::PageBuffer;
use super::{FormatError, ObjectFacts, SliceFacts, StoredRow};
use crate::config::SealingConfig;
use crate::model::{EventId, Millis, PersonNo, ProjectId, utc_day};

#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    /// Rows of a page, in objects whose rows are of ordinary size.
    pub page_rows: usize,
    /// How many (property, type) pairs get a column of their own; the rarest others share one.
    pub columns_max: usize,
    /// How many events and properties of a project the facts list, those with a column first; of
    /// more, the rarest are left out.
    pub names_max: usize,
    pub zstd_level: i32,
    /// Of a fingerprint of the filter.
    pub filter_bits: u32,
    /// Whether segments keep ids as [`super::ids`] says, which earlier builds cannot read.
    pub short_ids: bool,
    /// Segments with so many rows and short ids keep times as [`super::times`] says, which earlier builds cannot
    /// read.
    pub times_by_event_rows_min: u64,
}

impl Default for WriteOptions {
    fn default() -> Self {
        // 8,192 rows of a column are some 2 to 100 KB: with fewer, making the tables of each page is much of what
        // it takes to inflate columns of few bits; with more, a look at one person reads more.
        Self {
            page_rows: 8_192,
            columns_max: 500,
            names_max: 2_000,
            zstd_level: 6,
            filter_bits: 13,
            short_ids: true,
            times_by_event_rows_min: TIMES_BY_EVENT_ROWS_MIN,
        }
    }
}

/// With fewer, the times of all of them are few parts.
const TIMES_BY_EVENT_ROWS_MIN: u64 = if cfg!(test) { 40 } else { 20_000 };

impl From<&SealingConfig> for WriteOptions {
    fn from(config: &SealingConfig) -> Self {
        Self {
            columns_max: config.segment_columns_max as usize,
            names_max: config.segment_names_max as usize,
            ..Self::default()
        }
    }
}

impl WriteOptions {
    /// For objects that compaction writes again within minutes: what a better compression saves is
    /// not read often enough to earn it back.
    pub fn for_passes(self) -> Self {
        Self { zstd_level: 1, filter_bits: filter::BITS_MAX, times_by_event_rows_min: u64::MAX, ..self }
    }
}

/// A page's rows are fewer when they are big, so that a page stays about this small in memory.
const PAGE_RAW_BYTES_MAX: u64 = 8 << 20;
const PAGE_ROWS_MIN: usize = 16;

impl WriteOptions {
    pub(super) fn page_rows_for(&self, rows: u64, raw_bytes: u64) -> usize {
        let row_bytes = (raw_bytes / rows.max(1)).max(1);
        let mut page_rows = self.page_rows;
        while page_rows > PAGE_ROWS_MIN && page_rows as u64 * row_bytes > PAGE_RAW_BYTES_MAX {
            page_rows /= 2;
        }
        page_rows
    }
}

/// An object ready to be stored.
#[derive(Clone, Debug)]
pub struct ObjectBytes {
    /// The number of a part is its index.
    pub parts: Vec<Bytes>,
    pub facts: ObjectFacts,
}

/// Writes rows of one project, sorted by [`StoredRow::segment_key`].
pub fn write_segment(rows: &[StoredRow], options: &WriteOptions) -> Result<ObjectBytes, FormatError> {
    let project_id = rows.first().ok_or(FormatError::Empty)?.project_id;
    let (plan, facts) = SegmentPlan::of_rows(rows, options);
    let mut writer = SegmentWriter::new(project_id, plan, options)?;
    if !facts.more_properties {
        writer.facts = Facts::Known(facts);
    }
    for row in rows {
        writer.push(row)?;
    }
    writer.finish()
}

/// Writes rows of any projects and days, sorted by [`StoredRow::run_key`].
pub fn write_run(rows: &[StoredRow], options: &WriteOptions) -> Result<ObjectBytes, FormatError> {
    let raw_bytes = rows.iter().map(StoredRow::raw_bytes).sum();
    let mut writer = RunWriter::new(rows.len() as u64, raw_bytes, options)?;
    for row in rows {
        writer.push(row)?;
    }
    writer.finish()
}

/// A segment whose rows come one by one. It holds the compressed pages, one page of rows, and where times are to lie
/// by event those of all rows.
pub struct SegmentWriter {
    project_id: ProjectId,
    last: Option<(PersonNo, Millis, EventId)>,
    facts: Facts,
    rollup: RollupBuilder,
    writer: ObjectWriter,
}

enum Facts {
    Gathered(Box<SliceCount>),
    Known(SliceFacts),
}

impl SegmentWriter {
    pub fn new(
        project_id: ProjectId,
        plan: SegmentPlan,
        options: &WriteOptions,
    ) -> Result<Self, FormatError> {
        let page_rows = plan.page_rows(options);
        let rollup = RollupBuilder::new(plan.rows);
        let times = plan.event_times(options);
        let layout = plan.layout(options);
        // Names that have a column are counted whole, so that a reader knows all of their types.
        let pinned = layout.properties.iter().map(|(name, _)| name.as_str());
        let count = SliceCount::new(0, options.names_max, pinned);
        let writer = ObjectWriter::new(layout, times, page_rows, options)?;
        Ok(Self { project_id, last: None, facts: Facts::Gathered(Box::new(count)), rollup, writer })
    }

    pub fn rows(&self) -> u64 {
        self.writer.rows
    }

    /// Before compression, about.
    pub fn raw_bytes(&self) -> u64 {
        self.writer.raw_bytes
    }

    pub fn push(&mut self, row: &StoredRow) -> Result<(), FormatError> {
        let key = row.segment_key();
        if row.project_id != self.project_id || self.last.is_some_and(|last| last > key) {
            return Err(FormatError::OutOfOrder { row: self.writer.rows });
        }
        self.last = Some(key);
        if let Facts::Gathered(count) = &mut self.facts {
            count.add(row);
        }
        self.rollup.add(row.event.as_bytes(), row.occurred_at);
        let day = utc_day(row.occurred_at);
        self.writer.push(row, identity_hash(None, row.person_no, row.event_id, day))
    }

    pub fn finish(self) -> Result<ObjectBytes, FormatError> {
        let slice = match self.facts {
            Facts::Gathered(count) => count.finish(self.project_id),
            Facts::Known(slice) => slice,
        };
        let rest = rest_of(&self.writer.layout, &slice);
        self.writer.finish(Some(self.project_id), rest, vec![slice], self.rollup.finish())
    }
}

/// What the JSON column has values of.
fn rest_of(layout: &Layout, slice: &SliceFacts) -> Rest {
    let mut names: Vec<String> = Vec::new();
    for fact in &slice.properties {
        let has_column = layout.columns_of(&fact.name).any(|(kind, _)| kind == fact.kind);
        // Where any name may be there, only those need be told of that have a column of another type.
        let is_told = !slice.more_properties || layout.columns_of(&fact.name).next().is_some();
        if !has_column && is_told && names.last() != Some(&fact.name) {
            names.push(fact.name.clone());
        }
    }
    Rest { names, has_more: slice.more_properties }
}

/// A run whose rows come one by one.
pub struct RunWriter {
    last: Option<(ProjectId, i32, PersonNo, Millis, EventId)>,
    count: SliceCount,
    slices: Vec<SliceFacts>,
    names_max: usize,
    writer: ObjectWriter,
}

impl RunWriter {
    /// `rows` and `raw_bytes` say, about, what will come.
    pub fn new(rows: u64, raw_bytes: u64, options: &WriteOptions) -> Result<Self, FormatError> {
        let layout = Layout {
            kind: ObjectKind::Run,
            properties: Vec::new(),
            received_as_delay: false,
            short_ids: false,
            times_by_event: false,
        };
        let page_rows = options.page_rows_for(rows, raw_bytes);
        let writer = ObjectWriter::new(layout, None, page_rows, options)?;
        let names_max = options.names_max;
        let count = SliceCount::new(0, names_max, std::iter::empty());
        Ok(Self { last: None, count, slices: Vec::new(), names_max, writer })
    }

    pub fn rows(&self) -> u64 {
        self.writer.rows
    }

    /// Before compression, about.
    pub fn raw_bytes(&self) -> u64 {
        self.writer.raw_bytes
    }

    pub fn push(&mut self, row: &StoredRow) -> Result<(), FormatError> {
        let key = row.run_key();
        match self.last {
            Some(last) if last > key => return Err(FormatError::OutOfOrder { row: self.writer.rows }),
            Some(last) if last.0 != key.0 => self.end_slice(last.0),
            _ => {}
        }
        self.last = Some(key);
        self.count.add(row);
        let day = utc_day(row.occurred_at);
        self.writer.push(row, identity_hash(Some(row.project_id), row.person_no, row.event_id, day))
    }

    fn end_slice(&mut self, project_id: ProjectId) {
        let next = SliceCount::new(self.writer.rows, self.names_max, std::iter::empty());
        self.slices.push(std::mem::replace(&mut self.count, next).finish(project_id));
    }

    pub fn finish(mut self) -> Result<ObjectBytes, FormatError> {
        if let Some(last) = self.last {
            self.end_slice(last.0);
        }
        self.writer.finish(None, Rest::default(), self.slices, Vec::new())
    }
}

/// What both kinds share: pages into a Parquet file, and the file into parts.
struct ObjectWriter {
    layout: Layout,
    page: PageBuffer,
    page_rows: usize,
    page_first_persons: Vec<PersonNo>,
    file: ArrowWriter<Vec<u8>>,
    /// Where they are no column.
    times: Option<EventTimesBuilder>,
    hashes: Vec<u64>,
    filter_bits: u32,
    rows: u64,
    raw_bytes: u64,
    received: Option<(Millis, Millis)>,
}

impl ObjectWriter {
    fn new(
        layout: Layout,
        times: Option<EventTimesBuilder>,
        page_rows: usize,
        options: &WriteOptions,
    ) -> Result<Self, FormatError> {
        let schema = layout.schema(Access::Write);
        Ok(Self {
            page: PageBuffer::new(&layout, Arc::<Schema>::clone(&schema)),
            file: file_writer(&layout, schema, page_rows, options.zstd_level)?,
            times,
            page_rows,
            page_first_persons: Vec::new(),
            hashes: Vec::new(),
            filter_bits: match layout.kind {
                // They are merged soon, and builds before format version 4 read them.
                ObjectKind::Run => filter::BITS_MAX,
                ObjectKind::Segment => options.filter_bits,
            },
            layout,
            rows: 0,
            raw_bytes: 0,
            received: None,
        })
    }

    fn push(&mut self, row: &StoredRow, identity: u64) -> Result<(), FormatError> {
        if self.page.rows() == 0 && self.layout.kind == ObjectKind::Segment {
            self.page_first_persons.push(row.person_no);
        }
        let rest_bytes = self.page.push(row)?;
        if let Some(times) = &mut self.times {
            let event = times.number(row.event.as_bytes());
            times.push(event, row.occurred_at)?;
        }
        self.hashes.push(identity);
        self.rows += 1;
        self.raw_bytes += row.raw_bytes();
        if self.layout.kind == ObjectKind::Segment {
            // The names that are in every row after all.
            self.raw_bytes += rest_bytes as u64;
        }
        widen(&mut self.received, (row.received_at, row.received_at));
        if self.page.rows() == self.page_rows {
            self.file.write(&self.page.take()?)?;
        }
        Ok(())
    }

    fn finish(
        mut self,
        project_id: Option<ProjectId>,
        rest: Rest,
        slices: Vec<SliceFacts>,
        rollups: Vec<Rollup>,
    ) -> Result<ObjectBytes, FormatError> {
        if self.rows == 0 {
            return Err(FormatError::Empty);
        }
        if self.page.rows() > 0 {
            self.file.write(&self.page.take()?)?;
        }
        let metadata = self.file.finish()?;
        let file = Bytes::from(std::mem::take(self.file.inner_mut()));
        let written = WrittenFile {
            layout: self.layout,
            page_rows: self.page_rows,
            page_first_persons: self.page_first_persons,
            hashes: self.hashes,
            filter_bits: self.filter_bits,
            rows: self.rows,
            raw_bytes: self.raw_bytes,
            received: self.received,
            rollups,
            times: self.times.map(|times| times.finish(self.page_rows)).transpose()?,
        };
        written.into_object(project_id, rest, slices, file, &metadata)
    }
}

/// What is known of a Parquet file that was written, beside its bytes.
pub(super) struct WrittenFile {
    pub layout: Layout,
    pub page_rows: usize,
    pub page_first_persons: Vec<PersonNo>,
    /// Of the identities of all rows, in any order.
    pub hashes: Vec<u64>,
    pub filter_bits: u32,
    pub rows: u64,
    pub raw_bytes: u64,
    pub received: Option<(Millis, Millis)>,
    /// From the shortest steps to the longest; empty where there is none.
    pub rollups: Vec<Rollup>,
    /// Where they are no column, and their bytes.
    pub times: Option<(EventTimes, Vec<u8>)>,
}

impl WrittenFile {
    /// Cuts the file into parts, with the filter and the header before them.
    pub fn into_object(
        self,
        project_id: Option<ProjectId>,
        rest: Rest,
        slices: Vec<SliceFacts>,
        file: Bytes,
        metadata: &ParquetMetaData,
    ) -> Result<ObjectBytes, FormatError> {
        let chunks = metadata.row_group(0).columns().iter().map(ColumnChunkMetaData::byte_range);
        let data_end = chunks.map(|(start, bytes)| start + bytes).max().unwrap_or(0);
        let ends = cut(data_end);

        let filter = Filter::build(self.hashes, self.filter_bits);
        let filter_parts: Vec<Bytes> = split(filter.bytes(), PART_BYTES);
        let (times, stored_times) = self.times.unzip();
        let (mut rollups, mut behind) = (self.rollups, stored_times.unwrap_or_default());
        if times.is_some() {
            Rollup::put_behind(&mut rollups, &mut behind);
        }
        let behind = Bytes::from(behind);
        let table =
            PartTable { filter_parts: filter_parts.len() as u32, ends, bytes_behind: behind.len() as u64 };
        let header = Header {
            layout: self.layout,
            project_id,
            rows: self.rows,
            page_rows: self.page_rows as u64,
            rest,
            page_first_persons: self.page_first_persons,
            rollups,
            times,
            tail: file.slice(data_end as usize..),
            table,
        };
        let mut parts = vec![header.to_bytes()?];
        parts.extend(filter_parts);
        let mut start = 0;
        for &end in &header.table.ends {
            parts.push(file.slice(start..end as usize));
            start = end as usize;
        }
        parts.extend(split(&behind, PART_BYTES));
        let least = slices.iter().map(|slice| slice.occurred_min).min();
        let greatest = slices.iter().map(|slice| slice.occurred_max).max();
        let facts = ObjectFacts {
            rows: self.rows,
            bytes: parts.iter().map(|part| part.len() as u64).sum(),
            raw_bytes: self.raw_bytes,
            parts: parts.len() as u32,
            filter_parts: header.table.filter_parts,
            occurred_min: least.unwrap_or_default(),
            occurred_max: greatest.unwrap_or_default(),
            received_min: self.received.map_or(0, |(least, _)| least),
            received_max: self.received.map_or(0, |(_, greatest)| greatest),
            slices,
        };
        Ok(ObjectBytes { parts, facts })
    }
}

/// A Parquet file in memory with the columns of a layout.
pub(super) fn file_writer(
    layout: &Layout,
    schema: Arc<Schema>,
    page_rows: usize,
    zstd_level: i32,
) -> Result<ArrowWriter<Vec<u8>>, FormatError> {
    let properties = layout.writer_properties(page_rows, zstd_level)?;
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    Ok(ArrowWriter::try_new_with_options(Vec::new(), schema, options)?)
}

fn split(bytes: &Bytes, size: usize) -> Vec<Bytes> {
    (0..bytes.len()).step_by(size).map(|start| bytes.slice(start..(start + size).min(bytes.len()))).collect()
}
