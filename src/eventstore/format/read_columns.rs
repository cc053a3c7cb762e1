//! Arrays into the columns of a block: whole vectors at a time, nothing allocated per row.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, UInt32Type};
use arrow_array::{Array, RecordBatch};
use arrow_buffer::BooleanBufferBuilder;

use super::columns::{Fixed, PropertyKind};
use super::header::{Header, ObjectKind};
use super::page_header::DELTA_BINARY_PACKED;
use super::pages::{ColumnPage, ColumnPages, PageRows};
use super::parts::PartSet;
use super::read::{ObjectReader, fewer_rows};
use super::rest::add_rest;
use super::texts::Texts;
use super::want::{Columns, Want};
use super::{FormatError, RowRanges, deltas};
use crate::eventstore::{
    Bits, Counted, Dictionary, Numbers, PropertyColumn, Quarters, QuartersBuilder, RowBlock, RowColumns,
    Times,
};
use crate::model::{Millis, PersonNo};

impl ObjectReader {
    /// The asked rows as one block. In a run, `rows` are those of one project: with persons and times the
    /// block is sorted by them across its days.
    pub fn read_block(&self, want: &Want, parts: &PartSet) -> Result<RowBlock, FormatError> {
        let Columns::Block { with, properties, of_events } = &want.columns else {
            return Err(FormatError::corrupt("a block is read with the columns of a block"));
        };
        if let Some(events) = of_events {
            if want.rows != RowRanges::All || self.header.times.is_none() {
                return Err(FormatError::corrupt("rows of some events, where they cannot be read alone"));
            }
            self.check_parts(want, parts)?;
            return self.read_events((*with, properties, events), parts);
        }
        let mut block = RowBlock::default();
        let expected = self.rows_of(&want.rows);
        if expected > 0 {
            self.check_parts(want, parts)?;
            let page_rows = self.header.page_rows as usize;
            let mut indices = self.column_indices(&want.columns)?;
            let is_whole = want.rows == RowRanges::All;
            if is_whole {
                let fixed = self.header.layout.fixed();
                let is_by_itself =
                    |index: usize| matches!(fixed.get(index), Some(Fixed::PersonNo | Fixed::OccurredAt));
                indices.retain(|index| !is_by_itself(*index));
            }
            let mut whole = BTreeMap::new();
            for index in indices.iter().copied().filter(|_| is_whole) {
                if let Some(column) = self.read_whole(index, parts)? {
                    whole.insert(index, column);
                }
            }
            let event = self.header.layout.fixed_index(Fixed::Event)?;
            let by_event = self.header.times.is_some() && (with.times || with.quarters);
            if is_whole && by_event && !whole.contains_key(&event) {
                whole.insert(event, WholeColumn::Texts(self.texts_of(event, None, parts)?));
            }
            indices.retain(|index| !whole.contains_key(index));
            let mut builder = BlockBuilder::new(&self.header, *with, properties, &indices, expected as usize);
            match whole.get(&event) {
                Some(WholeColumn::Texts(events)) if by_event => {
                    builder.add_times(self.read_block_times(events, None, *with, parts)?);
                }
                _ if by_event => builder.append_times(&self.read_times(want, parts)?.unwrap_or_default()),
                _ => {}
            }
            builder.add_whole(whole)?;
            if indices.is_empty() {
                builder.rows = expected as usize;
            } else {
                for batch in self.batches_of(indices.clone(), &want.rows, parts, page_rows)? {
                    builder.append(&batch?)?;
                }
            }
            if is_whole && with.persons {
                self.read_deltas(Fixed::PersonNo, parts, |page| {
                    builder.append_persons(page.iter().map(|person| *person as PersonNo));
                })?;
            }
            if is_whole && self.header.times.is_none() && (with.times || with.quarters) {
                self.read_deltas(Fixed::OccurredAt, parts, |page| builder.append_times(page))?;
            }
            if builder.rows() as u64 != expected {
                return Err(fewer_rows(expected));
            }
            block = builder.finish()?;
            if let Some(index) = self.rest_index(&want.columns) {
                // Page by page: all of it may be far more than the properties that were asked for.
                let pages = self.batches_of(vec![index], &want.rows, parts, page_rows)?;
                add_rest(properties, pages, &mut block)?;
            }
        }
        if self.kind() == ObjectKind::Run && with.persons && with.times {
            // Days lie one after the other; a stable sort keeps the order of event ids, since equal
            // times are on one day.
            block.sort_by_person_and_time();
        }
        Ok(block)
    }

    /// All of a column without Parquet's reader, where that is possible.
    fn read_whole(&self, index: usize, parts: &PartSet) -> Result<Option<WholeColumn>, FormatError> {
        Ok(match self.header.layout.kind_of(index) {
            Some(PropertyKind::String | PropertyKind::Json) => {
                self.read_texts(index, None, parts)?.map(WholeColumn::Texts)
            }
            Some(PropertyKind::Integer) => self.read_numbers(index, parts)?.map(WholeColumn::Integers),
            Some(PropertyKind::Float) => self.read_numbers(index, parts)?.map(WholeColumn::Floats),
            Some(PropertyKind::Boolean) | None => None,
        })
    }

    /// All of a column of differences, page by page.
    pub(super) fn read_deltas(
        &self,
        column: Fixed,
        parts: &PartSet,
        mut append: impl FnMut(&[i64]),
    ) -> Result<(), FormatError> {
        let chunk = self.chunk(self.header.layout.fixed_index(column)?);
        let mut pages = ColumnPages::new(self.file(parts)?, chunk)?;
        let (mut values, mut rows) = (Vec::new(), 0_u64);
        while let Some(page) = pages.next()? {
            let ColumnPage::Rows(PageRows {
                rows: of_page,
                encoding: DELTA_BINARY_PACKED,
                values: packed,
                ..
            }) = page
            else {
                return Err(FormatError::corrupt(format!("{column:?} in pages of another kind")));
            };
            if of_page as u64 > self.header.rows - rows {
                return Err(FormatError::corrupt(format!("more values than {} rows", self.header.rows)));
            }
            values.clear();
            deltas::decode(packed, of_page, &mut values)?;
            rows += values.len() as u64;
            append(&values);
        }
        if rows == self.header.rows { Ok(()) } else { Err(fewer_rows(self.header.rows)) }
    }
}

/// A block out of batches, each of which has exactly the columns `indices` (ascending) of the file, and out of
/// persons and times, texts and numbers that come another way; without what lives in the JSON column. Batches are small, and what
/// they are decoded into stays in the processor's cache; only the block's own columns are as long as the
/// object.
pub(super) struct BlockBuilder<'a> {
    header: &'a Header,
    indices: &'a [usize],
    with: RowColumns,
    rows: usize,
    person_no: Vec<PersonNo>,
    occurred_at: Times,
    quarters: QuartersBuilder,
    event: Texts,
    /// One per asked property: its columns of the file.
    properties: Vec<Vec<(usize, Values)>>,
}

/// A column that was read at once.
#[derive(Clone)]
enum WholeColumn {
    Texts(Dictionary),
    Integers(Numbers<i64>),
    Floats(Numbers<f64>),
}

enum Values {
    Strings(Texts),
    Json(Texts),
    Integers(NumbersBuilder<i64>),
    Floats(NumbersBuilder<f64>),
    Booleans(NumbersBuilder<bool>),
}

impl<'a> BlockBuilder<'a> {
    pub(super) fn new(
        header: &'a Header,
        with: RowColumns,
        asked: &[String],
        indices: &'a [usize],
        rows: usize,
    ) -> Self {
        let values = |kind| match kind {
            PropertyKind::String => Values::Strings(Texts::new(rows)),
            PropertyKind::Json => Values::Json(Texts::new(rows)),
            PropertyKind::Integer => Values::Integers(NumbersBuilder::new(rows)),
            PropertyKind::Float => Values::Floats(NumbersBuilder::new(rows)),
            PropertyKind::Boolean => Values::Booleans(NumbersBuilder::new(rows)),
        };
        let columns_of = |name: &String| {
            header.layout.columns_of(name).map(|(kind, index)| (index, values(kind))).collect()
        };
        Self {
            header,
            indices,
            with,
            rows: 0,
            person_no: Vec::with_capacity(if with.persons { rows } else { 0 }),
            occurred_at: Times::with_capacity(if with.times { rows } else { 0 }),
            quarters: QuartersBuilder::with_capacity(rows),
            event: Texts::new(rows),
            properties: asked.iter().map(columns_of).collect(),
        }
    }

    pub(super) fn append_persons(&mut self, persons: impl Iterator<Item = PersonNo>) {
        self.person_no.extend(persons);
    }

    pub(super) fn append_times(&mut self, times: &[Millis]) {
        if self.with.times {
            self.occurred_at.extend(times);
        }
        if self.with.quarters {
            self.quarters.extend(times);
        }
    }

    /// Of all rows at once.
    fn add_times(&mut self, (times, quarters): (Times, Quarters)) {
        self.occurred_at = times;
        self.quarters = quarters.into();
    }

    /// Persons and times are taken if they are among the columns.
    pub(super) fn append(&mut self, batch: &RecordBatch) -> Result<(), FormatError> {
        let indices = self.indices;
        let find = |index: usize| indices.binary_search(&index).ok().map(|place| batch.column(place));
        let at = |index: usize| {
            find(index).ok_or_else(|| FormatError::corrupt(format!("column {index} was not decoded")))
        };
        let layout = &self.header.layout;
        self.rows += batch.num_rows();
        if let Some(persons) = find(layout.fixed_index(Fixed::PersonNo)?) {
            self.append_persons(persons.as_primitive::<UInt32Type>().values().iter().copied());
        }
        if !layout.times_by_event
            && let Some(times) = find(layout.fixed_index(Fixed::OccurredAt)?)
        {
            self.append_times(times.as_primitive::<Int64Type>().values());
        }
        if let Some(events) = find(layout.fixed_index(Fixed::Event)?) {
            self.event.append(events)?;
        }
        for (index, values) in self.properties.iter_mut().flatten() {
            if values.are_whole() {
                continue;
            }
            let array = at(*index)?;
            match values {
                Values::Strings(texts) | Values::Json(texts) => texts.append(array)?,
                Values::Integers(numbers) => {
                    numbers.append(array.as_primitive::<Int64Type>().values(), array);
                }
                Values::Floats(numbers) => {
                    numbers.append(array.as_primitive::<Float64Type>().values(), array);
                }
                Values::Booleans(numbers) => {
                    let array = array.as_boolean();
                    let flags: Vec<bool> = array.values().iter().collect();
                    numbers.append(&flags, array);
                }
            }
        }
        Ok(())
    }

    /// What was read at once, by its columns. Before any batch.
    fn add_whole(&mut self, mut columns: BTreeMap<usize, WholeColumn>) -> Result<(), FormatError> {
        let events = columns.remove(&self.header.layout.fixed_index(Fixed::Event)?);
        if let Some(WholeColumn::Texts(events)) = events {
            self.event = Texts::Whole(events);
        }
        let mut left: Vec<usize> = self.properties.iter().flatten().map(|(index, _)| *index).collect();
        for (index, values) in self.properties.iter_mut().flatten().rev() {
            left.pop();
            // The same property may be asked for twice.
            let found =
                if left.contains(index) { columns.get(index).cloned() } else { columns.remove(index) };
            match (values, found) {
                (Values::Strings(of) | Values::Json(of), Some(WholeColumn::Texts(texts))) => {
                    *of = Texts::Whole(texts);
                }
                (Values::Integers(of), Some(WholeColumn::Integers(numbers))) => of.whole = Some(numbers),
                (Values::Floats(of), Some(WholeColumn::Floats(numbers))) => of.whole = Some(numbers),
                _ => {}
            }
        }
        Ok(())
    }

    /// How many rows it has so far.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn finish(self) -> Result<RowBlock, FormatError> {
        let event = self.event.finish();
        if event.has_absent() {
            return Err(FormatError::corrupt("an event without a name"));
        }
        let quarters = self.quarters.finish();
        let lengths = [
            (self.with.persons, self.person_no.len()),
            (self.with.times, self.occurred_at.len()),
            (self.with.quarters, quarters.len()),
        ];
        if let Some((_, length)) = lengths.iter().find(|(is_asked, length)| *is_asked && *length != self.rows)
        {
            return Err(FormatError::corrupt(format!("{length} persons or times of {} rows", self.rows)));
        }
        let property = |columns: Vec<(usize, Values)>| {
            let mut property = PropertyColumn::default();
            for (_, values) in columns {
                match values {
                    Values::Strings(texts) => property.strings = Some(texts.finish()),
                    Values::Json(texts) => property.json = Some(texts.finish()),
                    Values::Integers(numbers) => property.integers = Some(numbers.finish()),
                    Values::Floats(numbers) => property.floats = Some(numbers.finish()),
                    Values::Booleans(numbers) => property.booleans = Some(numbers.finish()),
                }
            }
            Arc::new(property)
        };
        Ok(RowBlock {
            person_no: self.person_no.into(),
            occurred_at: Arc::new(self.occurred_at),
            quarters: Arc::new(quarters),
            event: Arc::new(event),
            properties: self.properties.into_iter().map(property).collect(),
            counted: Counted::All,
            stand_for: None,
        })
    }
}

impl Values {
    /// They have come another way than in batches.
    fn are_whole(&self) -> bool {
        match self {
            Self::Strings(texts) | Self::Json(texts) => matches!(texts, Texts::Whole(_)),
            Self::Integers(numbers) => numbers.whole.is_some(),
            Self::Floats(numbers) => numbers.whole.is_some(),
            Self::Booleans(numbers) => numbers.whole.is_some(),
        }
    }
}

pub(super) struct NumbersBuilder<T> {
    /// They were read at once.
    whole: Option<Numbers<T>>,
    rows: usize,
    values: Vec<T>,
    present: PresentBuilder,
}

impl<T: Copy> NumbersBuilder<T> {
    pub fn new(rows: usize) -> Self {
        let present = PresentBuilder(BooleanBufferBuilder::new(rows));
        Self { whole: None, rows: 0, values: Vec::with_capacity(rows), present }
    }

    pub fn append(&mut self, values: &[T], array: &dyn Array) {
        match array.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => self.values.extend_from_slice(values),
            Some(nulls) => self.values.extend(nulls.valid_indices().map(|row| values[row])),
        }
        self.present.append(array);
        self.rows += array.len();
    }

    pub fn finish(mut self) -> Numbers<T> {
        if let Some(whole) = self.whole {
            return whole;
        }
        self.values.shrink_to_fit();
        Numbers::new(self.values, bits_of(self.present.0, self.rows))
    }
}

struct PresentBuilder(BooleanBufferBuilder);

impl PresentBuilder {
    fn append(&mut self, array: &dyn Array) {
        match array.nulls() {
            None => self.0.append_n(array.len(), true),
            Some(nulls) => self.0.append_buffer(nulls.inner()),
        }
    }
}

pub(super) fn bits_of(mut bits: BooleanBufferBuilder, rows: usize) -> Bits {
    let bits = bits.finish();
    let chunks = bits.bit_chunks();
    let words = chunks.iter().chain(std::iter::once(chunks.remainder_bits())).collect();
    Bits::from_words(words, rows)
}
