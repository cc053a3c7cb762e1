//! What was read a moment ago.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;

use crate::model::Millis;

/// Answers that are believed for a short time. Bounded: when it is full, everything that has
/// expired goes, and if that is nothing, everything.
pub struct Known<K, V> {
    age_ms_max: Millis,
    entries_max: usize,
    entries: Mutex<HashMap<K, (V, Millis)>>,
}

impl<K: Eq + Hash, V: Clone> Known<K, V> {
    pub fn new(age_ms_max: Millis, entries_max: usize) -> Self {
        Self { age_ms_max, entries_max, entries: Mutex::default() }
    }

    pub fn find(&self, key: &K, now: Millis) -> Option<V> {
        let entries = self.entries.lock().expect("no holder of this lock can panic");
        // An entry from the future means that the clock was set back: not believed either.
        let (value, read_at) = entries.get(key)?;
        (0..self.age_ms_max).contains(&(now - read_at)).then(|| value.clone())
    }

    /// `read_at` is the time *before* the store was asked.
    pub fn keep(&self, key: K, value: V, read_at: Millis) {
        let mut entries = self.entries.lock().expect("no holder of this lock can panic");
        if entries.len() >= self.entries_max {
            entries.retain(|_, (_, kept_at)| (0..self.age_ms_max).contains(&(read_at - *kept_at)));
            if entries.len() >= self.entries_max {
                entries.clear();
            }
        }
        entries.insert(key, (value, read_at));
    }

    pub fn forget(&self, key: &K) {
        self.entries.lock().expect("no holder of this lock can panic").remove(key);
    }

    pub fn forget_where(&self, forget: impl Fn(&K, &V) -> bool) {
        let mut entries = self.entries.lock().expect("no holder of this lock can panic");
        entries.retain(|key, (value, _)| !forget(key, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knowledge_expires_and_stays_bounded() {
        let known = Known::new(3_000, 2);
        known.keep("a", 1, 0);
        assert_eq!(known.find(&"a", 2_999), Some(1));
        assert_eq!(known.find(&"a", 3_000), None);
        assert_eq!(known.find(&"a", -1), None);
        for (key, at) in [("b", 1), ("c", 2), ("d", 3)] {
            known.keep(key, 2, at);
        }
        assert!(known.entries.lock().unwrap().len() <= 2);
        assert_eq!(known.find(&"d", 4), Some(2));
        known.forget_where(|key, _| *key == "d");
        assert_eq!(known.find(&"d", 4), None);
    }
}
