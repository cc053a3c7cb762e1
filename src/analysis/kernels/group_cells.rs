//! The cells of a breakdown: those of a group lie together, and a row's value says where they begin.

use super::groups::{GroupCodes, GroupIndex, NO_GROUP, ValueCodes};
use super::select::Picked;
use crate::analysis::time::NO_BUCKET;
use crate::eventstore::ByText;

/// The cell of a row whose value no group asks for.
pub(super) const NO_CELL: u32 = NO_BUCKET;

/// Which cells the rows of a block fall into, by the group of their value.
pub(super) struct GroupCells<'a> {
    values: ValueCodes<'a>,
    /// The first cell of the group of each code that is known so far; of no group [`NO_CELL`].
    first_cells: Vec<u32>,
    /// The same by text, where texts are all values that there are.
    by_text: Option<ByText<'a, u32>>,
    /// How many rows each entry of that table has.
    counts: Vec<u64>,
    /// Not needed where all codes are assigned.
    index: Option<&'a GroupIndex<'a>>,
    buckets: u32,
}

impl<'a> GroupCells<'a> {
    pub fn new(codes: GroupCodes<'a>, index: Option<&'a GroupIndex<'a>>, buckets: u32) -> Self {
        let GroupCodes { values, groups } = codes;
        let first_cells = groups.into_iter().map(|group| first_cell(group, buckets)).collect();
        let mut groups = Self { values, first_cells, by_text: None, counts: Vec::new(), index, buckets };
        groups.learn();
        let by_text = groups.values.only_texts();
        groups.by_text = by_text.map(|codes| codes.map(|code| groups.first_cells[code as usize]));
        groups
    }

    /// The cells of codes that are new.
    fn learn(&mut self) {
        let Self { values, first_cells, index, buckets, .. } = self;
        let find = |key| first_cell(index.map_or(NO_GROUP, |index| index.find(key)), *buckets);
        first_cells.extend(values.keys[first_cells.len()..].iter().map(find));
    }

    /// Counts rows of which nothing is asked but how many there are of each group; false where that takes a look at
    /// each row.
    pub fn try_count(&mut self, picked: &Picked) -> bool {
        let (Some(by_text), Some(rows)) = (&self.by_text, &picked.whole) else { return false };
        by_text.count_range(rows.clone(), &mut self.counts);
        true
    }

    /// The first cell of each group that has some of these, and how many.
    pub fn counted(&self) -> impl Iterator<Item = (u32, u64)> {
        let counted = self.by_text.iter().flat_map(|by_text| by_text.counted(&self.counts));
        counted.filter(|(cell, _)| *cell != NO_CELL)
    }

    /// For each picked row the first cell of its group.
    pub fn find(&mut self, picked: &Picked, cells: &mut Vec<u32>) {
        cells.clear();
        match (&self.by_text, &picked.whole) {
            (Some(by_text), Some(rows)) => by_text.append_range(rows.clone(), cells),
            (Some(by_text), None) => by_text.append_to(&picked.rows, cells),
            (None, _) => {
                self.values.find(&picked.rows, cells);
                self.learn();
                let first_cells = self.first_cells.as_slice();
                // Codes until here.
                cells.iter_mut().for_each(|cell| *cell = first_cells[*cell as usize]);
            }
        }
    }
}

fn first_cell(group: u32, buckets: u32) -> u32 {
    if group == NO_GROUP { NO_CELL } else { group * buckets }
}
