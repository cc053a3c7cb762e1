//! Decoded columns, kept for the next question.
//!
//! A column is known by its object's random id and its project, and objects never change, so what is here is
//! right for as long as somebody lists the object. Columns of objects that are gone leave as others come.
//!
//! Of a run, the columns of one project are always in the order of persons and times, whatever was read
//! first. So when anything is missing, all that is asked for is read again: they are few rows. A project
//! with many rows in a run is read in part, and that is not kept.
//!
//! Beside whole columns there are *projections*: of a segment the rows of a question's events alone, where they
//! are few. Who asks for the same events again does not look at the others.

use std::sync::Arc;

use arrow_buffer::ScalarBuffer;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::ListedObject;
use crate::eventstore::weighted;
use crate::eventstore::{Dictionary, PropertyColumn, Quarters, RowBlock, RowColumns, Times};
use crate::model::{Interned, Millis, ObjectId, PersonNo, ProjectId};
use crate::telemetry::Metrics;

pub struct ColumnCache {
    columns: Option<Cache<Key, Column, MemoryBytes>>,
    metrics: ColumnMetrics,
}

type Key = (ObjectId, ProjectId, KeptRows, ColumnName);

/// Which rows of an object a column is of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeptRows {
    All,
    /// Those of some events, by half a SHA-256 of their names. Two sets with one hash would take some 2^64 tries,
    /// and be of one project.
    OfEvents([u8; 16]),
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum ColumnName {
    Persons,
    Times,
    Quarters,
    Events,
    Property(String),
    /// By steps of this length or of shorter ones.
    Rollup(Millis),
    /// Of rows that are not all.
    Standing,
    /// Of all rows, how many were read with those of their event alone.
    Selected,
}

#[derive(Clone)]
enum Column {
    Persons(ScalarBuffer<PersonNo>),
    Times(Arc<Times>),
    Quarters(Arc<Quarters>),
    Events(Arc<Dictionary>),
    Property(Arc<PropertyColumn>),
    /// `None`: the object has none.
    Rollup(Option<RowBlock>),
    Standing(Standing),
    /// How many rows of some events have been read without the others.
    Selected(u64),
}

/// What is known of the rows of some events where there is no projection of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Somebody asked for them.
    Asked,
    /// They are too many to be kept beside all.
    TooMany,
    NoRows,
}

#[derive(Clone)]
struct MemoryBytes;

impl Weighter<Key, Column> for MemoryBytes {
    fn weight(&self, _: &Key, column: &Column) -> u64 {
        // Columns of runs are so small that their places in the table count.
        const ENTRY: usize = 100;
        let bytes = match column {
            Column::Persons(persons) => size_of_val(&**persons),
            Column::Times(times) => times.memory_bytes(),
            Column::Quarters(quarters) => quarters.memory_bytes(),
            Column::Events(events) => events.memory_bytes(),
            Column::Property(property) => property.memory_bytes(),
            Column::Standing(_) | Column::Selected(_) => 0,
            Column::Rollup(rollup) => rollup.as_ref().map_or(0, |block| {
                let stand_for = block.stand_for.as_deref().map_or(0, size_of_val);
                block.event.memory_bytes() + block.quarters.memory_bytes() + stand_for
            }),
        };
        (ENTRY + bytes) as u64
    }
}

struct ColumnMetrics {
    columns: prometheus::IntCounterVec,
    bytes: prometheus::IntGauge,
}

/// What of one object is there for a question.
#[derive(Default)]
pub struct Known {
    persons: Asked<ScalarBuffer<PersonNo>>,
    times: Asked<Arc<Times>>,
    quarters: Asked<Arc<Quarters>>,
    events: Asked<Arc<Dictionary>>,
    /// One per asked property.
    properties: Vec<Asked<Arc<PropertyColumn>>>,
    /// Instead of all of these.
    rollup: Option<RowBlock>,
}

/// A column as a question sees it.
#[derive(Clone, Default)]
pub enum Asked<T> {
    #[default]
    Not,
    Missing,
    Known(T),
}

impl<T> Asked<T> {
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    fn forget(&mut self) {
        if let Self::Known(_) = self {
            *self = Self::Missing;
        }
    }

    /// What is known, or else what was read.
    fn or(self, read: T) -> T {
        match self {
            Self::Known(column) => column,
            Self::Not | Self::Missing => read,
        }
    }
}

impl ColumnCache {
    pub fn new(bytes_max: usize, metrics: &Metrics) -> Self {
        let columns = weighted::cache(bytes_max, MemoryBytes);
        let metrics = ColumnMetrics {
            columns: metrics.counters(
                "weir_scan_columns_total",
                "Columns of runs and segments that questions needed, by whether they had to be read and decoded.",
                &["outcome"],
            ),
            bytes: metrics.gauge("weir_scan_columns_bytes", "Memory that kept columns take."),
        };
        Self { columns, metrics }
    }

    /// Whether anything is kept at all.
    pub fn are_on(&self) -> bool {
        self.columns.is_some()
    }

    pub fn find(
        &self,
        object: &ListedObject,
        project_id: ProjectId,
        rows: KeptRows,
        with: RowColumns,
        properties: &[String],
    ) -> Known {
        let columns = self.columns.as_ref().filter(|_| object.is_whole);
        let find =
            |name| columns.and_then(|columns| columns.get(&(object.object_id, project_id, rows, name)));
        let mut known = Known {
            persons: match with.persons.then(|| find(ColumnName::Persons)) {
                None => Asked::Not,
                Some(Some(Column::Persons(persons))) => Asked::Known(persons),
                Some(_) => Asked::Missing,
            },
            times: match with.times.then(|| find(ColumnName::Times)) {
                None => Asked::Not,
                Some(Some(Column::Times(times))) => Asked::Known(times),
                Some(_) => Asked::Missing,
            },
            quarters: match with.quarters.then(|| find(ColumnName::Quarters)) {
                None => Asked::Not,
                Some(Some(Column::Quarters(quarters))) => Asked::Known(quarters),
                Some(_) => Asked::Missing,
            },
            events: match find(ColumnName::Events) {
                Some(Column::Events(events)) => Asked::Known(events),
                _ => Asked::Missing,
            },
            properties: properties
                .iter()
                .map(|name| match find(ColumnName::Property(name.clone())) {
                    Some(Column::Property(property)) => Asked::Known(property),
                    _ => Asked::Missing,
                })
                .collect(),
            rollup: None,
        };
        if object.is_run() && !known.is_complete() {
            known.forget();
        }
        known
    }

    /// To be told once an object and question: what is missing is read.
    pub fn observe(&self, with: RowColumns, properties: &[String], missing: usize) {
        let of_rows = [with.persons, with.times, with.quarters];
        let all = of_rows.into_iter().filter(|is_asked| *is_asked).count() + 1 + properties.len();
        self.metrics.columns.with_label_values(&["cached"]).inc_by(all.saturating_sub(missing) as u64);
        self.metrics.columns.with_label_values(&["read"]).inc_by(missing as u64);
    }

    pub fn standing(&self, object: &ListedObject, project_id: ProjectId, rows: KeptRows) -> Option<Standing> {
        let key = (object.object_id, project_id, rows, ColumnName::Standing);
        match self.columns.as_ref()?.get(&key)? {
            Column::Standing(standing) => Some(standing),
            _ => None,
        }
    }

    pub fn keep_standing(
        &self,
        object: &ListedObject,
        project_id: ProjectId,
        rows: KeptRows,
        standing: Standing,
    ) {
        if let Some(columns) = &self.columns {
            let key = (object.object_id, project_id, rows, ColumnName::Standing);
            columns.insert(key, Column::Standing(standing));
            self.metrics.bytes.set(columns.weight() as i64);
        }
    }

    /// Whether so many rows of some events may be read without the others: those that were so far, and these, are
    /// no more than that. They are counted from when all rows were read last.
    pub fn may_select(&self, object: &ListedObject, project_id: ProjectId, rows: u64, rows_max: u64) -> bool {
        let Some(columns) = &self.columns else { return false };
        let key = (object.object_id, project_id, KeptRows::All, ColumnName::Selected);
        let so_far = match columns.get(&key) {
            Some(Column::Selected(rows)) => rows,
            _ => 0,
        };
        let may = so_far + rows <= rows_max;
        if may {
            columns.insert(key, Column::Selected(so_far + rows));
        }
        may
    }

    /// All rows of an object by event and time, in steps of this length at most. Known as `None`: it has no
    /// such counts.
    pub fn find_rollup(
        &self,
        object_id: ObjectId,
        project_id: ProjectId,
        step_max: Millis,
    ) -> Asked<Option<RowBlock>> {
        let found = self.columns.as_ref();
        match found.and_then(|columns| columns.get(&rollup_of(object_id, project_id, step_max))) {
            Some(Column::Rollup(rollup)) => Asked::Known(rollup),
            _ => Asked::Missing,
        }
    }

    pub fn observe_rollup(&self, is_kept: bool) {
        self.metrics.columns.with_label_values(&[if is_kept { "cached" } else { "read" }]).inc();
    }

    pub fn keep_rollup(
        &self,
        object_id: ObjectId,
        project_id: ProjectId,
        step_max: Millis,
        rollup: &Option<RowBlock>,
    ) {
        if let Some(columns) = &self.columns {
            let kept = Column::Rollup(rollup.clone());
            columns.insert(rollup_of(object_id, project_id, step_max), kept);
            self.metrics.bytes.set(columns.weight() as i64);
        }
    }

    /// Whether all of this is kept.
    pub fn has_all(
        &self,
        object: &ListedObject,
        project_id: ProjectId,
        rows: KeptRows,
        with: RowColumns,
        properties: &[String],
    ) -> bool {
        let Some(columns) = self.columns.as_ref().filter(|_| object.is_whole) else { return false };
        let of_rows = [
            (with.persons, ColumnName::Persons),
            (with.times, ColumnName::Times),
            (with.quarters, ColumnName::Quarters),
            (true, ColumnName::Events),
        ];
        let of_rows = of_rows.into_iter().filter_map(|(is_asked, name)| is_asked.then_some(name));
        let mut names = of_rows.chain(properties.iter().cloned().map(ColumnName::Property));
        names.all(|name| columns.contains_key(&(object.object_id, project_id, rows, name)))
    }

    /// Forgets all, after an erasure.
    pub fn clear(&self) {
        if let Some(columns) = &self.columns {
            columns.clear();
            self.metrics.bytes.set(0);
        }
        Interned::sweep();
    }

    /// Keeps such rows of an object, all that there are, with these properties.
    pub fn keep(
        &self,
        object: &ListedObject,
        project_id: ProjectId,
        rows: KeptRows,
        properties: &[String],
        block: &RowBlock,
    ) {
        let Some(columns) = self.columns.as_ref().filter(|_| object.is_whole) else { return };
        let keep = |name, column| columns.insert((object.object_id, project_id, rows, name), column);
        if !block.person_no.is_empty() {
            keep(ColumnName::Persons, Column::Persons(block.person_no.clone()));
        }
        if !block.occurred_at.is_empty() {
            keep(ColumnName::Times, Column::Times(block.occurred_at.clone()));
        }
        if !block.quarters.is_empty() {
            keep(ColumnName::Quarters, Column::Quarters(block.quarters.clone()));
        }
        keep(ColumnName::Events, Column::Events(block.event.clone()));
        if rows == KeptRows::All {
            columns.remove(&(object.object_id, project_id, rows, ColumnName::Selected));
        }
        for (name, property) in properties.iter().zip(&block.properties) {
            keep(ColumnName::Property(name.clone()), Column::Property(property.clone()));
        }
        self.metrics.bytes.set(columns.weight() as i64);
    }
}

fn rollup_of(object_id: ObjectId, project_id: ProjectId, step_max: Millis) -> Key {
    (object_id, project_id, KeptRows::All, ColumnName::Rollup(step_max))
}

impl Known {
    pub fn of_rollup(block: RowBlock) -> Self {
        Self { rollup: Some(block), ..Self::default() }
    }

    pub fn is_rollup(&self) -> bool {
        self.rollup.is_some()
    }

    pub fn count_missing(&self) -> usize {
        let rows = [
            self.persons.is_missing(),
            self.times.is_missing(),
            self.quarters.is_missing(),
            self.events.is_missing(),
        ];
        let properties = self.properties.iter().map(Asked::is_missing);
        rows.into_iter().chain(properties).filter(|is_missing| *is_missing).count()
    }

    /// As if nothing of what was asked for were known.
    fn forget(&mut self) {
        self.persons.forget();
        self.times.forget();
        self.quarters.forget();
        self.events.forget();
        self.properties.iter_mut().for_each(Asked::forget);
    }

    pub fn is_complete(&self) -> bool {
        self.count_missing() == 0
    }

    /// What has to be read, of the asked properties too.
    pub fn missing(&self, properties: &[String]) -> (RowColumns, Vec<String>) {
        let missing = properties.iter().zip(&self.properties).filter(|(_, known)| known.is_missing());
        let with = RowColumns {
            persons: self.persons.is_missing(),
            times: self.times.is_missing(),
            quarters: self.quarters.is_missing(),
        };
        (with, missing.map(|(name, _)| name.clone()).collect())
    }

    /// The block with what was missing out of `read`, which is empty when nothing was.
    pub fn complete_with(self, read: RowBlock) -> RowBlock {
        if let Some(block) = self.rollup {
            return block;
        }
        let mut others = read.properties.into_iter();
        let properties = self.properties.into_iter();
        RowBlock {
            person_no: self.persons.or(read.person_no),
            occurred_at: self.times.or(read.occurred_at),
            quarters: self.quarters.or(read.quarters),
            event: self.events.or(read.event),
            // `missing` asked for exactly those that are not known, in this order.
            properties: properties
                .filter_map(|known| match known {
                    Asked::Known(property) => Some(property),
                    Asked::Not | Asked::Missing => others.next(),
                })
                .collect(),
            counted: read.counted,
            stand_for: None,
        }
    }
}

#[cfg(test)]
mod tests;
