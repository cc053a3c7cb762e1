//! Which rows of a block count: a list of them, narrowed column by column.
//!
//! What is asked of a text is found out once per dictionary entry, not per row. The events come first:
//! filters then look only at rows of events that are asked for.

use crate::analysis::question::{EventSelector, Filter};
use crate::eventstore::{ByText, PropertyColumn, RowBlock, ValueRef};

/// Some rows of a block, ascending.
pub enum Rows {
    /// As many, from the first on.
    All(usize),
    Some(Vec<u32>),
}

impl Rows {
    /// Those of which something may count at all.
    pub fn of(block: &RowBlock) -> Self {
        match &block.counted {
            None => Self::All(block.event.len()),
            Some(counted) => Self::Some(counted.to_vec()),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::All(count) => *count,
            Self::Some(rows) => rows.len(),
        }
    }

    /// Visits place and row.
    pub fn for_each(&self, mut visit: impl FnMut(usize, usize)) {
        match self {
            Self::All(count) => (0..*count).for_each(|row| visit(row, row)),
            Self::Some(rows) => rows.iter().enumerate().for_each(|(place, &row)| visit(place, row as usize)),
        }
    }

    pub fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        match self {
            Self::All(count) => {
                let mut picker = Picker::new();
                (0..*count as u32).for_each(|row| picker.see(row, keep(row as usize)));
                *self = Self::Some(picker.finish());
            }
            Self::Some(rows) => {
                // As in the picker.
                let mut kept = 0;
                for place in 0..rows.len() {
                    let row = rows[place];
                    rows[kept] = row;
                    kept += usize::from(keep(row as usize));
                }
                rows.truncate(kept);
            }
        }
    }
}

/// Picks rows without a branch for each: which of them are wanted is as unpredictable as events are.
struct Picker {
    rows: Vec<u32>,
    /// Those that are not in the list yet.
    last: [u32; Self::LAST],
    len: usize,
}

impl Picker {
    /// A power of two.
    const LAST: usize = 1_024;

    fn new() -> Self {
        Self { rows: Vec::new(), last: [0; Self::LAST], len: 0 }
    }

    fn see(&mut self, row: u32, is_wanted: bool) {
        self.last[self.len % Self::LAST] = row;
        self.len += usize::from(is_wanted);
        if self.len == Self::LAST {
            self.rows.extend_from_slice(&self.last);
            self.len = 0;
        }
    }

    fn finish(mut self) -> Vec<u32> {
        self.rows.extend_from_slice(&self.last[..self.len]);
        self.rows
    }
}

/// One bit for each of several selectors of events.
pub type Wanted = u32;

/// That of all of them. Precondition: at most 32.
pub fn wanted_by_all(selectors: usize) -> Wanted {
    Wanted::MAX.checked_shr(Wanted::BITS - selectors as u32).unwrap_or(0)
}

/// The rows whose event at least one of the selectors wants, and which do; without a list of bits all of
/// them want every row.
pub fn select_events(block: &RowBlock, selectors: &[&EventSelector]) -> (Rows, Option<Vec<Wanted>>) {
    debug_assert!(selectors.len() <= Wanted::BITS as usize);
    let bits_of = |name: &str| {
        let wanted = selectors.iter().enumerate().filter(|(_, selector)| selector.matches(name));
        wanted.fold(0, |bits, (number, _)| bits | 1 << number)
    };
    let by_event = block.event.by_text(|event| event.map_or(0, |(_, name)| bits_of(name)));
    let every = wanted_by_all(selectors.len());
    let mut rows = Rows::of(block);
    if block.event.values().iter().all(|name| bits_of(name) == every) {
        return (rows, None);
    }
    match &mut rows {
        Rows::Some(rows) => rows.retain(|&row| by_event.at(row as usize) != 0),
        Rows::All(_) => {
            let mut picker = Picker::new();
            by_event.for_each(|row, bits| picker.see(row, bits != 0));
            rows = Rows::Some(picker.finish());
        }
    }
    if selectors.len() == 1 {
        return (rows, None);
    }
    let mut bits = Vec::with_capacity(rows.len());
    rows.for_each(|_, row| bits.push(by_event.at(row)));
    (rows, Some(bits))
}

/// Keeps the rows that pass all filters.
pub fn narrow(rows: &mut Rows, block: &RowBlock, filters: &[Filter], columns: &Columns) {
    for passes in passes_of(block, filters, columns) {
        rows.retain(|row| passes.row(row));
    }
}

pub fn passes_of<'a>(block: &'a RowBlock, filters: &'a [Filter], columns: &Columns) -> Vec<Passes<'a>> {
    filters.iter().map(|filter| Passes::new(columns.of(block, &filter.property), filter)).collect()
}

/// The properties that a question reads, each once, sorted: the order of a block's columns.
#[derive(Clone, Debug, Default)]
pub struct Columns(Vec<String>);

/// The column of a property that no row has.
static NO_COLUMN: PropertyColumn =
    PropertyColumn { strings: None, integers: None, floats: None, booleans: None, json: None };

impl Columns {
    pub fn new<'a>(properties: impl Iterator<Item = &'a str>) -> Self {
        let mut names: Vec<String> = properties.map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        Self(names)
    }

    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Precondition: `property` is one of those that the question reads.
    pub fn of<'a>(&self, block: &'a RowBlock, property: &str) -> &'a PropertyColumn {
        let index = self.0.binary_search_by(|name| name.as_str().cmp(property));
        index.ok().and_then(|index| block.properties.get(index)).map_or(&NO_COLUMN, AsRef::as_ref)
    }
}

/// A filter's verdict on the rows of a column.
pub struct Passes<'a> {
    column: &'a PropertyColumn,
    filter: &'a Filter,
    /// `None`: the row has no text here.
    strings: Option<ByText<'a, Option<bool>>>,
    json: Option<ByText<'a, Option<bool>>>,
    booleans: [bool; 2],
    when_absent: bool,
    is_text_only: bool,
}

impl<'a> Passes<'a> {
    pub fn new(column: &'a PropertyColumn, filter: &'a Filter) -> Self {
        let matches = |value: Option<ValueRef<'_>>| filter.matches(value);
        let strings = column
            .strings
            .as_ref()
            .map(|texts| texts.by_text(|text| text.map(|(_, text)| matches(Some(ValueRef::String(text))))));
        let json = column
            .json
            .as_ref()
            .map(|texts| texts.by_text(|text| text.map(|(_, text)| matches(Some(ValueRef::Json(text))))));
        Self {
            column,
            filter,
            is_text_only: column.integers.is_none() && column.floats.is_none() && column.booleans.is_none(),
            strings,
            json,
            booleans: [false, true].map(|flag| matches(Some(ValueRef::Bool(flag)))),
            when_absent: matches(None),
        }
    }

    pub fn row(&self, row: usize) -> bool {
        if let Some(known) = self.strings.as_ref().and_then(|strings| strings.at(row)) {
            return known;
        }
        if !self.is_text_only
            && let Some(known) = self.number(row)
        {
            return known;
        }
        self.json.as_ref().and_then(|json| json.at(row)).unwrap_or(self.when_absent)
    }

    fn number(&self, row: usize) -> Option<bool> {
        let column = self.column;
        if let Some(integer) = column.integers.as_ref().and_then(|integers| integers.get(row)) {
            return Some(self.filter.matches(Some(ValueRef::Integer(integer))));
        }
        if let Some(float) = column.floats.as_ref().and_then(|floats| floats.get(row)) {
            return Some(self.filter.matches(Some(ValueRef::Float(float))));
        }
        let flag = column.booleans.as_ref().and_then(|booleans| booleans.get(row));
        flag.map(|flag| self.booleans[usize::from(flag)])
    }
}
