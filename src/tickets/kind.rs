//! What a kind of ticket must be able to do, and what its run is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::watch;

use super::{Failure, StepOutput, Steps, TicketProgress, TicketStep};
use crate::model::{Millis, ProjectId, TicketId};
use crate::storage::StorageError;
use crate::storage::control::projects::Project;

/// A kind of work, registered by `app.rs` under its name.
pub trait TicketKind: Send + Sync + 'static {
    /// As it stands in the table and in the API, such as `question`.
    fn name(&self) -> &'static str;

    /// Checks what a caller sent, before anything is stored.
    fn prepare<'a>(
        &'a self,
        project: ProjectId,
        body: &'a Value,
    ) -> BoxFuture<'a, Result<Prepared, PrepareError>>;

    /// The same by what is known of the project from earlier, or else by what the caller was let in with, where
    /// nothing else has to be read; `None` where neither is there, or the body is not good by it. The ticket is
    /// prepared anew where that turns out not to hold.
    fn presume(
        &self,
        _project: ProjectId,
        _let_in_with: Option<&Arc<Project>>,
        _body: &Value,
    ) -> Option<Prepared> {
        None
    }

    /// Does the work. It may run more than once, and on any replica, but only one run publishes.
    /// Watch `run.stop`: what ignores it is dropped at its next await.
    fn run<'a>(&'a self, run: &'a TicketRun) -> BoxFuture<'a, Result<TicketOutput, RunError>>;

    /// Whether tickets of this kind are owed: once taken in they are tried until they succeed, however
    /// long that takes, and cannot be cancelled, since they are half done from their first run on.
    fn is_owed(&self) -> bool {
        false
    }

    /// Does one step of a run that was split with [`TicketRun::steps`], on any replica. Only for kinds
    /// that split their runs.
    fn run_step<'a>(&'a self, _step: &'a TicketStep) -> BoxFuture<'a, Result<StepOutput, RunError>> {
        Box::pin(async { Err(fail("not_split", "tickets of this kind have no steps")) })
    }
}

/// A body that was found good.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Canonical JSON: what is stored, shown and run. Bodies that ask the same are the same bytes.
    pub body: Vec<u8>,
    /// What state of the data this asks. Tickets with equal body and version share one run and its
    /// result; `None` for work that must be done each time.
    pub data_version: Option<[u8; 32]>,
    /// How long it will probably take, for `Retry-After`.
    pub estimate: Duration,
    /// As it was before anything was read that the run relies on. With it the ticket may run before it is written
    /// down, so only for kinds whose runs change nothing outside.
    pub project: Option<Arc<Project>>,
}

#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("the ticket's body is not valid")]
    Invalid(InvalidBody),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What is wrong with a body, in words for the one who sent it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct InvalidBody {
    pub detail: String,
    /// Where (a JSON pointer into the body) and what, one each.
    pub errors: Vec<(String, String)>,
}

impl From<InvalidBody> for PrepareError {
    fn from(invalid: InvalidBody) -> Self {
        Self::Invalid(invalid)
    }
}

/// One run of a ticket, as its kind sees it.
pub struct TicketRun {
    pub ticket_id: TicketId,
    pub project_id: ProjectId,
    /// The canonical body that `prepare` gave.
    pub body: Vec<u8>,
    /// From 1.
    pub attempt: u32,
    /// When it was submitted: "now" is this, however late it runs.
    pub created_at: Millis,
    /// Larger in every run; an effect outside the ticket's own result carries it.
    pub fence: u64,
    /// Of a run whose ticket comes in only if its project is still this one: it has to go by it.
    pub project: Option<Arc<Project>>,
    pub progress: Progress,
    pub stop: StopSignal,
    /// For a run that is too large for one replica, or to be repeated as a whole.
    pub steps: Steps,
}

impl TicketRun {
    /// Replaces what the next run of this ticket, on whatever replica, finds as its body; committed when
    /// it returns. With `forget_key` its idempotency key goes too.
    pub async fn replace_body(&self, body: &[u8], forget_key: bool) -> Result<(), RunError> {
        self.steps.replace_body(body, forget_key).await
    }
}

/// What a run that succeeded hands over.
#[derive(Clone, Debug)]
pub struct TicketOutput {
    /// The result as JSON text.
    pub body: Bytes,
    /// Everything received until then is in it.
    pub as_of: Option<Millis>,
    /// Something could not be read, such as a server that is away.
    pub partial: bool,
    /// The state of the data that was really read, in the terms of [`Prepared::data_version`].
    pub data_version: Option<[u8; 32]>,
}

/// Why a run ended without a result: the kind decides, explicitly, what follows.
#[derive(Debug)]
pub enum RunError {
    /// May go better later: again after a pause, as long as attempts are left.
    Retry(Box<dyn std::error::Error + Send + Sync>),
    /// Will not go better.
    Fail(Failure),
    /// The stop signal was followed.
    Stopped,
    /// It waits for something else, which is no failure: again after this long, with a slot free for
    /// others meanwhile.
    Later(Duration),
}

/// `Err(retry(error))`: try again later.
pub fn retry(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> RunError {
    RunError::Retry(error.into())
}

/// `Err(fail("too_many_values", "…"))`: a code for programs, a sentence for people.
pub fn fail(code: &str, detail: impl Into<String>) -> RunError {
    RunError::Fail(Failure::new(code, detail))
}

/// How far a run is; cheap to set, shown with the next heartbeat.
#[derive(Clone, Default)]
pub struct Progress {
    numbers: Arc<ProgressNumbers>,
}

#[derive(Default)]
struct ProgressNumbers {
    shards_done: AtomicU32,
    shards_total: AtomicU32,
    rows_done: AtomicU64,
    rows_total: AtomicU64,
}

impl Progress {
    pub fn set_totals(&self, shards: u32, rows: u64) {
        self.numbers.shards_total.store(shards, Ordering::Relaxed);
        self.numbers.rows_total.store(rows, Ordering::Relaxed);
    }

    /// Back to nothing done, for a run that begins again.
    pub fn reset(&self) {
        self.numbers.shards_done.store(0, Ordering::Relaxed);
        self.numbers.rows_done.store(0, Ordering::Relaxed);
    }

    pub fn add_shard(&self) {
        self.numbers.shards_done.fetch_add(1, Ordering::Relaxed);
    }

    pub fn add_rows(&self, rows: u64) {
        self.numbers.rows_done.fetch_add(rows, Ordering::Relaxed);
    }

    pub fn read(&self) -> TicketProgress {
        TicketProgress {
            shards_done: self.numbers.shards_done.load(Ordering::Relaxed),
            shards_total: self.numbers.shards_total.load(Ordering::Relaxed),
            rows_done: self.numbers.rows_done.load(Ordering::Relaxed),
            rows_total: self.numbers.rows_total.load(Ordering::Relaxed),
        }
    }
}

/// Why a run should end now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopReason {
    /// Somebody cancelled the ticket.
    Cancelled,
    /// This process stops; the ticket goes back into the queue.
    Shutdown,
    /// The lease is lost or cannot be renewed: somebody else may be running it.
    LeaseLost,
    /// It ran longer than one attempt may.
    TimedOut,
}

/// Tells a run to stop. Clones share it, so CPU-bound parts can look at it between pieces of work.
#[derive(Clone)]
pub struct StopSignal {
    reason: watch::Receiver<Option<StopReason>>,
}

impl StopSignal {
    /// One that never comes, for running a kind's work outside of a ticket.
    pub fn never() -> Self {
        Self { reason: watch::channel(None).1 }
    }

    pub fn is_stopped(&self) -> bool {
        self.reason.borrow().is_some()
    }

    pub fn reason(&self) -> Option<StopReason> {
        *self.reason.borrow()
    }

    pub async fn stopped(&mut self) -> StopReason {
        match self.reason.wait_for(Option::is_some).await.map(|reason| *reason) {
            Ok(Some(reason)) => reason,
            // The other side went without a word: nobody will ever stop it.
            _ => std::future::pending().await,
        }
    }
}

/// The other end of a [`StopSignal`]. The first reason stays.
#[derive(Clone)]
pub(super) struct StopHandle {
    reason: watch::Sender<Option<StopReason>>,
}

impl StopHandle {
    pub(super) fn pair() -> (Self, StopSignal) {
        let (sender, receiver) = watch::channel(None);
        (Self { reason: sender }, StopSignal { reason: receiver })
    }

    pub(super) fn stop(&self, reason: StopReason) {
        self.reason.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(reason);
            }
            first
        });
    }
}
