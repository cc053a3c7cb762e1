//! Statements of the server schema, one file a table.

pub mod erasure;
pub mod failed_events;
pub mod journal;
pub mod lapsed;
pub mod leases;
pub mod links;
pub mod masks;
pub mod objects;
pub mod overview;
pub mod persons;
pub mod profiles;
pub mod tombstones;
