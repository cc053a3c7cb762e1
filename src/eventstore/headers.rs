//! Headers of objects, opened and kept: who looks at one person needs few pages of many objects, and would
//! fetch, inflate and parse each time what says where those lie.
//!
//! A header is known by its object's random id, and objects never change. It has names of properties and
//! numbers of persons, and no value of anybody, so an erasure has nothing to forget here.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::format::ObjectReader;
use super::scan::ScanError;
use super::weighted;
use crate::model::ObjectId;
use crate::storage::Db;
use crate::storage::server::objects;
use crate::telemetry::Metrics;

/// One for the process. Cheap to clone.
#[derive(Clone)]
pub struct HeaderCache {
    readers: Option<Arc<Cache<ObjectId, ObjectReader, MemoryBytes>>>,
    bytes: prometheus::IntGauge,
}

/// An object whose header is known.
pub struct OpenObject {
    pub object_id: ObjectId,
    pub reader: ObjectReader,
    /// What was read for it just now.
    pub bytes_read: u64,
}

#[derive(Clone)]
struct MemoryBytes;

impl Weighter<ObjectId, ObjectReader> for MemoryBytes {
    fn weight(&self, _: &ObjectId, reader: &ObjectReader) -> u64 {
        reader.memory_bytes() as u64
    }
}

impl HeaderCache {
    /// `bytes_max`: memory for headers that are kept; 0 keeps none.
    pub fn new(bytes_max: usize, metrics: &Metrics) -> Self {
        let readers = weighted::cache(bytes_max, MemoryBytes).map(Arc::new);
        let bytes =
            metrics.gauge("weir_headers_bytes", "Memory that kept headers of runs and segments take.");
        Self { readers, bytes }
    }

    /// In any order, without objects that have been deleted; of those that are kept, with them.
    pub async fn open(&self, db: &Db, object_ids: &[ObjectId]) -> Result<Vec<OpenObject>, ScanError> {
        let mut opened = Vec::with_capacity(object_ids.len());
        let mut missing = Vec::new();
        for &object_id in object_ids {
            match self.readers.as_ref().and_then(|readers| readers.get(&object_id)) {
                Some(reader) => opened.push(OpenObject { object_id, reader, bytes_read: 0 }),
                None => missing.push(object_id),
            }
        }
        for (object_id, header) in objects::find_headers(db, &missing).await? {
            let reader =
                ObjectReader::open(&header).map_err(|source| ScanError::Format { object_id, source })?;
            if let Some(readers) = &self.readers {
                readers.insert(object_id, reader.clone());
                self.bytes.set(readers.weight() as i64);
            }
            opened.push(OpenObject { object_id, reader, bytes_read: header.len() as u64 });
        }
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventstore::fixture::{PROJECT, rows, store_segment};
    use crate::model::SeededRandom;
    use crate::storage::conformance::on_both;

    on_both! {
        async fn what_was_opened_is_not_read_again_and_takes_no_more_memory_than_it_may(db: Db) {
            let random = SeededRandom::new(1);
            let mut ids = Vec::new();
            for n in 0..3 {
                ids.push(store_segment(&db, &random, rows(PROJECT, n * 50..(n + 1) * 50)).await);
            }
            let open = async |headers: &HeaderCache, ids: &[ObjectId]| {
                headers.open(&db, ids).await.unwrap()
            };
            let all = HeaderCache::new(1 << 20, &Metrics::default());
            let first = open(&all, &ids[..2]).await;
            assert!(first.len() == 2 && first.iter().all(|opened| opened.bytes_read > 0));
            let second = open(&all, &ids).await;
            let read: Vec<_> = second.iter().filter(|opened| opened.bytes_read > 0).collect();
            assert!(second.len() == 3 && read.len() == 1 && read[0].object_id == ids[2]);
            assert!(second.iter().all(|opened| opened.reader.rows() == 50));
            assert!(open(&all, &[ObjectId::random(&random)]).await.is_empty(), "there is none");

            let bytes = first[0].reader.memory_bytes();
            let one = HeaderCache::new(bytes + bytes / 2, &Metrics::default());
            open(&one, &ids).await;
            let again = open(&one, &ids).await;
            assert_eq!(again.iter().filter(|opened| opened.bytes_read == 0).count(), 1);
            assert!((1..=bytes as i64 * 3 / 2).contains(&one.bytes.get()), "{}", one.bytes.get());
            let none = HeaderCache::new(0, &Metrics::default());
            open(&none, &ids).await;
            assert!(open(&none, &ids).await.iter().all(|opened| opened.bytes_read > 0));
        }
    }
}
