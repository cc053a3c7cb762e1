//! A bound on memory that many requests share: bytes are reserved before they are held, and whoever
//! gets none is told so at once instead of waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;

#[derive(Debug, PartialEq, Eq, Clone, Copy, thiserror::Error)]
#[error("too much is being received at the moment")]
pub struct OutOfMemory;

#[derive(Clone)]
pub struct Budget {
    inner: Arc<Inner>,
}

struct Inner {
    used: AtomicUsize,
    bytes_max: usize,
    /// Shows what is used. Several budgets may share one: each adds its own.
    gauge: Option<IntGauge>,
}

impl Inner {
    fn show(&self, more: i64) {
        if let Some(gauge) = &self.gauge {
            gauge.add(more);
        }
    }
}

/// Bytes that are given back when it is dropped.
pub struct Reserved {
    inner: Arc<Inner>,
    bytes: usize,
}

impl Budget {
    pub fn new(bytes_max: usize) -> Self {
        Self { inner: Arc::new(Inner { used: AtomicUsize::new(0), bytes_max, gauge: None }) }
    }

    pub fn with_gauge(bytes_max: usize, gauge: IntGauge) -> Self {
        Self { inner: Arc::new(Inner { used: AtomicUsize::new(0), bytes_max, gauge: Some(gauge) }) }
    }

    pub fn reserve(&self, bytes: usize) -> Result<Reserved, OutOfMemory> {
        let mut reserved = Reserved { inner: self.inner.clone(), bytes: 0 };
        reserved.grow_to(bytes)?;
        Ok(reserved)
    }

    pub fn used_bytes(&self) -> usize {
        self.inner.used.load(Ordering::Relaxed)
    }
}

impl Reserved {
    /// Reserves what is missing up to `bytes`; keeps what it has when there is no more.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        let more = bytes.saturating_sub(self.bytes);
        let bytes_max = self.inner.bytes_max;
        let taken = self.inner.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(more).filter(|&sum| sum <= bytes_max)
        });
        taken.map_err(|_| OutOfMemory)?;
        self.bytes += more;
        self.inner.show(more as i64);
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.inner.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.inner.show(-(self.bytes as i64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_can_be_reserved_again() {
        let gauge = IntGauge::new("bytes", "Bytes.").unwrap();
        let budget = Budget::with_gauge(10, gauge.clone());
        let mut first = budget.reserve(4).unwrap();
        let second = budget.reserve(6).unwrap();
        assert!(budget.reserve(1).is_err());
        assert!(first.grow_to(5).is_err());
        drop(second);
        first.grow_to(10).unwrap();
        assert_eq!((budget.used_bytes(), gauge.get()), (10, 10));
        drop(first);
        assert_eq!((budget.used_bytes(), gauge.get()), (0, 0));
        assert!(budget.reserve(usize::MAX).is_err());
    }
}
