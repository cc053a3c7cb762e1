//! Split runs: a run hands out steps, one a shard, that any replica takes; what they leave is kept
//! until the ticket ends, so that the next run of the same ticket repeats only what is missing.
//!
//! The run that hands them out works on its own steps too, so a lone replica gets through, and a
//! replica with a free slot and nothing else to do helps. A step has a lease and a fence of its own;
//! the run that waits for it takes it back from a runner that died.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::kind::StopHandle;
use super::service::Inner;
use super::unwritten::{ResultWritten, Unwritten};
use super::{Failure, RunError, StopReason, StopSignal, fail, retry};
use crate::cache::Wakeup;
use crate::model::{Millis, ProjectId, ShardNo, TicketId};
use crate::storage::StorageError;
use crate::storage::control::tickets::{
    LeasedStep, STEP_BYTES_MAX, StepOutcome, TicketResult, TicketRow, TicketState,
};
use crate::telemetry::failpoint;

/// Steps of one ticket that the replica which hands them out runs itself at the same time.
const OWN_STEPS_AT_ONCE: usize = 4;
/// Between two looks at steps that others run, when nobody wakes the one that waits.
const LOOK_FIRST: Duration = Duration::from_millis(50);
const LOOK_LONGEST: Duration = Duration::from_secs(1);

/// One step, as the kind that does it sees it.
pub struct TicketStep {
    pub ticket_id: TicketId,
    pub project_id: ProjectId,
    /// The ticket's canonical body.
    pub body: Vec<u8>,
    /// When the ticket was submitted.
    pub created_at: Millis,
    pub shard_no: ShardNo,
    /// What the run handed out, the same for every shard of a round.
    pub work: Bytes,
    pub stop: StopSignal,
}

/// What a step leaves behind, in a form that only its kind reads.
pub struct StepOutput {
    pub body: Bytes,
    /// False when something could not be reached: the next run of the ticket tries it again.
    pub is_complete: bool,
}

/// With which a run hands out steps.
#[derive(Clone)]
pub struct Steps {
    pub(super) inner: Arc<Inner>,
    pub(super) ticket: Arc<TicketRow>,
    pub(super) stop: StopSignal,
    /// Shared by everything that works for this run: the slot is free when all of it has ended.
    pub(super) slot: Arc<OwnedSemaphorePermit>,
    /// Whether there may be steps to delete when the ticket has ended.
    pub(super) were_used: Arc<AtomicBool>,
    /// `None`: the ticket is in the table.
    pub(super) unwritten: Option<Arc<Unwritten>>,
}

impl Steps {
    /// Does `work` for every shard, here and elsewhere; `settled` gets what each left, in any order.
    /// Steps that an earlier run of this ticket did for the same round and work are not done again.
    pub async fn run(
        &self,
        round_no: u32,
        work: Bytes,
        shards: &[ShardNo],
        mut settled: impl FnMut(ShardNo, Bytes) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let (inner, ticket) = (&self.inner, self.ticket.ticket_id);
        let Some(kind) = inner.kinds.get(self.ticket.kind.as_str()) else {
            return Err(fail("unknown_kind", "this release does not know this kind of ticket"));
        };
        if !self.be_written().await {
            return Err(RunError::Stopped);
        }
        let mut wakeups = inner.cache.wakeups().listen();
        self.were_used.store(true, Ordering::SeqCst);
        if work.len() > STEP_BYTES_MAX {
            let detail = format!("a step's work has {} bytes; the limit is {STEP_BYTES_MAX}", work.len());
            return Err(fail(PARTIAL_TOO_LARGE, detail));
        }
        let run = (ticket, self.ticket.fence);
        inner.store.insert_steps(run, kind.name(), round_no, &work, shards).await.map_err(retry)?;
        inner.cache.wakeups().send(Wakeup::TicketQueued);
        let mut open: BTreeSet<ShardNo> = shards.iter().copied().collect();
        let mut own = FuturesUnordered::new();
        let mut pause = LOOK_FIRST;
        let mut stop = self.stop.clone();
        loop {
            // The steps in our own hands give themselves back.
            if stop.is_stopped() {
                return Err(RunError::Stopped);
            }
            while own.len() < OWN_STEPS_AT_ONCE && !stop.is_stopped() {
                let lease = inner.lease(inner.clock.now_ms());
                let leased_at = Instant::now();
                match inner.store.lease_step_of(lease, ticket, round_no).await.map_err(retry)? {
                    Some(step) => own.push(self.run_here(step, leased_at)),
                    None => break,
                }
            }
            let before = open.len();
            for shard_no in inner.store.list_settled_steps(ticket, round_no).await.map_err(retry)? {
                if !open.contains(&shard_no) {
                    continue;
                }
                let found = inner.store.find_step_outcome(ticket, round_no, shard_no).await;
                match found.map_err(retry)? {
                    Some(StepOutcome::Done(body) | StepOutcome::Incomplete(body)) => settled(shard_no, body)?,
                    Some(StepOutcome::Failed(failure)) => return Err(judge(failure)),
                    None => continue,
                }
                open.remove(&shard_no);
            }
            if open.is_empty() {
                return Ok(());
            }
            if open.len() < before {
                pause = LOOK_FIRST;
            }
            let attempts_max = inner.settings.attempts_max;
            inner.store.rescue_steps(ticket, inner.clock.now_ms(), attempts_max).await.map_err(retry)?;
            tokio::select! {
                Some(_) = own.next() => {}
                _ = stop.stopped() => {}
                () = super::service::changed(&mut wakeups, ticket) => {}
                () = tokio::time::sleep(pause) => pause = LOOK_LONGEST.min(pause * 2),
            }
        }
    }

    /// The work of a round that an earlier run of this ticket has handed out.
    pub async fn handed_out(&self, round_no: u32) -> Result<Option<Bytes>, RunError> {
        let found = self.inner.store.find_work(self.ticket.ticket_id, round_no).await;
        found.map_err(retry)
    }

    /// False when the ticket is kept out of the table, and the run to be given up. Not cut off in the middle
    /// when its caller is.
    pub(super) async fn be_written(&self) -> bool {
        let Some(unwritten) = self.unwritten.clone() else { return true };
        let (inner, ticket) = (self.inner.clone(), self.ticket.clone());
        let write = async move { unwritten.write_running(&inner, &ticket).await };
        tokio::spawn(write).await.unwrap_or(false)
    }

    /// How a run has ended whose ticket is not to be written.
    pub(super) async fn given_up(&self) -> &'static str {
        match &self.unwritten {
            Some(unwritten) if unwritten.is_kept_out().await => super::runner::KEPT_OUT,
            _ => super::runner::LOST,
        }
    }

    /// See [`Unwritten::write_ended`].
    pub(super) async fn write_ended(&self, result: &TicketResult, now: Millis) -> ResultWritten {
        match &self.unwritten {
            Some(unwritten) => unwritten.write_ended(&self.inner, &self.ticket, result, now).await,
            None => ResultWritten::ToPublish,
        }
    }

    pub(super) async fn replace_body(&self, body: &[u8], forget_key: bool) -> Result<(), RunError> {
        if !self.be_written().await {
            return Err(RunError::Stopped);
        }
        let body_hash = super::service::hash_of(&self.ticket.kind, body);
        let replaced = self.inner.store.replace_body(&self.ticket, body, body_hash, forget_key);
        match replaced.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(retry("somebody else runs this ticket by now")),
            Err(error) => Err(retry(error)),
        }
    }

    /// In a task of its own: when this run is stopped and dropped, the step still gives itself back.
    fn run_here(&self, step: LeasedStep, leased_at: Instant) -> tokio::task::JoinHandle<()> {
        let (inner, ticket, slot) = (self.inner.clone(), self.ticket.clone(), self.slot.clone());
        let signal = self.stop.clone();
        tokio::spawn(async move {
            inner.do_step(&step, &ticket, signal, leased_at).await;
            drop(slot);
        })
    }
}

/// A step that was tried often enough may go better in another run; what its kind refused will not.
fn judge(failure: Failure) -> RunError {
    match failure.code.as_str() {
        ATTEMPTS_EXHAUSTED | "runner_died" => retry(format!("a step failed: {}", failure.detail)),
        _ => RunError::Fail(failure),
    }
}

const ATTEMPTS_EXHAUSTED: &str = "attempts_exhausted";

/// The code of a step that needs or leaves more than can be kept. Its kind may do without steps then.
pub const PARTIAL_TOO_LARGE: &str = "partial_too_large";

impl Inner {
    /// Runs a step that another run handed out, for a worker with a free slot.
    pub(super) async fn run_step(
        self: Arc<Self>,
        step: LeasedStep,
        leased_at: Instant,
        slot: OwnedSemaphorePermit,
    ) {
        let ticket = match self.store.find(step.ticket_id).await {
            Ok(Some(ticket)) if !ticket.state.is_final() && ticket.state != TicketState::Cancelling => ticket,
            // Its ticket has ended: nobody wants it any more.
            Ok(_) => {
                if let Err(error) = self.store.delete_steps(step.ticket_id).await {
                    tracing::debug!(error = &error as &dyn std::error::Error, "left for the sweep");
                }
                return;
            }
            // Its lease runs out, and whoever waits for it takes it back.
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a step's ticket cannot be read");
                return;
            }
        };
        let (handle, signal) = StopHandle::pair();
        let listed = ListedStep::new(&self, &step, handle.clone());
        // The list is read after the flag is set, and written before it is read here.
        if *self.closing.borrow() {
            handle.stop(StopReason::Shutdown);
        }
        self.do_step(&step, &ticket, signal, leased_at).await;
        drop(listed);
        drop(slot);
    }

    async fn do_step(&self, step: &LeasedStep, ticket: &TicketRow, signal: StopSignal, leased_at: Instant) {
        let Some(kind) = self.kinds.get(step.kind.as_str()).cloned() else { return };
        let name = kind.name();
        let given = TicketStep {
            ticket_id: step.ticket_id,
            project_id: ticket.project_id,
            body: ticket.body.clone(),
            created_at: ticket.created_at,
            shard_no: step.shard_no,
            work: step.work.clone(),
            stop: signal.clone(),
        };
        // A task of its own, so that a panic is this step's failure and not the process's.
        let mut work = super::runner::AbortOnDrop(tokio::spawn(async move { kind.run_step(&given).await }));
        let ended = tokio::select! {
            ended = &mut work.0 => Some(ended),
            () = self.keep_step(step, leased_at) => None,
            () = told_and_deaf(signal.clone()) => Some(Ok(Err(RunError::Stopped))),
            () = tokio::time::sleep(self.settings.run_max) => Some(Ok(Err(retry("it ran too long")))),
        };
        let stopped = signal.is_stopped();
        let written = match ended {
            None => Ok(("lost", false)),
            Some(Ok(Ok(output))) => self.settle(step, left(output)).await,
            Some(Ok(Err(RunError::Fail(failure)))) => self.settle(step, StepOutcome::Failed(failure)).await,
            Some(Ok(Err(RunError::Stopped))) => self.give_back_step(step, "given_back").await,
            Some(Ok(Err(RunError::Later(_)))) => self.give_back_step(step, "given_back").await,
            Some(Ok(Err(RunError::Retry(_))) | Err(_)) if stopped => {
                self.give_back_step(step, "given_back").await
            }
            Some(Ok(Err(RunError::Retry(error)))) => self.again(step, error.as_ref()).await,
            Some(Err(panicked)) => self.again(step, &panicked).await,
        };
        let outcome = match written {
            Ok((outcome, true)) => outcome,
            Ok((_, false)) => "lost",
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, ticket.id = %step.ticket_id, "the end of a step could not be stored");
                "lost"
            }
        };
        self.metrics.steps.with_label_values(&[name, outcome]).inc();
        if outcome == "done" {
            failpoint::hit("tickets.after_step");
        }
        // Whoever runs the ticket waits for it, wherever that is.
        self.cache.wakeups().send(Wakeup::TicketChanged(step.ticket_id));
    }

    /// Renews the lease; returns when the step is not ours any more.
    async fn keep_step(&self, step: &LeasedStep, leased_at: Instant) {
        let lease = self.settings.lease;
        let mut good_until = leased_at + lease;
        loop {
            let stop_at = good_until - lease / 4;
            tokio::time::sleep_until(stop_at.min(Instant::now() + lease / 6)).await;
            let asked_at = Instant::now();
            if asked_at >= stop_at {
                return;
            }
            let until = self.clock.now_ms() + lease.as_millis() as Millis;
            match tokio::time::timeout_at(stop_at, self.store.renew_step(step, until)).await {
                Ok(Ok(true)) => good_until = asked_at + lease,
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(error)) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, ticket.id = %step.ticket_id, "a step's heartbeat failed");
                }
            }
        }
    }

    async fn settle(
        &self,
        step: &LeasedStep,
        end: StepOutcome,
    ) -> Result<(&'static str, bool), StorageError> {
        let outcome = match end {
            StepOutcome::Done(_) => "done",
            StepOutcome::Incomplete(_) => "incomplete",
            StepOutcome::Failed(_) => "failed",
        };
        Ok((outcome, self.store.settle_step(step, &end).await?))
    }

    async fn again(
        &self,
        step: &LeasedStep,
        error: &(dyn std::error::Error + Send + Sync + 'static),
    ) -> Result<(&'static str, bool), StorageError> {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            ticket.id = %step.ticket_id,
            shard.no = step.shard_no.0,
            "a step failed"
        );
        let attempts_max = self.settings.attempts_max;
        if step.attempt < attempts_max {
            return Ok(("retry", self.store.give_back_step(step, false).await?));
        }
        // The cause is for the log: it may hold internals.
        let failure = Failure::new(ATTEMPTS_EXHAUSTED, format!("{attempts_max} attempts failed"));
        self.settle(step, StepOutcome::Failed(failure)).await
    }

    async fn give_back_step(
        &self,
        step: &LeasedStep,
        outcome: &'static str,
    ) -> Result<(&'static str, bool), StorageError> {
        Ok((outcome, self.store.give_back_step(step, true).await?))
    }
}

/// A step that does not follow its stop signal is dropped after a while.
async fn told_and_deaf(mut signal: StopSignal) {
    signal.stopped().await;
    tokio::time::sleep(super::runner::STOP_GRACE).await;
}

fn left(output: StepOutput) -> StepOutcome {
    match (output.body.len() <= STEP_BYTES_MAX, output.is_complete) {
        (true, true) => StepOutcome::Done(output.body),
        (true, false) => StepOutcome::Incomplete(output.body),
        (false, _) => {
            let (bytes, max) = (output.body.len(), STEP_BYTES_MAX);
            let detail = format!("one shard's part of the answer has {bytes} bytes; the limit is {max}");
            StepOutcome::Failed(Failure::new(PARTIAL_TOO_LARGE, detail))
        }
    }
}

/// Keeps a step in the list of running ones for as long as it runs here.
struct ListedStep<'a> {
    inner: &'a Inner,
    key: (TicketId, u32, ShardNo),
}

impl<'a> ListedStep<'a> {
    fn new(inner: &'a Inner, step: &LeasedStep, handle: StopHandle) -> Self {
        let key = (step.ticket_id, step.round_no, step.shard_no);
        inner.running_steps.lock().expect("no holder of this lock can panic").insert(key, handle);
        Self { inner, key }
    }
}

impl Drop for ListedStep<'_> {
    fn drop(&mut self) {
        self.inner.running_steps.lock().expect("no holder of this lock can panic").remove(&self.key);
    }
}
