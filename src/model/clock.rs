//! Time as milliseconds since 1970 in UTC, and where it comes from.

use std::sync::atomic::{AtomicI64, Ordering};

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type Millis = i64;

pub const DAY_MS: Millis = 86_400_000;

/// Days since 1970-01-01, also for times before it.
pub fn utc_day(at: Millis) -> i32 {
    at.div_euclid(DAY_MS) as i32
}

/// The first instant that is kept by whoever keeps this many days: those before today (UTC), and today.
pub fn kept_from(days: u32, now: Millis) -> Millis {
    (Millis::from(utc_day(now)) - Millis::from(days)) * DAY_MS
}

/// Where "now" comes from: a parameter, so that tests can hold it still.
pub trait Clock: Send + Sync + 'static {
    fn now_ms(&self) -> Millis;
}

pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now_ms(&self) -> Millis {
        let now = std::time::SystemTime::now();
        now.duration_since(std::time::UNIX_EPOCH).map_or(0, |age| age.as_millis() as Millis)
    }
}

/// A clock that stands still until it is moved.
pub struct ManualClock(AtomicI64);

impl ManualClock {
    pub fn new(at: Millis) -> Self {
        Self(AtomicI64::new(at))
    }

    pub fn set(&self, at: Millis) {
        self.0.store(at, Ordering::SeqCst);
    }

    pub fn advance(&self, millis: Millis) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> Millis {
        self.0.load(Ordering::SeqCst)
    }
}
