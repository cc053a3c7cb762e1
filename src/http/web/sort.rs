//! By which column a table is sorted, as its address says: `?sort=total`, `?sort=-total` for the
//! largest first.

use std::cmp::Ordering;

use super::range::{Params, param};

const NAME: &str = "sort";

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sort {
    /// Empty: as the answer came.
    column: String,
    descending: bool,
}

impl Sort {
    pub fn read(params: &Params) -> Self {
        match param(params, NAME) {
            Some(text) => match text.strip_prefix('-') {
                Some(column) => Self { column: column.to_owned(), descending: true },
                None => Self { column: text.to_owned(), descending: false },
            },
            None => Self::default(),
        }
    }

    pub fn column(&self) -> &str {
        &self.column
    }

    pub fn is_set(&self) -> bool {
        !self.column.is_empty()
    }

    /// The parameter that says so, for links that keep the order.
    pub fn param(&self) -> Option<(String, String)> {
        let sign = if self.descending { "-" } else { "" };
        self.is_set().then(|| (NAME.to_owned(), format!("{sign}{}", self.column)))
    }

    /// What a click on a column's header leads to: the other way round when it is sorted by already;
    /// at first numbers from the largest and texts from their beginning.
    pub fn by(&self, column: &str, numbers: bool) -> Self {
        let descending = if self.column == column { !self.descending } else { numbers };
        Self { column: column.to_owned(), descending }
    }

    /// The attribute of a column's header.
    pub fn aria(&self, column: &str) -> &'static str {
        match (self.column == column, self.descending) {
            (false, _) => "",
            (true, false) => r#" aria-sort="ascending""#,
            (true, true) => r#" aria-sort="descending""#,
        }
    }

    pub fn apply(&self, order: Ordering) -> Ordering {
        if self.descending { order.reverse() } else { order }
    }

    /// Numbers in order, and what is absent last whichever way.
    pub fn numbers(&self, a: Option<f64>, b: Option<f64>) -> Ordering {
        match (a, b) {
            (Some(a), Some(b)) => self.apply(a.total_cmp(&b)),
            (a, b) => b.is_some().cmp(&a.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sort(text: &str) -> Sort {
        Sort::read(&vec![("sort".to_owned(), text.to_owned())])
    }

    #[test]
    fn a_header_sorts_and_then_turns_round() {
        for (now, column, numbers, leads_to) in [
            ("", "total", true, "-total"),
            ("-total", "total", true, "total"),
            ("total", "total", true, "-total"),
            ("total", "label", false, "label"),
            ("label", "label", false, "-label"),
        ] {
            let next = sort(now).by(column, numbers).param().unwrap();
            assert_eq!(next, ("sort".to_owned(), leads_to.to_owned()), "{now} {column}");
        }
        assert_eq!(sort("").param(), None);
        assert_eq!(sort("-total").aria("total"), " aria-sort=\"descending\"");
        assert_eq!(sort("-total").aria("label"), "");
    }

    #[test]
    fn what_is_absent_is_last_both_ways() {
        for (text, sorted) in [("n", [Some(1.0), Some(2.0), None]), ("-n", [Some(2.0), Some(1.0), None])] {
            let mut values = [None, Some(2.0), Some(1.0)];
            values.sort_by(|a, b| sort(text).numbers(*a, *b));
            assert_eq!(values, sorted, "{text}");
        }
    }
}
