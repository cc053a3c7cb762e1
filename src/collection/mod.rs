//! Collection: from the body of a request to committed batches, and an outcome for every event.
//!
//! ```text
//! body ── payload ──▶ text ── protocols ──▶ RawEvent ── validate ──▶ record ── route ──▶ Piece
//!         read, inflate      one file a        as sent     judged,      encoded           of a shard
//!         under caps         vendor                        corrected        │
//!                                                                           ▼
//!              answer ◀── Collected ◀── every commit done ◀── committer ── journal
//! ```
//!
//! * [`Collector`] is the whole of it: HTTP gives it a [`payload::read_body`]'s result and a key, `weir
//!   import` gives it lines. It knows no HTTP.
//! * [`outcome`] holds the words: a [`Reason`] rejects one event, a [`CollectError`] refuses a request,
//!   [`Unavailable`] asks for it again.
//! * Nothing is looked up in a database on the way: keys are remembered ([`keys`]), routing is a hash.
//! * Memory is bounded by two [`budget::Budget`]s (bodies, records) and by each limit of
//!   [`CollectionConfig`].

pub mod budget;
mod cardinality;
mod collector;
pub mod committer;
pub mod keys;
mod metrics;
pub mod outcome;
pub mod payload;
mod properties;
pub mod protocols;
pub mod raw_event;
mod rejected;
mod timestamp;
mod validate;

pub use collector::{Collector, CollectorParts};
pub use metrics::CollectMetrics;
pub use outcome::{CollectError, Collected, Reason, RejectedEvent, Rejection, Unavailable};
pub use rejected::RejectedEvents;

#[cfg(doc)]
use crate::config::CollectionConfig;
