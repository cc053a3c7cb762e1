//! The control database's clock, without asking it each time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::{Db, StorageError};
use crate::model::{Clock, Millis};

/// Our own clock moved by its distance to the database's, measured now and then. Replicas whose
/// clocks differ by minutes then still agree on when a lease ends.
pub struct DatabaseClock {
    db: Db,
    own: Arc<dyn Clock>,
    ahead_by_ms: AtomicI64,
}

impl DatabaseClock {
    pub fn new(db: Db, own: Arc<dyn Clock>) -> Self {
        Self { db, own, ahead_by_ms: AtomicI64::new(0) }
    }

    /// Measures the distance again: at start, and from time to time since clocks drift and jump.
    pub async fn sync(&self) -> Result<(), StorageError> {
        let before = self.own.now_ms();
        let database = self.db.now_ms().await?;
        let after = self.own.now_ms();
        // The database looked at its clock somewhere between the two.
        self.ahead_by_ms.store(database - (before + (after - before) / 2), Ordering::Relaxed);
        Ok(())
    }
}

impl Clock for DatabaseClock {
    fn now_ms(&self) -> Millis {
        self.own.now_ms() + self.ahead_by_ms.load(Ordering::Relaxed)
    }
}
