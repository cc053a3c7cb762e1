//! Values in this process, at most so many bytes of them; the least recently used go first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;

use crate::model::{Clock, Millis};

/// What an entry costs beside its key and value: two map entries and their share of free space.
const ENTRY_BYTES: usize = 160;

pub(super) struct MemoryCache {
    bytes_max: usize,
    clock: Arc<dyn Clock>,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    by_name: HashMap<Arc<str>, Entry>,
    /// Names in the order of their last use.
    by_use: BTreeMap<u64, Arc<str>>,
    uses: u64,
    bytes: usize,
}

struct Entry {
    value: Bytes,
    expires_at: Millis,
    used: u64,
}

impl MemoryCache {
    pub(super) fn new(bytes_max: usize, clock: Arc<dyn Clock>) -> Self {
        Self { bytes_max, clock, entries: Mutex::default() }
    }

    pub(super) fn get(&self, name: &str) -> Option<Bytes> {
        let now = self.clock.now_ms();
        let mut entries = self.lock();
        let entries = &mut *entries;
        let entry = entries.by_name.get_mut(name)?;
        if entry.expires_at <= now {
            entries.remove(name);
            return None;
        }
        entries.uses += 1;
        let name = entries.by_use.remove(&entry.used).expect("every entry is in the order of use");
        entries.by_use.insert(entries.uses, name);
        entry.used = entries.uses;
        Some(entry.value.clone())
    }

    pub(super) fn put(&self, name: String, value: Bytes, ttl: Duration) {
        let expires_at = self.clock.now_ms() + ttl.as_millis() as Millis;
        let mut entries = self.lock();
        entries.remove(&name);
        let bytes = cost(&name, &value);
        if bytes > self.bytes_max {
            return;
        }
        while entries.bytes + bytes > self.bytes_max {
            let (_, oldest) =
                entries.by_use.first_key_value().expect("what costs bytes is in the order of use");
            let oldest = oldest.clone();
            entries.remove(&oldest);
        }
        entries.uses += 1;
        let used = entries.uses;
        let name: Arc<str> = name.into();
        entries.by_use.insert(used, name.clone());
        entries.by_name.insert(name, Entry { value, expires_at, used });
        entries.bytes += bytes;
    }

    pub(super) fn remove(&self, name: &str) {
        self.lock().remove(name);
    }

    pub(super) fn clear(&self) {
        *self.lock() = Entries::default();
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().expect("no holder of this lock can panic")
    }
}

impl Entries {
    fn remove(&mut self, name: &str) {
        if let Some(entry) = self.by_name.remove(name) {
            self.by_use.remove(&entry.used);
            self.bytes -= cost(name, &entry.value);
        }
    }
}

fn cost(name: &str, value: &Bytes) -> usize {
    2 * name.len() + value.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ManualClock;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn cache(bytes_max: usize) -> (MemoryCache, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(0));
        (MemoryCache::new(bytes_max, clock.clone()), clock)
    }

    #[test]
    fn values_end_with_their_time() {
        let (cache, clock) = cache(10_000);
        cache.put("a".into(), "1".into(), HOUR);
        clock.advance(3_599_999);
        assert_eq!(cache.get("a").unwrap(), "1");
        clock.advance(1);
        assert_eq!(cache.get("a"), None);
        assert_eq!(cache.lock().bytes, 0);
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let (cache, _) = cache(3 * (ENTRY_BYTES + 3));
        for name in ["a", "b", "c"] {
            cache.put(name.into(), "1".into(), HOUR);
        }
        cache.get("a");
        cache.put("d".into(), "1".into(), HOUR);
        assert_eq!(cache.get("b"), None);
        for name in ["a", "c", "d"] {
            assert!(cache.get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn never_holds_more_than_its_bytes() {
        let (cache, _) = cache(10_000);
        for n in 0..1_000_usize {
            cache.put(format!("key {}", n % 37), vec![0; n * 7 % 4_000].into(), HOUR);
            let entries = cache.lock();
            assert!(entries.bytes <= 10_000);
            let counted: usize = entries.by_name.iter().map(|(name, entry)| cost(name, &entry.value)).sum();
            assert_eq!(counted, entries.bytes);
            assert_eq!(entries.by_name.len(), entries.by_use.len());
        }
        cache.put("too large".into(), vec![0; 10_000].into(), HOUR);
        assert_eq!(cache.get("too large"), None);
    }
}
