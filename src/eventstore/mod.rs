//! The event store: journal → runs → segments.

mod block;
pub mod format;
pub mod sealer;

pub use crate::telemetry::failpoint;
pub use block::{ABSENT, Bits, Dictionary, Numbers, PropertyColumn, RowBlock, ValueRef};
