//! Memory for the rows that questions of this process hold at the same time.
//!
//! A shard of ten million rows is some hundred megabytes of columns. Questions are answered four shards at a
//! time, several at once, and in steps for other replicas: all of them go through here, and shards with many
//! rows, or groups of them, wait for each other. What a second round needs is kept longer than it has room.

use tokio::sync::{Semaphore, SemaphorePermit};

pub(super) struct Room(Semaphore);

/// About so many rows lie in memory at the same time: up to some 15 bytes each, for a funnel.
const ROWS_MAX: u64 = 20_000_000;
/// Fewer do not matter, and do not wait.
pub(super) const ROWS_LARGE: u64 = 1_000_000;
/// What is counted.
const UNIT_ROWS: u64 = 1_000;

impl Default for Room {
    fn default() -> Self {
        Self(Semaphore::new((ROWS_MAX / UNIT_ROWS) as usize))
    }
}

impl Room {
    /// Waits until so many rows may be read; they have room until the permit is dropped.
    pub async fn enter(&self, rows: u64, counted: impl FnOnce() -> u64) -> Option<SemaphorePermit<'_>> {
        if rows < ROWS_LARGE {
            return None;
        }
        // Whether it is kept or read: while it is counted it is there.
        let rows = rows.saturating_sub(counted()).min(ROWS_MAX);
        self.0.acquire_many((rows / UNIT_ROWS) as u32).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn large_shards_wait_for_each_other_and_small_or_counted_ones_do_not() {
        let room = Room::default();
        let counted = |counted| move || counted;
        let first = room.enter(10_000_000, counted(0)).await;
        let second = room.enter(10_000_000, counted(0)).await;
        assert!(first.is_some() && second.is_some());
        assert!(room.enter(ROWS_LARGE, counted(0)).now_or_never().is_none(), "there is no room");
        assert!(room.enter(ROWS_LARGE - 1, counted(0)).now_or_never().is_some(), "a small one");
        assert!(room.enter(u64::MAX, counted(u64::MAX - 999)).now_or_never().is_some(), "a counted one");
        drop(first);
        assert!(room.enter(10_000_001, counted(0)).now_or_never().is_some());
        drop(second);
        // More than there ever is room for gets all of it.
        assert!(room.enter(u64::MAX, counted(0)).now_or_never().is_some());
    }
}
