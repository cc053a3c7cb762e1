//! When a database answered last.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Shared by all copies of a [`super::Db`].
#[derive(Clone)]
pub(super) struct Heard {
    opened: Instant,
    /// Milliseconds from then on, plus one; zero while it has not been heard.
    last: Arc<AtomicU64>,
}

impl Heard {
    pub(super) fn new() -> Self {
        Self { opened: Instant::now(), last: Arc::default() }
    }

    pub(super) fn noted<T, E>(&self, done: Result<T, E>) -> Result<T, E> {
        if done.is_ok() {
            self.last.fetch_max(self.opened.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
        }
        done
    }

    pub(super) fn before(&self) -> Option<Duration> {
        let last = self.last.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.opened.elapsed().saturating_sub(Duration::from_millis(last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_succeeds_was_heard() {
        let heard = Heard::new();
        let _ = heard.noted(Err::<(), ()>(()));
        assert_eq!(heard.before(), None);
        let _ = heard.clone().noted(Ok::<(), ()>(()));
        std::thread::sleep(Duration::from_millis(30));
        let _ = heard.noted(Err::<(), ()>(()));
        let before = heard.before().expect("it was heard");
        assert!((Duration::from_millis(30)..Duration::from_secs(10)).contains(&before), "{before:?}");
    }
}
