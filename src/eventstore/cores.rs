//! Threads for what computes: as many as there are cores, for all questions of a process.
//!
//! Decoding and kernels keep a core busy for milliseconds. Of tokio's threads any of many may wake up for them,
//! and the kernel often had two take turns on one core while another had nothing to do. These are as many as
//! there are cores, and rarely move from the one where they ran last.
//!
//! Nothing in them waits for other work of the pool: a thread that did would take up whatever comes next.

use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::oneshot;
use tokio::task::JoinError;

/// Cheap to clone.
#[derive(Clone)]
pub struct Cores(Arc<ThreadPool>);

/// Work on a thread panicked, or the process ends.
#[derive(Debug, thiserror::Error)]
#[error("work on a thread ended early")]
pub struct EndedEarly(#[source] Option<JoinError>);

impl From<JoinError> for EndedEarly {
    fn from(error: JoinError) -> Self {
        Self(Some(error))
    }
}

impl Cores {
    pub fn new(count: usize) -> Self {
        let threads = ThreadPoolBuilder::new()
            .num_threads(count.max(1))
            .thread_name(|number| format!("cores-{number}"))
            // Whoever waits is told by the end of their channel.
            .panic_handler(|panic| {
                let text = panic.downcast_ref::<&str>().copied();
                let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
                tracing::error!(panic = text.unwrap_or("without words"), "work on a thread panicked");
            });
        Self(Arc::new(threads.build().expect("the system has threads for each of its cores")))
    }

    pub fn count(&self) -> usize {
        self.0.current_num_threads()
    }

    /// First come, first served. Of no use to anybody once this future is dropped: what has not begun then does
    /// not begin.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EndedEarly> {
        let (sender, done) = oneshot::channel();
        self.0.spawn_fifo(move || {
            if !sender.is_closed() {
                let _ = sender.send(work());
            }
        });
        done.await.map_err(|_| EndedEarly(None))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Barrier, mpsc};

    use futures_util::FutureExt;
    use futures_util::future::try_join_all;

    use super::*;

    #[tokio::test]
    async fn as_many_run_at_the_same_time_as_there_are_cores() {
        let cores = Cores::new(2);
        assert_eq!((cores.count(), Cores::new(0).count()), (2, 1));
        // Each of two waits until the other runs too.
        let both = Arc::new(Barrier::new(2));
        let waiting = [both.clone(), both].map(|both| cores.run(move || both.wait().is_leader()));
        let met = try_join_all(waiting).await.unwrap();
        assert!(met.contains(&true) && met.contains(&false));
        let running = Arc::new(AtomicUsize::new(0));
        let works = (0..20).map(|number| {
            let running = running.clone();
            cores.run(move || {
                let at_once = running.fetch_add(1, Ordering::SeqCst) + 1;
                std::thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                (number, at_once)
            })
        });
        let done = try_join_all(works).await.unwrap();
        assert!(done.iter().map(|(number, _)| *number).eq(0..20));
        assert!(done.iter().all(|(_, at_once)| *at_once <= 2));
    }

    #[tokio::test]
    async fn a_panic_ends_only_its_own_work() {
        let cores = Cores::new(1);
        let panicked: Result<(), EndedEarly> = cores.run(|| panic!("as it is meant to")).await;
        assert!(panicked.is_err());
        assert_eq!(cores.run(|| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_does_not_begin() {
        let cores = Cores::new(1);
        let (go, wait) = mpsc::channel::<()>();
        let (begun, has_first) = oneshot::channel();
        let first = tokio::spawn({
            let cores = cores.clone();
            async move {
                let work = move || {
                    begun.send(()).unwrap();
                    wait.recv()
                };
                cores.run(work).await
            }
        });
        has_first.await.unwrap();
        let has_begun = Arc::new(AtomicUsize::new(0));
        let dropped = cores.run({
            let has_begun = has_begun.clone();
            move || has_begun.fetch_add(1, Ordering::SeqCst)
        });
        assert!(dropped.now_or_never().is_none());
        go.send(()).unwrap();
        first.await.unwrap().unwrap().unwrap();
        cores.run(|| ()).await.unwrap();
        assert_eq!(has_begun.load(Ordering::SeqCst), 0);
    }
}
