//! The integration tests, in one binary: rules about the source, and the real binary driven from
//! outside over the command line and HTTP, on the embedded store and on MariaDB servers of their own.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "figures that a test prints are read in its log"
)]

mod architecture;
mod ask;
mod backup;
mod commands;
mod erasure;
mod facts;
mod follow;
mod frozen;
mod generated;
mod kill;
mod ledger;
mod moves;
mod names;
mod operators;
mod oracle;
mod pages;
mod persons;
mod pressure;
mod redis;
mod reference;
mod replicas;
mod retention;
mod roles;
mod rollups;
mod segment;
mod shards;
mod shipped;
mod spill;
mod split;
mod support;
mod tls;
mod weir_js;
