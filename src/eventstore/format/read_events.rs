//! The rows of a question's events out of a segment, without the others.
//!
//! Events are decoded whole, and say which rows it is about; of every other column a page is decoded and only those
//! rows of it are kept, so that memory holds what the question counts and little else. Of the times, which are most
//! of a segment, no others are read ([`super::times`]).

use std::sync::Arc;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};

use super::FormatError;
use super::columns::{Fixed, PropertyKind};
use super::numbers::Stored;
use super::parts::PartSet;
use super::read::ObjectReader;
use super::read_columns::NumbersBuilder;
use super::texts::Texts;
use crate::eventstore::{Counted, Dictionary, Numbers, PropertyColumn, RowBlock, RowColumns};
use crate::model::PersonNo;

impl ObjectReader {
    /// How many rows these events have at most, where a block of them alone can be read.
    pub fn rows_of_events_at_most(&self, events: &[String], properties: &[String]) -> Option<u64> {
        let has_rest = properties.iter().any(|name| self.header().is_in_rest(name));
        self.header().times.as_ref().filter(|_| !has_rest).map(|times| times.rows_at_most(events))
    }

    /// Precondition: [`Self::rows_of_events_at_most`] says that it can be done.
    pub(super) fn read_events(
        &self,
        (with, properties, events): (RowColumns, &[String], &[String]),
        parts: &PartSet,
    ) -> Result<RowBlock, FormatError> {
        let all = self.texts_of(self.header().layout.fixed_index(Fixed::Event)?, None, parts)?;
        let rows = all.rows_of(events, usize::MAX).unwrap_or_default();
        let mut block = RowBlock {
            event: Arc::new(all.gather(&rows)),
            properties: Vec::with_capacity(properties.len()),
            counted: Counted::All,
            ..RowBlock::default()
        };
        if with.persons {
            block.person_no = self.persons_of(&rows, parts)?.into();
        }
        if with.times || with.quarters {
            let (times, quarters) = self.read_block_times(&all, Some((events, &rows)), with, parts)?;
            block.occurred_at = Arc::new(times);
            block.quarters = Arc::new(quarters);
        }
        drop(all);
        for name in properties {
            block.properties.push(Arc::new(self.property_of(name, &rows, parts)?));
        }
        Ok(block)
    }

    fn persons_of(&self, rows: &[u32], parts: &PartSet) -> Result<Vec<PersonNo>, FormatError> {
        let (mut persons, mut first, mut left) = (Vec::with_capacity(rows.len()), 0, rows);
        self.read_deltas(Fixed::PersonNo, parts, |page| {
            let of_page = left.partition_point(|row| (*row as usize) < first + page.len());
            let (own, others) = left.split_at(of_page);
            persons.extend(own.iter().map(|row| page[*row as usize - first] as PersonNo));
            (first, left) = (first + page.len(), others);
        })?;
        Ok(persons)
    }

    fn property_of(&self, name: &str, rows: &[u32], parts: &PartSet) -> Result<PropertyColumn, FormatError> {
        let mut property = PropertyColumn::default();
        for (kind, index) in self.header().layout.columns_of(name) {
            match kind {
                PropertyKind::String => property.strings = Some(self.texts_of(index, Some(rows), parts)?),
                PropertyKind::Json => property.json = Some(self.texts_of(index, Some(rows), parts)?),
                PropertyKind::Integer => {
                    let numbers = |array: &dyn Array| array.as_primitive::<Int64Type>().values().to_vec();
                    property.integers = Some(self.numbers_of(index, rows, parts, numbers)?);
                }
                PropertyKind::Float => {
                    let numbers = |array: &dyn Array| array.as_primitive::<Float64Type>().values().to_vec();
                    property.floats = Some(self.numbers_of(index, rows, parts, numbers)?);
                }
                PropertyKind::Boolean => {
                    let array = self.read_column(index, parts)?;
                    let flags: Vec<bool> = array.as_boolean().values().iter().collect();
                    property.booleans = Some(gathered(&flags, &array, rows));
                }
            }
        }
        Ok(property)
    }

    /// A column of texts; `rows`: only those.
    pub(super) fn texts_of(
        &self,
        index: usize,
        rows: Option<&[u32]>,
        parts: &PartSet,
    ) -> Result<Dictionary, FormatError> {
        if let Some(texts) = self.read_texts(index, rows, parts)? {
            return Ok(texts);
        }
        let array = self.read_column(index, parts)?;
        let mut texts = Texts::new(array.len());
        texts.append(&array)?;
        let all = texts.finish();
        Ok(match rows {
            Some(rows) => all.gather(rows),
            None => all,
        })
    }

    fn numbers_of<T: Stored>(
        &self,
        index: usize,
        rows: &[u32],
        parts: &PartSet,
        of_array: impl Fn(&dyn Array) -> Vec<T>,
    ) -> Result<Numbers<T>, FormatError> {
        if let Some(numbers) = self.read_numbers(index, parts)? {
            return Ok(numbers.gather(rows));
        }
        let array = self.read_column(index, parts)?;
        Ok(gathered(&of_array(&array), &array, rows))
    }
}

fn gathered<T: Copy>(values: &[T], array: &dyn Array, rows: &[u32]) -> Numbers<T> {
    let mut numbers = NumbersBuilder::new(array.len());
    numbers.append(values, array);
    numbers.finish().gather(rows)
}
