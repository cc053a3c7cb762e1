//! What nobody else does: take tickets back from runners that died, end what is overdue, delete
//! what has expired. Any replica may do this at any time, several at once.

use super::row::{read, select};
use super::{Failure, TicketRow, TicketState, TicketStore, kind_binds};
use crate::model::{Millis, TicketId};
use crate::storage::StorageError;
use crate::storage::db::{Statement, statement};
use crate::values;

/// How many tickets one pass looks at; the next pass takes the rest.
const BATCH: u32 = 100;

/// An owed ticket waits no longer than so many delays, however many runners it has seen die.
const RESCUE_DELAYS_MAX: u32 = 60;

static EXPIRED_LEASES: Statement = select!(
    "tickets.expired_leases",
    "WHERE state IN ('running', 'cancelling') AND lease_until < ? AND kind IN (?,?,?,?,?,?,?,?) \
     ORDER BY lease_until LIMIT 100"
);
// The lease is part of the guard: a heartbeat that comes in between keeps the ticket.
static RESCUE: Statement = statement!(
    "tickets.rescue",
    "UPDATE tickets SET state = 'queued', run_after = ?, runner_deaths = runner_deaths + 1, \
     leased_by = NULL, lease_until = NULL WHERE ticket_id = ? AND fence = ? AND state = 'running' \
     AND lease_until = ?"
);
static END_LEASE: Statement = statement!(
    "tickets.end_lease",
    "UPDATE tickets SET fence = fence + 1, runner_deaths = runner_deaths + 1 \
     WHERE ticket_id = ? AND fence = ? AND state = ? AND lease_until = ?"
);
static DUE: Statement = select!("tickets.due", "WHERE sweep_at <= ? ORDER BY sweep_at, ticket_id LIMIT ?");
static POSTPONE_SWEEP: Statement = statement!(
    "tickets.postpone_sweep",
    "UPDATE tickets SET sweep_at = ? WHERE ticket_id = ? AND sweep_at = ?"
);
static DELETE_PARTS: Statement =
    statement!("tickets.delete_parts", "DELETE FROM ticket_results WHERE ticket_id = ?");
static EMPTY: Statement = statement!(
    "tickets.empty",
    "UPDATE tickets SET body = ?, idempotency_key = NULL, data_version = NULL, result_bytes = NULL, \
     result_parts = NULL, result_ticket = NULL, result_fence = NULL, sweep_at = ? \
     WHERE ticket_id = ? AND sweep_at = ? AND state IN ('succeeded', 'failed', 'cancelled')"
);
static DELETE: Statement = statement!(
    "tickets.delete",
    "DELETE FROM tickets WHERE ticket_id = ? AND sweep_at = ? AND state IN ('succeeded', 'failed', 'cancelled')"
);

/// What a rescue pass did.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rescued {
    pub queued: Vec<TicketId>,
    pub failed: Vec<TicketId>,
    pub cancelled: Vec<TicketId>,
    /// Tickets that waited for one of these and are answered or free now.
    pub settled: Vec<TicketId>,
}

/// What a sweep did.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Swept {
    /// Ended because nothing had ended them in time.
    pub overdue: Vec<TicketId>,
    pub settled: Vec<TicketId>,
    /// Results deleted; the tickets themselves still answer that they are gone.
    pub emptied: u32,
    pub deleted: u32,
    /// Whether there was more than one pass takes.
    pub more: bool,
}

/// How long things stay, and how much is too much.
#[derive(Clone, Copy, Debug)]
pub struct MaintenanceRules {
    /// A ticket that killed this many runners fails, so that it cannot kill them all.
    pub runner_deaths_max: u32,
    /// How long a rescued ticket waits, times its deaths.
    pub rescue_delay_ms: Millis,
    pub result_ttl_ms: Millis,
    /// How long an expired ticket is remembered to be gone, rather than unknown.
    pub gone_for_ms: Millis,
}

impl TicketStore {
    /// Ends the leases that ran out: their runners died or lost the database.
    pub async fn rescue(
        &self,
        kinds: &[&'static str],
        now: Millis,
        rules: MaintenanceRules,
    ) -> Result<Rescued, StorageError> {
        let mut rescued = Rescued::default();
        if kinds.is_empty() {
            return Ok(rescued);
        }
        let mut binds = values![now];
        binds.extend(kind_binds(kinds));
        for row in self.db.fetch_all(&EXPIRED_LEASES, binds).await? {
            self.rescue_one(&read(&row)?, now, rules, &mut rescued).await?;
        }
        Ok(rescued)
    }

    pub(super) async fn rescue_one(
        &self,
        ticket: &TicketRow,
        now: Millis,
        rules: MaintenanceRules,
        rescued: &mut Rescued,
    ) -> Result<(), StorageError> {
        let deaths = ticket.runner_deaths + 1;
        if ticket.state == TicketState::Running && (deaths < rules.runner_deaths_max || ticket.is_owed()) {
            let run_after = now + rules.rescue_delay_ms * i64::from(deaths.min(RESCUE_DELAYS_MAX));
            let binds = values![run_after, ticket.ticket_id, ticket.fence, ticket.lease_until];
            if self.db.execute(&RESCUE, binds).await? == 1 {
                rescued.queued.push(ticket.ticket_id);
            }
            return Ok(());
        }
        // The fence is raised first: from here on only we can end this ticket, and a heartbeat
        // that came in between has kept it.
        let binds = values![ticket.ticket_id, ticket.fence, ticket.state.as_str(), ticket.lease_until];
        if self.db.execute(&END_LEASE, binds).await? == 0 {
            return Ok(());
        }
        let taken = TicketRow { fence: ticket.fence + 1, ..ticket.clone() };
        let expires_at = now + rules.result_ttl_ms;
        if ticket.state == TicketState::Cancelling {
            if let Some(settled) = self.cancel_from(&taken, TicketState::Cancelling, now, expires_at).await? {
                rescued.cancelled.push(ticket.ticket_id);
                rescued.settled.extend(settled);
            }
        } else {
            let failure = Failure::new(
                "runner_died",
                format!("{deaths} processes died while they ran this ticket, so it is not tried again"),
            );
            let failed = self.fail_from(&taken, TicketState::Running, &failure, now, expires_at).await?;
            if let Some(settled) = failed {
                rescued.failed.push(ticket.ticket_id);
                rescued.settled.extend(settled);
            }
        }
        Ok(())
    }

    /// Visits the tickets whose next deadline has passed.
    pub async fn sweep(&self, now: Millis, rules: MaintenanceRules) -> Result<Swept, StorageError> {
        let mut swept = Swept::default();
        let due = self.db.fetch_all(&DUE, values![now, BATCH]).await?;
        swept.more = due.len() as u32 == BATCH;
        for row in &due {
            let ticket = read(row)?;
            if ticket.state.is_final() {
                self.sweep_final(&ticket, now, rules, &mut swept).await?;
            } else {
                self.sweep_overdue(&ticket, now, rules, &mut swept).await?;
            }
        }
        Ok(swept)
    }

    async fn sweep_final(
        &self,
        ticket: &TicketRow,
        now: Millis,
        rules: MaintenanceRules,
        swept: &mut Swept,
    ) -> Result<(), StorageError> {
        let forget_at = ticket.expires_at + rules.gone_for_ms;
        if now >= forget_at {
            self.delete_belongings(ticket.ticket_id).await?;
            swept.deleted +=
                self.db.execute(&DELETE, values![ticket.ticket_id, ticket.sweep_at]).await? as u32;
        } else {
            self.delete_belongings(ticket.ticket_id).await?;
            let binds = values![Vec::<u8>::new(), forget_at, ticket.ticket_id, ticket.sweep_at];
            swept.emptied += self.db.execute(&EMPTY, binds).await? as u32;
        }
        Ok(())
    }

    async fn delete_belongings(&self, ticket: TicketId) -> Result<(), StorageError> {
        self.db.execute(&DELETE_PARTS, values![ticket]).await?;
        self.delete_steps(ticket).await
    }

    async fn sweep_overdue(
        &self,
        ticket: &TicketRow,
        now: Millis,
        rules: MaintenanceRules,
        swept: &mut Swept,
    ) -> Result<(), StorageError> {
        if ticket.lease_until.is_some_and(|until| until >= now) {
            // It is running: its own time limit or its lease ends it.
            let again = now + rules.rescue_delay_ms.max(60_000);
            self.db.execute(&POSTPONE_SWEEP, values![again, ticket.ticket_id, ticket.sweep_at]).await?;
            return Ok(());
        }
        let taken = match ticket.lease_until {
            None => ticket.clone(),
            Some(until) => {
                let binds = values![ticket.ticket_id, ticket.fence, ticket.state.as_str(), until];
                if self.db.execute(&END_LEASE, binds).await? == 0 {
                    return Ok(());
                }
                TicketRow { fence: ticket.fence + 1, ..ticket.clone() }
            }
        };
        let failure = Failure::new("overdue", "no worker could finish this ticket in time");
        let expires_at = now + rules.result_ttl_ms;
        if let Some(settled) = self.fail_from(&taken, ticket.state, &failure, now, expires_at).await? {
            swept.overdue.push(ticket.ticket_id);
            swept.settled.extend(settled);
        }
        Ok(())
    }
}
