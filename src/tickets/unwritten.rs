//! Tickets that run before they are written down.
//!
//! A small question is done sooner than the database commits that it runs. So a ticket whose submitter waits for
//! its end runs first, and comes into the table once, with its result. It comes in as a running one, as others do
//! from the beginning, when it has not ended after [`WRITTEN_AFTER`], before its run hands out steps, and when it
//! ends in any other way than with a small result. Nobody is told of it before.
//!
//! Whoever is erased while it runs is in no answer either: `storage/control/tickets/late.rs` says how. A run that
//! is kept out is given up, and its ticket taken in anew.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::service::Inner;
use crate::model::Millis;
use crate::storage::StorageError;
use crate::storage::control::tickets::{
    LeaseRequest, NewTicket, SENT_ALONG_BYTES_MAX, TicketResult, TicketRow,
};

/// As long as most small questions take. Equal ones that come meanwhile do not find it.
pub(super) const WRITTEN_AFTER: Duration = Duration::from_millis(25);

/// What lets a ticket run before it is written down.
#[derive(Clone, Copy)]
pub(super) struct Early {
    /// That of the project from before anything was read.
    pub(super) erasure_epoch: i64,
    pub(super) written_after: Duration,
}

/// How a ticket came into the table.
pub(super) enum Written {
    Running(TicketRow),
    Succeeded(TicketRow, Bytes),
    /// It did not: somebody has been erased since it was prepared.
    KeptOut,
    Failed(StorageError),
}

/// A run whose ticket may not be in the table yet.
pub(super) struct Unwritten {
    pub(super) early: Early,
    stage: Mutex<Stage>,
}

enum Stage {
    /// With whom to tell.
    Unwritten(oneshot::Sender<Written>),
    Written,
    /// Whatever the run comes to is not for anybody.
    KeptOut,
}

impl Unwritten {
    /// Comes in as running if it is not in the table yet; false when the run is to be given up.
    pub(super) async fn write_running(&self, inner: &Inner, ticket: &TicketRow) -> bool {
        let mut stage = self.stage.lock().await;
        let Some(tell) = stage.take_unwritten() else { return stage.is_written() };
        let written = match inner.store.insert_late(ticket, self.early.erasure_epoch).await {
            Ok(true) => Written::Running(ticket.clone()),
            Ok(false) => Written::KeptOut,
            Err(error) => Written::Failed(error),
        };
        stage.tell(tell, written)
    }

    /// Comes in as succeeded; `None` when it is in the table already or the result is too large, so that it
    /// takes the way of all others. Else whether it came in.
    pub(super) async fn write_ended(
        &self,
        inner: &Inner,
        ticket: &TicketRow,
        result: &TicketResult,
        now: Millis,
    ) -> Option<bool> {
        if result.body.len() > SENT_ALONG_BYTES_MAX {
            return None;
        }
        let mut stage = self.stage.lock().await;
        let tell = stage.take_unwritten()?;
        let expires_at = now + inner.kept_ms();
        let written =
            match inner.store.insert_ended(ticket, result, now, expires_at, self.early.erasure_epoch).await {
                Ok(Some(ended)) => Written::Succeeded(ended, result.body.clone()),
                Ok(None) => Written::KeptOut,
                Err(error) => Written::Failed(error),
            };
        Some(stage.tell(tell, written))
    }
}

impl Stage {
    /// Until [`Stage::tell`] the run counts as given up.
    fn take_unwritten(&mut self) -> Option<oneshot::Sender<Written>> {
        if !matches!(self, Self::Unwritten(_)) {
            return None;
        }
        match std::mem::replace(self, Self::KeptOut) {
            Self::Unwritten(tell) => Some(tell),
            Self::Written | Self::KeptOut => None,
        }
    }

    fn is_written(&self) -> bool {
        matches!(self, Self::Written)
    }

    fn tell(&mut self, tell: oneshot::Sender<Written>, written: Written) -> bool {
        if matches!(written, Written::Running(_) | Written::Succeeded(..)) {
            *self = Self::Written;
        }
        // Who took it in waits for this in a task that nobody ends.
        let _ = tell.send(written);
        self.is_written()
    }
}

impl Inner {
    /// Runs a ticket, and returns when it is in the table or is kept out of it.
    pub(super) async fn run_unwritten(
        self: &Arc<Self>,
        ticket: &NewTicket,
        lease: LeaseRequest,
        slot: OwnedSemaphorePermit,
        early: Early,
    ) -> Written {
        let (tell, told) = oneshot::channel();
        let stage = Mutex::new(Stage::Unwritten(tell));
        let unwritten = Arc::new(Unwritten { early, stage });
        self.runtime.spawn(self.clone().run(ticket.leased(lease), Instant::now(), slot, Some(unwritten)));
        // A run that ended without a word has done nothing: a bug, but not one that loses the ticket.
        told.await.unwrap_or(Written::KeptOut)
    }
}
