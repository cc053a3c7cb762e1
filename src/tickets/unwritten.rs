//! Tickets that run before they are written down.
//!
//! A small question is done sooner than the database commits that it runs. So a ticket whose submitter waits for
//! its end runs first, and comes into the table once, with its result. It comes in as a running one, as others do
//! from the beginning, when it has not ended after [`WRITTEN_AFTER`], before its run hands out steps, and when it
//! ends in any other way than with a small result. Nobody is told of it before.
//!
//! Whoever is erased while it runs is in no answer either: `storage/control/tickets/unless_changed.rs` says how. A
//! run whose ticket is kept out is given up, and the ticket taken in anew. The same keeps out a run that went by other
//! settings of its project than it has by then: a ticket whose kind presumed them is prepared anew.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::service::Inner;
use crate::model::Millis;
use crate::storage::StorageError;
use crate::storage::control::projects::Project;
use crate::storage::control::tickets::{NewTicket, SENT_ALONG_BYTES_MAX, TicketResult, TicketRow};

/// As long as most small questions take. Equal ones that come meanwhile do not find it.
pub const WRITTEN_AFTER: Duration = Duration::from_millis(25);

/// On which a ticket may run before it is written down.
pub(super) struct Terms {
    /// What the run goes by.
    pub(super) project: Arc<Project>,
    /// It was read earlier, for another ticket or to let the caller in. Precondition: the ticket has no data version.
    pub(super) is_presumed: bool,
    pub(super) written_after: Duration,
}

impl Terms {
    pub(super) fn presumed(&self) -> Option<Arc<Project>> {
        self.is_presumed.then(|| self.project.clone())
    }
}

/// How a ticket came into the table, or why not.
pub(super) enum Written {
    Running(TicketRow),
    Succeeded(TicketRow, Bytes),
    Failed(StorageError),
}

/// What became of a result.
pub(super) enum ResultWritten {
    Yes,
    /// It is for nobody.
    GivenUp,
    /// The ticket is in the table, or the result is too large to come with it.
    ToPublish,
}

/// A run whose ticket may not be in the table yet.
pub(super) struct Unwritten {
    pub(super) terms: Terms,
    stage: Mutex<Stage>,
}

enum Stage {
    /// With whom to tell.
    Unwritten(oneshot::Sender<Written>),
    Written,
    /// It could not be written: whatever the run comes to is for nobody.
    Lost,
    /// The same since it was kept out. Who takes it in anew waits until the run is over, and this dropped.
    KeptOut {
        _tell: oneshot::Sender<Written>,
    },
}

impl Unwritten {
    /// Comes in as running if it is not in the table yet; false when the run is to be given up.
    pub(super) async fn write_running(&self, inner: &Inner, ticket: &TicketRow) -> bool {
        let mut stage = self.stage.lock().await;
        let Some(tell) = stage.begin() else { return stage.is_written() };
        let inserted = inner.store.insert_unless_changed(ticket, self.project()).await;
        stage.end(tell, inserted.map(|is_in| is_in.then(|| Written::Running(ticket.clone()))))
    }

    /// Comes in as succeeded, if it can.
    pub(super) async fn write_ended(
        &self,
        inner: &Inner,
        ticket: &TicketRow,
        result: &TicketResult,
        now: Millis,
    ) -> ResultWritten {
        if result.body.len() > SENT_ALONG_BYTES_MAX {
            return ResultWritten::ToPublish;
        }
        let mut stage = self.stage.lock().await;
        let Some(tell) = stage.begin() else { return ResultWritten::ToPublish };
        let expires_at = now + inner.kept_ms();
        let ended =
            inner.store.insert_ended_unless_changed(ticket, result, now, expires_at, self.project()).await;
        let written = ended.map(|row| row.map(|row| Written::Succeeded(row, result.body.clone())));
        if stage.end(tell, written) { ResultWritten::Yes } else { ResultWritten::GivenUp }
    }

    fn project(&self) -> &Project {
        &self.terms.project
    }

    /// Whether it was kept out, of one that was given up.
    pub(super) async fn is_kept_out(&self) -> bool {
        matches!(*self.stage.lock().await, Stage::KeptOut { .. })
    }
}

impl Stage {
    /// Until [`Stage::end`] the run counts as lost.
    fn begin(&mut self) -> Option<oneshot::Sender<Written>> {
        if !matches!(self, Self::Unwritten(_)) {
            return None;
        }
        match std::mem::replace(self, Self::Lost) {
            Self::Unwritten(tell) => Some(tell),
            Self::Written | Self::Lost | Self::KeptOut { .. } => None,
        }
    }

    fn is_written(&self) -> bool {
        matches!(self, Self::Written)
    }

    /// Whether it has come in.
    fn end(
        &mut self,
        tell: oneshot::Sender<Written>,
        written: Result<Option<Written>, StorageError>,
    ) -> bool {
        // Who took it in waits for this in a task that nobody ends.
        match written {
            Ok(Some(written)) => {
                *self = Self::Written;
                let _ = tell.send(written);
            }
            Ok(None) => *self = Self::KeptOut { _tell: tell },
            Err(error) => _ = tell.send(Written::Failed(error)),
        }
        self.is_written()
    }
}

impl Inner {
    /// Runs a ticket, and returns when it is in the table; `None` when it was kept out of it, and that run is over.
    pub(super) async fn run_unwritten(
        self: &Arc<Self>,
        ticket: &NewTicket,
        slot: OwnedSemaphorePermit,
        terms: Terms,
    ) -> Option<Written> {
        let leased_at = Instant::now();
        let lease = self.lease(self.clock.now_ms());
        let (tell, told) = oneshot::channel();
        let unwritten = Unwritten { terms, stage: Mutex::new(Stage::Unwritten(tell)) };
        let run = self.clone().run(ticket.leased(lease), leased_at, slot, Some(Arc::new(unwritten)));
        self.runtime.spawn(run);
        told.await.ok()
    }
}
