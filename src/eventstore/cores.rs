//! Threads for what computes: as many as there are cores, for all questions of a process.
//!
//! Decoding and kernels keep a core busy for milliseconds. On threads of tokio, of which a new one comes and an
//! old one goes as they are needed, the kernel often had two of them take turns on one core while another had
//! nothing to do. These stay, each on the core where it ran last.

use std::sync::Arc;

use rayon::iter::{IntoParallelRefIterator, IntoParallelRefMutIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::oneshot;
use tokio::task::JoinError;

/// Cheap to clone.
#[derive(Clone)]
pub struct Cores(Arc<ThreadPool>);

/// It panicked, or the process ends.
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
            // Whoever waits is told by the end of their channel; what happened is in the log.
            .panic_handler(|_| {});
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

/// What comes of each item, in their order; on all of the threads that this one belongs to, if it is one of
/// [`Cores`].
pub fn map_each<T: Sync, R: Send>(items: &[T], of: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    match rayon::current_thread_index() {
        Some(_) => items.par_iter().map(of).collect(),
        None => items.iter().map(of).collect(),
    }
}

/// The same, of items that are changed.
pub fn change_each<T: Send, R: Send>(items: &mut [T], of: impl Fn(&mut T) -> R + Sync + Send) -> Vec<R> {
    match rayon::current_thread_index() {
        Some(_) => items.par_iter_mut().map(of).collect(),
        None => items.iter_mut().map(of).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn as_many_run_at_the_same_time_as_there_are_cores() {
        let cores = Cores::new(2);
        assert_eq!((cores.count(), Cores::new(0).count()), (2, 1));
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
        let done = futures_util::future::try_join_all(works).await.unwrap();
        assert!(done.iter().map(|(number, _)| *number).eq(0..20));
        assert!(done.iter().all(|(_, at_once)| *at_once <= 2));
    }

    #[tokio::test]
    async fn each_item_has_its_own_place_on_one_thread_and_on_several() {
        let work = || {
            let mut numbers: Vec<u64> = (0..1_000).collect();
            let before = change_each(&mut numbers, |number| std::mem::replace(number, *number * 2));
            (before, map_each(&numbers, |number| number + 1))
        };
        let expected =
            ((0..1_000).collect::<Vec<_>>(), (0..1_000).map(|number| number * 2 + 1).collect::<Vec<_>>());
        assert_eq!(work(), expected);
        assert_eq!(Cores::new(3).run(work).await.unwrap(), expected);
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
        let first = tokio::spawn({
            let cores = cores.clone();
            async move { cores.run(move || wait.recv()).await }
        });
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
