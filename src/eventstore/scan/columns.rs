//! Decoded columns of segments, kept for the next question.
//!
//! A column is known by its object's random id, and objects never change, so what is here is right for
//! as long as somebody lists the object. Columns of objects that are gone leave as others come. Runs
//! are not kept: they are small, mixed, and soon replaced.

use std::sync::Arc;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use super::ListedObject;
use crate::eventstore::format::RowRanges;
use crate::eventstore::{Dictionary, PropertyColumn, RowBlock};
use crate::model::{Millis, ObjectId, PersonNo};
use crate::telemetry::Metrics;

/// An estimate only, of what a table is made for at first.
const COLUMNS_EXPECTED: usize = 1_000;

pub struct ColumnCache {
    columns: Option<Cache<Key, Column, Bytes>>,
    metrics: ColumnMetrics,
}

/// A property by name, or the columns that every question reads.
type Key = (ObjectId, Option<String>);

#[derive(Clone)]
enum Column {
    Rows(Rows),
    Property(Arc<PropertyColumn>),
}

#[derive(Clone)]
struct Rows {
    person_no: Arc<[PersonNo]>,
    occurred_at: Arc<[Millis]>,
    event: Arc<Dictionary>,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Column> for Bytes {
    fn weight(&self, _: &Key, column: &Column) -> u64 {
        let bytes = match column {
            Column::Rows(rows) => {
                size_of_val(&*rows.person_no) + size_of_val(&*rows.occurred_at) + rows.event.memory_bytes()
            }
            Column::Property(property) => property.memory_bytes(),
        };
        bytes as u64
    }
}

struct ColumnMetrics {
    columns: prometheus::IntCounterVec,
    bytes: prometheus::IntGauge,
}

/// What of one object is there for a question.
#[derive(Default)]
pub struct Known {
    rows: Option<Rows>,
    /// One per asked property.
    properties: Vec<Option<Arc<PropertyColumn>>>,
}

impl ColumnCache {
    pub fn new(bytes_max: usize, metrics: &Metrics) -> Self {
        // One table: split ones would each take only columns that fit into their share.
        let options = OptionsBuilder::new()
            .estimated_items_capacity(COLUMNS_EXPECTED)
            .weight_capacity(bytes_max as u64)
            .shards(1)
            .build();
        let columns = options.ok().filter(|_| bytes_max > 0).map(|options| {
            Cache::with_options(options, Bytes, DefaultHashBuilder::default(), DefaultLifecycle::default())
        });
        let metrics = ColumnMetrics {
            columns: metrics.counters(
                "weir_scan_columns_total",
                "Columns of segments that questions needed, by whether they had to be read and decoded.",
                &["outcome"],
            ),
            bytes: metrics.gauge("weir_scan_columns_bytes", "Memory that kept columns take."),
        };
        Self { columns, metrics }
    }

    pub fn find(&self, object: &ListedObject, properties: &[String]) -> Known {
        let Some(columns) = self.columns.as_ref().filter(|_| is_kept(object)) else {
            return Known { rows: None, properties: vec![None; properties.len()] };
        };
        let rows = match columns.get(&(object.object_id, None)) {
            Some(Column::Rows(rows)) => Some(rows),
            _ => None,
        };
        let property = |name: &String| match columns.get(&(object.object_id, Some(name.clone()))) {
            Some(Column::Property(property)) => Some(property),
            _ => None,
        };
        let known = Known { rows, properties: properties.iter().map(property).collect() };
        let cached = usize::from(known.rows.is_some()) + known.properties.iter().flatten().count();
        let all = 1 + properties.len();
        self.metrics.columns.with_label_values(&["cached"]).inc_by(cached as u64);
        self.metrics.columns.with_label_values(&["read"]).inc_by((all - cached) as u64);
        known
    }

    /// Forgets all, after an erasure.
    pub fn clear(&self) {
        if let Some(columns) = &self.columns {
            columns.clear();
            self.metrics.bytes.set(0);
        }
    }

    /// Keeps what was read of an object, whole, with these properties.
    pub fn keep(&self, object: &ListedObject, properties: &[String], block: &RowBlock) {
        let Some(columns) = self.columns.as_ref().filter(|_| is_kept(object)) else { return };
        let rows = Rows {
            person_no: block.person_no.clone(),
            occurred_at: block.occurred_at.clone(),
            event: block.event.clone(),
        };
        columns.insert((object.object_id, None), Column::Rows(rows));
        for (name, property) in properties.iter().zip(&block.properties) {
            let key = (object.object_id, Some(name.clone()));
            columns.insert(key, Column::Property(property.clone()));
        }
        self.metrics.bytes.set(columns.weight() as i64);
    }
}

/// Segments are read whole, and runs in part.
fn is_kept(object: &ListedObject) -> bool {
    object.rows == RowRanges::All
}

impl Known {
    pub fn is_complete(&self) -> bool {
        self.rows.is_some() && self.properties.iter().all(Option::is_some)
    }

    /// Those of the asked properties that have to be read.
    pub fn missing(&self, properties: &[String]) -> Vec<String> {
        let missing = properties.iter().zip(&self.properties).filter(|(_, known)| known.is_none());
        missing.map(|(name, _)| name.clone()).collect()
    }

    /// The block, when it is complete.
    pub fn into_block(self) -> Option<RowBlock> {
        let Rows { person_no, occurred_at, event } = self.rows?;
        let properties = self.properties.into_iter().collect::<Option<Vec<_>>>()?;
        Some(RowBlock { person_no, occurred_at, event, properties })
    }

    /// The block with what was missing out of `read`.
    pub fn complete_with(self, read: RowBlock) -> RowBlock {
        let mut others = read.properties.into_iter();
        let properties = self.properties.into_iter();
        // `missing` asked for exactly those that are not known, in this order.
        let properties = properties.filter_map(|known| known.or_else(|| others.next())).collect();
        RowBlock { properties, ..read }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(n: u8, rows: RowRanges) -> ListedObject {
        let object_id = ObjectId([n; 16]);
        ListedObject { object_id, events: 100, bytes: 1, min_at: 0, max_at: 1, created_at: 0, rows }
    }

    fn block(rows: usize, properties: usize) -> RowBlock {
        let codes = Dictionary { codes: vec![0; rows], values: vec![Arc::from("e")] };
        let property = Arc::new(PropertyColumn { strings: Some(codes.clone()), ..Default::default() });
        RowBlock {
            person_no: vec![1; rows].into(),
            occurred_at: vec![2; rows].into(),
            properties: vec![property; properties],
            event: Arc::new(codes),
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_what_is_missing_is_asked_for_and_the_order_is_that_of_the_question() {
        let cache = ColumnCache::new(1 << 20, &Metrics::default());
        let segment = object(1, RowRanges::All);
        assert_eq!(cache.find(&segment, &names(&["a"])).missing(&names(&["a"])), ["a"]);
        let mut read = block(10, 2);
        read.properties[1] = Arc::default();
        cache.keep(&segment, &names(&["a", "b"]), &read);

        let asked = names(&["b", "c", "a"]);
        let known = cache.find(&segment, &asked);
        assert!(!known.is_complete());
        assert_eq!(known.missing(&asked), ["c"]);
        let whole = known.complete_with(block(10, 1));
        let has_text: Vec<bool> = whole.properties.iter().map(|column| column.strings.is_some()).collect();
        assert_eq!(has_text, [false, true, true]);

        let again = cache.find(&segment, &names(&["a"])).into_block().unwrap();
        assert_eq!((again.len(), again.properties.len()), (10, 1));
        assert!(Arc::ptr_eq(&again.properties[0], &read.properties[0]), "it is the same memory");
        assert!(cache.find(&object(2, RowRanges::All), &[]).into_block().is_none(), "another object");
    }

    #[test]
    fn memory_stays_below_its_limit_and_nothing_of_runs_is_kept() {
        let limit = 100_000;
        let cache = ColumnCache::new(limit, &Metrics::default());
        for n in 0..200 {
            cache.keep(&object(n, RowRanges::All), &names(&["a"]), &block(500, 1));
            let weight = cache.columns.as_ref().unwrap().weight();
            assert!(weight <= limit as u64, "{weight} bytes");
        }
        assert!(cache.find(&object(199, RowRanges::All), &names(&["a"])).is_complete());
        let run = object(201, RowRanges::one(0..500));
        cache.keep(&run, &[], &block(500, 0));
        assert!(!cache.find(&run, &[]).is_complete());

        let off = ColumnCache::new(0, &Metrics::default());
        off.keep(&object(1, RowRanges::All), &[], &block(1, 0));
        assert!(!off.find(&object(1, RowRanges::All), &[]).is_complete());
    }
}
