//! Asynchronous work: anything that may take longer than an instant is a ticket.
//!
//! A ticket is a row in the control database, so it survives the death of any replica and the loss
//! of Redis. What it does is its [`TicketKind`]; this module knows none of them, `app.rs` registers
//! them. [`Tickets`] is the whole interface: submit, get, wait, cancel, list, read the result, and
//! start and stop the worker of this process.
//!
//! ```text
//!             submit                       publish
//!   ─────────────────▶ queued ──lease──▶ running ─────────▶ succeeded
//!                       │ ▲ ▲             │ │ │ │
//!                       │ │ └──retry──────┘ │ │ └─fail────▶ failed
//!                       │ └──give back,     │ │
//!                       │    rescue─────────┘ cancel
//!                       │                     ▼
//!                       │ cancel          cancelling ─────▶ cancelled
//!                       └──────────────────────────────────────▲
//! ```
//!
//! A submission may also come in as `running`, when a slot is free; as `succeeded`, answered by an equal ticket;
//! and, when its submitter waits for its end, as `succeeded` with a result of its own (`tickets/unwritten.rs`).
//!
//! | state | who leaves it |
//! |---|---|
//! | `queued` | a worker with a free slot (lease); a caller (cancel); an equal ticket that succeeds (answered by its result); maintenance when a day has passed (`failed`, code `overdue`) |
//! | `running` | its runner: publish, fail, retry with backoff, or give back when its process stops (the attempt number is kept); a caller (cancel); maintenance when the lease has run out (rescue: queued again, `failed` after the third death) |
//! | `cancelling` | its runner when it has stopped, maintenance when the lease has run out |
//! | `succeeded`, `failed`, `cancelled` | nobody. The result is deleted at `expires_at`, the row a week later; in between the ticket is *gone* rather than unknown |
//!
//! Every move is one statement guarded by state and fence (`storage/control/tickets`), so late
//! runners, late rescuers and doubled calls change nothing. A runner renews its lease by heartbeat
//! and stops by itself before the lease ends when it cannot.
//!
//! A ticket of a kind that is owed ([`TicketKind::is_owed`]) is tried until it succeeds: attempts, deaths
//! of its runners and time do not end it, nor does a caller. An erasure ([`StoredAnswers`]) expires all
//! tickets of its project, and takes those that run from their runners: they run again.
//!
//! A large run may be split into steps ([`Steps`]), one a shard, that any replica runs and that a later
//! run of the same ticket does not repeat.

mod erase;
mod kind;
mod metrics;
mod result_key;
mod runner;
mod service;
mod sharing;
mod steps;
mod take_in;
mod ticket;
mod untold;
mod unwritten;
mod worker;

#[cfg(test)]
mod tests;

pub use crate::storage::control::tickets::{Failure, TicketProgress, TicketState};
pub use erase::{Names, StoredAnswers};
pub use kind::{
    InvalidBody, PrepareError, Prepared, Progress, RunError, StopReason, StopSignal, TicketKind,
    TicketOutput, TicketRun, fail, retry,
};
pub use service::{
    BODY_BYTES_MAX, Submit, SubmitError, Submitted, TicketError, TicketSettings, Tickets, TicketsParts,
};
pub use steps::{PARTIAL_TOO_LARGE, StepOutput, Steps, TicketStep};
pub use ticket::{Ticket, TicketPage, WaitFor};
pub use unwritten::WRITTEN_AFTER;

/// No request waits longer than this, whatever it asks for: a common gateway cuts at 30 s.
pub const WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(25);
