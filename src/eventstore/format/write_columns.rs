//! Rows into the arrays of one page.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::{
    ArrayRef, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray, UInt8Array, UInt32Array,
};
use arrow_schema::Schema;

use super::columns::{Fixed, Layout, PropertyKind};
use super::names::Names;
use super::{FormatError, StoredRow, ids, json};
use crate::model::PropertyBytes;

/// The rows of the page that is being filled. Properties are appended where they occur and padded
/// with absent values at the end, so a row costs what it has and not what the object has.
pub(super) struct PageBuffer {
    schema: Arc<Schema>,
    fixed: &'static [Fixed],
    rows: usize,
    person_no: Vec<u32>,
    occurred_at: Vec<i64>,
    event: StringBuilder,
    id_no: Vec<u32>,
    received_at: Vec<i64>,
    time_source: Vec<u8>,
    id_version: Vec<u8>,
    /// What is stored of the ids, one behind the other.
    event_id: Vec<u8>,
    short_ids: bool,
    times_by_event: bool,
    project_id: Vec<u32>,
    names: Names,
    /// Per number of a name the column of each type.
    columns_of: Vec<[Option<usize>; 5]>,
    /// Received times are kept as the time since the event occurred.
    received_as_delay: bool,
    properties: Vec<PropertyBuffer>,
    rest: StringBuilder,
    rest_text: String,
}

struct PropertyBuffer {
    /// Rows that it has so far, absent values included.
    rows: usize,
    values: Values,
}

enum Values {
    /// All texts of a page become UTF-8 at once.
    Text(BinaryBuilder),
    Integers(Int64Builder),
    Floats(Float64Builder),
    Booleans(BooleanBuilder),
}

impl PageBuffer {
    pub fn new(layout: &Layout, schema: Arc<Schema>) -> Self {
        let mut names = Names::default();
        let mut columns_of: Vec<[Option<usize>; 5]> = Vec::new();
        for (index, (name, kind)) in layout.properties.iter().enumerate() {
            let number = names.number(0, name.as_bytes());
            columns_of.resize(columns_of.len().max(number + 1), [None; 5]);
            columns_of[number][*kind as usize] = Some(index);
        }
        let buffer_of = |kind: &PropertyKind| match kind {
            PropertyKind::String | PropertyKind::Json => Values::Text(BinaryBuilder::new()),
            PropertyKind::Integer => Values::Integers(Int64Builder::new()),
            PropertyKind::Float => Values::Floats(Float64Builder::new()),
            PropertyKind::Boolean => Values::Booleans(BooleanBuilder::new()),
        };
        let properties = layout
            .properties
            .iter()
            .map(|(_, kind)| PropertyBuffer { rows: 0, values: buffer_of(kind) })
            .collect();
        Self {
            schema,
            fixed: layout.fixed(),
            rows: 0,
            person_no: Vec::new(),
            occurred_at: Vec::new(),
            event: StringBuilder::new(),
            id_no: Vec::new(),
            received_at: Vec::new(),
            time_source: Vec::new(),
            id_version: Vec::new(),
            event_id: Vec::new(),
            short_ids: layout.short_ids,
            times_by_event: layout.times_by_event,
            project_id: Vec::new(),
            names,
            columns_of,
            received_as_delay: layout.received_as_delay,
            properties,
            rest: StringBuilder::new(),
            rest_text: String::new(),
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The bytes of those properties that share a column.
    pub fn push(&mut self, row: &StoredRow) -> Result<usize, FormatError> {
        self.person_no.push(row.person_no);
        if !self.times_by_event {
            self.occurred_at.push(row.occurred_at);
        }
        self.event.append_value(&row.event);
        self.id_no.push(ids::stored_id_no(row.id_no, row.person_no, self.short_ids));
        self.received_at.push(match self.received_as_delay {
            true => row.received_at.wrapping_sub(row.occurred_at),
            false => row.received_at,
        });
        self.time_source.push(row.time_source as u8);
        if self.short_ids {
            self.id_version.push(ids::version_of(row.event_id));
            ids::push_short(row.event_id, &mut self.event_id);
        } else {
            self.event_id.extend_from_slice(&row.event_id.0);
        }
        if self.fixed.contains(&Fixed::ProjectId) {
            self.project_id.push(row.project_id.0);
        }
        let mut others = false;
        for (position, (name, value)) in row.properties.iter_bytes().enumerate() {
            // Only names that have a column are remembered, however many others there are.
            let columns = self.names.find(position, name).map(|number| &self.columns_of[number]);
            match columns.and_then(|of_kinds| of_kinds[PropertyKind::of(value) as usize]) {
                Some(index) => self.properties[index].set(self.rows, value),
                None => others = true,
            }
        }
        self.rest_text.clear();
        if !others {
            self.rest.append_null();
        } else {
            self.write_others(row)?;
            self.rest.append_value(&self.rest_text);
        }
        self.rows += 1;
        Ok(self.rest_text.len())
    }

    /// The properties without a column of their own.
    fn write_others(&mut self, row: &StoredRow) -> Result<(), FormatError> {
        let kinds = row.properties.iter_bytes().map(|(name, value)| (name, PropertyKind::of(value)));
        let mut has_column = Vec::with_capacity(row.properties.len());
        for (position, (name, kind)) in kinds.enumerate() {
            let columns = self.names.find(position, name).map(|number| &self.columns_of[number]);
            has_column.push(columns.is_some_and(|of_kinds| of_kinds[kind as usize].is_some()));
        }
        let others = row.properties.iter().zip(has_column).filter(|(_, has_column)| !has_column);
        json::write(&mut self.rest_text, others.map(|(property, _)| property))
    }

    /// The page as arrays; the buffer is empty afterwards.
    pub fn take(&mut self) -> Result<RecordBatch, FormatError> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for column in self.fixed {
            arrays.push(match column {
                Fixed::PersonNo => Arc::new(UInt32Array::from(std::mem::take(&mut self.person_no))),
                Fixed::OccurredAt => Arc::new(Int64Array::from(std::mem::take(&mut self.occurred_at))),
                Fixed::Event => Arc::new(self.event.finish()) as ArrayRef,
                Fixed::IdNo => Arc::new(UInt32Array::from(std::mem::take(&mut self.id_no))),
                Fixed::ReceivedAt => Arc::new(Int64Array::from(std::mem::take(&mut self.received_at))),
                Fixed::TimeSource => Arc::new(UInt8Array::from(std::mem::take(&mut self.time_source))),
                Fixed::IdVersion => Arc::new(UInt8Array::from(std::mem::take(&mut self.id_version))),
                Fixed::EventId => {
                    let bytes = std::mem::take(&mut self.event_id);
                    let id_bytes = ids::stored_bytes(self.short_ids) as i32;
                    Arc::new(FixedSizeBinaryArray::try_new(id_bytes, bytes.into(), None)?)
                }
                Fixed::ProjectId => Arc::new(UInt32Array::from(std::mem::take(&mut self.project_id))),
            });
        }
        for property in &mut self.properties {
            arrays.push(property.take(self.rows)?);
        }
        arrays.push(Arc::new(self.rest.finish()) as Arc<StringArray>);
        self.rows = 0;
        Ok(RecordBatch::try_new(self.schema.clone(), arrays)?)
    }
}

impl PropertyBuffer {
    fn set(&mut self, row: usize, value: PropertyBytes<'_>) {
        self.pad(row);
        match (&mut self.values, value) {
            (Values::Text(builder), PropertyBytes::String(text) | PropertyBytes::Json(text)) => {
                builder.append_value(text);
            }
            (Values::Integers(builder), PropertyBytes::Integer(number)) => builder.append_value(number),
            (Values::Floats(builder), PropertyBytes::Float(number)) => builder.append_value(number),
            (Values::Booleans(builder), PropertyBytes::Bool(flag)) => builder.append_value(flag),
            _ => unreachable!("columns are looked up by the value's type"),
        }
        self.rows = row + 1;
    }

    fn pad(&mut self, rows: usize) {
        let absent = rows - self.rows;
        if absent > 0 {
            match &mut self.values {
                Values::Text(builder) => builder.append_nulls(absent),
                Values::Integers(builder) => builder.append_nulls(absent),
                Values::Floats(builder) => builder.append_nulls(absent),
                Values::Booleans(builder) => builder.append_nulls(absent),
            }
        }
        self.rows = rows;
    }

    fn take(&mut self, rows: usize) -> Result<ArrayRef, FormatError> {
        self.pad(rows);
        self.rows = 0;
        Ok(match &mut self.values {
            Values::Text(builder) => Arc::new(StringArray::try_from_binary(builder.finish())?),
            Values::Integers(builder) => Arc::new(builder.finish()),
            Values::Floats(builder) => Arc::new(builder.finish()),
            Values::Booleans(builder) => Arc::new(builder.finish()),
        })
    }
}
