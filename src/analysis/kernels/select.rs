//! Which rows of a block count: a mask, narrowed column by column.
//!
//! A filter on text or JSON is evaluated once per dictionary entry, not per row.

use crate::analysis::question::{EventSelector, Filter};
use crate::analysis::time::TimeRange;
use crate::eventstore::{Dictionary, PropertyColumn, RowBlock, ValueRef};

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

/// The rows in the range that pass all filters.
pub fn select_rows(block: &RowBlock, range: TimeRange, filters: &[Filter], columns: &Columns) -> Vec<bool> {
    let mut mask: Vec<bool> = block.occurred_at.iter().map(|&at| range.contains(at)).collect();
    narrow(&mut mask, block, filters, columns);
    mask
}

/// Of the rows in `mask`, those of the selected events that pass all filters.
pub fn select_events(
    mask: &[bool],
    block: &RowBlock,
    events: &EventSelector,
    filters: &[Filter],
    columns: &Columns,
) -> Vec<bool> {
    let wanted: Vec<bool> = block.event.values.iter().map(|name| events.matches(name)).collect();
    let rows = mask.iter().zip(&block.event.codes);
    let mut mask: Vec<bool> = rows.map(|(&within, &code)| within && wanted[code as usize]).collect();
    narrow(&mut mask, block, filters, columns);
    mask
}

fn narrow(mask: &mut [bool], block: &RowBlock, filters: &[Filter], columns: &Columns) {
    for filter in filters {
        keep(mask, columns.of(block, &filter.property), filter);
    }
}

fn keep(mask: &mut [bool], column: &PropertyColumn, filter: &Filter) {
    let strings = column.strings.as_ref().map(|dictionary| Lookup::new(dictionary, filter, ValueRef::String));
    let json = column.json.as_ref().map(|dictionary| Lookup::new(dictionary, filter, ValueRef::Json));
    let when_absent = filter.matches(None);
    if let (Some(strings), None, None, None, None) =
        (&strings, &column.integers, &column.floats, &column.booleans, &json)
    {
        for (row, within) in mask.iter_mut().enumerate() {
            *within = *within && strings.find(row).unwrap_or(when_absent);
        }
        return;
    }
    let booleans = [false, true].map(|flag| filter.matches(Some(ValueRef::Bool(flag))));
    for (row, within) in mask.iter_mut().enumerate().filter(|(_, within)| **within) {
        *within = if let Some(known) = strings.as_ref().and_then(|strings| strings.find(row)) {
            known
        } else if let Some(integer) = column.integers.as_ref().and_then(|integers| integers.get(row)) {
            filter.matches(Some(ValueRef::Integer(integer)))
        } else if let Some(float) = column.floats.as_ref().and_then(|floats| floats.get(row)) {
            filter.matches(Some(ValueRef::Float(float)))
        } else if let Some(flag) = column.booleans.as_ref().and_then(|booleans| booleans.get(row)) {
            booleans[usize::from(flag)]
        } else {
            json.as_ref().and_then(|json| json.find(row)).unwrap_or(when_absent)
        };
    }
}

/// A filter's verdict on every entry of a dictionary.
struct Lookup<'a> {
    codes: &'a [u32],
    verdicts: Vec<bool>,
}

impl<'a> Lookup<'a> {
    fn new(dictionary: &'a Dictionary, filter: &Filter, value: fn(&'a str) -> ValueRef<'a>) -> Self {
        let verdicts = dictionary.values.iter().map(|text| filter.matches(Some(value(text)))).collect();
        Self { codes: &dictionary.codes, verdicts }
    }

    /// `None` when the row has no value here: the code of an absent one is beyond every entry.
    fn find(&self, row: usize) -> Option<bool> {
        self.verdicts.get(self.codes[row] as usize).copied()
    }
}
