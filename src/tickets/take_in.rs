//! Taking a ticket in: whether it is written as answered, waiting for an equal one, running here or queued.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::service::{Inner, SubmitError};
use super::sharing::{self, Shared, WAITS_AT_MOST};
use super::unwritten::{Terms, Written};
use crate::cache::Wakeup;
use crate::model::Millis;
use crate::storage::StorageError;
use crate::storage::control::tickets::{InsertAs, Inserted, NewTicket, TicketRow};

/// How long a submission waits for a slot before it goes through the queue: a small question is done sooner
/// than the queue has been written to and read.
const SLOT_WAIT_MAX: Duration = Duration::from_millis(250);

impl Inner {
    /// With its result, if it has one already. With terms it may run before it is written down; `None` when what
    /// was presumed of its project does not hold.
    pub(super) async fn take_in(
        self: Arc<Self>,
        ticket: NewTicket,
        unwritten: Option<Terms>,
    ) -> Result<Option<(TicketRow, Option<Bytes>)>, SubmitError> {
        let presumed = unwritten.as_ref().and_then(Terms::presumed);
        let now = ticket.created_at;
        let arrival = self.arrivals.enter(ticket.body_hash);
        let mut equal = self.list_equal(&ticket).await?;
        let mut shared = sharing::for_submission(&equal, now, self.kept_ms());
        let mut slot = None;
        if shared.is_none() {
            let (taken, has_waited) = self.take_slot().await;
            slot = taken;
            if has_waited && arrival.has_met() {
                equal = self.list_equal(&ticket).await?;
                shared = sharing::for_submission(&equal, now, self.kept_ms());
                slot = slot.filter(|_| shared.is_none());
            }
        }
        // Of equal ones that come together the second is found by those after it.
        let has_equal = ticket.data_version.is_some() && arrival.has_met();
        if let Some(terms) = unwritten.filter(|_| !has_equal)
            && let Some(free) = slot.take()
        {
            let taken = match self.run_unwritten(&ticket, free, terms).await {
                Some(Written::Running(row)) => Some((row, None)),
                Some(Written::Succeeded(row, result)) => Some((row, Some(result))),
                Some(Written::Failed(error)) => return Err(error.into()),
                None => None,
            };
            if let Some(taken) = taken {
                self.metrics.submitted.with_label_values(&[ticket.kind, "at_once"]).inc();
                return Ok(Some(taken));
            }
            // What was presumed and did not hold is prepared anew below, or queued if it holds again.
            if presumed.is_none() {
                slot = self.take_slot().await.0;
            }
        }
        if let Some(project) = presumed
            && !self.store.is_unchanged(&project).await?
        {
            return Ok(None);
        }
        let leased_at = Instant::now();
        let lease = self.lease(self.clock.now_ms());
        let (r#as, way) = match (&shared, &slot) {
            (Some(Shared::AnswerOf(by)), _) => (InsertAs::Answered { by }, "answered"),
            (Some(Shared::Behind(leader)), _) => {
                let run_after = now + WAITS_AT_MOST.as_millis() as Millis;
                (InsertAs::Waiting { waits_for: leader.ticket_id, run_after }, "behind")
            }
            (None, Some(_)) => (InsertAs::Leased(lease), "at_once"),
            (None, None) => (InsertAs::Queued, "queued"),
        };
        if matches!(r#as, InsertAs::Queued | InsertAs::Waiting { .. }) {
            let queued_max = self.settings.queued_max;
            if self.store.count_queued(ticket.project_id).await? >= queued_max {
                return Err(SubmitError::TooManyQueued { queued_max });
            }
        }
        let row = match self.store.insert(&ticket, r#as).await? {
            Inserted::Ticket(row) => row,
            Inserted::Earlier(earlier) if earlier.request_hash == ticket.request_hash => {
                return Ok(Some((earlier, None)));
            }
            Inserted::Earlier(_) => return Err(SubmitError::IdempotencyKeyReused),
        };
        self.metrics.submitted.with_label_values(&[ticket.kind, way]).inc();
        match (shared, slot) {
            (_, Some(slot)) => {
                // Nobody knows the ticket yet, so nobody waits to hear that it runs.
                self.runtime.spawn(self.clone().run(row.clone(), leased_at, slot, None));
            }
            (Some(Shared::Behind(leader)), None) => {
                // It may have ended before we came to wait.
                let settled = self.store.settle_followers_of(leader.ticket_id, now).await?;
                self.wake_settled(&settled);
                if settled.contains(&row.ticket_id)
                    && let Some(row) = self.store.find(row.ticket_id).await?
                {
                    return Ok(Some((row, None)));
                }
            }
            (Some(Shared::AnswerOf(_)), None) => {}
            (None, None) => self.cache.wakeups().send(Wakeup::TicketQueued),
        }
        Ok(Some((row, None)))
    }

    async fn list_equal(&self, ticket: &NewTicket) -> Result<Vec<TicketRow>, StorageError> {
        match sharing::equal_to_new(ticket) {
            Some(equal_to) => self.store.list_equal(&equal_to).await,
            None => Ok(Vec::new()),
        }
    }

    /// A slot, if there is one soon; and whether it had to be waited for.
    async fn take_slot(&self) -> (Option<OwnedSemaphorePermit>, bool) {
        if self.settings.slots == 0 || *self.closing.borrow() {
            return (None, false);
        }
        let has_backlog = *self.has_backlog.borrow();
        if let Some(slot) = self.slots.clone().try_acquire_owned().ok().filter(|_| !has_backlog) {
            return (Some(slot), false);
        }
        let soon = tokio::time::timeout(SLOT_WAIT_MAX, async {
            // Nobody overtakes those who queue already: the worker takes what slots become free until it
            // finds none of them.
            let mut backlog = self.has_backlog.subscribe();
            backlog.wait_for(|has_backlog| !*has_backlog).await.expect("its sender is in `self`");
            self.slots.clone().acquire_owned().await
        })
        .await;
        let slot = soon.ok().and_then(Result::ok).filter(|_| !*self.closing.borrow());
        (slot, true)
    }
}
