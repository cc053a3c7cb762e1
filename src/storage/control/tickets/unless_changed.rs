//! Tickets that come into the table after their run has begun.
//!
//! An erasure ends what runs by what it finds in the table, so a run that is not there might hand over somebody
//! who is gone. It comes in only while its project's erasure epoch is the one before it read anything, under a
//! lock on the project's row. An erasure raises the epoch once it has masked the person and before it looks
//! through the table: either it finds the ticket there, or the ticket stays out.
//!
//! The same look tells whether the project's settings are still those that the run went by, so that it need not
//! have read them just before it began.

use super::finish::insert_published;
use super::row::{insert, insert_binds};
use super::{TicketResult, TicketRow, TicketStore};
use crate::model::Millis;
use crate::storage::control::projects::Project;
use crate::storage::db::{Statement, statement};
use crate::storage::{Sql, StorageError, Value};
use crate::values;

/// With [`as_it_was`].
macro_rules! where_unchanged {
    ($before:literal) => {
        concat!(
            $before,
            " FROM projects WHERE project_id = ? AND archived_at IS NULL AND erasure_epoch = ? ",
            "AND time_zone = ? AND span = ? AND COALESCE(retention_days, 0) = ?"
        )
    };
}

// The session reads what is committed and locks nothing that it reads, unless it is asked to.
pub(super) static INSERT_UNLESS_CHANGED: Statement = insert!(
    "tickets.insert_unless_changed",
    where_unchanged!("SELECT ?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?"),
    mysql_end: " LOCK IN SHARE MODE"
);
static IS_UNCHANGED: Statement = statement!("projects.is_unchanged", where_unchanged!("SELECT 1"));

impl TicketStore {
    /// Whether a project is as it was then, and nobody has been erased since.
    pub async fn is_unchanged(&self, project: &Project) -> Result<bool, StorageError> {
        Ok(self.db.fetch_optional(&IS_UNCHANGED, as_it_was(project)).await?.is_some())
    }

    /// Inserts a ticket that runs; false when its project is not as it was then, or somebody has been erased since.
    pub async fn insert_unless_changed(
        &self,
        ticket: &TicketRow,
        project: &Project,
    ) -> Result<bool, StorageError> {
        Ok(self.db.execute(&INSERT_UNLESS_CHANGED, guarded_binds(ticket, project)).await? == 1)
    }

    /// Inserts a ticket whose run has succeeded, and its result, as that is published; `None` when its project is
    /// not as it was then, or somebody has been erased since. Precondition: the result is one to be sent along.
    pub async fn insert_ended_unless_changed(
        &self,
        ticket: &TicketRow,
        result: &TicketResult,
        now: Millis,
        expires_at: Millis,
        project: &Project,
    ) -> Result<Option<TicketRow>, StorageError> {
        debug_assert!(result.body.len() <= super::SENT_ALONG_BYTES_MAX);
        let ended = ticket.published(result, now, expires_at);
        let statements = vec![
            (Sql::from(&INSERT_UNLESS_CHANGED), guarded_binds(&ended, project)),
            insert_published(ticket, result, expires_at),
        ];
        let changed = self.db.change_together(statements).await?;
        Ok((changed[0] == 1).then_some(ended))
    }
}

pub(super) fn guarded_binds(ticket: &TicketRow, project: &Project) -> Vec<Value> {
    let mut binds = insert_binds(ticket);
    binds.extend(as_it_was(project));
    binds
}

fn as_it_was(project: &Project) -> Vec<Value> {
    // Whatever a run may go by.
    let Project { project_id, erasure_epoch, time_zone, span, retention_days, name: _, created_at: _ } =
        project;
    // Nobody keeps events for no day.
    let retention_days = retention_days.unwrap_or(0);
    values![*project_id, *erasure_epoch, time_zone.clone(), *span, retention_days]
}
