//! The rows of a chunk, with their cells and what a series measures of them.

use super::group_cells::NO_CELL;
use super::select::Picked;
use crate::analysis::number::Number;
use crate::eventstore::{Numbers, PropertyColumn};

/// The rows of a chunk that count for any series, with their cells.
#[derive(Default)]
pub(super) struct Chunk {
    pub picked: Picked,
    /// For each picked row; empty when there is only one cell.
    pub cells: Vec<u32>,
    /// For each picked row the first cell of its group, while cells are found.
    pub first_cells: Vec<u32>,
}

impl Chunk {
    /// The rows of a series that count, with their cells.
    pub fn for_each_of(&self, series: usize, mut visit: impl FnMut(usize, usize)) {
        let rows = &self.picked.rows;
        if self.cells.is_empty() {
            self.picked.for_each_of(series, |place| visit(rows[place] as usize, 0));
        } else {
            self.picked.for_each_of(series, |place| {
                let cell = self.cells[place];
                if cell != NO_CELL {
                    visit(rows[place] as usize, cell as usize);
                }
            });
        }
    }
}

/// The rows of a chunk that count for a series, and the column that it measures.
pub(super) struct SeriesRows<'a> {
    pub chunk: &'a Chunk,
    pub series: usize,
    pub column: &'a PropertyColumn,
}

impl SeriesRows<'_> {
    pub fn for_each_number(&self, mut visit: impl FnMut(usize, Number)) {
        let Chunk { picked, cells, .. } = self.chunk;
        if let (Some(rows), []) = (&picked.whole, &*picked.wanted) {
            // Each row has a number of one type at most, so they need not be looked for together.
            let mut number = |place: usize, number: Number| match cells.get(place) {
                None => visit(0, number),
                Some(&NO_CELL) => {}
                Some(&cell) => visit(cell as usize, number),
            };
            if let Some(integers) = &self.column.integers {
                integers.for_range(rows.clone(), |place, integer| number(place, Number::Integer(integer)));
            }
            if let Some(floats) = &self.column.floats {
                floats.for_range(rows.clone(), |place, float| number(place, Number::Float(float)));
            }
            return;
        }
        // As nearly always, where all rows are of one event.
        let floats = self.column.floats.as_ref().filter(|_| self.column.integers.is_none());
        if let Some(floats) = floats.and_then(Numbers::of_every_row) {
            return self.chunk.for_each_of(self.series, |row, cell| visit(cell, Number::Float(floats[row])));
        }
        self.chunk.for_each_of(self.series, |row, cell| {
            if let Some(number) = number_at(self.column, row) {
                visit(cell, number);
            }
        });
    }
}

/// Integers and floats are read together; other types are no numbers.
fn number_at(column: &PropertyColumn, row: usize) -> Option<Number> {
    if let Some(integer) = column.integers.as_ref().and_then(|integers| integers.get(row)) {
        return Some(Number::Integer(integer));
    }
    column.floats.as_ref().and_then(|floats| floats.get(row)).map(Number::Float)
}
