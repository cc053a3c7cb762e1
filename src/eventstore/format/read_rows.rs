//! Arrays back into whole rows, page by page: for compaction, exports and timelines.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, UInt8Type, UInt32Type};
use arrow_array::{Array, DictionaryArray, RecordBatch, StringArray};
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use super::columns::{Fixed, PropertyKind};
use super::header::Header;
use super::{FormatError, StoredRow, json};
use crate::model::{EventId, ProjectId, PropertyValue, TimeSource};

/// The rows of an object in their order, a page at a time.
pub struct RowBatches {
    header: Arc<Header>,
    batches: ParquetRecordBatchReader,
}

impl RowBatches {
    pub(super) fn new(header: Arc<Header>, batches: ParquetRecordBatchReader) -> Self {
        Self { header, batches }
    }
}

impl Iterator for RowBatches {
    type Item = Result<Vec<StoredRow>, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.next()?;
        Some(batch.map_err(FormatError::from).and_then(|batch| rows_of(&self.header, &batch)))
    }
}

fn rows_of(header: &Header, batch: &RecordBatch) -> Result<Vec<StoredRow>, FormatError> {
    let layout = &header.layout;
    let fixed = |column| layout.fixed_index(column).map(|index| batch.column(index));
    let person_no = fixed(Fixed::PersonNo)?.as_primitive::<UInt32Type>();
    let occurred_at = fixed(Fixed::OccurredAt)?.as_primitive::<Int64Type>();
    let event = Texts::of(fixed(Fixed::Event)?);
    let id_no = fixed(Fixed::IdNo)?.as_primitive::<UInt32Type>();
    let received_at = fixed(Fixed::ReceivedAt)?.as_primitive::<Int64Type>();
    let time_source = fixed(Fixed::TimeSource)?.as_primitive::<UInt8Type>();
    let event_id = fixed(Fixed::EventId)?.as_fixed_size_binary().value_data().as_chunks::<16>().0;
    let project_id = match header.project_id {
        Some(_) => None,
        None => Some(fixed(Fixed::ProjectId)?.as_primitive::<UInt32Type>()),
    };
    let mut rows = Vec::with_capacity(batch.num_rows());
    for (row, event_id) in event_id.iter().enumerate() {
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
            event: event.get(row).to_owned(),
            event_id: EventId(*event_id),
            time_source: TimeSource::from_u8(source)
                .ok_or_else(|| FormatError::corrupt(format!("time source {source}")))?,
            properties: Vec::new(),
        });
    }
    for (property, (name, kind)) in layout.properties.iter().enumerate() {
        add_property(batch, layout.property_index(property), name, *kind, &mut rows)?;
    }
    for (row, text) in batch.column(layout.rest_index()).as_string::<i32>().iter().enumerate() {
        if let Some(text) = text {
            let own = &mut rows[row].properties;
            own.extend(json::read_all(text)?);
            // Both halves are sorted; a row's names are unique.
            own.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
    }
    Ok(rows)
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

/// The columns come in the order of names, so that every row's properties do too.
fn add_property(
    batch: &RecordBatch,
    index: usize,
    name: &str,
    kind: PropertyKind,
    rows: &mut [StoredRow],
) -> Result<(), FormatError> {
    let array = batch.column(index);
    if array.null_count() == array.len() {
        return Ok(());
    }
    for (n, row) in rows.iter_mut().enumerate() {
        if array.is_null(n) {
            continue;
        }
        let value = match kind {
            PropertyKind::String => PropertyValue::String(Texts::of(array).get(n).to_owned()),
            PropertyKind::Json => PropertyValue::Json(Texts::of(array).get(n).to_owned()),
            PropertyKind::Integer => PropertyValue::Integer(array.as_primitive::<Int64Type>().value(n)),
            PropertyKind::Float => PropertyValue::Float(array.as_primitive::<Float64Type>().value(n)),
            PropertyKind::Boolean => PropertyValue::Bool(array.as_boolean().value(n)),
        };
        row.properties.push((name.to_owned(), value));
    }
    Ok(())
}
