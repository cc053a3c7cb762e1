//! Arrays into the columns of a block: whole vectors at a time, nothing allocated per row.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Float64Type, Int32Type, Int64Type, UInt32Type};
use arrow_array::{Array, ArrayRef, BooleanArray, DictionaryArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_buffer::ScalarBuffer;
use arrow_schema::ArrowError;

use super::columns::{Fixed, PropertyKind};
use super::header::Header;
use super::{FormatError, json};
use crate::eventstore::{ABSENT, Bits, Dictionary, Numbers, PropertyColumn, RowBlock, RowColumns};
use crate::model::{FastMap, PropertyValue};

/// The block of a batch that has exactly the columns `indices` (ascending) of the file, without what
/// lives in the JSON column.
pub(super) fn block(
    header: &Header,
    with: RowColumns,
    asked: &[String],
    indices: &[usize],
    batch: RecordBatch,
) -> Result<RowBlock, FormatError> {
    let columns = Decoded { header, indices, batch };
    let mut block = RowBlock {
        event: Arc::new(dictionary(columns.fixed(Fixed::Event)?)?),
        properties: Vec::with_capacity(asked.len()),
        ..RowBlock::default()
    };
    if block.event.has_absent() {
        return Err(FormatError::corrupt("an event without a name"));
    }
    if with.persons {
        block.person_no = values_of::<UInt32Type>(columns.fixed(Fixed::PersonNo)?);
    }
    if with.times {
        block.occurred_at = values_of::<Int64Type>(columns.fixed(Fixed::OccurredAt)?);
    }
    for name in asked {
        let mut property = PropertyColumn::default();
        for (kind, index) in header.layout.columns_of(name) {
            let array = columns.at(index)?;
            match kind {
                PropertyKind::String => property.strings = Some(dictionary(array)?),
                PropertyKind::Json => property.json = Some(dictionary(array)?),
                PropertyKind::Integer => property.integers = Some(numbers::<Int64Type>(array)),
                PropertyKind::Float => property.floats = Some(numbers::<Float64Type>(array)),
                PropertyKind::Boolean => property.booleans = Some(booleans(array.as_boolean())),
            }
        }
        block.properties.push(Arc::new(property));
    }
    Ok(block)
}

/// The arrays of a batch by their index in the file.
struct Decoded<'a> {
    header: &'a Header,
    indices: &'a [usize],
    batch: RecordBatch,
}

impl Decoded<'_> {
    fn fixed(&self, column: Fixed) -> Result<&ArrayRef, FormatError> {
        self.at(self.header.layout.fixed_index(column)?)
    }

    fn at(&self, index: usize) -> Result<&ArrayRef, FormatError> {
        let found = self.indices.binary_search(&index);
        found
            .map(|position| self.batch.column(position))
            .map_err(|_| FormatError::corrupt(format!("column {index} was not decoded")))
    }
}

fn values_of<T: ArrowPrimitiveType>(array: &ArrayRef) -> ScalarBuffer<T::Native> {
    array.as_primitive::<T>().values().clone()
}

fn numbers<T: ArrowPrimitiveType>(array: &ArrayRef) -> Numbers<T::Native> {
    let array: &PrimitiveArray<T> = array.as_primitive();
    Numbers { values: array.values().to_vec(), present: present(array) }
}

fn booleans(array: &BooleanArray) -> Numbers<bool> {
    Numbers { values: array.values().iter().collect(), present: present(array) }
}

fn present(array: &dyn Array) -> Bits {
    match array.nulls() {
        None => Bits::ones(array.len()),
        Some(nulls) => {
            let chunks = nulls.inner().bit_chunks();
            let words = chunks.iter().chain(std::iter::once(chunks.remainder_bits())).collect();
            Bits::from_words(words, array.len())
        }
    }
}

fn dictionary(array: &ArrayRef) -> Result<Dictionary, FormatError> {
    let array: &DictionaryArray<Int32Type> = array.as_dictionary();
    let texts: &StringArray = array
        .values()
        .as_string_opt::<i32>()
        .ok_or_else(|| FormatError::corrupt("a dictionary of something else than text"))?;
    let values = (0..texts.len()).map(|n| Arc::from(texts.value(n))).collect();
    let codes = array.keys().values().iter().map(|&code| code as u32);
    Ok(match array.nulls() {
        None => Dictionary::new(codes, values),
        Some(nulls) => {
            let codes = codes.zip(nulls.iter()).map(|(code, present)| if present { code } else { ABSENT });
            Dictionary::new(codes, values)
        }
    })
}

/// Adds the values that live in the JSON column, whose pages come one by one.
pub(super) fn add_rest(
    asked: &[String],
    pages: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
    block: &mut RowBlock,
) -> Result<(), FormatError> {
    let rows = block.event.len();
    let mut found: Vec<RestColumn> = asked.iter().map(|_| RestColumn::default()).collect();
    let mut row = 0;
    for page in pages {
        for text in page?.column(0).as_string::<i32>() {
            if let Some(text) = text {
                if row >= rows {
                    return Err(FormatError::corrupt("more rows of JSON properties than rows"));
                }
                // The first of equal names: the others are copied from it below.
                let wanted = |name: &str| asked.iter().position(|asked| asked == name);
                json::read(text, wanted, |property, value| found[property].set(row, rows, value))?;
            }
            row += 1;
        }
    }
    if row != rows {
        return Err(FormatError::corrupt(format!("{row} rows of JSON properties where there are {rows}")));
    }
    for (index, name) in asked.iter().enumerate() {
        let first = asked.iter().position(|asked| asked == name).unwrap_or(index);
        let rest = found[first].column();
        let property = Arc::make_mut(&mut block.properties[index]);
        // A type has its own column or lives in the JSON column, never both.
        property.strings = property.strings.take().or(rest.strings);
        property.integers = property.integers.take().or(rest.integers);
        property.floats = property.floats.take().or(rest.floats);
        property.booleans = property.booleans.take().or(rest.booleans);
        property.json = property.json.take().or(rest.json);
    }
    Ok(())
}

#[derive(Default)]
struct RestColumn {
    strings: RestTexts,
    json: RestTexts,
    /// Without texts.
    numbers: PropertyColumn,
}

/// Texts of a column as they are found.
#[derive(Default)]
struct RestTexts {
    /// One a row; none before the first text.
    codes: Vec<u32>,
    values: Vec<Arc<str>>,
    known: FastMap<Arc<str>, u32>,
}

impl RestTexts {
    fn set(&mut self, row: usize, rows: usize, text: &str) {
        self.codes.resize(rows, ABSENT);
        self.codes[row] = match self.known.get(text) {
            Some(&code) => code,
            None => {
                let (code, text) = (self.values.len() as u32, Arc::<str>::from(text));
                self.values.push(text.clone());
                self.known.insert(text, code);
                code
            }
        };
    }

    fn dictionary(&self) -> Option<Dictionary> {
        let has_any = !self.codes.is_empty();
        has_any.then(|| Dictionary::new(self.codes.iter().copied(), self.values.clone()))
    }
}

impl RestColumn {
    fn column(&self) -> PropertyColumn {
        let (strings, json) = (self.strings.dictionary(), self.json.dictionary());
        PropertyColumn { strings, json, ..self.numbers.clone() }
    }

    fn set(&mut self, row: usize, rows: usize, value: PropertyValue) {
        match value {
            PropertyValue::String(text) => self.strings.set(row, rows, &text),
            PropertyValue::Json(text) => self.json.set(row, rows, &text),
            PropertyValue::Integer(number) => set_number(&mut self.numbers.integers, row, rows, number),
            PropertyValue::Float(number) => set_number(&mut self.numbers.floats, row, rows, number),
            PropertyValue::Bool(flag) => set_number(&mut self.numbers.booleans, row, rows, flag),
        }
    }
}

fn set_number<T: Copy + Default>(column: &mut Option<Numbers<T>>, row: usize, rows: usize, value: T) {
    let column = column
        .get_or_insert_with(|| Numbers { values: vec![T::default(); rows], present: Bits::zeros(rows) });
    column.values[row] = value;
    column.present.set(row);
}
