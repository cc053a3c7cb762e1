//! Segments of one project into one, column by column.
//!
//! Compaction writes every row again, several times in its life. Turned into whole rows and back, a row
//! costs an event's worth of work each time. Here the order of the rows is found once from their keys,
//! and then one column after the other is read from all inputs, put into that order and written: a text
//! stays a code into its dictionary, and memory holds one column at a time, however many there are.
//!
//! That is possible where all properties of the inputs have columns in the result and nothing is left
//! out of their facts, which is so but for projects with hundreds of properties; [`join_segments`] says
//! when it is not.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, UInt8Type, UInt32Type};
use arrow_array::{
    Array, ArrayRef, DictionaryArray, FixedSizeBinaryArray, Int32Array, Int64Array, StringArray, UInt8Array,
    UInt32Array, new_null_array,
};
use arrow_buffer::{BooleanBufferBuilder, NullBuffer, OffsetBuffer};
use arrow_schema::Field;
use bytes::Bytes;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, compute_leaves};

use super::columns::{Access, Fixed, Layout, PropertyKind};
use super::facts::SliceFacts;
use super::filter::identity_hash;
use super::header::Rest;
use super::parts::PartSet;
use super::plan::widen;
use super::rollup::{Rollup, RollupBuilder};
use super::times::{EventTimes, EventTimesBuilder};
use super::want::{Columns as Wanted, Want};
use super::write::{WrittenFile, file_writer};
use super::{FormatError, ObjectBytes, ObjectFacts, ObjectReader, RowRanges, SegmentPlan, WriteOptions, ids};
use crate::model::{EventId, Millis, PersonNo, ProjectId, utc_day};

/// Dictionaries of one column together, before compression: their offsets are 32 bits.
const RAW_BYTES_MAX: u64 = 1 << 30;

/// A segment with all its parts.
#[derive(Clone, Copy)]
pub struct JoinInput<'i> {
    pub reader: &'i ObjectReader,
    pub parts: &'i PartSet,
    pub facts: &'i ObjectFacts,
}

/// One segment with the rows of all inputs; `None` where rows must be looked at one by one.
pub fn join_segments(
    project_id: ProjectId,
    inputs: &[JoinInput<'_>],
    options: &WriteOptions,
) -> Result<Option<ObjectBytes>, FormatError> {
    let mut plan = SegmentPlan::new(options);
    inputs.iter().for_each(|input| plan.add_segment(input.facts));
    let page_rows = plan.page_rows(options);
    let times = plan.event_times(options);
    let layout = plan.layout(options);
    let has_all = |input: &JoinInput<'_>| {
        let header = input.reader.header();
        let is_whole = header.rest.names.is_empty() && !header.rest.has_more;
        is_whole
            && header.project_id == Some(project_id)
            && header.layout.properties.iter().all(|own| layout.properties.binary_search(own).is_ok())
    };
    let raw_bytes: u64 = inputs.iter().map(|input| input.facts.raw_bytes).sum();
    if inputs.len() > usize::from(u16::MAX) || raw_bytes > RAW_BYTES_MAX || !inputs.iter().all(has_all) {
        return Ok(None);
    }
    let slices: Vec<&SliceFacts> = inputs.iter().filter_map(|input| input.facts.slices.first()).collect();
    if slices.len() != inputs.len() {
        return Ok(None);
    }
    let Some(slice) = SliceFacts::join(&slices, options.names_max) else { return Ok(None) };

    let keys = inputs.iter().map(Keys::read).collect::<Result<Vec<_>, _>>()?;
    let order = Order::merge(&keys)?;
    let rows = order.sources.len() as u64;
    // What compaction retires must be in what it writes, to the row.
    if rows != slice.rows {
        return Err(FormatError::Corrupt(format!("{rows} rows where the catalogue has {}", slice.rows)));
    }
    let mut written = WrittenFile {
        page_rows,
        page_first_persons: Vec::new(),
        hashes: keys.iter().flat_map(Keys::hashes).collect(),
        filter_bits: options.filter_bits,
        rows,
        raw_bytes,
        received: None,
        rollups: roll_up(inputs, &keys, rows)?,
        times: times.map(|times| by_event(times, inputs, &keys, &order, page_rows)).transpose()?,
        layout,
    };
    for input in inputs {
        widen(&mut written.received, (input.facts.received_min, input.facts.received_max));
    }
    let person_no = order.gather(|input| keys[input].person_no.as_primitive::<UInt32Type>().values());
    written.page_first_persons = person_no.iter().copied().step_by(page_rows).collect();
    let columns = Columns { inputs, keys: &keys, order: &order, layout: &written.layout, page_rows };
    let (file, metadata) = columns.write(person_no, options.zstd_level)?;
    written.into_object(Some(project_id), Rest::default(), vec![slice], file, &metadata).map(Some)
}

/// Of the rollups of the inputs, and of the rows of those that have none or one of longer steps.
fn roll_up(inputs: &[JoinInput<'_>], keys: &[Keys], rows: u64) -> Result<Vec<Rollup>, FormatError> {
    let mut builder = RollupBuilder::new(rows);
    for (input, keys) in inputs.iter().zip(keys) {
        let header = input.reader.header();
        if !builder.is_open() {
            break;
        }
        let shortest = header.rollups.first();
        if let Some(shortest) = shortest.filter(|shortest| builder.can_add(shortest)) {
            builder.add_all(&shortest.fetched(&header.table, input.parts)?, header.rows)?;
            continue;
        }
        let events = input.reader.read_column(header.layout.fixed_index(Fixed::Event)?, input.parts)?;
        let events = events.as_dictionary::<Int32Type>().downcast_dict::<StringArray>();
        let events = events.ok_or_else(no_texts)?;
        for (event, occurred_at) in events.into_iter().zip(keys.columns().1) {
            builder.add(event.unwrap_or_default().as_bytes(), *occurred_at);
        }
    }
    Ok(builder.finish())
}

/// The times of all rows, and their bytes.
fn by_event(
    mut times: EventTimesBuilder,
    inputs: &[JoinInput<'_>],
    keys: &[Keys],
    order: &Order,
    page_rows: usize,
) -> Result<(EventTimes, Vec<u8>), FormatError> {
    let mut events: Vec<Vec<u32>> = Vec::with_capacity(inputs.len());
    for input in inputs {
        let index = input.reader.header().layout.fixed_index(Fixed::Event)?;
        let column = input.reader.read_column(index, input.parts)?;
        let column: &DictionaryArray<Int32Type> = column.as_dictionary();
        let texts = column.values().as_string_opt::<i32>().ok_or_else(no_texts)?;
        let numbers: Vec<u32> =
            (0..texts.len()).map(|text| times.number(texts.value(text).as_bytes())).collect();
        let of_row = column.keys().values().iter().map(|code| numbers.get(*code as usize).copied());
        events.push(of_row.collect::<Option<_>>().ok_or_else(no_texts)?);
    }
    for (input, row) in order.places() {
        times.push(events[input][row], keys[input].occurred_at[row])?;
    }
    times.finish(page_rows)
}

fn no_texts() -> FormatError {
    FormatError::corrupt("events that are no texts")
}

/// What the rows of one input are ordered and identified by.
struct Keys {
    person_no: ArrayRef,
    occurred_at: Vec<Millis>,
    event_id: Vec<EventId>,
}

type Key = (PersonNo, Millis, EventId);

impl Keys {
    fn read(input: &JoinInput<'_>) -> Result<Self, FormatError> {
        let layout = &input.reader.header().layout;
        let column = |column| input.reader.read_column(layout.fixed_index(column)?, input.parts);
        let versions = layout.short_ids.then(|| column(Fixed::IdVersion)).transpose()?;
        let stored = column(Fixed::EventId)?;
        let times = Want { columns: Wanted::PersonsAndTimes, rows: RowRanges::All };
        Ok(Self {
            person_no: column(Fixed::PersonNo)?,
            occurred_at: match input.reader.read_times(&times, input.parts)? {
                Some(times) => times,
                None => column(Fixed::OccurredAt)?.as_primitive::<Int64Type>().values().to_vec(),
            },
            event_id: ids::ids_of(stored.as_fixed_size_binary().value_data(), versions.as_ref())?,
        })
    }

    fn columns(&self) -> (&[PersonNo], &[Millis], &[EventId]) {
        (self.person_no.as_primitive::<UInt32Type>().values(), &self.occurred_at, &self.event_id)
    }

    fn hashes(&self) -> impl Iterator<Item = u64> {
        let (persons, times, ids) = self.columns();
        persons.iter().zip(times).zip(ids).map(|((&person_no, &occurred_at), &event_id)| {
            identity_hash(None, person_no, event_id, utc_day(occurred_at))
        })
    }
}

/// Which input each row of the result comes from; each input's rows come in their own order.
struct Order {
    sources: Vec<u16>,
}

impl Order {
    /// Equal keys in the order of inputs.
    fn merge(keys: &[Keys]) -> Result<Self, FormatError> {
        let columns: Vec<_> = keys.iter().map(Keys::columns).collect();
        let key = |input: usize, row: usize| -> Option<Key> {
            let (persons, times, ids) = columns[input];
            persons.get(row).map(|person_no| (*person_no, times[row], ids[row]))
        };
        let mut rows = vec![0_usize; keys.len()];
        let mut sources = Vec::with_capacity(columns.iter().map(|(persons, ..)| persons.len()).sum());
        let mut next = BinaryHeap::with_capacity(keys.len());
        next.extend((0..keys.len()).filter_map(|input| key(input, 0).map(|first| Reverse((first, input)))));
        while let Some(Reverse((mut current, input))) = next.pop() {
            // As long as no other input comes first: persons who were active lie together.
            loop {
                sources.push(input as u16);
                rows[input] += 1;
                let Some(following) = key(input, rows[input]) else { break };
                if following < current {
                    return Err(FormatError::OutOfOrder { row: rows[input] as u64 });
                }
                current = following;
                if next.peek().is_some_and(|Reverse(other)| *other < (current, input)) {
                    next.push(Reverse((current, input)));
                    break;
                }
            }
        }
        Ok(Self { sources })
    }

    fn gather<'v, T: Copy + 'v>(&self, values_of: impl Fn(usize) -> &'v [T]) -> Vec<T> {
        let inputs = self.sources.iter().max().map_or(0, |last| usize::from(*last) + 1);
        let mut values: Vec<std::slice::Iter<'v, T>> = (0..inputs).map(|n| values_of(n).iter()).collect();
        self.sources.iter().filter_map(|source| values[usize::from(*source)].next().copied()).collect()
    }

    /// Row by row the input and the number of the row in it.
    fn places(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let mut rows = vec![0_usize; self.sources.iter().max().map_or(0, |last| usize::from(*last) + 1)];
        self.sources.iter().map(move |source| {
            let input = usize::from(*source);
            rows[input] += 1;
            (input, rows[input] - 1)
        })
    }
}

/// The columns of the result.
struct Columns<'j> {
    inputs: &'j [JoinInput<'j>],
    keys: &'j [Keys],
    order: &'j Order,
    layout: &'j Layout,
    page_rows: usize,
}

impl Columns<'_> {
    fn write(
        &self,
        person_no: Vec<PersonNo>,
        zstd_level: i32,
    ) -> Result<(Bytes, parquet::file::metadata::ParquetMetaData), FormatError> {
        let schema = self.layout.schema(Access::Write);
        let writer = file_writer(self.layout, schema.clone(), self.page_rows, zstd_level)?;
        let (mut file, columns) = writer.into_serialized_writer()?;
        let mut writers = columns.create_column_writers(0)?.into_iter();
        let mut fields = schema.fields().iter();
        let mut group = file.next_row_group()?;
        let mut add = |array: ArrayRef| -> Result<(), FormatError> {
            let (Some(writer), Some(field)) = (writers.next(), fields.next()) else {
                return Err(FormatError::corrupt("more columns than the schema has"));
            };
            self.write_column(writer, field, &array)?.append_to_row_group(&mut group)?;
            Ok(())
        };
        let mut person_no = Some(person_no);
        for column in self.layout.fixed() {
            add(self.fixed(*column, &mut person_no)?)?;
        }
        for (name, kind) in &self.layout.properties {
            add(self.property(name, *kind)?)?;
        }
        let rest = schema.field(self.layout.rest_index()).data_type();
        add(new_null_array(rest, self.order.sources.len()))?;
        group.close()?;
        let metadata = file.finish()?;
        Ok((std::mem::take(file.inner_mut()).into(), metadata))
    }

    /// Page by page, as all writers do, so that all columns are cut at the same rows.
    fn write_column(
        &self,
        mut writer: ArrowColumnWriter,
        field: &Field,
        array: &ArrayRef,
    ) -> Result<ArrowColumnChunk, FormatError> {
        for start in (0..array.len()).step_by(self.page_rows) {
            let page = array.slice(start, self.page_rows.min(array.len() - start));
            for leaf in compute_leaves(field, &page)? {
                writer.write(&leaf)?;
            }
        }
        Ok(writer.close()?)
    }

    fn fixed(&self, column: Fixed, person_no: &mut Option<Vec<PersonNo>>) -> Result<ArrayRef, FormatError> {
        let order = self.order;
        Ok(match column {
            Fixed::PersonNo => Arc::new(UInt32Array::from(person_no.take().unwrap_or_default())),
            Fixed::OccurredAt => Arc::new(Int64Array::from(self.occurred_at())),
            Fixed::IdVersion => {
                let ids = order.gather(|input| self.keys[input].columns().2);
                Arc::new(ids.into_iter().map(ids::version_of).collect::<UInt8Array>())
            }
            Fixed::EventId => {
                let mut stored = Vec::with_capacity(order.sources.len() * self.layout.id_bytes());
                let ids = order.gather(|input| self.keys[input].columns().2);
                match self.layout.short_ids {
                    true => ids.into_iter().for_each(|id| ids::push_short(id, &mut stored)),
                    false => ids.into_iter().for_each(|id| stored.extend_from_slice(&id.0)),
                }
                Arc::new(FixedSizeBinaryArray::try_new(self.layout.id_bytes() as i32, stored.into(), None)?)
            }
            Fixed::Event => {
                self.texts(&self.read_fixed(column)?.into_iter().map(Some).collect::<Vec<_>>())?
            }
            Fixed::IdNo => Arc::new(UInt32Array::from(self.id_no(&self.read_fixed(column)?))),
            Fixed::TimeSource => {
                let read = self.read_fixed(column)?;
                Arc::new(UInt8Array::from(order.gather(|n| read[n].as_primitive::<UInt8Type>().values())))
            }
            Fixed::ReceivedAt => Arc::new(Int64Array::from(self.received_at(&self.read_fixed(column)?))),
            Fixed::ProjectId => return Err(FormatError::corrupt("a segment has one project")),
        })
    }

    fn read_fixed(&self, column: Fixed) -> Result<Vec<ArrayRef>, FormatError> {
        let read = |input: &JoinInput<'_>| {
            input.reader.read_column(input.reader.header().layout.fixed_index(column)?, input.parts)
        };
        self.inputs.iter().map(read).collect()
    }

    fn occurred_at(&self) -> Vec<Millis> {
        self.order.gather(|input| self.keys[input].columns().1)
    }

    /// Kept as numbers or as distances, in each of the inputs and in the result.
    fn id_no(&self, read: &[ArrayRef]) -> Vec<u32> {
        let stored: Vec<&[u32]> =
            read.iter().map(|array| &**array.as_primitive::<UInt32Type>().values()).collect();
        let is_short: Vec<bool> =
            self.inputs.iter().map(|input| input.reader.header().layout.short_ids).collect();
        let of_row = |(input, row): (usize, usize)| {
            let (stored, person_no) = (stored[input][row], self.keys[input].columns().0[row]);
            let id_no = ids::id_no_of(stored, person_no, is_short[input]);
            ids::stored_id_no(id_no, person_no, self.layout.short_ids)
        };
        self.order.places().map(of_row).collect()
    }

    /// Kept as times or as delays, in each of the inputs and in the result.
    fn received_at(&self, read: &[ArrayRef]) -> Vec<Millis> {
        let stored: Vec<&[Millis]> =
            read.iter().map(|array| &**array.as_primitive::<Int64Type>().values()).collect();
        let is_delay: Vec<bool> =
            self.inputs.iter().map(|input| input.reader.header().layout.received_as_delay).collect();
        let to_delay = self.layout.received_as_delay;
        let of_row = |(input, row): (usize, usize)| {
            let (stored, occurred_at) = (stored[input][row], self.keys[input].columns().1[row]);
            match (is_delay[input], to_delay) {
                (true, false) => occurred_at.wrapping_add(stored),
                (false, true) => stored.wrapping_sub(occurred_at),
                (true, true) | (false, false) => stored,
            }
        };
        self.order.places().map(of_row).collect()
    }

    fn property(&self, name: &str, kind: PropertyKind) -> Result<ArrayRef, FormatError> {
        let read = |input: &JoinInput<'_>| {
            let index = input.reader.header().layout.columns_of(name).find(|(of, _)| *of == kind);
            index.map(|(_, index)| input.reader.read_column(index, input.parts)).transpose()
        };
        let columns = self.inputs.iter().map(read).collect::<Result<Vec<Option<ArrayRef>>, _>>()?;
        // The arrays of those inputs that have the property at a row, and where in them.
        let present = || {
            self.order.places().map(|(input, row)| {
                columns[input].as_deref().filter(|array| array.is_valid(row)).map(|array| (array, row))
            })
        };
        Ok(match kind {
            PropertyKind::String | PropertyKind::Json => self.texts(&columns)?,
            PropertyKind::Integer => {
                let mut builder = Int64Builder::with_capacity(self.order.sources.len());
                for value in present() {
                    builder.append_option(value.map(|(a, row)| a.as_primitive::<Int64Type>().value(row)));
                }
                Arc::new(builder.finish())
            }
            PropertyKind::Float => {
                let mut builder = Float64Builder::with_capacity(self.order.sources.len());
                for value in present() {
                    builder.append_option(value.map(|(a, row)| a.as_primitive::<Float64Type>().value(row)));
                }
                Arc::new(builder.finish())
            }
            PropertyKind::Boolean => {
                let mut builder = BooleanBuilder::with_capacity(self.order.sources.len());
                for value in present() {
                    builder.append_option(value.map(|(a, row)| a.as_boolean().value(row)));
                }
                Arc::new(builder.finish())
            }
        })
    }

    /// Codes into the dictionaries of all inputs, one behind the other.
    fn texts(&self, columns: &[Option<ArrayRef>]) -> Result<ArrayRef, FormatError> {
        let dictionaries: Vec<Option<&DictionaryArray<Int32Type>>> =
            columns.iter().map(|column| column.as_ref().map(|array| array.as_dictionary())).collect();
        let mut bases = Vec::with_capacity(columns.len());
        let (mut bytes, mut lengths) = (Vec::new(), Vec::new());
        for dictionary in &dictionaries {
            bases.push(lengths.len() as i32);
            if let Some(dictionary) = dictionary {
                let texts: &StringArray = dictionary.values().as_string();
                for text in 0..texts.len() {
                    bytes.extend_from_slice(texts.value(text).as_bytes());
                    lengths.push(texts.value(text).len());
                }
            }
        }
        let texts = StringArray::try_new(OffsetBuffer::from_lengths(lengths), bytes.into(), None)?;
        let mut codes = Vec::with_capacity(self.order.sources.len());
        let mut present = BooleanBufferBuilder::new(self.order.sources.len());
        let codes_of: Vec<Option<(&[i32], Option<&NullBuffer>)>> = dictionaries
            .iter()
            .map(|found| found.map(|dictionary| (&**dictionary.keys().values(), dictionary.nulls())))
            .collect();
        for (input, row) in self.order.places() {
            let code = codes_of[input]
                .filter(|(_, nulls)| nulls.is_none_or(|nulls| nulls.is_valid(row)))
                .map(|(codes, _)| codes[row] + bases[input]);
            present.append(code.is_some());
            codes.push(code.unwrap_or_default());
        }
        let nulls = NullBuffer::new(present.finish());
        let codes = Int32Array::new(codes.into(), (nulls.null_count() > 0).then_some(nulls));
        Ok(Arc::new(DictionaryArray::try_new(codes, Arc::new(texts))?))
    }
}
