//! Names to small numbers, without hashing a name for every value of every row.
//!
//! Rows of one kind of event have the same properties in the same order, so the name at a position
//! is almost always the one that was there last time: one comparison instead of a hash.

use crate::model::FastMap;

#[derive(Default)]
pub(super) struct Names {
    numbers: FastMap<Vec<u8>, usize>,
    names: Vec<String>,
    /// Per position in a row the number that was there last.
    last_at: Vec<usize>,
}

impl Names {
    /// The number of a name, given in the order of first sight. Precondition: it is UTF-8.
    pub fn number(&mut self, position: usize, name: &[u8]) -> usize {
        if let Some(&last) = self.last_at.get(position)
            && self.names[last].as_bytes() == name
        {
            return last;
        }
        let number = match self.numbers.get(name) {
            Some(&number) => number,
            None => {
                self.numbers.insert(name.to_owned(), self.names.len());
                self.names.push(String::from_utf8_lossy(name).into_owned());
                self.names.len() - 1
            }
        };
        if position >= self.last_at.len() {
            // Positions between were skipped only by rows that are longer than any before.
            self.last_at.resize(position + 1, number);
        }
        self.last_at[position] = number;
        number
    }

    /// The number of a name that has one.
    pub fn find(&mut self, position: usize, name: &[u8]) -> Option<usize> {
        if let Some(&last) = self.last_at.get(position)
            && self.names[last].as_bytes() == name
        {
            return Some(last);
        }
        let number = *self.numbers.get(name)?;
        if let Some(last) = self.last_at.get_mut(position) {
            *last = number;
        } else if position == self.last_at.len() {
            self.last_at.push(number);
        }
        Some(number)
    }

    /// By number.
    pub fn into_names(self) -> Vec<String> {
        self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_wherever_it_stands() {
        let mut names = Names::default();
        let seen: Vec<usize> =
            [(0, "a"), (1, "b"), (0, "a"), (0, "b"), (5, "c"), (5, "a"), (4, "c"), (1, "b")]
                .into_iter()
                .map(|(position, name)| names.number(position, name.as_bytes()))
                .collect();
        assert_eq!(seen, [0, 1, 0, 1, 2, 0, 2, 1]);
        let found = [(0, "a"), (9, "c"), (0, "d"), (6, "b"), (6, "b")]
            .map(|(at, name)| names.find(at, name.as_bytes()));
        assert_eq!(found, [Some(0), Some(2), None, Some(1), Some(1)]);
        assert_eq!(names.into_names(), ["a", "b", "c"]);
    }
}
