//! Arrays back into whole rows, page by page: for compaction, exports and timelines.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, UInt8Type, UInt32Type};
use arrow_array::{Array, ArrayRef, BooleanArray, DictionaryArray, RecordBatch, StringArray};
use arrow_buffer::NullBuffer;
use bytestring::ByteString;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use super::cells::Chunk;
use super::columns::{Fixed, PropertyKind};
use super::header::Header;
use super::parts::PartSet;
use super::read::{ObjectReader, fewer_rows};
use super::want::{Columns, Located, Want};
use super::{FormatError, RowRanges, StoredRow, ids, json};
use crate::model::{
    EventId, FastMap, Millis, PersonNo, ProjectId, Properties, PropertiesWriter, PropertyRef, TimeSource,
};

impl ObjectReader {
    /// The asked rows with everything they have, page by page, but for times that are no column, which are read at
    /// once; `want.columns` is [`Columns::All`] or
    /// [`Columns::Located`].
    pub fn read_rows(&self, want: &Want, parts: &PartSet) -> Result<RowBatches, FormatError> {
        let columns = self.columns_decoded(want)?;
        let batches = self.batches(want, parts, self.header.page_rows as usize)?;
        let ids = match &want.rows {
            RowRanges::All => None,
            RowRanges::Some(ranges) => Some(self.read_stored_ids(ranges, parts)?),
        };
        let known = match &want.columns {
            Columns::Located(Located { person_no, occurred_at, .. }) => {
                Known { person_no: Some(*person_no), occurred_at: Some(occurred_at.clone().into_iter()) }
            }
            _ => {
                let times = self.read_times(want, parts)?;
                Known { person_no: None, occurred_at: times.map(Vec::into_iter) }
            }
        };
        Ok(RowBatches::new(self.header.clone(), &columns, batches, ids, known))
    }

    /// The same rows, all at once.
    pub fn read_all_rows(&self, want: &Want, parts: &PartSet) -> Result<Vec<StoredRow>, FormatError> {
        if let Some(rows) = self.read_located(want, parts)? {
            return Ok(rows);
        }
        self.read_rows(want, parts)?.collect::<Result<Vec<_>, _>>().map(|pages| pages.concat())
    }

    /// Those of one person without Parquet's reader, if it can be done.
    pub(super) fn read_located(
        &self,
        want: &Want,
        parts: &PartSet,
    ) -> Result<Option<Vec<StoredRow>>, FormatError> {
        let (Columns::Located(located), RowRanges::Some(ranges)) = (&want.columns, &want.rows) else {
            return Ok(None);
        };
        self.check_parts(want, parts)?;
        let file = self.file(parts)?;
        let rows: Vec<u64> = want.rows.numbers().collect();
        let mut columns = vec![None; self.header.layout.len()];
        for index in self.columns_decoded(want)? {
            let chunk = Chunk { file: &file, metadata: self.chunk(index), pages: self.pages_of(index)? };
            let Some(column) = chunk.read(&rows, self.metadata.schema().field(index).data_type())? else {
                return Ok(None);
            };
            columns[index] = Some(column);
        }
        let times = located.occurred_at.iter();
        let identities: Vec<_> = times.map(|occurred_at| (located.person_no, *occurred_at)).collect();
        if identities.len() != rows.len() {
            return Err(fewer_rows(rows.len() as u64));
        }
        let stored_ids = self.read_stored_ids(ranges, parts)?;
        let page = Page { header: &self.header, columns };
        let ids = page.ids(Some(&stored_ids))?;
        page.rows(&identities, &ids).map(Some)
    }
}

/// The rows of an object in their order, a page at a time.
pub struct RowBatches {
    header: Arc<Header>,
    batches: ParquetRecordBatchReader,
    /// Where each column of the layout is in a batch, if it was read.
    places: Vec<Option<usize>>,
    /// What is stored of the ids of all rows, when the batches are without them.
    stored_ids: Option<Vec<u8>>,
    /// Rows that were given.
    given: usize,
    known: Known,
}

/// Of the rows that are still to be given, what is not in the batches.
pub(super) struct Known {
    /// Of all of them.
    person_no: Option<PersonNo>,
    occurred_at: Option<std::vec::IntoIter<Millis>>,
}

impl RowBatches {
    /// `columns` are those in `batches`.
    pub(super) fn new(
        header: Arc<Header>,
        columns: &[usize],
        batches: ParquetRecordBatchReader,
        stored_ids: Option<Vec<u8>>,
        known: Known,
    ) -> Self {
        let mut places = vec![None; header.layout.len()];
        for (place, column) in columns.iter().enumerate() {
            places[*column] = Some(place);
        }
        Self { header, batches, places, stored_ids, given: 0, known }
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<StoredRow>, FormatError> {
        let rows = batch.num_rows();
        let columns =
            self.places.iter().map(|place| place.map(|place| batch.column(place).clone())).collect();
        let columns = Page { header: &self.header, columns };
        let id_bytes = self.header.layout.id_bytes();
        let stored_ids = self.stored_ids.as_deref().map(|all| {
            let of_rows = self.given * id_bytes..(self.given + rows) * id_bytes;
            all.get(of_rows).unwrap_or_default()
        });
        let ids = columns.ids(stored_ids)?;
        self.given += rows;
        let persons: Vec<PersonNo> = match self.known.person_no {
            Some(person_no) => vec![person_no; rows],
            None => columns.fixed(Fixed::PersonNo)?.as_primitive::<UInt32Type>().values().to_vec(),
        };
        let times: Vec<Millis> = match &mut self.known.occurred_at {
            Some(times) => times.take(rows).collect(),
            None => columns.fixed(Fixed::OccurredAt)?.as_primitive::<Int64Type>().values().to_vec(),
        };
        let identities: Vec<(PersonNo, Millis)> = persons.into_iter().zip(times).collect();
        if ids.len() < rows || identities.len() < rows {
            return Err(FormatError::corrupt("fewer identities than rows"));
        }
        columns.rows(&identities, &ids)
    }
}

impl Iterator for RowBatches {
    type Item = Result<Vec<StoredRow>, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.next()?;
        Some(batch.map_err(FormatError::from).and_then(|batch| self.rows(&batch)))
    }
}

/// What was read of some rows.
pub(super) struct Page<'a> {
    pub header: &'a Header,
    /// As in the layout; `None` when it was not read.
    pub columns: Vec<Option<ArrayRef>>,
}

impl Page<'_> {
    fn column(&self, index: usize) -> Option<&ArrayRef> {
        self.columns[index].as_ref()
    }

    fn fixed(&self, column: Fixed) -> Result<&ArrayRef, FormatError> {
        let index = self.header.layout.fixed_index(column)?;
        self.column(index).ok_or_else(|| FormatError::corrupt(format!("column {index} was not read")))
    }

    /// `stored` when they were not read with the other columns.
    fn ids(&self, stored: Option<&[u8]>) -> Result<Vec<EventId>, FormatError> {
        let versions = self.header.layout.short_ids.then(|| self.fixed(Fixed::IdVersion)).transpose()?;
        match stored {
            Some(stored) => ids::ids_of(stored, versions),
            None => ids::ids_of(self.fixed(Fixed::EventId)?.as_fixed_size_binary().value_data(), versions),
        }
    }

    /// `identities` and `ids` of each of them.
    pub fn rows(
        &self,
        identities: &[(PersonNo, Millis)],
        ids: &[EventId],
    ) -> Result<Vec<StoredRow>, FormatError> {
        let header = self.header;
        let properties = self.read_properties(ids.len())?;
        let event = Texts::of(self.fixed(Fixed::Event)?);
        let id_no = self.fixed(Fixed::IdNo)?.as_primitive::<UInt32Type>();
        let received_at = self.fixed(Fixed::ReceivedAt)?.as_primitive::<Int64Type>();
        let time_source = self.fixed(Fixed::TimeSource)?.as_primitive::<UInt8Type>();
        let project_id = match header.project_id {
            Some(_) => None,
            None => Some(self.fixed(Fixed::ProjectId)?.as_primitive::<UInt32Type>()),
        };
        let mut events = SharedTexts::of(event);
        let mut rows = Vec::with_capacity(ids.len());
        for (row, ((&event_id, properties), &(person_no, occurred_at))) in
            ids.iter().zip(properties).zip(identities).enumerate()
        {
            let source = time_source.value(row);
            rows.push(StoredRow {
                project_id: match (header.project_id, project_id) {
                    (Some(of_all), _) => of_all,
                    (None, own) => ProjectId(own.map_or(0, |own| own.value(row))),
                },
                person_no,
                id_no: ids::id_no_of(id_no.value(row), person_no, header.layout.short_ids),
                occurred_at,
                received_at: match header.layout.received_as_delay {
                    true => occurred_at.wrapping_add(received_at.value(row)),
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

    /// The properties of every row, one behind the other in one piece of memory.
    fn read_properties(&self, rows: usize) -> Result<Vec<Properties>, FormatError> {
        let layout = &self.header.layout;
        let properties: Vec<PropertyValues<'_>> = (0..layout.properties.len())
            .filter_map(|property| {
                let (name, kind) = &layout.properties[property];
                PropertyValues::of(self.column(layout.property_index(property))?, name, *kind)
            })
            .collect();
        let rest = self.column(layout.rest_index()).map(|rest| rest.as_string::<i32>());
        let mut writer = PropertiesWriter::default();
        let mut written = Vec::with_capacity(rows);
        for row in 0..rows {
            // The columns come in the order of names, so that every row's properties do too.
            let own = properties.iter().filter_map(|column| column.get(row));
            if let Some(rest) = rest.filter(|rest| !rest.is_null(row)) {
                let others = json::read_all(rest.value(row))?;
                let others = others.iter().map(|(name, value)| (name.as_str(), value.as_ref()));
                let mut all: Vec<_> = own.chain(others).collect();
                // Both halves are sorted; a row's names are unique.
                all.sort_by_key(|(name, _)| *name);
                all.into_iter().for_each(|(name, value)| writer.push(name, value));
            } else {
                own.for_each(|(name, value)| writer.push(name, value));
            }
            written.push(writer.end());
        }
        let all = writer.finish();
        Ok(written.into_iter().map(|written| written.cut(&all)).collect())
    }
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
