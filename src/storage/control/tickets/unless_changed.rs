//! Tickets that come into the table after their run has begun.
//!
//! An erasure ends what runs by what it finds in the table, so a run that is not there might hand over somebody
//! who is gone. It comes in only while its project's erasure epoch is the one before it read anything, under a
//! lock on the project's row. An erasure raises the epoch once it has masked the person and before it looks
//! through the table: either it finds the ticket there, or the ticket stays out.

use super::finish::insert_published;
use super::row::{insert, insert_binds};
use super::{TicketResult, TicketRow, TicketStore};
use crate::model::Millis;
use crate::storage::db::Statement;
use crate::storage::{Sql, StorageError, Value};
use crate::values;

// The session reads what is committed and locks nothing that it reads, unless it is asked to.
pub(super) static INSERT_UNLESS_ERASED: Statement = insert!(
    "tickets.insert_unless_erased",
    "SELECT ?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,? FROM projects \
     WHERE project_id = ? AND erasure_epoch = ?",
    mysql_end: " LOCK IN SHARE MODE"
);

impl TicketStore {
    /// Inserts a ticket that runs; false when somebody has been erased since that epoch.
    pub async fn insert_unless_erased(
        &self,
        ticket: &TicketRow,
        erasure_epoch: i64,
    ) -> Result<bool, StorageError> {
        Ok(self.db.execute(&INSERT_UNLESS_ERASED, guarded_binds(ticket, erasure_epoch)).await? == 1)
    }

    /// Inserts a ticket whose run has succeeded, and its result, as that is published; `None` when somebody
    /// has been erased since that epoch. Precondition: the result is one to be sent along.
    pub async fn insert_ended_unless_erased(
        &self,
        ticket: &TicketRow,
        result: &TicketResult,
        now: Millis,
        expires_at: Millis,
        erasure_epoch: i64,
    ) -> Result<Option<TicketRow>, StorageError> {
        debug_assert!(result.body.len() <= super::SENT_ALONG_BYTES_MAX);
        let ended = ticket.published(result, now, expires_at);
        let statements = vec![
            (Sql::from(&INSERT_UNLESS_ERASED), guarded_binds(&ended, erasure_epoch)),
            insert_published(ticket, result, expires_at),
        ];
        let changed = self.db.change_together(statements).await?;
        Ok((changed[0] == 1).then_some(ended))
    }
}

pub(super) fn guarded_binds(ticket: &TicketRow, erasure_epoch: i64) -> Vec<Value> {
    let mut binds = insert_binds(ticket);
    binds.extend(values![ticket.project_id, erasure_epoch]);
    binds
}
