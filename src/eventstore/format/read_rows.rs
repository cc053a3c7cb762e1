//! Arrays back into whole rows, page by page: for compaction, exports and timelines.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, UInt8Type, UInt32Type};
use arrow_array::{Array, ArrayRef, BooleanArray, DictionaryArray, RecordBatch, StringArray};
use arrow_buffer::NullBuffer;
use bytestring::ByteString;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use super::columns::{Fixed, Layout, PropertyKind};
use super::header::Header;
use super::read::ids_of;
use super::{FormatError, StoredRow, json};
use crate::model::{EventId, FastMap, ProjectId, Properties, PropertiesWriter, PropertyRef, TimeSource};

/// The rows of an object in their order, a page at a time.
pub struct RowBatches {
    header: Arc<Header>,
    batches: ParquetRecordBatchReader,
    with_properties: bool,
    /// Of the rows to come, when the batches are without them.
    ids: Option<std::vec::IntoIter<EventId>>,
    ids_index: usize,
}

impl RowBatches {
    pub(super) fn new(
        header: Arc<Header>,
        with_properties: bool,
        batches: ParquetRecordBatchReader,
        ids: Option<Vec<EventId>>,
    ) -> Result<Self, FormatError> {
        let ids_index = header.layout.fixed_index(Fixed::EventId)?;
        Ok(Self { header, batches, with_properties, ids: ids.map(Vec::into_iter), ids_index })
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<StoredRow>, FormatError> {
        let mut columns = batch.columns().to_vec();
        let ids = match &mut self.ids {
            None => ids_of(&columns[self.ids_index]),
            Some(ids) => {
                // In the place of the ids, so that all others are where the layout says.
                columns.insert(self.ids_index, columns[0].clone());
                ids.take(batch.num_rows()).collect()
            }
        };
        if ids.len() < batch.num_rows() {
            return Err(FormatError::corrupt("fewer event ids than rows"));
        }
        let properties = match self.with_properties {
            true => read_properties(&self.header.layout, &columns, ids.len())?,
            false => vec![Properties::default(); ids.len()],
        };
        rows_of(&self.header, &columns, &ids, properties)
    }
}

impl Iterator for RowBatches {
    type Item = Result<Vec<StoredRow>, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.next()?;
        Some(batch.map_err(FormatError::from).and_then(|batch| self.rows(&batch)))
    }
}

/// `columns` as in the layout; ids and properties are by themselves.
fn rows_of(
    header: &Header,
    columns: &[ArrayRef],
    ids: &[EventId],
    properties: Vec<Properties>,
) -> Result<Vec<StoredRow>, FormatError> {
    let layout = &header.layout;
    let fixed = |column| layout.fixed_index(column).map(|index| &columns[index]);
    let person_no = fixed(Fixed::PersonNo)?.as_primitive::<UInt32Type>();
    let occurred_at = fixed(Fixed::OccurredAt)?.as_primitive::<Int64Type>();
    let event = Texts::of(fixed(Fixed::Event)?);
    let id_no = fixed(Fixed::IdNo)?.as_primitive::<UInt32Type>();
    let received_at = fixed(Fixed::ReceivedAt)?.as_primitive::<Int64Type>();
    let time_source = fixed(Fixed::TimeSource)?.as_primitive::<UInt8Type>();
    let project_id = match header.project_id {
        Some(_) => None,
        None => Some(fixed(Fixed::ProjectId)?.as_primitive::<UInt32Type>()),
    };
    let mut events = SharedTexts::of(event);
    let mut rows = Vec::with_capacity(ids.len());
    for (row, (&event_id, properties)) in ids.iter().zip(properties).enumerate() {
        let source = time_source.value(row);
        rows.push(StoredRow {
            project_id: match (header.project_id, project_id) {
                (Some(of_all), _) => of_all,
                (None, own) => ProjectId(own.map_or(0, |own| own.value(row))),
            },
            person_no: person_no.value(row),
            id_no: id_no.value(row),
            occurred_at: occurred_at.value(row),
            received_at: match layout.received_as_delay {
                true => occurred_at.value(row).wrapping_add(received_at.value(row)),
                false => received_at.value(row),
            },
            event: events.get(row),
            event_id,
            time_source: TimeSource::from_u8(source)
                .ok_or_else(|| FormatError::corrupt(format!("time source {source}")))?,
            properties,
        });
    }
    Ok(rows)
}

/// The properties of every row of a page, one behind the other in one piece of memory.
fn read_properties(
    layout: &Layout,
    columns: &[ArrayRef],
    rows: usize,
) -> Result<Vec<Properties>, FormatError> {
    let properties: Vec<PropertyValues<'_>> = (0..layout.properties.len())
        .filter_map(|property| {
            let (name, kind) = &layout.properties[property];
            PropertyValues::of(&columns[layout.property_index(property)], name, *kind)
        })
        .collect();
    let rest = columns[layout.rest_index()].as_string::<i32>();
    let mut writer = PropertiesWriter::default();
    let mut written = Vec::with_capacity(rows);
    for row in 0..rows {
        // The columns come in the order of names, so that every row's properties do too.
        let own = properties.iter().filter_map(|column| column.get(row));
        if rest.is_null(row) {
            own.for_each(|(name, value)| writer.push(name, value));
        } else {
            let others = json::read_all(rest.value(row))?;
            let others = others.iter().map(|(name, value)| (name.as_str(), value.as_ref()));
            let mut all: Vec<_> = own.chain(others).collect();
            // Both halves are sorted; a row's names are unique.
            all.sort_by_key(|(name, _)| *name);
            all.into_iter().for_each(|(name, value)| writer.push(name, value));
        }
        written.push(writer.end());
    }
    let all = writer.finish();
    Ok(written.into_iter().map(|written| written.cut(&all)).collect())
}

/// Texts without copying the dictionary, which is the whole object's while a page is only a page.
struct Texts<'a> {
    codes: &'a [i32],
    texts: &'a StringArray,
}

impl<'a> Texts<'a> {
    fn of(array: &'a dyn Array) -> Self {
        let array: &DictionaryArray<Int32Type> = array.as_dictionary();
        Self { codes: array.keys().values(), texts: array.values().as_string() }
    }

    /// Precondition: the row has a text.
    fn get(&self, row: usize) -> &'a str {
        self.texts.value(self.codes[row] as usize)
    }
}

/// Texts of which rows with the same code share the memory.
struct SharedTexts<'a> {
    texts: Texts<'a>,
    known: FastMap<i32, ByteString>,
}

impl<'a> SharedTexts<'a> {
    fn of(texts: Texts<'a>) -> Self {
        Self { texts, known: FastMap::default() }
    }

    /// Precondition: the row has a text.
    fn get(&mut self, row: usize) -> ByteString {
        let texts = &self.texts;
        self.known.entry(texts.codes[row]).or_insert_with(|| texts.get(row).into()).clone()
    }
}

/// A property's column, with the rows that have a value.
struct PropertyValues<'a> {
    name: &'a str,
    present: Option<&'a NullBuffer>,
    values: TypedValues<'a>,
}

enum TypedValues<'a> {
    Strings(Texts<'a>),
    Json(Texts<'a>),
    Integers(&'a [i64]),
    Floats(&'a [f64]),
    Booleans(&'a BooleanArray),
}

impl<'a> PropertyValues<'a> {
    /// `None` when no row has a value.
    fn of(array: &'a dyn Array, name: &'a str, kind: PropertyKind) -> Option<Self> {
        if array.null_count() == array.len() {
            return None;
        }
        let values = match kind {
            PropertyKind::String => TypedValues::Strings(Texts::of(array)),
            PropertyKind::Json => TypedValues::Json(Texts::of(array)),
            PropertyKind::Integer => TypedValues::Integers(array.as_primitive::<Int64Type>().values()),
            PropertyKind::Float => TypedValues::Floats(array.as_primitive::<Float64Type>().values()),
            PropertyKind::Boolean => TypedValues::Booleans(array.as_boolean()),
        };
        Some(Self { name, present: array.nulls(), values })
    }

    fn get(&self, row: usize) -> Option<(&'a str, PropertyRef<'a>)> {
        if self.present.is_some_and(|present| present.is_null(row)) {
            return None;
        }
        let value = match &self.values {
            TypedValues::Strings(texts) => PropertyRef::String(texts.get(row)),
            TypedValues::Json(texts) => PropertyRef::Json(texts.get(row)),
            TypedValues::Integers(numbers) => PropertyRef::Integer(numbers[row]),
            TypedValues::Floats(numbers) => PropertyRef::Float(numbers[row]),
            TypedValues::Booleans(flags) => PropertyRef::Bool(flags.value(row)),
        };
        Some((self.name, value))
    }
}
