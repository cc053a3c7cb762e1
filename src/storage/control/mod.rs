//! The control database: accounts, projects, keys, tickets, and who holds which shard.

pub mod tickets;
