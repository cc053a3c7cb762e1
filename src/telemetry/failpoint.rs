//! Named places where a test lets the process die, or freeze.
//!
//! `WEIR_FAILPOINT=seal.after_parts` aborts at the first [`hit`] of that name, `seal.after_parts:3`
//! at the third; `seal.in_closing:1:stop` stops the process there as SIGSTOP does, until SIGCONT. The variable is read once; while it is unset a hit costs one atomic load.
//! Aborting, unlike a panic, runs no destructor and flushes nothing: it is what `kill -9` leaves.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const VARIABLE: &str = "WEIR_FAILPOINT";

static ARMED: OnceLock<Option<Failpoint>> = OnceLock::new();

struct Failpoint {
    name: String,
    does_stop: bool,
    hits_left: AtomicU32,
}

impl Failpoint {
    /// `name`, `name:n` or `name:n:stop`; anything else for `n` counts as 1.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
        let hits = fields.next().and_then(|hits| hits.parse().ok()).unwrap_or(1_u32).max(1);
        let does_stop = fields.next() == Some("stop");
        Some(Self { name, does_stop, hits_left: AtomicU32::new(hits) })
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
        if failpoint.does_stop {
            return freeze(name);
        }
        let _ = writeln!(std::io::stderr(), "{VARIABLE}: aborting at {name}");
        std::process::abort();
    }
}

/// Every thread stops, connections stay open, no clock inside moves on: a machine that was suspended.
fn freeze(name: &str) {
    let _ = writeln!(std::io::stderr(), "{VARIABLE}: stopping at {name}");
    let id = std::process::id().to_string();
    let stopped = std::process::Command::new("kill").args(["-STOP", &id]).status();
    // Continued from here on, or never stopped: a test that waits for the stop says so.
    let _ = writeln!(std::io::stderr(), "{VARIABLE}: going on at {name} ({stopped:?})");
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
        let stopping = Failpoint::parse("seal.in_closing:2:stop").unwrap();
        assert!(
            stopping.does_stop && !stopping.is_last("seal.in_closing") && stopping.is_last("seal.in_closing")
        );
    }
}
