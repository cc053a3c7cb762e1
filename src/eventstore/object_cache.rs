//! What is known of objects before any of their rows is read: headers, opened, and facts.
//!
//! Who looks at one person needs few pages of many objects, and would fetch, inflate and parse each time
//! what says where those lie. Who asks a question of a small project would do the same with the facts of
//! every run, only to learn which rows are the project's.
//!
//! Both are known by their object's random id, and objects never change. They have names of events and
//! properties, numbers of persons, and of numeric properties the least and the greatest value: all of it is
//! forgotten after an erasure.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::format::{ObjectReader, PropertyFact, SliceFacts};
use super::scan::ScanError;
use super::weighted;
use crate::model::{Millis, ObjectId, PersonNo, ProjectId, ShardNo};
use crate::storage::Db;
use crate::storage::server::objects::{self, ObjectRow};
use crate::storage::server::persons::ProjectCounters;
use crate::telemetry::Metrics;

/// One for the process. Cheap to clone.
#[derive(Clone)]
pub struct ObjectCache {
    readers: Option<Arc<Cache<ObjectId, ObjectReader, MemoryBytes>>>,
    slices: Option<Arc<Cache<SliceKey, ProjectSlice, MemoryBytes>>>,
    lists: Option<Arc<Cache<ListKey, Arc<ShardList>, MemoryBytes>>>,
    headers_bytes: prometheus::IntGauge,
    facts_bytes: prometheus::IntGauge,
}

type SliceKey = (ObjectId, ProjectId);

/// The facts of a project's rows in an object; `None`: it has none.
pub type ProjectSlice = Option<Arc<SliceFacts>>;

/// And the time that was listed.
type ListKey = (ShardNo, ProjectId, Range<Millis>);

/// What a shard held of a project in some time, without facts. It is right for as long as the counters are the
/// same: they rise whenever other rows are to be seen. Objects may have been replaced by others with the same
/// rows meanwhile, and be deleted in time, so it is not kept for long.
#[derive(Debug)]
pub struct ShardList {
    pub read_at: Instant,
    pub counters: ProjectCounters,
    /// Ascending.
    pub masked: Vec<PersonNo>,
    pub moving: u64,
    pub objects: Vec<ObjectRow>,
}

/// Half of the shortest time for which replaced objects can be told to stay, and long enough for all that a
/// page asks.
const LIST_AGE_MAX: Duration = Duration::from_millis(500);
/// Lists are used for so short a time.
const LISTS_BYTES_MAX: usize = 8 << 20;

impl ShardList {
    pub fn new(read_at: Instant) -> Self {
        let counters = ProjectCounters::default();
        Self { read_at, counters, masked: Vec::new(), moving: 0, objects: Vec::new() }
    }
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

impl Weighter<SliceKey, ProjectSlice> for MemoryBytes {
    fn weight(&self, _: &SliceKey, slice: &ProjectSlice) -> u64 {
        const ENTRY: usize = 100;
        (ENTRY + slice.as_ref().map_or(0, |slice| slice.memory_bytes())) as u64
    }
}

impl Weighter<ListKey, Arc<ShardList>> for MemoryBytes {
    fn weight(&self, _: &ListKey, list: &Arc<ShardList>) -> u64 {
        const ENTRY: usize = 200;
        (ENTRY + size_of_val(&*list.objects) + size_of_val(&*list.masked)) as u64
    }
}

impl ObjectCache {
    /// Memory for headers and for facts that are kept; 0 keeps none.
    pub fn new(headers_bytes_max: usize, facts_bytes_max: usize, metrics: &Metrics) -> Self {
        Self {
            readers: weighted::cache(headers_bytes_max, MemoryBytes).map(Arc::new),
            slices: weighted::cache(facts_bytes_max, MemoryBytes).map(Arc::new),
            lists: weighted::cache(facts_bytes_max.min(LISTS_BYTES_MAX), MemoryBytes).map(Arc::new),
            headers_bytes: metrics
                .gauge("weir_headers_bytes", "Memory that kept headers of runs and segments take."),
            facts_bytes: metrics
                .gauge("weir_facts_bytes", "Memory that kept facts of runs and segments take."),
        }
    }

    /// For who looks once.
    pub fn none() -> Self {
        Self::new(0, 0, &Metrics::default())
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
                self.headers_bytes.set(readers.weight() as i64);
            }
            opened.push(OpenObject { object_id, reader, bytes_read: header.len() as u64 });
        }
        Ok(opened)
    }

    /// `None` when the object's facts are not known.
    pub fn slice_of(&self, object_id: ObjectId, project_id: ProjectId) -> Option<ProjectSlice> {
        self.slices.as_ref()?.get(&(object_id, project_id))
    }

    pub fn keep_slice(&self, object_id: ObjectId, project_id: ProjectId, slice: ProjectSlice) {
        if let Some(slices) = &self.slices {
            slices.insert((object_id, project_id), slice);
            self.facts_bytes.set(slices.weight() as i64);
        }
    }

    /// What was listed a moment ago.
    pub fn list_of(
        &self,
        shard_no: ShardNo,
        project_id: ProjectId,
        days: &Range<Millis>,
    ) -> Option<Arc<ShardList>> {
        let list = self.lists.as_ref()?.get(&(shard_no, project_id, days.clone()))?;
        (list.read_at.elapsed() < LIST_AGE_MAX).then_some(list)
    }

    pub fn keep_list(
        &self,
        shard_no: ShardNo,
        project_id: ProjectId,
        days: &Range<Millis>,
        list: &Arc<ShardList>,
    ) {
        if let Some(lists) = &self.lists {
            lists.insert((shard_no, project_id, days.clone()), list.clone());
        }
    }

    /// An object of a list is gone: it has been replaced by others.
    pub fn forget_lists(&self) {
        if let Some(lists) = &self.lists {
            lists.clear();
        }
    }

    pub fn forget(&self) {
        self.forget_lists();
        if let Some(readers) = &self.readers {
            readers.clear();
            self.headers_bytes.set(0);
        }
        if let Some(slices) = &self.slices {
            slices.clear();
            self.facts_bytes.set(0);
        }
    }
}

impl SliceFacts {
    /// About.
    fn memory_bytes(&self) -> usize {
        let events = self.events.iter().map(|fact| size_of_val(fact) + fact.name.len());
        let properties = self.properties.iter().map(|fact| size_of::<PropertyFact>() + fact.name.len());
        size_of::<Self>() + size_of_val(&*self.days) + events.chain(properties).sum::<usize>()
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
            let open = async |headers: &ObjectCache, ids: &[ObjectId]| {
                headers.open(&db, ids).await.unwrap()
            };
            let all = ObjectCache::new(1 << 20, 0, &Metrics::default());
            let first = open(&all, &ids[..2]).await;
            assert!(first.len() == 2 && first.iter().all(|opened| opened.bytes_read > 0));
            let second = open(&all, &ids).await;
            let read: Vec<_> = second.iter().filter(|opened| opened.bytes_read > 0).collect();
            assert!(second.len() == 3 && read.len() == 1 && read[0].object_id == ids[2]);
            assert!(second.iter().all(|opened| opened.reader.rows() == 50));
            assert!(open(&all, &[ObjectId::random(&random)]).await.is_empty(), "there is none");

            let bytes = first[0].reader.memory_bytes();
            let one = ObjectCache::new(bytes + bytes / 2, 0, &Metrics::default());
            open(&one, &ids).await;
            let again = open(&one, &ids).await;
            assert_eq!(again.iter().filter(|opened| opened.bytes_read == 0).count(), 1);
            assert!((1..=bytes as i64 * 3 / 2).contains(&one.headers_bytes.get()), "{}", one.headers_bytes.get());
            let none = ObjectCache::none();
            open(&none, &ids).await;
            assert!(open(&none, &ids).await.iter().all(|opened| opened.bytes_read > 0));
        }
    }

    #[test]
    fn facts_are_known_by_object_and_project_until_they_are_forgotten_and_take_no_more_memory_than_they_may()
    {
        let limit = 10_000;
        let cache = ObjectCache::new(0, limit, &Metrics::default());
        let known = |n, project| cache.slice_of(ObjectId([n; 16]), project);
        let written = crate::eventstore::format::write_segment(
            &rows(PROJECT, 0..1),
            &crate::eventstore::fixture::write_options(),
        );
        let slice = Arc::new(written.unwrap().facts.slices.remove(0));
        cache.keep_slice(ObjectId([1; 16]), PROJECT, Some(slice.clone()));
        cache.keep_slice(ObjectId([1; 16]), ProjectId(2), None);
        assert_eq!(known(1, PROJECT), Some(Some(slice.clone())));
        assert_eq!(known(1, ProjectId(2)), Some(None), "it is known that there is nothing");
        assert_eq!(known(2, PROJECT), None);
        for n in 0..200 {
            cache.keep_slice(ObjectId([n; 16]), PROJECT, Some(slice.clone()));
            assert!((1..=limit as i64).contains(&cache.facts_bytes.get()));
        }
        assert!(cache.facts_bytes.get() > limit as i64 / 2);
        cache.forget();
        assert!(known(1, ProjectId(2)).is_none() && cache.facts_bytes.get() == 0);
    }
}
