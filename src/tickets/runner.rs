//! One run of one ticket: the kind's work in a task of its own, a heartbeat beside it, and exactly
//! one guarded move at the end, which may be the insert of the ticket ([`super::unwritten`]).

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinError;
use tokio::time::Instant;

use super::kind::StopHandle;
use super::service::Inner;
use super::sharing::{self, Shared, WAITS_AT_MOST};
use super::unwritten::{ResultWritten, Unwritten};
use super::{
    Failure, Progress, RunError, Steps, StopReason, StopSignal, TicketKind, TicketOutput, TicketRun,
};
use crate::cache::Wakeup;
use crate::model::{Millis, TicketId};
use crate::storage::StorageError;
use crate::storage::control::tickets::{Finished, Renewed, ResultRef, TicketResult, TicketRow};

/// The longest time between two heartbeats: also how late a cancel is seen without Redis.
const HEARTBEAT_LONGEST: Duration = Duration::from_secs(2);

/// How long a run that was told to stop may go on before it is dropped at its next await.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(2);

/// Results larger than this should have been a page's worth of rows less.
const RESULT_BYTES_MAX: usize = 64 << 20;

const BACKOFF_FIRST_MS: u64 = 1_000;
const BACKOFF_LONGEST_MS: u64 = 60_000;

/// What a run came to, before it is written down.
enum Ended {
    Output(TicketOutput),
    Failed(Failure),
    Retry(Box<dyn std::error::Error + Send + Sync>),
    Stopped(StopReason),
    Later(Duration),
}

/// The ways out of `running`.
#[derive(Clone, Copy)]
enum Move<'a> {
    Publish(&'a TicketResult),
    AnswerWith(&'a TicketRow),
    Fail(&'a Failure),
    FinishCancelling,
    Retry { run_after: Millis, failure: &'a Failure },
    GiveBack { run_after: Millis, waits_for: Option<TicketId> },
}

impl Move<'_> {
    fn outcome(self) -> &'static str {
        match self {
            Self::Publish(_) => "succeeded",
            Self::AnswerWith(_) => "answered",
            Self::Fail(_) => "failed",
            Self::FinishCancelling => "cancelled",
            Self::Retry { .. } => "retry",
            Self::GiveBack { .. } => "given_back",
        }
    }
}

/// The ticket was not ours any more, or the database did not take its end.
pub(super) const LOST: &str = "lost";

/// An erasure, or another setting, kept the ticket out of the table; it is taken in anew ([`super::unwritten`]).
pub(super) const KEPT_OUT: &str = "kept_out";

/// Until when the lease is certainly ours, by our own steady clock.
#[derive(Clone)]
struct LeaseEnd(Arc<Mutex<Instant>>);

impl LeaseEnd {
    fn get(&self) -> Instant {
        *self.0.lock().expect("no holder of this lock can panic")
    }

    fn set(&self, end: Instant) {
        *self.0.lock().expect("no holder of this lock can panic") = end;
    }
}

/// Takes the ticket from the list of running ones, whatever way its run ends.
struct Listed<'a> {
    inner: &'a Inner,
    ticket: TicketId,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.inner.running.lock().expect("no holder of this lock can panic").remove(&self.ticket);
    }
}

impl Inner {
    /// Runs a ticket that is leased to us since `leased_at`, and may not be in the table yet. The slot is free
    /// again when it returns.
    pub(super) async fn run(
        self: Arc<Self>,
        ticket: TicketRow,
        leased_at: Instant,
        slot: OwnedSemaphorePermit,
        unwritten: Option<Arc<Unwritten>>,
    ) {
        let Some(kind) = self.kinds.get(ticket.kind.as_str()).cloned() else {
            // Only our own kinds are leased.
            return;
        };
        let lease_end = LeaseEnd(Arc::new(Mutex::new(leased_at + self.settings.lease)));
        if ticket.attempt == 1 {
            let waited_ms = ticket.started_at.unwrap_or(ticket.created_at) - ticket.created_at;
            self.metrics
                .wait_seconds
                .with_label_values(&[kind.name()])
                .observe(waited_ms.max(0) as f64 / 1e3);
        }
        let (handle, signal) = StopHandle::pair();
        let listed = Listed { inner: &self, ticket: ticket.ticket_id };
        self.running
            .lock()
            .expect("no holder of this lock can panic")
            .insert(ticket.ticket_id, handle.clone());
        // The list is read after the flag is set, and written before it is read here.
        if *self.closing.borrow() {
            handle.stop(StopReason::Shutdown);
        }
        let began = Instant::now();
        self.metrics.running.with_label_values(&[kind.name()]).inc();
        let progress = Progress::default();
        let steps = Steps {
            inner: self.clone(),
            ticket: Arc::new(ticket.clone()),
            stop: signal.clone(),
            slot: Arc::new(slot),
            were_used: Arc::default(),
            unwritten,
        };
        let ended = tokio::select! {
            ended = self.supervise(kind.clone(), steps.clone(), &progress, signal, &handle) => ended,
            () = self.heartbeat(&steps, &progress, &handle, &lease_end) => Ended::Stopped(StopReason::LeaseLost),
        };
        self.metrics.running.with_label_values(&[kind.name()]).dec();
        self.metrics.run_seconds.with_label_values(&[kind.name()]).observe(began.elapsed().as_secs_f64());
        let outcome = self.write_down(&steps, ended, &progress, &lease_end).await;
        if steps.were_used.load(Ordering::SeqCst) && matches!(outcome, "succeeded" | "failed" | "cancelled") {
            // What is left, the sweep deletes with the ticket's result.
            let _ = self.store.delete_steps(ticket.ticket_id).await;
        }
        self.metrics.ended.with_label_values(&[kind.name(), outcome]).inc();
        tracing::info!(
            ticket.id = %ticket.ticket_id,
            ticket.kind = kind.name(),
            project.id = %ticket.project_id,
            ticket.attempt = ticket.attempt,
            ticket.outcome = outcome,
            duration_ms = began.elapsed().as_millis() as u64,
            "ticket run ended"
        );
        drop(listed);
        drop(steps);
    }

    /// Lets the kind work until it ends, is stopped, or has had its time.
    async fn supervise(
        &self,
        kind: Arc<dyn TicketKind>,
        steps: Steps,
        progress: &Progress,
        signal: StopSignal,
        handle: &StopHandle,
    ) -> Ended {
        let ticket = steps.ticket.clone();
        let run = TicketRun {
            ticket_id: ticket.ticket_id,
            project_id: ticket.project_id,
            body: ticket.body.clone(),
            attempt: ticket.attempt,
            fence: ticket.fence,
            created_at: ticket.created_at,
            project: steps.unwritten.as_ref().map(|unwritten| unwritten.terms.project.clone()),
            progress: progress.clone(),
            stop: signal.clone(),
            steps,
        };
        // A task of its own, so that a panic is this run's failure and not the process's.
        let mut work = AbortOnDrop(tokio::spawn(async move { kind.run(&run).await }));
        let mut stop = signal.clone();
        tokio::select! {
            ended = &mut work.0 => return self.judge(ended, signal.reason()),
            _ = stop.stopped() => {}
            () = tokio::time::sleep(self.settings.run_max) => handle.stop(StopReason::TimedOut),
        }
        match tokio::time::timeout(STOP_GRACE, &mut work.0).await {
            Ok(ended) => self.judge(ended, signal.reason()),
            Err(_) => Ended::Stopped(signal.reason().unwrap_or(StopReason::TimedOut)),
        }
    }

    fn judge(
        &self,
        ended: Result<Result<TicketOutput, RunError>, JoinError>,
        stopped: Option<StopReason>,
    ) -> Ended {
        match ended {
            Ok(Ok(output)) if output.body.len() > RESULT_BYTES_MAX => Ended::Failed(Failure::new(
                "result_too_large",
                format!("the result has {} bytes; the limit is {RESULT_BYTES_MAX}", output.body.len()),
            )),
            Ok(Ok(output)) => Ended::Output(output),
            Ok(Err(RunError::Fail(failure))) => Ended::Failed(failure),
            Ok(Err(RunError::Later(after))) => stopped.map_or(Ended::Later(after), Ended::Stopped),
            // An error on the way out is no failure of the run.
            Ok(Err(RunError::Retry(error))) => stopped.map_or(Ended::Retry(error), Ended::Stopped),
            Ok(Err(RunError::Stopped)) => stopped
                .map_or_else(|| Ended::Retry("the run stopped without being told to".into()), Ended::Stopped),
            Err(error) => Ended::Retry(error.into()),
        }
    }

    /// Renews the lease; returns when it is lost, or so near its end that the run must stop first.
    async fn heartbeat(&self, steps: &Steps, progress: &Progress, handle: &StopHandle, lease_end: &LeaseEnd) {
        let (ticket, lease) = (&*steps.ticket, self.settings.lease);
        if let Some(unwritten) = &steps.unwritten {
            tokio::time::sleep(unwritten.terms.written_after).await;
            if !steps.be_written().await {
                return self.give_up(handle).await;
            }
        }
        let every = HEARTBEAT_LONGEST.min(lease / 6);
        let mut shown = Default::default();
        loop {
            // What is left is for the run to notice, so that it is over before the lease is.
            let stop_at = lease_end.get() - lease / 4;
            tokio::time::sleep_until(stop_at.min(Instant::now() + every)).await;
            let asked_at = Instant::now();
            if asked_at >= stop_at {
                break;
            }
            let reached = progress.read();
            let until = self.clock.now_ms() + lease.as_millis() as Millis;
            let renewal = self.store.heartbeat(ticket, until, reached);
            match tokio::time::timeout_at(stop_at, renewal).await {
                Ok(Ok(Renewed::Yes)) => {
                    lease_end.set(asked_at + lease);
                    if shown != reached {
                        shown = reached;
                        self.wake(ticket.ticket_id, &[]);
                    }
                }
                // The lease is not renewed any more: there is enough left to stop in.
                Ok(Ok(Renewed::Cancelling)) => handle.stop(StopReason::Cancelled),
                Ok(Ok(Renewed::Lost)) => break,
                Ok(Err(error)) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, ticket.id = %ticket.ticket_id, "heartbeat failed");
                }
                Err(_) => break,
            }
        }
        self.give_up(handle).await;
    }

    /// The run sees the signal; what does not react until this returns is dropped.
    async fn give_up(&self, handle: &StopHandle) {
        handle.stop(StopReason::LeaseLost);
        tokio::time::sleep(STOP_GRACE.min(self.settings.lease / 8)).await;
    }

    /// The one move that ends this run; its name for the metric.
    async fn write_down(
        &self,
        steps: &Steps,
        ended: Ended,
        progress: &Progress,
        lease_end: &LeaseEnd,
    ) -> &'static str {
        let ticket = &*steps.ticket;
        if !matches!(ended, Ended::Output(_)) && !steps.be_written().await {
            return steps.given_up().await;
        }
        match ended {
            Ended::Output(output) => {
                let result = TicketResult {
                    body: output.body,
                    as_of: output.as_of,
                    partial: output.partial,
                    data_version: output.data_version,
                    progress: progress.read(),
                };
                let publish = Move::Publish(&result);
                let outcome = match steps.write_ended(&result, self.clock.now_ms()).await {
                    ResultWritten::Yes => publish.outcome(),
                    ResultWritten::ToPublish if steps.be_written().await => {
                        self.make(ticket, lease_end, publish).await
                    }
                    ResultWritten::GivenUp | ResultWritten::ToPublish => steps.given_up().await,
                };
                if outcome == publish.outcome() {
                    let stored =
                        ResultRef { ticket_id: ticket.ticket_id, fence: ticket.fence, bytes: 0, parts: 0 };
                    self.cache_result(stored, &result.body).await;
                }
                outcome
            }
            Ended::Failed(failure) => self.make(ticket, lease_end, Move::Fail(&failure)).await,
            Ended::Retry(error) => self.retry(ticket, lease_end, error.as_ref()).await,
            Ended::Later(after) => self.later(ticket, lease_end, after).await,
            Ended::Stopped(StopReason::TimedOut) if ticket.is_owed() => {
                self.later(ticket, lease_end, Duration::ZERO).await
            }
            Ended::Stopped(StopReason::TimedOut) => {
                let secs = self.settings.run_max.as_secs();
                let failure = Failure::new("timed_out", format!("it ran longer than {secs} seconds"));
                self.make(ticket, lease_end, Move::Fail(&failure)).await
            }
            Ended::Stopped(StopReason::Cancelled) => {
                self.make(ticket, lease_end, Move::FinishCancelling).await
            }
            Ended::Stopped(StopReason::Shutdown) => {
                let back = Move::GiveBack { run_after: self.clock.now_ms(), waits_for: None };
                self.make(ticket, lease_end, back).await
            }
            Ended::Stopped(StopReason::LeaseLost) => LOST,
        }
    }

    async fn later(&self, ticket: &TicketRow, lease_end: &LeaseEnd, after: Duration) -> &'static str {
        let run_after = self.clock.now_ms() + after.as_millis() as Millis;
        self.make(ticket, lease_end, Move::GiveBack { run_after, waits_for: None }).await
    }

    async fn retry(
        &self,
        ticket: &TicketRow,
        lease_end: &LeaseEnd,
        error: &(dyn std::error::Error + Send + Sync + 'static),
    ) -> &'static str {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            ticket.id = %ticket.ticket_id,
            ticket.attempt = ticket.attempt,
            "ticket run failed"
        );
        // The cause is for the log: it may hold internals.
        let attempts = match ticket.is_owed() {
            true => format!("{} attempts", ticket.attempt),
            false => format!("{} of {} attempts", ticket.attempt, ticket.attempts_max),
        };
        if ticket.attempt >= ticket.attempts_max {
            let failure =
                Failure::new("attempts_exhausted", format!("{attempts} failed; the log has the cause"));
            return self.make(ticket, lease_end, Move::Fail(&failure)).await;
        }
        let failure = Failure::new("retrying", format!("{attempts} failed"));
        let run_after = self.clock.now_ms() + self.backoff_ms(ticket.attempt);
        self.make(ticket, lease_end, Move::Retry { run_after, failure: &failure }).await
    }

    /// Makes the move, and the one to cancelled instead when somebody asked for that meanwhile.
    async fn make(&self, ticket: &TicketRow, lease_end: &LeaseEnd, wanted: Move<'_>) -> &'static str {
        let mut next = wanted;
        loop {
            match self.write(ticket, lease_end, next).await {
                Some(Finished::Yes { settled }) => {
                    self.wake(ticket.ticket_id, &settled);
                    if let Move::GiveBack { waits_for: None, .. } = next {
                        self.cache.wakeups().send(Wakeup::TicketQueued);
                    }
                    return next.outcome();
                }
                Some(Finished::Cancelling) if !matches!(next, Move::FinishCancelling) => {
                    next = Move::FinishCancelling;
                }
                Some(Finished::Cancelling | Finished::Lost) | None => return LOST,
            }
        }
    }

    /// Tries until the database takes it or the lease is over; then whoever rescues the ticket
    /// decides. `None` when it could not be written.
    async fn write(&self, ticket: &TicketRow, lease_end: &LeaseEnd, step: Move<'_>) -> Option<Finished> {
        let mut pause = Duration::from_millis(50);
        let mut is_first = true;
        loop {
            match self.write_once(ticket, step, std::mem::take(&mut is_first)).await {
                Ok(done) => return Some(done),
                Err(error) if error.is_transient() && Instant::now() + pause < lease_end.get() => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        ticket.id = %ticket.ticket_id,
                        ticket.outcome = step.outcome(),
                        "the end of a ticket's run could not be stored"
                    );
                    return None;
                }
            }
        }
    }

    async fn write_once(
        &self,
        ticket: &TicketRow,
        step: Move<'_>,
        is_first: bool,
    ) -> Result<Finished, StorageError> {
        let store = &self.store;
        let now = self.clock.now_ms();
        let expires_at = now + self.kept_ms();
        let moved = match step {
            Move::Publish(result) => {
                let finished = store.publish(ticket, result, now, expires_at).await?;
                // An earlier try may have been what published it, at another time. What is owed changes its
                // body while it runs. And settling others takes a while, in which this one may be erased.
                let is_read_back = !is_first || ticket.is_owed();
                if !is_read_back && matches!(&finished, Finished::Yes { settled } if settled.is_empty()) {
                    let end = || (ticket.published(result, now, expires_at), result.body.clone());
                    self.untold.end(ticket.ticket_id, end);
                }
                return Ok(finished);
            }
            Move::AnswerWith(other) => return store.answer_with(ticket, other, now).await,
            Move::Fail(failure) => return store.fail(ticket, failure, now, expires_at).await,
            Move::FinishCancelling => return store.finish_cancelling(ticket, now, expires_at).await,
            Move::Retry { run_after, failure } => store.retry(ticket, run_after, failure).await?,
            Move::GiveBack { run_after, waits_for } => store.give_back(ticket, run_after, waits_for).await?,
        };
        Ok(if moved { Finished::Yes { settled: Vec::new() } } else { Finished::Cancelling })
    }

    /// Four times longer each attempt, give or take a quarter, so that tickets that failed together
    /// do not return together.
    fn backoff_ms(&self, attempt: u32) -> Millis {
        let longest = BACKOFF_FIRST_MS.saturating_mul(4_u64.saturating_pow(attempt.saturating_sub(1)));
        let base = longest.min(BACKOFF_LONGEST_MS);
        (base * 3 / 4 + self.random.next_u64() % (base / 2)) as Millis
    }

    /// Answers a leased ticket without running it, or lets it wait, when an equal one has done or
    /// is doing the work. False: run it.
    pub(super) async fn share_leased(
        &self,
        ticket: &TicketRow,
        leased_at: Instant,
    ) -> Result<bool, StorageError> {
        let Some(equal_to) = sharing::equal_to(ticket) else { return Ok(false) };
        let equal = self.store.list_equal(&equal_to).await?;
        let now = self.clock.now_ms();
        let lease_end = LeaseEnd(Arc::new(Mutex::new(leased_at + self.settings.lease)));
        let outcome = match sharing::for_leased(ticket, &equal, now, self.kept_ms()) {
            None => return Ok(false),
            Some(Shared::AnswerOf(by)) => self.make(ticket, &lease_end, Move::AnswerWith(by)).await,
            Some(Shared::Behind(leader)) => {
                let run_after = now + WAITS_AT_MOST.as_millis() as Millis;
                let back = Move::GiveBack { run_after, waits_for: Some(leader.ticket_id) };
                let outcome = self.make(ticket, &lease_end, back).await;
                // It may have ended before we came to wait.
                let settled = self.store.settle_followers_of(leader.ticket_id, now).await?;
                self.wake_settled(&settled);
                outcome
            }
        };
        self.metrics.ended.with_label_values(&[&ticket.kind, outcome]).inc();
        Ok(true)
    }
}

/// A task that ends with its handle.
pub(super) struct AbortOnDrop<T>(pub(super) tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
