//! Named places where a test lets the process die.
//!
//! `WEIR_FAILPOINT=seal.after_parts` aborts at the first [`hit`] of that name, `seal.after_parts:3`
//! at the third. The variable is read once; while it is unset a hit costs one atomic load.
//! Aborting, unlike a panic, runs no destructor and flushes nothing: it is what `kill -9` leaves.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const VARIABLE: &str = "WEIR_FAILPOINT";

static ARMED: OnceLock<Option<Failpoint>> = OnceLock::new();

struct Failpoint {
    name: String,
    hits_left: AtomicU32,
}

impl Failpoint {
    /// `name` or `name:n`; anything else after the colon counts as 1.
    fn parse(text: &str) -> Option<Self> {
        let (name, hits) = text.split_once(':').unwrap_or((text, "1"));
        let hits = hits.parse().unwrap_or(1).max(1);
        (!name.is_empty()).then(|| Self { name: name.to_owned(), hits_left: AtomicU32::new(hits) })
    }

    /// Whether this hit is the one to die at.
    fn is_last(&self, name: &str) -> bool {
        self.name == name && self.hits_left.fetch_sub(1, Ordering::SeqCst) == 1
    }
}

/// Ends the process here when the environment asks for it.
pub fn hit(name: &str) {
    let armed = ARMED.get_or_init(|| Failpoint::parse(&std::env::var(VARIABLE).ok()?));
    if let Some(failpoint) = armed
        && failpoint.is_last(name)
    {
        eprintln!("{VARIABLE}: aborting at {name}");
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_asked_hit_of_the_asked_name_is_the_last() {
        let failpoint = Failpoint::parse("compact.after_parts:2").unwrap();
        assert!(!failpoint.is_last("seal.after_parts"));
        assert!(!failpoint.is_last("compact.after_parts"));
        assert!(failpoint.is_last("compact.after_parts"));
        assert!(!failpoint.is_last("compact.after_parts"));
    }

    #[test]
    fn a_name_alone_means_the_first_hit_and_no_name_means_none() {
        assert!(Failpoint::parse("seal.after_commit").unwrap().is_last("seal.after_commit"));
        assert!(Failpoint::parse("").is_none());
    }
}
