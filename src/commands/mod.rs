//! The subcommands of the one binary: what each takes, and what it does.

pub mod generate;
