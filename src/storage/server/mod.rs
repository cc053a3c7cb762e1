//! Statements of the server schema, one file a table.

pub mod journal;
