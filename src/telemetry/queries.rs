//! How many statements a request made and how long it waited for them, for its line in the log.
//!
//! [`tallied`] runs a request; whatever it awaits finds its tally without being told. The store runs
//! each database call in a task of its own, which [`carried`] gives the caller's tally, and puts every
//! statement, a transaction's begin and its commit too, into [`timed`]. Statements of nobody's request (sealing, group commits) are not counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::Either;

tokio::task_local! {
    static TALLY: Arc<Tally>;
}

#[derive(Default)]
struct Tally {
    statements: AtomicU32,
    micros: AtomicU64,
}

/// What a request asked of databases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Queries {
    pub count: u32,
    /// The waits for connections included; more than the request's own time when some ran side by side.
    pub duration: Duration,
}

/// Runs a request and counts its statements.
pub async fn tallied<T>(work: impl Future<Output = T>) -> (T, Queries) {
    let tally = Arc::new(Tally::default());
    let done = TALLY.scope(tally.clone(), work).await;
    let duration = Duration::from_micros(tally.micros.load(Ordering::Relaxed));
    (done, Queries { count: tally.statements.load(Ordering::Relaxed), duration })
}

/// The same work for another task, still counted as the present one's.
pub fn carried<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    match TALLY.try_with(Arc::clone) {
        Ok(tally) => Either::Left(TALLY.scope(tally, work)),
        Err(_) => Either::Right(work),
    }
}

/// Counts one statement and its time.
pub async fn timed<T>(statement: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let done = statement.await;
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    // Without a tally it is nobody's request.
    let _ = TALLY.try_with(|tally| {
        tally.statements.fetch_add(1, Ordering::Relaxed);
        tally.micros.fetch_add(micros, Ordering::Relaxed);
    });
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn statements_are_counted_for_their_request_alone() {
        timed(async {}).await;
        let request = |statements: u32| async move {
            for _ in 0..statements {
                tokio::spawn(carried(timed(async {}))).await.unwrap();
            }
            tokio::spawn(timed(async {})).await.unwrap();
            statements
        };
        let ((first, of_first), (second, of_second)) = tokio::join!(tallied(request(3)), tallied(request(5)));
        assert_eq!((first, of_first.count), (3, 3));
        assert_eq!((second, of_second.count), (5, 5));
    }
}
