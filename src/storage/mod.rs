//! The only SQL. [`db`](Db) runs named statements on MySQL or SQLite; `control` and `server` hold
//! the statements of the two schemas; `shards` knows which server holds which shard.

mod db;
mod error;
pub mod schema;

pub use db::{AsStorageError, Db, Dialect, Dsn, PoolOptions, Row, Sql, Statement, Tx, Value};
pub use error::StorageError;
