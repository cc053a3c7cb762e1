//! What is chosen for a segment before its first row is written.

use std::collections::BTreeMap;

use super::columns::{Layout, PropertyKind};
use super::facts::SliceCount;
use super::header::ObjectKind;
use super::times::EventTimesBuilder;
use super::{ObjectFacts, SliceFacts, StoredRow, WriteOptions};
use crate::model::{Millis, ProjectId};

/// What has to be known about a segment's rows before the first is written.
#[derive(Clone, Debug)]
pub struct SegmentPlan {
    pub(super) rows: u64,
    raw_bytes: u64,
    occurred: Option<(Millis, Millis)>,
    received: Option<(Millis, Millis)>,
    /// Rows per property and type; the most frequent ones where there are too many.
    properties: BTreeMap<(String, PropertyKind), u64>,
    properties_max: usize,
}

impl SegmentPlan {
    pub fn new(options: &WriteOptions) -> Self {
        Self {
            rows: 0,
            raw_bytes: 0,
            occurred: None,
            received: None,
            properties: BTreeMap::new(),
            properties_max: 2 * options.names_max.max(options.columns_max),
        }
    }

    /// And the facts of those rows, which need not be gathered again while they are written, unless
    /// names were left out.
    pub(super) fn of_rows(rows: &[StoredRow], options: &WriteOptions) -> (Self, SliceFacts) {
        let mut plan = Self::new(options);
        for row in rows {
            plan.rows += 1;
            plan.raw_bytes += row.raw_bytes();
            widen(&mut plan.occurred, (row.occurred_at, row.occurred_at));
            widen(&mut plan.received, (row.received_at, row.received_at));
        }
        let mut count = SliceCount::new(0, options.names_max.max(options.columns_max), std::iter::empty());
        rows.iter().for_each(|row| count.add(row));
        let facts = count.finish(rows.first().map_or(ProjectId(0), |row| row.project_id));
        plan.add_properties(&facts);
        (plan, facts)
    }

    /// Adds the rows of another segment.
    pub fn add_segment(&mut self, facts: &ObjectFacts) {
        self.rows += facts.rows;
        self.raw_bytes += facts.raw_bytes;
        widen(&mut self.occurred, (facts.occurred_min, facts.occurred_max));
        widen(&mut self.received, (facts.received_min, facts.received_max));
        facts.slices.iter().for_each(|slice| self.add_properties(slice));
    }

    pub(super) fn page_rows(&self, options: &WriteOptions) -> usize {
        options.page_rows_for(self.rows, self.raw_bytes)
    }

    /// Where times are to lie by event, what puts them together.
    pub(super) fn event_times(&self, options: &WriteOptions) -> Option<EventTimesBuilder> {
        let is_large = options.short_ids && self.rows >= options.times_by_event_rows_min;
        self.occurred.filter(|_| is_large).and_then(EventTimesBuilder::new)
    }

    pub(super) fn layout(self, options: &WriteOptions) -> Layout {
        let (received_as_delay, short_ids) = (self.keeps_delays(), options.short_ids);
        let times_by_event = self.event_times(options).is_some();
        let properties = self.choose(options.columns_max);
        Layout { kind: ObjectKind::Segment, properties, received_as_delay, short_ids, times_by_event }
    }

    /// Received times that lie much closer together than those of the events are an import.
    fn keeps_delays(&self) -> bool {
        let length = |range: Option<(Millis, Millis)>| {
            range.map_or(0, |(least, greatest)| i128::from(greatest) - i128::from(least))
        };
        length(self.received) * 4 >= length(self.occurred)
    }

    fn add_properties(&mut self, slice: &SliceFacts) {
        for fact in &slice.properties {
            *self.properties.entry((fact.name.clone(), fact.kind)).or_default() += fact.rows;
        }
        // What is rare in every input so far gets a column only when the next ones are full of it, and
        // then they count it.
        if self.properties.len() > self.properties_max {
            self.properties = self.most_frequent(self.properties_max / 2).collect();
        }
    }

    /// Of equal ones those that come first by name.
    fn most_frequent(&mut self, max: usize) -> impl Iterator<Item = ((String, PropertyKind), u64)> + use<> {
        let mut by_rows: Vec<_> = std::mem::take(&mut self.properties).into_iter().collect();
        // Stable, and the map was sorted: equal counts stay in the order of names.
        by_rows.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
        by_rows.into_iter().take(max)
    }

    /// The columns, sorted.
    fn choose(mut self, columns_max: usize) -> Vec<(String, PropertyKind)> {
        let mut columns: Vec<_> = self.most_frequent(columns_max).map(|(column, _)| column).collect();
        columns.sort_unstable();
        columns
    }
}

pub(super) fn widen(range: &mut Option<(Millis, Millis)>, by: (Millis, Millis)) {
    let (least, greatest) = range.unwrap_or(by);
    *range = Some((least.min(by.0), greatest.max(by.1)));
}
