//! Rows picked by their texts.

use std::ops::Range;

use super::{ByText, Codes};
use crate::eventstore::block::rows::{AT_ONCE, Picker};

/// So many codes are compared with sooner than each row is looked up.
const FEW_CODES_MAX: usize = 6;

/// Picks rows by their texts, of one column or several.
pub struct TextPicker<'a> {
    is_wanted: ByText<'a, bool>,
    /// Instead, where codes are compared with few others: all of these have to hold.
    few: Vec<FewCodes<'a>>,
}

/// Codes of one byte of which few are wanted or, with `false`, few are not.
struct FewCodes<'a> {
    codes: &'a [u8],
    compared: Vec<u8>,
    are_wanted: bool,
}

impl<'a> FewCodes<'a> {
    fn of(is_wanted: &ByText<'a, bool>) -> Option<Self> {
        let Codes::U8(all) = is_wanted.codes else { return None };
        let codes = (0..=u8::MAX).filter(|code| usize::from(*code) < is_wanted.values || *code == u8::MAX);
        let (wanted, others): (Vec<u8>, Vec<u8>) =
            codes.partition(|code| is_wanted.table[usize::from(*code)]);
        let are_wanted = wanted.len() <= FEW_CODES_MAX;
        let compared = if are_wanted { wanted } else { others };
        (compared.len() <= FEW_CODES_MAX).then_some(Self { codes: all, compared, are_wanted })
    }

    /// Leaves 1 for each that is wanted. Whole vectors of codes are compared at a time.
    fn judge(&self, codes: &[u8; AT_ONCE], verdicts: &mut [u8; AT_ONCE]) {
        let mut own = [u8::from(!self.are_wanted); AT_ONCE];
        for one in &self.compared {
            own.iter_mut().zip(codes).for_each(|(verdict, code)| *verdict ^= u8::from(code == one));
        }
        verdicts.iter_mut().zip(own).for_each(|(verdict, own)| *verdict &= own);
    }
}

impl<'a> TextPicker<'a> {
    /// Wants only rows from now on of which this is true too, where that takes no longer; else false, and nothing
    /// has changed. Precondition: a column of the same rows.
    pub fn try_narrow(&mut self, is_wanted: &ByText<'a, bool>) -> bool {
        let more = FewCodes::of(is_wanted).filter(|_| !self.few.is_empty());
        let is_added = more.is_some();
        self.few.extend(more);
        is_added
    }

    /// The rows of a range that are wanted; the list is overwritten.
    pub fn pick(&self, rows: Range<usize>, picked: &mut Vec<u32>) {
        let mut picker = Picker::new(picked, rows.len());
        if self.few.is_empty() {
            self.is_wanted.for_range(rows, |row, is_wanted| picker.see(row, is_wanted));
            return picker.finish();
        }
        for first in rows.clone().step_by(AT_ONCE) {
            let len = AT_ONCE.min(rows.end - first);
            let mut verdicts = [0; AT_ONCE];
            verdicts[..len].fill(1);
            for few in &self.few {
                match few.codes[first..].first_chunk() {
                    Some(codes) => few.judge(codes, &mut verdicts),
                    None => {
                        let mut last = [0; AT_ONCE];
                        last[..len].copy_from_slice(&few.codes[first..first + len]);
                        few.judge(&last, &mut verdicts);
                    }
                }
            }
            picker.see_all(first as u32, &verdicts);
        }
        picker.finish();
    }
}

impl<'a, T: Copy> ByText<'a, T> {
    /// For picking the rows of whose text this is wanted.
    pub fn picker(&self, is_wanted: impl Fn(T) -> bool) -> TextPicker<'a> {
        let is_wanted = self.map(is_wanted);
        let few = FewCodes::of(&is_wanted).into_iter().collect();
        TextPicker { few, is_wanted }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ABSENT, Dictionary};
    use crate::model::Interned;

    #[test]
    fn rows_are_picked_by_few_codes_as_by_many() {
        for values in [1, 5, 13, 14, 40, 254, 255, 256, 300] {
            let all = values + 1;
            let code = |row: usize| row * 7 % all;
            let codes = (0..300).map(|row| if code(row) < values { code(row) as u32 } else { ABSENT });
            let texts = (0..values).map(|n| Interned::new(&format!("v{n}"))).collect();
            let dictionary = Dictionary::new(codes, texts);
            for wanted in [0, 1, 5, 6, 7, all / 2, all - 7.min(all), all - 6.min(all), all - 1, all] {
                let is_wanted = |text: Option<(usize, &str)>| match text {
                    Some((code, _)) => code + 1 < wanted,
                    None => wanted > 0,
                };
                let by_text = dictionary.by_text(is_wanted);
                let picker = by_text.picker(|is_wanted| is_wanted);
                for rows in [0..300, 3..200, 64..128, 5..5, 7..8, 100..299] {
                    let mut picked = vec![9; 3];
                    picker.pick(rows.clone(), &mut picked);
                    let expected: Vec<u32> =
                        rows.clone().filter(|row| by_text.at(*row)).map(|row| row as u32).collect();
                    assert_eq!(picked, expected, "{wanted} of {values} in {rows:?}");
                }
            }
        }
    }

    #[test]
    fn rows_that_two_columns_want_are_picked_at_once_where_both_have_few_codes_to_tell_them() {
        let of = |values: u32, every: u32| {
            let codes = (0..300).map(|row| if row % 7 == 6 { ABSENT } else { row / every % values });
            Dictionary::new(codes, (0..values).map(|n| Interned::new(&format!("v{n}"))).collect())
        };
        for (values, other_values, is_added) in [(10, 3, true), (10, 200, false), (400, 3, false)] {
            let (one, other) = (of(values, 1), of(other_values, 5));
            let is_wanted = |text: Option<(usize, &str)>| text.is_none_or(|(code, _)| code % 2 == 1);
            let (one, other) = (one.by_text(is_wanted), other.by_text(is_wanted));
            let mut picker = one.picker(|is_wanted| is_wanted);
            assert_eq!(picker.try_narrow(&other), is_added, "{values} {other_values}");
            for rows in [0..300, 3..200, 64..128, 5..5, 299..300] {
                let mut picked = Vec::new();
                picker.pick(rows.clone(), &mut picked);
                let both = |row: &usize| one.at(*row) && (!is_added || other.at(*row));
                let expected: Vec<u32> = rows.clone().filter(both).map(|row| row as u32).collect();
                assert_eq!(picked, expected, "{values} {other_values} {rows:?}");
            }
        }
    }
}
