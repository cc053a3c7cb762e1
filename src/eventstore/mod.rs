//! The event store: journal → runs → segments.

mod block;
pub mod compaction;
#[cfg(test)]
mod fixture;
pub mod format;
pub mod forwarder;
mod objects;
pub mod person;
pub mod recent;
pub mod scan;
pub mod sealer;

pub use crate::telemetry::failpoint;
pub use block::{ABSENT, Bits, Dictionary, Numbers, PropertyColumn, RowBlock, ValueRef};
pub use objects::Placement;
