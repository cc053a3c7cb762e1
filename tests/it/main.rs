//! The integration tests, in one binary: rules about the source, and the real binary driven from
//! outside over the command line and HTTP, on the embedded store and on MariaDB servers of their own.

mod architecture;
mod facts;
mod frozen;
mod generated;
mod kill;
mod ledger;
mod operators;
mod oracle;
mod pages;
mod redis;
mod reference;
mod roles;
mod segment;
mod shards;
mod spill;
mod split;
mod support;
