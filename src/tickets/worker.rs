//! The loops of a process that runs tickets: lease when a slot is free, hear of cancels, keep the
//! table in order.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::StopReason;
use super::service::{Inner, Tickets};
use crate::cache::Wakeup;
use crate::storage::StorageError;

/// How often expired leases are looked for.
const RESCUE_EVERY: Duration = Duration::from_secs(5);
/// Every how many of those the sweep for deadlines is due.
const SWEEP_EVERY_ROUNDS: u32 = 12;

impl Tickets {
    /// Starts running tickets in this process. Once.
    pub fn start(&self) {
        tokio::spawn(until_closing(self.inner.clone(), self.inner.clone().lease_and_run()));
        tokio::spawn(until_closing(self.inner.clone(), self.inner.clone().hear_cancels()));
        tokio::spawn(until_closing(self.inner.clone(), self.inner.clone().maintain_for_ever()));
    }

    /// Takes no more, tells what runs to stop, and gives it back to the queue with its attempt
    /// number kept. Returns when all is given back or after `wait`; what is left then is rescued by
    /// another process when its lease ends.
    pub async fn stop(&self, wait: Duration) {
        self.inner.closing.send_replace(true);
        for handle in self.inner.running.lock().expect("no holder of this lock can panic").values() {
            handle.stop(StopReason::Shutdown);
        }
        for handle in self.inner.running_steps.lock().expect("no holder of this lock can panic").values() {
            handle.stop(StopReason::Shutdown);
        }
        let all = self.inner.settings.slots as u32;
        if tokio::time::timeout(wait, self.inner.slots.acquire_many(all)).await.is_err() {
            tracing::warn!("tickets still running at shutdown; another process takes them over");
        }
    }

    /// Leases one ticket, else one step of another's, and runs it to its end, for tests and commands
    /// without a worker loop. False when there was none.
    pub async fn run_next(&self) -> Result<bool, StorageError> {
        let slot = self.inner.slots.clone().acquire_owned().await.expect("the slots are never closed");
        let leased_at = Instant::now();
        let lease = self.inner.lease(self.inner.clock.now_ms());
        let Some(ticket) = self.inner.store.lease_next(lease, &self.inner.kind_names).await? else {
            let Some(step) = self.inner.store.lease_step(lease, &self.inner.kind_names).await? else {
                return Ok(false);
            };
            self.inner.clone().run_step(step, leased_at, slot).await;
            return Ok(true);
        };
        if !self.inner.share_leased(&ticket, leased_at).await? {
            self.inner.wake(ticket.ticket_id, &[]);
            self.inner.clone().run(ticket, leased_at, slot, None).await;
        }
        Ok(true)
    }

    /// One round of maintenance: rescue, and what its deadline has passed.
    pub async fn maintain(&self) -> Result<(), StorageError> {
        self.inner.rescue().await?;
        while self.inner.sweep().await? {}
        Ok(())
    }
}

async fn until_closing(inner: Arc<Inner>, work: impl Future<Output = ()>) {
    let mut closing = inner.closing.subscribe();
    tokio::select! {
        () = work => {}
        _ = closing.wait_for(|closing| *closing) => {}
    }
}

impl Inner {
    async fn lease_and_run(self: Arc<Self>) {
        let mut wakeups = self.cache.wakeups().listen();
        loop {
            let slot = self.slots.clone().acquire_owned().await.expect("the slots are never closed");
            let leased_at = Instant::now();
            let lease = self.lease(self.clock.now_ms());
            // Not cut off half-way when the process stops: a leased ticket must be given back.
            let inner = self.clone();
            let leasing = tokio::spawn(async move {
                let ticket = inner.store.lease_next(lease, &inner.kind_names).await?;
                inner.has_backlog.send_replace(ticket.is_some());
                if let Some(ticket) = ticket {
                    tokio::spawn(inner.run_or_share(ticket, leased_at, slot));
                    return Ok::<_, StorageError>(true);
                }
                // Nothing waits: a hand for what others have split.
                let step = inner.store.lease_step(lease, &inner.kind_names).await?;
                let found = step.is_some();
                if let Some(step) = step {
                    tokio::spawn(inner.run_step(step, leased_at, slot));
                }
                Ok(found)
            });
            match leasing.await {
                Ok(Ok(true)) => continue,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the queue cannot be read");
                }
                Err(error) => tracing::error!(%error, "leasing a ticket panicked"),
            }
            let pause = self.jittered(self.settings.poll);
            let _ = tokio::time::timeout(pause, async {
                loop {
                    match wakeups.recv().await {
                        Ok(Wakeup::TicketQueued) | Err(RecvError::Lagged(_)) => return,
                        Ok(_) => {}
                        Err(RecvError::Closed) => std::future::pending().await,
                    }
                }
            })
            .await;
        }
    }

    async fn run_or_share(
        self: Arc<Self>,
        ticket: crate::storage::control::tickets::TicketRow,
        leased_at: Instant,
        slot: tokio::sync::OwnedSemaphorePermit,
    ) {
        match self.share_leased(&ticket, leased_at).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                // Sharing only saves work.
                tracing::warn!(error = &error as &dyn std::error::Error, "equal tickets cannot be read");
            }
        }
        self.wake(ticket.ticket_id, &[]);
        self.run(ticket, leased_at, slot, None).await;
    }

    async fn hear_cancels(self: Arc<Self>) {
        let mut wakeups = self.cache.wakeups().listen();
        loop {
            match wakeups.recv().await {
                Ok(Wakeup::TicketCancelling(ticket)) => self.stop_running(ticket, StopReason::Cancelled),
                // The next heartbeat sees it.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn maintain_for_ever(self: Arc<Self>) {
        let mut round = 0_u32;
        loop {
            let maintained = async {
                self.rescue().await?;
                if round.is_multiple_of(SWEEP_EVERY_ROUNDS) {
                    while self.sweep().await? {}
                }
                self.measure_queue().await
            };
            if let Err(error) = maintained.await {
                tracing::warn!(error = &error as &dyn std::error::Error, "ticket maintenance failed");
            }
            round = round.wrapping_add(1);
            tokio::time::sleep(self.jittered(RESCUE_EVERY)).await;
        }
    }

    pub(super) async fn rescue(&self) -> Result<(), StorageError> {
        let rescued = self.store.rescue(&self.kind_names, self.clock.now_ms(), self.rules()).await?;
        for (outcome, tickets) in
            [("queued", &rescued.queued), ("failed", &rescued.failed), ("cancelled", &rescued.cancelled)]
        {
            self.metrics.rescued.with_label_values(&[outcome]).inc_by(tickets.len() as u64);
            for ticket in tickets {
                tracing::warn!(ticket.id = %ticket, rescue.outcome = outcome, "a ticket's runner died");
                self.wake(*ticket, &[]);
            }
        }
        self.wake_settled(&rescued.settled);
        Ok(())
    }

    /// Whether there is more to sweep.
    pub(super) async fn sweep(&self) -> Result<bool, StorageError> {
        let swept = self.store.sweep(self.clock.now_ms(), self.rules()).await?;
        for ticket in &swept.overdue {
            tracing::warn!(ticket.id = %ticket, "a ticket was overdue");
            self.wake(*ticket, &[]);
        }
        self.wake_settled(&swept.settled);
        Ok(swept.more)
    }

    async fn measure_queue(&self) -> Result<(), StorageError> {
        let now = self.clock.now_ms();
        let (depth, oldest) = self.store.depth(now).await?;
        self.metrics.queue_depth.set(i64::from(depth));
        self.metrics.queue_age_seconds.set(oldest.map_or(0, |at| (now - at).max(0) / 1_000));
        Ok(())
    }

    /// Give or take a quarter, so that replicas that started together do not ask together.
    fn jittered(&self, pause: Duration) -> Duration {
        pause * 3 / 4 + pause / 2 * (self.random.next_u64() % 1_000) as u32 / 1_000
    }
}
