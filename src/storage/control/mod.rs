//! The statements of the control schema, one file for each group of tables that change together.

pub mod accounts;
pub mod keys;
pub mod members;
pub mod projects;
pub mod sessions;
pub mod tickets;

/// SHA-256 of a key or token: what is stored in its place.
pub type TokenHash = [u8; 32];
