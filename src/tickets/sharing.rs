//! Equal questions over equal data share one run: a new ticket is answered by the result of an
//! equal one, or waits behind an equal one that is still open.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::model::Millis;
use crate::storage::control::tickets::{EqualTo, NewTicket, TicketRow, TicketState};

/// A ticket that waits for another one may run by itself after this long, should that one be held
/// up. Then it looks again first.
pub(super) const WAITS_AT_MOST: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) enum Shared<'a> {
    AnswerOf(&'a TicketRow),
    Behind(&'a TicketRow),
}

pub(super) fn equal_to_new(ticket: &NewTicket) -> Option<EqualTo> {
    Some(EqualTo {
        ticket_id: ticket.ticket_id,
        project_id: ticket.project_id,
        body_hash: ticket.body_hash,
        data_version: ticket.data_version?,
    })
}

pub(super) fn equal_to(ticket: &TicketRow) -> Option<EqualTo> {
    Some(EqualTo {
        ticket_id: ticket.ticket_id,
        project_id: ticket.project_id,
        body_hash: ticket.body_hash,
        data_version: ticket.data_version?,
    })
}

/// The tickets that this process is taking in. Who has waited for a slot looks for equal ones once more only
/// when one has come meanwhile: under load all wait, and the look would be a message for each. Equal ones that
/// two processes take in at the same time both run.
#[derive(Default)]
pub(super) struct Arrivals(Mutex<HashMap<[u8; 32], Arriving>>);

#[derive(Default)]
struct Arriving {
    now: usize,
    /// Two at least have been here at the same time.
    met: bool,
}

/// One of them, until it is dropped.
pub(super) struct Arrival<'a> {
    arrivals: &'a Arrivals,
    body_hash: [u8; 32],
}

impl Arrivals {
    pub(super) fn enter(&self, body_hash: [u8; 32]) -> Arrival<'_> {
        let mut arriving = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let equal = arriving.entry(body_hash).or_default();
        equal.now += 1;
        equal.met |= equal.now > 1;
        Arrival { arrivals: self, body_hash }
    }
}

impl Arrival<'_> {
    /// Whether an equal one has been on its way at any time since it entered.
    pub(super) fn has_met(&self) -> bool {
        let arriving = self.arrivals.0.lock().unwrap_or_else(PoisonError::into_inner);
        arriving.get(&self.body_hash).is_some_and(|equal| equal.met)
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        let mut arriving = self.arrivals.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(equal) = arriving.get_mut(&self.body_hash) {
            equal.now -= 1;
            if equal.now == 0 {
                arriving.remove(&self.body_hash);
            }
        }
    }
}

/// What a new ticket can share. `kept_ms` is how long a result is kept.
pub(super) fn for_submission(equal: &[TicketRow], now: Millis, kept_ms: Millis) -> Option<Shared<'_>> {
    answer(equal, now, kept_ms)
        .or_else(|| equal.iter().find(|other| is_alive(other, now)).map(Shared::Behind))
}

/// What a ticket that was just leased can share. Of two that were leased in the same moment the
/// older runs and the younger waits; else they would wait for each other.
pub(super) fn for_leased<'a>(
    ticket: &TicketRow,
    equal: &'a [TicketRow],
    now: Millis,
    kept_ms: Millis,
) -> Option<Shared<'a>> {
    let older_run = |other: &&TicketRow| {
        other.state == TicketState::Running && other.ticket_id < ticket.ticket_id && is_alive(other, now)
    };
    answer(equal, now, kept_ms).or_else(|| equal.iter().find(older_run).map(Shared::Behind))
}

/// A shared result goes when the ticket that made it expires, so it must have half its life ahead.
/// A partial one is not offered again: what was missing may be back.
fn answer(equal: &[TicketRow], now: Millis, kept_ms: Millis) -> Option<Shared<'_>> {
    let good = |other: &&TicketRow| {
        other.state == TicketState::Succeeded
            && other.result.is_some()
            && !other.partial
            && other.expires_at > now + kept_ms / 2
    };
    equal.iter().find(good).map(Shared::AnswerOf)
}

/// Open, not itself waiting, and if it runs, under a lease that still holds.
fn is_alive(other: &TicketRow, now: Millis) -> bool {
    match other.state {
        TicketState::Queued => other.waits_for.is_none(),
        TicketState::Running => other.lease_until.is_some_and(|until| until > now),
        TicketState::Cancelling | TicketState::Succeeded | TicketState::Failed | TicketState::Cancelled => {
            false
        }
    }
}
