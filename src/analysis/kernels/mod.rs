//! Kernels: one round of a question over the blocks of one shard.
//!
//! [`select`] picks the rows that a series or step looks at, a chunk at a time; [`groups`] turns the
//! values of a breakdown into small numbers, [`group_cells`] those into cells, and [`grouped`] answers for
//! few of them at once; [`chunk`] knows the rows and cells of a chunk and reads their numbers; [`persons`]
//! walks all blocks of a shard by ranges of persons; [`unique`] counts persons; [`cells`] are what is known
//! of a series. On these stand [`trends`], [`percentile`], [`funnel`] with its [`matching`], and
//! [`step_persons`]. A kernel is plain computation: it blocks, looks at its [`Cancel`] now and then, and
//! gives serialisable state that merges in any order.

pub(super) mod cells;
mod chunk;
pub(super) mod funnel;
mod group_cells;
pub(super) mod grouped;
pub(super) mod groups;
mod matching;
pub(super) mod percentile;
pub(super) mod persons;
pub(super) mod select;
pub(super) mod step_persons;
pub(super) mod trends;
pub(super) mod unique;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that asks running work to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

/// A pass whose ticket was dropped stops at its next look.
pub struct CancelOnDrop(pub Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KernelError {
    #[error("{what} has more than {max} distinct values; narrow the question by filters or a shorter range")]
    TooManyValues { what: String, max: usize },
    #[error("cancelled")]
    Cancelled,
    /// A partial answer of another question, round or release. Running the round again helps.
    #[error("a partial answer does not belong to this round")]
    PartialMismatch,
}

impl Cancel {
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn check(&self) -> Result<(), KernelError> {
        if self.is_cancelled() { Err(KernelError::Cancelled) } else { Ok(()) }
    }
}
