//! Values of properties that share the JSON column.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_schema::ArrowError;

use super::{FormatError, json};
use crate::eventstore::{ABSENT, Bits, Dictionary, DictionaryBuilder, Numbers, PropertyColumn, RowBlock};
use crate::model::PropertyValue;

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
    integers: RestNumbers<i64>,
    floats: RestNumbers<f64>,
    booleans: RestNumbers<bool>,
}

/// Texts of a column as they are found.
#[derive(Default)]
struct RestTexts {
    /// One a row; none before the first text.
    codes: Vec<u32>,
    builder: DictionaryBuilder,
}

impl RestTexts {
    fn set(&mut self, row: usize, rows: usize, text: &str) {
        self.codes.resize(rows, ABSENT);
        self.codes[row] = self.builder.code_of(text);
    }

    fn dictionary(&self) -> Option<Dictionary> {
        let mut builder = self.builder.clone();
        builder.extend(self.codes.iter().copied());
        (!self.codes.is_empty()).then(|| builder.finish())
    }
}

impl RestColumn {
    fn column(&self) -> PropertyColumn {
        PropertyColumn {
            strings: self.strings.dictionary(),
            json: self.json.dictionary(),
            integers: self.integers.numbers(),
            floats: self.floats.numbers(),
            booleans: self.booleans.numbers(),
        }
    }

    fn set(&mut self, row: usize, rows: usize, value: PropertyValue) {
        match value {
            PropertyValue::String(text) => self.strings.set(row, rows, &text),
            PropertyValue::Json(text) => self.json.set(row, rows, &text),
            PropertyValue::Integer(number) => self.integers.set(row, rows, number),
            PropertyValue::Float(number) => self.floats.set(row, rows, number),
            PropertyValue::Bool(flag) => self.booleans.set(row, rows, flag),
        }
    }
}

/// Numbers of a column as they are found, row by row.
#[derive(Default)]
struct RestNumbers<T> {
    values: Vec<T>,
    /// None before the first number.
    present: Bits,
}

impl<T: Copy> RestNumbers<T> {
    /// Precondition: rows ascend.
    fn set(&mut self, row: usize, rows: usize, value: T) {
        if self.present.is_empty() {
            self.present = Bits::zeros(rows);
        }
        self.present.set(row);
        self.values.push(value);
    }

    fn numbers(&self) -> Option<Numbers<T>> {
        (!self.values.is_empty()).then(|| Numbers::new(self.values.clone(), self.present.clone()))
    }
}
