//! Texts of which there is one copy in the process.
//!
//! The lists of a column's texts are much the same in all segments. Their texts are told apart by where they
//! lie, so that a breakdown over many segments reads none of them, and they take memory once. That needs one
//! set for the whole process: whoever reads a partial answer back knows no other.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Equal ones lie in the same place. They are ordered as texts.
#[derive(Clone, Debug)]
pub struct Interned(Arc<str>);

/// All that are in use, and some that were until a moment ago: the process sweeps now and then.
static TEXTS: LazyLock<Texts> = LazyLock::new(|| {
    let sets = (0..SETS).map(|_| Mutex::default()).collect();
    Texts { hasher: RandomState::new(), sets }
});

struct Texts {
    hasher: RandomState,
    sets: Box<[Mutex<Set>]>,
}

#[derive(Default)]
struct Set {
    texts: HashSet<Arc<str>>,
    /// With so many it is time to look which are still in use.
    look_at: usize,
}

/// Threads that intern at the same time seldom wait for each other.
const SETS: usize = 64;
const LOOK_AT_MIN: usize = 1_024;

impl Interned {
    pub fn new(text: &str) -> Self {
        let set = TEXTS.hasher.hash_one(text) as usize % SETS;
        Self(lock(&TEXTS.sets[set]).intern(text))
    }

    /// Equal for equal texts, as long as one of them is kept.
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// For what is looked up by text.
    pub fn to_arc(&self) -> Arc<str> {
        self.0.clone()
    }

    /// Lets go of the texts that nobody uses any more.
    pub fn sweep() {
        TEXTS.sets.iter().for_each(|set| lock(set).sweep());
    }
}

fn lock(set: &Mutex<Set>) -> MutexGuard<'_, Set> {
    set.lock().expect("no holder of this lock can panic")
}

impl Set {
    fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        if self.texts.len() >= self.look_at {
            self.sweep();
        }
        let text: Arc<str> = text.into();
        self.texts.insert(text.clone());
        text
    }

    fn sweep(&mut self) {
        // Nobody else can get hold of one meanwhile: there is no other way to it.
        self.texts.retain(|text| Arc::strong_count(text) > 1);
        self.look_at = LOOK_AT_MIN.max(2 * self.texts.len());
        if self.texts.capacity() > 4 * self.look_at {
            self.texts.shrink_to(self.look_at);
        }
    }
}

impl Deref for Interned {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Interned {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Interned {}

impl Hash for Interned {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address().hash(state);
    }
}

impl PartialOrd for Interned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Interned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl Serialize for Interned {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Interned {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::new(&text))
    }
}

impl From<&str> for Interned {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_and_ordered_as_texts() {
        let texts = ["b", "a", "", "ä", "a"].map(Interned::new);
        assert_eq!(texts[1], texts[4]);
        assert_ne!(texts[0], texts[1]);
        let mut sorted = texts.to_vec();
        sorted.sort();
        assert_eq!(sorted.iter().map(|text| &**text).collect::<Vec<_>>(), ["", "a", "a", "b", "ä"]);
        let json = serde_json::to_string(&texts[3]).unwrap();
        assert_eq!(
            (json.as_str(), serde_json::from_str::<Interned>(&json).unwrap()),
            ("\"ä\"", texts[3].clone())
        );
        assert_eq!(serde_json::from_str::<Interned>(r#""a\n""#).unwrap(), Interned::new("a\n"));
    }

    #[test]
    fn what_nobody_uses_is_let_go_and_what_somebody_uses_stays_the_same() {
        let mut set = Set::default();
        let kept: Vec<Arc<str>> = (0..100).map(|n| set.intern(&n.to_string())).collect();
        for n in 0..20_000 {
            set.intern(&format!("gone {n}"));
            assert!(set.texts.len() <= LOOK_AT_MIN, "{}", set.texts.len());
        }
        set.sweep();
        assert_eq!(set.texts.len(), kept.len());
        assert!(kept.iter().enumerate().all(|(n, text)| Arc::ptr_eq(text, &set.intern(&n.to_string()))));
        // Of many in use each is looked at a few times, not at every new one.
        let many: Vec<Arc<str>> = (0..5_000).map(|n| set.intern(&n.to_string())).collect();
        assert!(set.look_at > many.len() && set.look_at <= 4 * many.len(), "{}", set.look_at);
    }

    #[test]
    fn threads_that_intern_the_same_texts_get_the_same() {
        let intern = || (0..2_000).map(|n| Interned::new(&format!("of all {n}"))).collect::<Vec<_>>();
        let found = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(intern)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(found.iter().all(|texts| *texts == found[0]));
    }
}
