//! Parts into rows: which parts a wish needs, and the way through Parquet to arrays.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt32Type};
use arrow_array::{ArrayRef, RecordBatch};
use bytes::BytesMut;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
    RowSelection, RowSelectionPolicy,
};
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::page_index::offset_index::PageLocation;

use super::columns::{Access, Fixed};
use super::filter::Filter;
use super::header::{Header, ObjectKind};
use super::parts::{HEADER_PART, PartSet, PartSlice, SparseFile};
use super::rollup::Rollup;
use super::times::EventTimes;
use super::want::{Columns, Want};
use super::{FormatError, RowRanges, ids};
use crate::eventstore::RowBlock;
use crate::model::{EventId, Millis, PersonNo, ProjectId};

/// Slices of a part that are nearer to each other are read as one.
const SLICES_APART_MIN: u64 = 16 << 10;

/// The identities of rows, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityBlock {
    pub person_no: Vec<PersonNo>,
    pub occurred_at: Vec<Millis>,
    /// Empty when nobody asked for them.
    pub event_id: Vec<EventId>,
}

/// An object whose part 0 has been read. Cheap to clone.
#[derive(Clone)]
pub struct ObjectReader {
    pub(super) header: Arc<Header>,
    pub(super) metadata: ArrowReaderMetadata,
    /// Only reads of single pages need it.
    pages: Arc<std::sync::OnceLock<Pages>>,
}

/// Where pages lie.
struct Pages {
    /// With the offset index.
    metadata: ArrowReaderMetadata,
    /// The same by column.
    locations: Vec<Vec<PageLocation>>,
}

impl ObjectReader {
    pub fn open(part_0: &[u8]) -> Result<Self, FormatError> {
        let header = Header::parse(part_0)?;
        let metadata = load_metadata(&header, PageIndexPolicy::Skip)?;
        let file = metadata.metadata();
        let columns = file.file_metadata().schema_descr().num_columns();
        if file.num_row_groups() != 1
            || columns != header.layout.len()
            || file.row_group(0).num_rows() as u64 != header.rows
        {
            return Err(FormatError::corrupt("part 0 and its Parquet footer disagree"));
        }
        Ok(Self { header: Arc::new(header), metadata, pages: Arc::default() })
    }

    pub fn kind(&self) -> ObjectKind {
        self.header.layout.kind
    }

    pub fn rows(&self) -> u64 {
        self.header.rows
    }

    /// About what it takes in memory, once single pages have been read of it.
    pub fn memory_bytes(&self) -> usize {
        let header = &self.header;
        let pages = header.rows.div_ceil(header.page_rows) as usize;
        let offsets = pages * header.layout.len() * size_of::<PageLocation>();
        // Without the pages, and once more with them; the pages twice.
        let metadata = 2 * (self.metadata.metadata().memory_size() + offsets);
        let names = header.layout.properties.iter().map(|(name, _)| name.len() + size_of::<String>());
        let rest = header.rest.names.iter().map(|name| name.len() + size_of::<String>());
        metadata
            + header.tail.len()
            + header.rollups.iter().map(Rollup::memory_bytes).sum::<usize>()
            + header.times.as_ref().map_or(0, EventTimes::memory_bytes)
            + size_of_val(&*header.page_first_persons)
            + size_of_val(&*header.table.ends)
            + names.chain(rest).sum::<usize>()
    }

    /// All rows as a block of counts by event and time, where the object has these by steps of this length or
    /// of shorter ones.
    pub fn read_rollup(&self, step_max: Millis, parts: &PartSet) -> Result<Option<RowBlock>, FormatError> {
        let Some(rollup) = self.rollup(step_max) else { return Ok(None) };
        rollup.fetched(&self.header.table, parts)?.read(self.header.rows).map(Some)
    }

    /// What of the parts to fetch beside part 0 before [`Self::read_rollup`].
    pub fn slices_for_rollup(&self, step_max: Millis) -> Vec<PartSlice> {
        let behind = self.rollup(step_max).and_then(Rollup::bytes_behind).cloned();
        behind.into_iter().flat_map(|bytes| self.header.table.slices_behind(bytes)).collect()
    }

    /// How many bytes [`Self::read_rollup`] reads.
    pub fn rollup_bytes(&self, step_max: Millis) -> usize {
        self.rollup(step_max).map_or(0, Rollup::bytes)
    }

    fn rollup(&self, step_max: Millis) -> Option<&Rollup> {
        self.header.rollups.iter().rev().find(|rollup| rollup.step_ms() <= step_max)
    }

    /// Part 0 included.
    pub fn part_count(&self) -> u32 {
        self.header.table.parts()
    }

    /// The parts to fetch beside part 0 before [`Self::read_block`] and its like, ascending.
    pub fn parts_for(&self, want: &Want) -> Result<Vec<u32>, FormatError> {
        let mut parts: Vec<u32> = self.slices_of(want)?.into_iter().map(|slice| slice.part_no).collect();
        parts.sort_unstable();
        parts.dedup();
        Ok(parts)
    }

    /// What of the parts is enough instead, and not in `parts` yet; ascending. For few rows of a large
    /// object that is far less.
    pub fn slices_for(&self, want: &Want, parts: &PartSet) -> Result<Vec<PartSlice>, FormatError> {
        let mut slices = self.slices_of(want)?;
        slices.retain(|slice| !parts.covers(*slice));
        slices.sort_unstable();
        slices.dedup_by(|next, slice| {
            let is_near = next.part_no == slice.part_no && next.start <= slice.end + SLICES_APART_MIN;
            if is_near {
                slice.end = slice.end.max(next.end);
            }
            is_near
        });
        Ok(slices)
    }

    /// What of the parts holds what is wanted.
    fn slices_of(&self, want: &Want) -> Result<Vec<PartSlice>, FormatError> {
        let (table, mut bytes) = (&self.header.table, self.bytes_for(want)?);
        let mut of_times = Vec::new();
        if let Some((times, rows)) = self.bytes_of_times(want) {
            of_times.extend(times.into_iter().flat_map(|bytes| table.slices_behind(bytes)));
            self.bytes_of_column(self.header.layout.fixed_index(Fixed::Event)?, &rows, &mut bytes)?;
        }
        let slices = bytes.into_iter().flat_map(|bytes| table.slices(bytes));
        Ok(slices.chain(of_times).collect())
    }

    /// The bytes of the Parquet file that hold what is wanted.
    fn bytes_for(&self, want: &Want) -> Result<Vec<Range<u64>>, FormatError> {
        let mut bytes = Vec::new();
        let mut columns = self.column_indices(&want.columns)?;
        columns.extend(self.rest_index(&want.columns));
        let ids = self.header.layout.fixed_index(Fixed::EventId)?;
        for column in columns {
            match &want.rows {
                RowRanges::Some(ranges) if column == ids => bytes.extend(self.bytes_of_ids(ranges)?),
                rows => self.bytes_of_column(column, rows, &mut bytes)?,
            }
        }
        Ok(bytes)
    }

    fn bytes_of_column(
        &self,
        column: usize,
        rows: &RowRanges,
        bytes: &mut Vec<Range<u64>>,
    ) -> Result<(), FormatError> {
        match rows {
            RowRanges::All => {
                let (start, length) = self.chunk(column).byte_range();
                bytes.push(start..start + length);
                Ok(())
            }
            RowRanges::Some(ranges) => self.bytes_of_pages(column, ranges, bytes),
        }
    }

    fn bytes_of_pages(
        &self,
        column: usize,
        ranges: &[Range<u64>],
        bytes: &mut Vec<Range<u64>>,
    ) -> Result<(), FormatError> {
        let pages = self.pages_of(column)?;
        let (start, _) = self.chunk(column).byte_range();
        let first_page = pages.first().map_or(start, |page| page.offset as u64);
        if ranges.iter().any(|range| !range.is_empty()) {
            // The dictionary.
            bytes.push(start..first_page);
        }
        for range in ranges.iter().filter(|range| !range.is_empty()) {
            // By the page's own first row and not by `page_rows`: where a column's dictionary grew too
            // big, its writer ends one page early.
            let from = pages.partition_point(|page| page.first_row_index as u64 <= range.start);
            let to = pages.partition_point(|page| (page.first_row_index as u64) < range.end);
            if from == 0 || range.end > self.header.rows {
                return Err(FormatError::corrupt(format!("no page has the rows {range:?}")));
            }
            for page in &pages[from - 1..to] {
                let end = page.offset + i64::from(page.compressed_page_size);
                bytes.push(page.offset as u64..end as u64);
            }
        }
        Ok(())
    }

    pub(super) fn pages_of(&self, column: usize) -> Result<&[PageLocation], FormatError> {
        let pages = self.pages()?.locations.get(column);
        pages.map(Vec::as_slice).ok_or_else(|| FormatError::corrupt(format!("no column {column}")))
    }

    /// The pages of a segment that hold these persons, if it has them at all. `persons` ascending.
    pub fn rows_of_persons(&self, persons: &[PersonNo]) -> RowRanges {
        let firsts = &self.header.page_first_persons;
        let page_rows = self.header.page_rows;
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for &person in persons {
            // A person may begin in the page before the first that begins with them.
            let from = firsts.partition_point(|&first| first < person).saturating_sub(1);
            let to = firsts.partition_point(|&first| first <= person);
            if to <= from {
                continue;
            }
            let start = from as u64 * page_rows;
            let end = (to as u64 * page_rows).min(self.header.rows);
            match ranges.last_mut() {
                Some(last) if last.end >= start => last.end = last.end.max(end),
                _ => ranges.push(start..end),
            }
        }
        RowRanges::Some(ranges)
    }

    /// The parts that hold the duplicate filter.
    pub fn filter_parts(&self) -> Range<u32> {
        HEADER_PART + 1..HEADER_PART + 1 + self.header.table.filter_parts
    }

    pub fn read_filter(&self, parts: &PartSet) -> Result<Filter, FormatError> {
        let mut whole = BytesMut::new();
        let range = self.filter_parts();
        if range.len() == 1 {
            return Filter::from_bytes(parts.get(range.start)?.clone());
        }
        for part_no in range {
            whole.extend_from_slice(parts.get(part_no)?);
        }
        Filter::from_bytes(whole.freeze())
    }

    /// `want.columns` is [`Columns::Identity`] or [`Columns::PersonsAndTimes`].
    pub fn read_identities(&self, want: &Want, parts: &PartSet) -> Result<IdentityBlock, FormatError> {
        let Some(batch) = self.only_batch(want, parts)? else { return Ok(IdentityBlock::default()) };
        let event_id = match (&want.columns, &want.rows) {
            (Columns::PersonsAndTimes, _) => Vec::new(),
            (_, rows) => {
                let decoded = self.columns_decoded(want)?;
                let of = |column: Fixed| {
                    let index = self.header.layout.fixed_index(column)?;
                    let place = decoded.iter().position(|decoded| *decoded == index);
                    place.map(|place| batch.column(place)).ok_or_else(|| FormatError::corrupt("no event ids"))
                };
                let versions = self.header.layout.short_ids.then(|| of(Fixed::IdVersion)).transpose()?;
                match rows {
                    RowRanges::Some(ranges) => ids::ids_of(&self.read_stored_ids(ranges, parts)?, versions)?,
                    RowRanges::All => {
                        ids::ids_of(of(Fixed::EventId)?.as_fixed_size_binary().value_data(), versions)?
                    }
                }
            }
        };
        let occurred_at = match self.read_times(want, parts)? {
            Some(times) => times,
            None => batch.column(1).as_primitive::<Int64Type>().values().to_vec(),
        };
        let person_no = batch.column(0).as_primitive::<UInt32Type>().values().to_vec();
        if occurred_at.len() != person_no.len() {
            return Err(fewer_rows(person_no.len() as u64));
        }
        Ok(IdentityBlock { person_no, occurred_at, event_id })
    }

    pub fn project_id(&self) -> Option<ProjectId> {
        self.header.project_id
    }

    /// The JSON column, when a block needs it beside [`Self::column_indices`].
    pub(super) fn rest_index(&self, columns: &Columns) -> Option<usize> {
        let Columns::Block { properties, .. } = columns else { return None };
        let is_needed = properties.iter().any(|name| self.header.is_in_rest(name));
        is_needed.then(|| self.header.layout.rest_index())
    }

    /// Those that are decoded at once, ascending.
    pub(super) fn column_indices(&self, columns: &Columns) -> Result<Vec<usize>, FormatError> {
        let layout = &self.header.layout;
        match columns {
            Columns::All => Ok((0..layout.len()).collect()),
            Columns::Located(located) => {
                let is_known = |column: &Fixed| matches!(column, Fixed::PersonNo | Fixed::OccurredAt);
                let fixed = layout.fixed().iter().enumerate().filter(|(_, column)| !is_known(column));
                let mut indices: Vec<usize> = fixed.map(|(index, _)| index).collect();
                if located.with_properties {
                    let properties = layout.property_index(0)..layout.rest_index();
                    indices.extend(properties.chain(self.header.has_rest().then(|| layout.rest_index())));
                }
                Ok(indices)
            }
            Columns::PersonsAndTimes => {
                let times = (!layout.times_by_event).then_some(Fixed::OccurredAt);
                [Fixed::PersonNo].into_iter().chain(times).map(|column| layout.fixed_index(column)).collect()
            }
            Columns::Identity => {
                let is_part = |column: &Fixed| match column {
                    Fixed::PersonNo | Fixed::OccurredAt | Fixed::IdVersion | Fixed::EventId => true,
                    Fixed::Event | Fixed::IdNo | Fixed::ReceivedAt | Fixed::TimeSource | Fixed::ProjectId => {
                        false
                    }
                };
                let fixed = layout.fixed().iter().enumerate().filter(|(_, column)| is_part(column));
                Ok(fixed.map(|(index, _)| index).collect())
            }
            Columns::Block { with, properties, .. } => {
                let mut indices = vec![layout.fixed_index(Fixed::Event)?];
                if with.persons {
                    indices.push(layout.fixed_index(Fixed::PersonNo)?);
                }
                if (with.times || with.quarters) && !layout.times_by_event {
                    indices.push(layout.fixed_index(Fixed::OccurredAt)?);
                }
                for name in properties {
                    indices.extend(layout.columns_of(name).map(|(_, index)| index));
                }
                indices.sort_unstable();
                indices.dedup();
                Ok(indices)
            }
        }
    }

    /// All asked rows at once; `None` when no rows were asked for.
    fn only_batch(&self, want: &Want, parts: &PartSet) -> Result<Option<RecordBatch>, FormatError> {
        let expected = self.rows_of(&want.rows);
        if expected == 0 {
            return Ok(None);
        }
        let batch = self.batches(want, parts, expected as usize)?.next().transpose()?;
        match batch {
            Some(batch) if batch.num_rows() as u64 == expected => Ok(Some(batch)),
            _ => Err(fewer_rows(expected)),
        }
    }

    pub(super) fn rows_of(&self, rows: &RowRanges) -> u64 {
        match rows {
            RowRanges::All => self.header.rows,
            RowRanges::Some(ranges) => ranges.iter().map(|range| range.end - range.start).sum(),
        }
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// One column of all rows.
    pub(super) fn read_column(&self, index: usize, parts: &PartSet) -> Result<ArrayRef, FormatError> {
        let rows = self.header.rows as usize;
        let batch = self.batches_of(vec![index], &RowRanges::All, parts, rows)?.next().transpose()?;
        match batch {
            Some(batch) if batch.num_rows() == rows => Ok(batch.column(0).clone()),
            _ => Err(FormatError::corrupt(format!("fewer rows than {rows} in column {index}"))),
        }
    }

    pub(super) fn batches(
        &self,
        want: &Want,
        parts: &PartSet,
        batch_rows: usize,
    ) -> Result<ParquetRecordBatchReader, FormatError> {
        self.check_parts(want, parts)?;
        self.batches_of(self.columns_decoded(want)?, &want.rows, parts, batch_rows)
    }

    pub(super) fn check_parts(&self, want: &Want, parts: &PartSet) -> Result<(), FormatError> {
        match self.slices_of(want)?.into_iter().find(|slice| !parts.covers(*slice)) {
            Some(slice) => Err(FormatError::MissingPart { part_no: slice.part_no }),
            None => Ok(()),
        }
    }

    /// Those that the way through Parquet goes for.
    pub(super) fn columns_decoded(&self, want: &Want) -> Result<Vec<usize>, FormatError> {
        let mut columns = self.column_indices(&want.columns)?;
        if want.rows != RowRanges::All {
            // They are read by themselves.
            let ids = self.header.layout.fixed_index(Fixed::EventId)?;
            columns.retain(|column| *column != ids);
        }
        Ok(columns)
    }

    pub(super) fn batches_of(
        &self,
        columns: Vec<usize>,
        rows: &RowRanges,
        parts: &PartSet,
        batch_rows: usize,
    ) -> Result<ParquetRecordBatchReader, FormatError> {
        let file = self.file(parts)?;
        let metadata = match rows {
            RowRanges::All => self.metadata.clone(),
            RowRanges::Some(_) => self.pages()?.metadata.clone(),
        };
        let mask = ProjectionMask::leaves(metadata.parquet_schema(), columns);
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
            .with_projection(mask)
            .with_batch_size(batch_rows.max(1));
        if let RowRanges::Some(ranges) = rows {
            let ranges = ranges.iter().map(|range| range.start as usize..range.end as usize);
            builder = builder
                .with_row_selection(RowSelection::from_consecutive_ranges(ranges, self.header.rows as usize))
                .with_row_selection_policy(RowSelectionPolicy::Selectors);
        }
        Ok(builder.build()?)
    }

    pub(super) fn file(&self, parts: &PartSet) -> Result<SparseFile, FormatError> {
        SparseFile::new(self.header.table.clone(), parts.clone(), self.header.tail.clone())
    }

    /// Per column the first row of each page.
    #[cfg(test)]
    pub(super) fn page_starts(&self) -> Result<Vec<Vec<i64>>, FormatError> {
        let starts = |pages: &Vec<PageLocation>| pages.iter().map(|page| page.first_row_index).collect();
        Ok(self.pages()?.locations.iter().map(starts).collect())
    }

    pub(super) fn chunk(&self, column: usize) -> &ColumnChunkMetaData {
        self.metadata.metadata().row_group(0).column(column)
    }

    fn pages(&self) -> Result<&Pages, FormatError> {
        if let Some(pages) = self.pages.get() {
            return Ok(pages);
        }
        let metadata = load_metadata(&self.header, PageIndexPolicy::Required)?;
        let index = metadata.metadata().page_index_for_row_group(0);
        let locations = (0..self.header.layout.len()).map(|column| {
            let index = index.offset_index(column);
            index.map(|index| index.page_locations().clone())
        });
        let locations: Option<Vec<_>> = locations.collect();
        let locations = locations.ok_or_else(|| FormatError::corrupt("a column without an offset index"))?;
        Ok(self.pages.get_or_init(|| Pages { metadata, locations }))
    }
}

pub(super) fn fewer_rows(expected: u64) -> FormatError {
    FormatError::corrupt(format!("fewer rows than the {expected} asked for"))
}

fn load_metadata(header: &Header, offsets: PageIndexPolicy) -> Result<ArrowReaderMetadata, FormatError> {
    let footer = SparseFile::new(header.table.clone(), PartSet::default(), header.tail.clone())?;
    let metadata = ParquetMetaDataReader::new()
        .with_column_index_policy(PageIndexPolicy::Skip)
        .with_offset_index_policy(offsets)
        .parse_and_finish(&footer)?;
    let options = ArrowReaderOptions::new().with_schema(header.layout.schema(Access::Read));
    Ok(ArrowReaderMetadata::try_new(Arc::new(metadata), options)?)
}
