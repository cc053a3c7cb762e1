//! Lists of rows, made without a branch for each row: which of them are wanted is as unpredictable as
//! events are, and a wrong guess of the processor costs more than all else that is done about a row.

use std::ops::Range;

/// As [`Vec::retain`].
pub fn retain(rows: &mut Vec<u32>, mut keep: impl FnMut(usize) -> bool) {
    let (all, mut kept) = (rows.as_mut_slice(), 0);
    for place in 0..all.len() {
        let row = all[place];
        all[kept] = row;
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

/// So many verdicts become one number, whose bits that are set are the wanted rows: where few are, that is
/// quicker than to look at each.
pub const AT_ONCE: usize = 64;

/// So many rows are looked through with what is found in the nearest cache; a multiple of the other, so that only
/// the last have a rest.
pub const PICKED_AT_ONCE: usize = if cfg!(test) { 128 } else { 4_096 };

/// More of these are written down eight by eight.
const FEW_MAX: u32 = 12;
const EIGHT: usize = 8;

/// For each byte the places of the bits that are set, ascending, and then zeros.
static PLACES: [[u8; EIGHT]; 1 << 8] = {
    let (mut places, mut bits) = ([[0; EIGHT]; 1 << 8], 0);
    while bits < 1 << 8 {
        let (mut place, mut count) = (0, 0);
        while place < EIGHT {
            if bits >> place & 1 == 1 {
                places[bits][count] = place as u8;
                count += 1;
            }
            place += 1;
        }
        bits += 1;
    }
    places
};

/// How many bits of each byte are set.
static ONES: [u8; 1 << 8] = {
    let (mut ones, mut bits) = ([0; 1 << 8], 0_usize);
    while bits < 1 << 8 {
        ones[bits] = bits.count_ones() as u8;
        bits += 1;
    }
    ones
};

/// Picks rows into a list as they come.
pub struct Picker<'a> {
    rows: &'a mut Vec<u32>,
    len: usize,
}

impl<'a> Picker<'a> {
    /// Precondition: at most so many rows will be seen. The list is overwritten.
    pub fn new(rows: &'a mut Vec<u32>, rows_max: usize) -> Self {
        // More than can be wanted, for the rows that are looked at.
        rows.resize(rows_max + EIGHT, 0);
        Self { rows, len: 0 }
    }

    pub fn see(&mut self, row: u32, is_wanted: bool) {
        self.rows[self.len] = row;
        self.len += usize::from(is_wanted);
    }

    /// Rows from this one on, with 1 for each that is wanted and 0 for the others.
    pub fn see_all(&mut self, first: u32, wanted: &[u8; AT_ONCE]) {
        /// Moves the lowest bit of byte n to bit n of the greatest byte.
        const GATHER: u64 = 0x0102_0408_1020_4080;
        let mut bits = 0_u64;
        for (n, bytes) in wanted.as_chunks::<8>().0.iter().enumerate() {
            bits |= (u64::from_le_bytes(*bytes).wrapping_mul(GATHER) >> 56) << (8 * n);
        }
        if bits.count_ones() > FEW_MAX {
            for (bits, first) in bits.to_le_bytes().into_iter().zip((first..).step_by(EIGHT)) {
                let places = &PLACES[usize::from(bits)];
                let rows = &mut self.rows[self.len..self.len + EIGHT];
                rows.iter_mut().zip(places).for_each(|(row, place)| *row = first + u32::from(*place));
                self.len += usize::from(ONES[usize::from(bits)]);
            }
            return;
        }
        while bits != 0 {
            self.rows[self.len] = first + bits.trailing_zeros();
            self.len += 1;
            bits &= bits - 1;
        }
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

    #[test]
    fn many_at_once_are_picked_as_one_by_one() {
        // Each of some, and all but each of some.
        for (every, others) in
            [1, 2, 3, 7, 63, 64, 65].into_iter().flat_map(|every| [(every, false), (every, true)])
        {
            let is_wanted = |row: usize| (row % every == 5 % every) != others;
            let mut rows = Vec::new();
            let mut picker = Picker::new(&mut rows, 3 * AT_ONCE);
            for first in [0, AT_ONCE, 2 * AT_ONCE] {
                picker.see_all(first as u32, &std::array::from_fn(|n| is_wanted(first + n).into()));
            }
            picker.finish();
            assert_eq!(rows, pick(0..3 * AT_ONCE as u32, is_wanted), "{every}");
        }
    }
}
