//! Texts of which there is one copy in the process.
//!
//! The lists of a column's texts are much the same in all segments. Their texts are told apart by numbers,
//! so that a breakdown over many segments reads none of them, and they take memory once. That needs one
//! set for the whole process: whoever reads a partial answer back knows no other. Numbers are given anew, so
//! that they are fewer than twice the most texts that there ever were: what is kept of many is found without hashing.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Equal ones lie in the same place. They are ordered as texts.
#[derive(Clone, Debug)]
pub struct Interned {
    text: Arc<str>,
    number: u32,
}

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
    /// With their numbers within the set.
    texts: HashMap<Arc<str>, u32>,
    /// Numbers that nobody has any more.
    free: Vec<u32>,
    /// With so many it is time to look which are still in use.
    look_at: usize,
}

/// Threads that intern at the same time seldom wait for each other.
const SETS: usize = 64;
const LOOK_AT_MIN: usize = 1_024;

impl Interned {
    pub fn new(text: &str) -> Self {
        let set = TEXTS.hasher.hash_one(text) as usize % SETS;
        let (text, number) = lock(&TEXTS.sets[set]).intern(text);
        // All sets are about as large.
        Self { text, number: number * SETS as u32 + set as u32 }
    }

    /// Equal for equal texts and no others, as long as one of them is kept.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// For what is looked up by text.
    pub fn to_arc(&self) -> Arc<str> {
        self.text.clone()
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
    fn intern(&mut self, text: &str) -> (Arc<str>, u32) {
        if let Some((known, number)) = self.texts.get_key_value(text) {
            return (known.clone(), *number);
        }
        if self.texts.len() >= self.look_at {
            self.sweep();
        }
        let text: Arc<str> = text.into();
        // With none free, all numbers below have somebody.
        let number = self.free.pop().unwrap_or(self.texts.len() as u32);
        self.texts.insert(text.clone(), number);
        (text, number)
    }

    fn sweep(&mut self) {
        // Nobody else can get hold of one meanwhile: there is no other way to it.
        let free = &mut self.free;
        self.texts.retain(|text, number| {
            let is_used = Arc::strong_count(text) > 1;
            if !is_used {
                free.push(*number);
            }
            is_used
        });
        self.look_at = LOOK_AT_MIN.max(2 * self.texts.len());
        if self.texts.capacity() > 4 * self.look_at {
            self.texts.shrink_to(self.look_at);
        }
    }
}

impl Deref for Interned {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Interned {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Interned {}

impl Hash for Interned {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl PartialOrd for Interned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Interned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
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
    use std::collections::BTreeSet;

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
        let kept: Vec<_> = (0..100).map(|n| set.intern(&n.to_string())).collect();
        for n in 0..20_000 {
            set.intern(&format!("gone {n}"));
            assert!(set.texts.len() <= LOOK_AT_MIN, "{}", set.texts.len());
        }
        set.sweep();
        assert_eq!(set.texts.len(), kept.len());
        let is_the_same = |(n, (text, number)): (usize, &(Arc<str>, u32))| {
            let (found, of_found) = set.intern(&n.to_string());
            Arc::ptr_eq(text, &found) && *number == of_found
        };
        assert!(kept.iter().enumerate().all(is_the_same));
        // Of many in use each is looked at a few times, not at every new one.
        let many: Vec<_> = (0..5_000).map(|n| set.intern(&n.to_string())).collect();
        // Numbers that were given back have come again: there is one for each, and none is beyond the most that
        // there ever were.
        let numbers: BTreeSet<u32> = many.iter().map(|(_, number)| *number).collect();
        assert_eq!(numbers.len(), many.len());
        assert!(numbers.last().is_some_and(|last| *last < 5_000 + LOOK_AT_MIN as u32), "{numbers:?}");
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
