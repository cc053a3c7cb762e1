//! The control database's clock, without asking it each time.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{Db, StorageError};
use crate::model::{Clock, Millis};

/// What the database's clock said, moved on by how long that is ago. Replicas whose clocks differ by hours
/// then still agree on when a lease ends and what has just arrived, and a clock of a machine that jumps
/// changes nothing: only its steady one is looked at.
pub struct DatabaseClock {
    db: Db,
    measured: Mutex<Measured>,
}

/// What took longer, to get a connection say, tells little about when the database looked.
const MEASURED_WITHIN: Duration = Duration::from_millis(200);

#[derive(Clone, Copy)]
struct Measured {
    at: Instant,
    database: Millis,
}

impl DatabaseClock {
    pub async fn start(db: Db) -> Result<Self, StorageError> {
        let measured = Mutex::new(measure(&db).await?);
        Ok(Self { db, measured })
    }

    /// Measures again: from time to time, since clocks drift, and a steady one may stand still while its
    /// machine sleeps.
    pub async fn sync(&self) -> Result<(), StorageError> {
        let began = Instant::now();
        let measured = measure(&self.db).await?;
        let took = began.elapsed();
        let mut known = self.measured.lock().expect("no holder of this lock can panic");
        if is_worth(took, known.told_at(measured.at).abs_diff(measured.database)) {
            *known = measured;
        }
        Ok(())
    }
}

impl Measured {
    fn told_at(&self, at: Instant) -> Millis {
        self.database + at.saturating_duration_since(self.at).as_millis() as Millis
    }
}

/// Whether a measurement that took so long, and differs so much from what is known, is believed: a slow one
/// only when it differs by more than it may be wrong.
fn is_worth(took: Duration, differs_ms: u64) -> bool {
    took <= MEASURED_WITHIN || Duration::from_millis(differs_ms) > took
}

async fn measure(db: &Db) -> Result<Measured, StorageError> {
    let before = Instant::now();
    let database = db.now_ms().await?;
    // The database looked at its clock somewhere between the two.
    Ok(Measured { at: before + before.elapsed() / 2, database })
}

impl Clock for DatabaseClock {
    fn now_ms(&self) -> Millis {
        self.measured.lock().expect("no holder of this lock can panic").told_at(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::conformance::on_both;

    #[test]
    fn a_slow_measurement_counts_only_when_the_clock_is_further_off_than_that() {
        let second = Duration::from_secs(1);
        assert!(is_worth(MEASURED_WITHIN, 0));
        assert!(!is_worth(second, 0) && !is_worth(second, 1_000));
        assert!(is_worth(second, 1_001), "the machine slept");
    }

    on_both! {
        async fn it_goes_on_between_two_looks_and_never_far_from_the_database(db: Db) {
            let clock = DatabaseClock::start(db.clone()).await.unwrap();
            for _ in 0..3 {
                let (before, told, after) = (clock.now_ms(), db.now_ms().await.unwrap(), clock.now_ms());
                assert!((before - 50..=after + 50).contains(&told), "{before} {told} {after}");
                tokio::time::sleep(std::time::Duration::from_millis(30)).await;
                assert!(clock.now_ms() >= before + 30);
                clock.sync().await.unwrap();
            }
        }
    }
}
