//! The interface of tickets: what handlers and commands call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::time::Instant;

use super::kind::{PrepareError, Prepared, StopHandle};
use super::metrics::TicketMetrics;
use super::result_key::ResultKey;
use super::sharing::Arrivals;
use super::untold::{Untold, UntoldTicket};
use super::unwritten::Terms;
use super::{InvalidBody, Ticket, TicketKind, TicketPage, TicketState, WAIT_MAX, WaitFor};
use crate::cache::{Cache, Wakeup};
use crate::model::{Clock, Millis, ProjectId, Random, ReplicaId, ShardNo, TicketId};
use crate::storage::control::projects::Project;
use crate::storage::control::tickets::{
    ATTEMPTS_UNLIMITED, KINDS_MAX, LeaseRequest, MaintenanceRules, NewTicket, ResultRef, TicketRow,
    TicketStore,
};
use crate::storage::{Db, StorageError};
use crate::telemetry::Metrics;

/// Bodies are read with every look at a ticket.
pub const BODY_BYTES_MAX: usize = 256 << 10;

/// A ticket that nothing has ended after a day fails.
const OVERDUE_MS: Millis = 86_400_000;
/// What is owed is not given up within anybody's time.
const OWED_OVERDUE_MS: Millis = 100 * 365 * OVERDUE_MS;
/// For a week an expired ticket is known to be gone.
pub(super) const GONE_FOR_MS: Millis = 7 * 86_400_000;
/// A ticket that killed three runners is not given a fourth.
const RUNNER_DEATHS_MAX: u32 = 3;
const RESCUE_DELAY_MS: Millis = 1_000;

/// Results up to this size are copied into the cache.
const CACHED_RESULT_BYTES_MAX: usize = 1 << 20;

/// Between two looks of one who waits, when nobody wakes it.
const LOOK_FIRST: Duration = Duration::from_millis(100);
const LOOK_LONGEST: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct TicketSettings {
    /// Runs at the same time in this process; 0 runs none.
    pub slots: usize,
    pub lease: Duration,
    /// How often the queue is looked at when nobody wakes the worker.
    pub poll: Duration,
    pub attempts_max: u32,
    /// How long a result can be fetched.
    pub kept: Duration,
    /// Tickets of one project that may wait.
    pub queued_max: u32,
    /// The longest one run may take.
    pub run_max: Duration,
    /// For how long one whose submitter waits may run before it is written down.
    pub written_after: Duration,
}

pub struct TicketsParts {
    pub control: Db,
    pub cache: Cache,
    /// The control database's time: [`crate::storage::DatabaseClock`], or a fixed clock in tests.
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub settings: TicketSettings,
    pub metrics: Metrics,
    pub kinds: Vec<Arc<dyn TicketKind>>,
}

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Tickets {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) store: TicketStore,
    pub(super) cache: Cache,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) settings: TicketSettings,
    pub(super) kinds: HashMap<&'static str, Arc<dyn TicketKind>>,
    pub(super) kind_names: Vec<&'static str>,
    /// Random per start: a name used twice would let a new process keep a dead one's leases.
    pub(super) replica: ReplicaId,
    pub(super) slots: Arc<Semaphore>,
    pub(super) arrivals: Arrivals,
    pub(super) untold: Untold,
    /// The last look into the queue found a ticket.
    pub(super) has_backlog: watch::Sender<bool>,
    /// Where runs live: a ticket is often submitted from one of HTTP's threads, which end before the
    /// ticket is given back at a stop, and which must answer others while it runs.
    pub(super) runtime: Handle,
    pub(super) running: Mutex<HashMap<TicketId, StopHandle>>,
    /// Of tickets that others run: ticket, round, shard.
    pub(super) running_steps: Mutex<HashMap<(TicketId, u32, ShardNo), StopHandle>>,
    pub(super) closing: watch::Sender<bool>,
    pub(super) metrics: TicketMetrics,
}

/// What somebody wants done.
#[derive(Clone, Debug)]
pub struct Submit {
    pub project_id: ProjectId,
    /// The project as it was when the caller was let in, if it is known: a few seconds ago at most.
    pub let_in_with: Option<Arc<Project>>,
    pub kind: String,
    pub body: Value,
    pub idempotency_key: Option<String>,
    /// Who, such as `account:5` or `key:12`; at most 64 characters.
    pub created_by: String,
}

/// What a submission became.
#[derive(Debug)]
pub struct Submitted {
    pub ticket: Ticket,
    /// How long it will probably take.
    pub estimate: Duration,
    /// What has been heard since before it was there.
    wakeups: broadcast::Receiver<Wakeup>,
    _untold: UntoldTicket,
}

#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("there is no ticket kind {0:?}")]
    UnknownKind(String),
    #[error("the ticket's body is not valid: {}", .0.detail)]
    Invalid(InvalidBody),
    #[error("this idempotency key was used for another ticket")]
    IdempotencyKeyReused,
    #[error("{queued_max} tickets of this project are waiting already")]
    TooManyQueued { queued_max: u32 },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

#[derive(Debug, thiserror::Error)]
pub enum TicketError {
    #[error("there is no such ticket")]
    NotFound,
    #[error("the ticket has expired")]
    Gone,
    #[error("the ticket has no result")]
    NoResult,
    /// It is owed and has begun.
    #[error("a ticket of this kind cannot be cancelled")]
    NotCancellable,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Tickets {
    pub fn new(parts: TicketsParts) -> Self {
        let kinds: HashMap<_, _> = parts.kinds.into_iter().map(|kind| (kind.name(), kind)).collect();
        assert!(kinds.len() <= KINDS_MAX, "the lease statement has places for {KINDS_MAX} kinds");
        let mut kind_names: Vec<_> = kinds.keys().copied().collect();
        kind_names.sort_unstable();
        let inner = Inner {
            store: TicketStore::new(parts.control),
            cache: parts.cache,
            clock: parts.clock,
            replica: ReplicaId::random(parts.random.as_ref()),
            random: parts.random,
            slots: Arc::new(Semaphore::new(parts.settings.slots)),
            arrivals: Arrivals::default(),
            untold: Untold::default(),
            has_backlog: watch::channel(false).0,
            runtime: Handle::current(),
            settings: parts.settings,
            metrics: TicketMetrics::new(&parts.metrics, &kind_names),
            kinds,
            kind_names,
            running: Mutex::default(),
            running_steps: Mutex::default(),
            closing: watch::channel(false).0,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Takes a ticket in; runs it here at once when a slot is free. Does not wait for its end.
    pub async fn submit(&self, submit: Submit) -> Result<Submitted, SubmitError> {
        self.submit_to_wait(submit, Duration::ZERO).await
    }

    /// The same for who will wait this long for its end: what is done at once is done when it returns.
    pub async fn submit_to_wait(&self, submit: Submit, wait: Duration) -> Result<Submitted, SubmitError> {
        let Some(kind) = self.inner.kinds.get(submit.kind.as_str()).cloned() else {
            return Err(SubmitError::UnknownKind(submit.kind));
        };
        let may_run_unwritten = submit.idempotency_key.is_none() && !kind.is_owed() && !wait.is_zero();
        let written_after = self.inner.settings.written_after.min(wait);
        let terms = |prepared: &mut Prepared, is_presumed| {
            let project = prepared.project.take().filter(|_| may_run_unwritten)?;
            Some(Terms { project, is_presumed, written_after })
        };
        let presume = || kind.presume(submit.project_id, submit.let_in_with.as_ref(), &submit.body);
        let presumed = may_run_unwritten.then(presume).flatten();
        if let Some(mut prepared) = presumed
            && let Some(terms) = terms(&mut prepared, true)
            && let Some(submitted) = self.submit_prepared(&*kind, &submit, prepared, Some(terms)).await?
        {
            return Ok(submitted);
        }
        let mut prepared = match kind.prepare(submit.project_id, &submit.body).await {
            Ok(prepared) => prepared,
            Err(PrepareError::Invalid(invalid)) => return Err(SubmitError::Invalid(invalid)),
            Err(PrepareError::Storage(error)) => return Err(error.into()),
        };
        let terms = terms(&mut prepared, false);
        let submitted = self.submit_prepared(&*kind, &submit, prepared, terms).await?;
        Ok(submitted.expect("nothing was presumed"))
    }

    /// `None` when what was presumed does not hold.
    async fn submit_prepared(
        &self,
        kind: &dyn TicketKind,
        submit: &Submit,
        prepared: Prepared,
        unwritten: Option<Terms>,
    ) -> Result<Option<Submitted>, SubmitError> {
        if prepared.body.len() > BODY_BYTES_MAX {
            let detail = format!(
                "it has {} bytes as canonical JSON; the limit is {BODY_BYTES_MAX}",
                prepared.body.len()
            );
            return Err(SubmitError::Invalid(InvalidBody { detail, errors: Vec::new() }));
        }
        let wakeups = self.inner.cache.wakeups().listen();
        let now = self.inner.clock.now_ms();
        let ticket = NewTicket {
            ticket_id: TicketId::time_ordered(self.inner.clock.as_ref(), self.inner.random.as_ref()),
            project_id: submit.project_id,
            kind: kind.name(),
            body_hash: hash_of(kind.name(), &prepared.body),
            request_hash: hash_of(kind.name(), submit.body.to_string().as_bytes()),
            body: prepared.body,
            data_version: prepared.data_version,
            idempotency_key: submit.idempotency_key.clone(),
            created_by: submit.created_by.chars().take(64).collect(),
            attempts_max: if kind.is_owed() { ATTEMPTS_UNLIMITED } else { self.inner.settings.attempts_max },
            created_at: now,
            overdue_at: now + if kind.is_owed() { OWED_OVERDUE_MS } else { OVERDUE_MS },
        };
        let untold = self.inner.untold.add(ticket.ticket_id);
        // In a task of its own: a ticket that was inserted as leased to us must also be run, even
        // when the client has gone in between.
        let inner = self.inner.clone();
        let taken = self.inner.runtime.spawn(async move { inner.take_in(ticket, unwritten).await });
        let taken = match taken.await {
            Ok(taken) => taken?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let Some((row, at_hand)) = taken else { return Ok(None) };
        let ticket = Ticket { at_hand, ..self.inner.ticket(row).await? };
        Ok(Some(Submitted { ticket, estimate: prepared.estimate, wakeups, _untold: untold }))
    }

    /// The ticket, if it is this project's.
    pub async fn get(&self, project: ProjectId, ticket: TicketId) -> Result<Ticket, TicketError> {
        let row = self.inner.store.find_of_project(project, ticket).await?.ok_or(TicketError::NotFound)?;
        if row.state.is_final() && row.expires_at <= self.inner.clock.now_ms() {
            return Err(TicketError::Gone);
        }
        Ok(self.inner.ticket(row).await?)
    }

    /// The ticket when what was waited for has come, or as it is after `wait` (at most
    /// [`WAIT_MAX`]). Woken in this process or through Redis; polling is the base.
    pub async fn wait(
        &self,
        project: ProjectId,
        ticket: TicketId,
        wait_for: WaitFor,
        wait: Duration,
    ) -> Result<Ticket, TicketError> {
        let until = Instant::now() + wait.min(WAIT_MAX);
        let wakeups = self.inner.cache.wakeups().listen();
        let now = self.get(project, ticket).await?;
        self.wait_from(now, wakeups, wait_for, until).await
    }

    /// The same from the end of a submission on: what it became is not looked up once more.
    pub async fn wait_for_end(&self, submitted: Submitted, wait: Duration) -> Result<Ticket, TicketError> {
        let until = Instant::now() + wait.min(WAIT_MAX);
        self.wait_from(submitted.ticket, submitted.wakeups, WaitFor::End, until).await
    }

    /// `wakeups` were begun to be heard before the ticket was looked at.
    async fn wait_from(
        &self,
        mut ticket: Ticket,
        mut wakeups: broadcast::Receiver<Wakeup>,
        wait_for: WaitFor,
        until: Instant,
    ) -> Result<Ticket, TicketError> {
        let mut pause = LOOK_FIRST;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if ticket.has_come(wait_for) || left.is_zero() {
                return Ok(ticket);
            }
            tokio::select! {
                () = changed(&mut wakeups, ticket.ticket_id) => {}
                () = tokio::time::sleep(pause.min(left)) => pause = LOOK_LONGEST.min(pause * 2),
            }
            ticket = match self.inner.untold.take_end(ticket.ticket_id) {
                Some((row, result)) => Ticket { at_hand: Some(result), ..Ticket::from_row(row, None) },
                None => self.get(ticket.project_id, ticket.ticket_id).await?,
            };
        }
    }

    /// Asks for its end. A running ticket is `cancelling` until its runner has stopped; one in a
    /// final state stays as it is.
    pub async fn cancel(&self, project: ProjectId, ticket: TicketId) -> Result<Ticket, TicketError> {
        let now = self.inner.clock.now_ms();
        let expires_at = now + self.inner.kept_ms();
        let known = self.inner.store.find_of_project(project, ticket).await?;
        if known.is_some_and(|row| row.is_owed() && !row.state.is_final()) {
            return Err(TicketError::NotCancellable);
        }
        let cancelled = self.inner.store.cancel(project, ticket, now, expires_at).await?;
        let (row, settled) = cancelled.ok_or(TicketError::NotFound)?;
        if row.state.is_final() && row.expires_at <= now {
            return Err(TicketError::Gone);
        }
        self.inner.wake(ticket, &settled);
        if row.state == TicketState::Cancelling {
            self.inner.stop_running(ticket, super::StopReason::Cancelled);
            self.inner.cache.wakeups().send(Wakeup::TicketCancelling(ticket));
        }
        Ok(self.inner.ticket(row).await?)
    }

    /// The project's tickets, from the one before `before`.
    pub async fn list(
        &self,
        project: ProjectId,
        before: Option<TicketId>,
        limit: u32,
    ) -> Result<TicketPage, StorageError> {
        let rows = self.inner.store.list(project, before, limit.saturating_add(1)).await?;
        let more = rows.len() > limit as usize;
        let next = if more { rows.get(limit as usize - 1).map(|row| row.ticket_id) } else { None };
        let now = self.inner.clock.now_ms();
        let tickets = rows
            .into_iter()
            .take(limit as usize)
            .filter(|row| !(row.state.is_final() && row.expires_at <= now))
            .map(|row| Ticket::from_row(row, None))
            .collect();
        Ok(TicketPage { tickets, next })
    }

    /// The whole result as JSON text.
    pub async fn result(&self, ticket: &Ticket) -> Result<Bytes, TicketError> {
        if let Some(result) = &ticket.at_hand {
            return Ok(result.clone());
        }
        let result = ticket.result.ok_or(TicketError::NoResult)?;
        let key = ResultKey(result);
        if let Some(body) = self.inner.cache.get(&key).await {
            return Ok(body);
        }
        // Nothing deletes a result before its ticket expires.
        let body = self.inner.store.read_result(&result).await?.ok_or(TicketError::Gone)?;
        let body = Bytes::from(body);
        self.inner.cache_result(result, &body).await;
        Ok(body)
    }
}

impl Inner {
    pub(super) async fn ticket(&self, row: TicketRow) -> Result<Ticket, StorageError> {
        let position = match row.state {
            TicketState::Queued => Some(self.store.queue_position(&row).await?),
            _ => None,
        };
        Ok(Ticket::from_row(row, position))
    }

    pub(super) fn lease(&self, now: Millis) -> LeaseRequest {
        LeaseRequest { by: self.replica, now, until: now + self.settings.lease.as_millis() as Millis }
    }

    pub(super) fn kept_ms(&self) -> Millis {
        self.settings.kept.as_millis() as Millis
    }

    pub(super) fn rules(&self) -> MaintenanceRules {
        MaintenanceRules {
            runner_deaths_max: RUNNER_DEATHS_MAX,
            rescue_delay_ms: RESCUE_DELAY_MS,
            result_ttl_ms: self.kept_ms(),
            gone_for_ms: GONE_FOR_MS,
        }
    }

    pub(super) fn stop_running(&self, ticket: TicketId, reason: super::StopReason) {
        let running = self.running.lock().expect("no holder of this lock can panic");
        if let Some(handle) = running.get(&ticket) {
            handle.stop(reason);
        }
        let steps = self.running_steps.lock().expect("no holder of this lock can panic");
        for (_, handle) in steps.iter().filter(|((of, _, _), _)| *of == ticket) {
            handle.stop(reason);
        }
    }

    /// Tells those who wait for this ticket, and for those that its end settled.
    pub(super) fn wake(&self, ticket: TicketId, settled: &[TicketId]) {
        let (wakeups, changed) = (self.cache.wakeups(), Wakeup::TicketChanged(ticket));
        if self.untold.contains(ticket) {
            wakeups.send_here(changed);
        } else {
            wakeups.send(changed);
        }
        self.wake_settled(settled);
    }

    pub(super) fn wake_settled(&self, settled: &[TicketId]) {
        for ticket in settled {
            self.cache.wakeups().send(Wakeup::TicketChanged(*ticket));
        }
        if !settled.is_empty() {
            // Some may have been set free to run.
            self.cache.wakeups().send(Wakeup::TicketQueued);
        }
    }

    pub(super) async fn cache_result(&self, result: ResultRef, body: &Bytes) {
        if body.len() <= CACHED_RESULT_BYTES_MAX {
            self.cache.put(&ResultKey(result), body).await;
        }
    }
}

/// Returns when this ticket may have changed.
pub(super) async fn changed(wakeups: &mut broadcast::Receiver<Wakeup>, ticket: TicketId) {
    loop {
        match wakeups.recv().await {
            Ok(Wakeup::TicketChanged(changed)) if changed == ticket => return,
            Ok(_) => {}
            // Messages were lost, maybe this one.
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

pub(super) fn hash_of(kind: &str, body: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(kind).chain_update([0]).chain_update(body).finalize().into()
}
