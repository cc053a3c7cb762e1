//! The event store: journal → runs → segments.

mod block;
pub mod failpoint;

pub use block::{ABSENT, Bits, Dictionary, Numbers, PropertyColumn, RowBlock, ValueRef};
