//! Lists of rows, made without a branch for each row: which of them are wanted is as unpredictable as
//! events are, and a wrong guess of the processor costs more than all else that is done about a row.

use std::ops::Range;

/// As [`Vec::retain`].
pub fn retain(rows: &mut Vec<u32>, mut keep: impl FnMut(usize) -> bool) {
    let mut kept = 0;
    for place in 0..rows.len() {
        let row = rows[place];
        rows[kept] = row;
        kept += usize::from(keep(row as usize));
    }
    rows.truncate(kept);
}

/// The rows of a range that are wanted.
pub fn pick(rows: Range<u32>, mut is_wanted: impl FnMut(usize) -> bool) -> Vec<u32> {
    let mut picked = Vec::new();
    let mut picker = Picker::new(&mut picked, rows.len());
    rows.for_each(|row| picker.see(row, is_wanted(row as usize)));
    picker.finish();
    picked
}

/// Picks rows into a list as they come.
pub struct Picker<'a> {
    rows: &'a mut Vec<u32>,
    len: usize,
}

impl<'a> Picker<'a> {
    /// Precondition: at most so many rows will be seen. The list is overwritten.
    pub fn new(rows: &'a mut Vec<u32>, rows_max: usize) -> Self {
        // One more than can be wanted, for the row that is looked at.
        rows.resize(rows_max + 1, 0);
        Self { rows, len: 0 }
    }

    pub fn see(&mut self, row: u32, is_wanted: bool) {
        self.rows[self.len] = row;
        self.len += usize::from(is_wanted);
    }

    pub fn finish(self) {
        self.rows.truncate(self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picked_and_retained_are_exactly_those_that_are_wanted() {
        let is_wanted = |row: usize| row % 3 == 1;
        assert_eq!(pick(5..15, is_wanted), [7, 10, 13]);
        assert_eq!(pick(3..3, |_| true), [] as [u32; 0]);
        assert_eq!(pick(0..4, |_| true), [0, 1, 2, 3]);
        let mut rows = vec![1, 2, 3, 4, 8, 10];
        retain(&mut rows, is_wanted);
        assert_eq!(rows, [1, 4, 10]);
    }
}
