//! Tickets whose ids nobody has been told: whoever submitted one waits for its end in this process. So other
//! processes need not hear of it, but for its steps, which whoever runs it waits for; and what it became is
//! handed over without being read back. Nearly all questions are done before their tickets are told.
//!
//! Nobody is left waiting. A ticket changes in the database first; it is told before anybody elsewhere can
//! look for it there; and whoever waits looks before. Who learns of it another way, from a list or by
//! repeating an idempotency key, polls.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::model::TicketId;
use crate::storage::control::tickets::TicketRow;

#[derive(Clone, Default)]
pub struct Untold(Arc<Mutex<Tickets>>);

/// With those that have succeeded in this process as they are then, and their results.
type Tickets = HashMap<TicketId, Option<(TicketRow, Bytes)>>;

/// From when this is gone on the ticket may be told.
pub struct UntoldTicket {
    ticket: TicketId,
    of: Untold,
}

impl Untold {
    pub fn add(&self, ticket: TicketId) -> UntoldTicket {
        self.lock().insert(ticket, None);
        UntoldTicket { ticket, of: self.clone() }
    }

    pub fn contains(&self, ticket: TicketId) -> bool {
        self.lock().contains_key(&ticket)
    }

    /// It has ended as this, which is kept if anybody here waits for it.
    pub fn end(&self, ticket: TicketId, end: impl FnOnce() -> (TicketRow, Bytes)) {
        if let Some(kept) = self.lock().get_mut(&ticket) {
            *kept = Some(end());
        }
    }

    pub fn take_end(&self, ticket: TicketId) -> Option<(TicketRow, Bytes)> {
        self.lock().get_mut(&ticket)?.take()
    }

    fn lock(&self) -> MutexGuard<'_, Tickets> {
        self.0.lock().expect("no holder of this lock can panic")
    }
}

/// Without what others asked.
impl fmt::Debug for UntoldTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UntoldTicket").field(&self.ticket).finish()
    }
}

impl Drop for UntoldTicket {
    fn drop(&mut self) {
        self.of.lock().remove(&self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_untold_until_its_guard_is_gone() {
        let (untold, one, two) = (Untold::default(), TicketId([1; 16]), TicketId([2; 16]));
        let first = untold.add(one);
        let _second = untold.add(two);
        assert!(untold.contains(one) && untold.contains(two));
        drop(first);
        assert!(!untold.contains(one) && untold.contains(two));
    }
}
