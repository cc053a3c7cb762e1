//! The only SQL. [`Db`] runs named statements on MySQL or SQLite; `control` and `server` hold the
//! statements of the two schemas; [`Shards`] knows which server holds which shard.

pub mod batch;
pub mod checkup;
mod clock;
pub mod control;
mod db;
mod error;
pub mod schema;
pub mod server;
mod shards;

#[cfg(test)]
pub(crate) mod conformance;

pub use clock::DatabaseClock;
pub use db::{
    AsStorageError, Db, Dialect, Dsn, PoolOptions, Read, Reads, Row, SHARDS_PER_STATEMENT, Sql, Statement,
    Tx, Value,
};
pub use error::StorageError;
pub use shards::{COMMIT_CONNECTIONS, Server, Shards, Storage, StorageSettings};
