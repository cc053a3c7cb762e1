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

/// What took longer, to get a connection say, tells too little about when the database looked.
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
        if began.elapsed() > MEASURED_WITHIN {
            return Ok(());
        }
        *self.measured.lock().expect("no holder of this lock can panic") = measured;
        Ok(())
    }
}

async fn measure(db: &Db) -> Result<Measured, StorageError> {
    let before = Instant::now();
    let database = db.now_ms().await?;
    // The database looked at its clock somewhere between the two.
    Ok(Measured { at: before + before.elapsed() / 2, database })
}

impl Clock for DatabaseClock {
    fn now_ms(&self) -> Millis {
        let Measured { at, database } = *self.measured.lock().expect("no holder of this lock can panic");
        database + at.elapsed().as_millis() as Millis
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::conformance::on_both;

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
