//! One database, MySQL or SQLite, behind named statements.
//!
//! * A [`Statement`] carries its name and its text for both dialects; [`statement!`] writes it once
//!   when both understand the same words. Binds are [`Value`]s, answers are [`Row`]s read by index.
//! * **Every call runs in a task of its own.** actix drops a handler's future when its client
//!   disconnects, and a dropped sqlx future can leave a connection inside a transaction or out of
//!   step with its server (seen); here only the waiting is dropped, never the database future.
//! * On MySQL every statement has a deadline ([`PoolOptions::statement_max`]): a server that is frozen
//!   or whose packets are lost would otherwise hold its callers for as long as TCP likes.
//! * [`Db::transaction`] begins (IMMEDIATE on SQLite, READ COMMITTED on MySQL), runs the closure,
//!   commits, and runs it again after a deadlock; any error rolls back. [`Db::snapshot`] gives
//!   several reads one point in time, [`Db::read_together`] does with one message.

mod connect;
mod deadline;
mod heard;
mod pool;
#[cfg(test)]
mod ran;
mod row;
mod statement;
mod together;
mod transaction;

use std::time::Duration;

pub use connect::{Dsn, PoolOptions};
pub use row::{Row, Value};
pub(crate) use statement::statement;
pub use statement::{OfShards, SHARDS_PER_STATEMENT, Sql, Statement};
pub use together::{Read, Reads};
pub use transaction::Tx;

use futures_util::future::BoxFuture;
use heard::Heard;
pub(super) use pool::MySqlPool;
use sqlx::SqlitePool;
use tokio::runtime::Handle;

use super::StorageError;
use super::error::{Class, classify};
use crate::model::Millis;
use crate::telemetry::queries::{carried, timed};

static NOW: Statement = statement!(
    "clock.now",
    mysql: "SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
    sqlite: "SELECT CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)",
);

/// How often a transaction that met a deadlock is run in all.
const TRANSACTION_ATTEMPTS: u32 = 4;

#[derive(Clone)]
pub struct Db {
    pools: Pools,
    /// The runtime it was opened on. A connection belongs to the runtime that made it, and those of
    /// HTTP's threads end before the last commit, seal or ticket does.
    runtime: Handle,
    heard: Heard,
}

#[derive(Clone)]
pub(super) enum Pools {
    MySql {
        pool: MySqlPool,
        /// A statement that takes longer is given up together with its connection.
        statement_max: Duration,
    },
    /// SQLite takes one writer at a time: the queue in front of it is the pool of one connection.
    Sqlite { write: SqlitePool, read: SqlitePool },
}

/// What a statement did.
struct Done {
    rows: u64,
    inserted_id: u64,
}

impl From<sqlx::mysql::MySqlQueryResult> for Done {
    fn from(done: sqlx::mysql::MySqlQueryResult) -> Self {
        Self { rows: done.rows_affected(), inserted_id: done.last_insert_id() }
    }
}

impl From<sqlx::sqlite::SqliteQueryResult> for Done {
    fn from(done: sqlx::sqlite::SqliteQueryResult) -> Self {
        Self { rows: done.rows_affected(), inserted_id: done.last_insert_rowid() as u64 }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    MySql,
    Sqlite,
}

impl Db {
    pub fn dialect(&self) -> Dialect {
        match &self.pools {
            Pools::MySql { .. } => Dialect::MySql,
            Pools::Sqlite { .. } => Dialect::Sqlite,
        }
    }

    /// Runs one autocommit statement; the number of rows it changed (on MySQL: matched).
    pub async fn execute(&self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<u64, StorageError> {
        Ok(self.run(sql.into(), values).await?.rows)
    }

    /// Inserts into a table with an AUTO_INCREMENT key; the key.
    pub async fn insert(&self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<u64, StorageError> {
        Ok(self.run(sql.into(), values).await?.inserted_id)
    }

    async fn run(&self, sql: Sql, values: Vec<Value>) -> Result<Done, StorageError> {
        let pools = self.pools.clone();
        let done = self.in_task(timed(async move {
            let name = sql.name;
            match &pools {
                Pools::MySql { pool, statement_max } => {
                    let mut connection =
                        pool.borrow().await.map_err(|error| StorageError::from_sqlx(name, error))?;
                    let query = row::mysql_statement(&sql, values).execute(&mut connection);
                    let ended = tokio::time::timeout(*statement_max, query).await;
                    deadline::keep_or_close(connection, ended).map(Done::from)
                }
                Pools::Sqlite { write, .. } => {
                    row::sqlite_query(&sql, values).execute(write).await.map(Done::from)
                }
            }
            .map_err(|error| StorageError::from_sqlx(name, error))
        }));
        self.heard.noted(done.await)
    }

    pub async fn fetch_all(&self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<Vec<Row>, StorageError> {
        let sql = sql.into();
        let pools = self.pools.clone();
        let done = self.in_task(timed(async move {
            let name = sql.name;
            match &pools {
                Pools::MySql { pool, statement_max } => {
                    let mut connection =
                        pool.borrow().await.map_err(|error| StorageError::from_sqlx(name, error))?;
                    let query = row::mysql_statement(&sql, values).fetch_all(&mut connection);
                    let ended = tokio::time::timeout(*statement_max, query).await;
                    deadline::keep_or_close(connection, ended)
                        .map(|rows| rows.into_iter().map(|row| Row::mysql(name, row)).collect())
                }
                Pools::Sqlite { read, .. } => row::sqlite_query(&sql, values)
                    .fetch_all(read)
                    .await
                    .map(|rows| rows.into_iter().map(|row| Row::sqlite(name, row)).collect()),
            }
            .map_err(|error| StorageError::from_sqlx(name, error))
        }));
        self.heard.noted(done.await)
    }

    pub async fn fetch_optional(
        &self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<Option<Row>, StorageError> {
        Ok(self.fetch_all(sql, values).await?.into_iter().next())
    }

    /// Runs `work` in a transaction, again after a deadlock (so it must not change anything outside).
    ///
    /// ```ignore
    /// db.transaction(move |tx| Box::pin(async move { tx.execute(&INSERT, values![1]).await })).await?
    /// ```
    pub async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StorageError> + AsStorageError + Send + 'static,
        F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'static,
    {
        self.transact(None, work).await
    }

    /// The same after a statement that is committed by itself on the transaction's own connection.
    pub async fn transaction_after<T, E, F>(
        &self,
        first: (&'static Statement, Vec<Value>),
        work: F,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StorageError> + AsStorageError + Send + 'static,
        F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'static,
    {
        self.transact(Some(first), work).await
    }

    async fn transact<T, E, F>(
        &self,
        first: Option<(&'static Statement, Vec<Value>)>,
        work: F,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StorageError> + AsStorageError + Send + 'static,
        F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'static,
    {
        let (db, work) = (self.clone(), std::sync::Arc::new(work));
        let done = self.in_task(again_after_deadlock(move || {
            let (db, first, work) = (db.clone(), first.clone(), work.clone());
            async move { transaction::attempt(&db.pools, first.as_ref(), &*work).await }
        }));
        self.heard.noted(done.await)
    }

    /// Runs reads that belong together at one point in time.
    pub async fn snapshot<T, F>(&self, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, StorageError>> + Send + 'static,
    {
        let db = self.clone();
        let done = self.in_task(async move { transaction::snapshot(&db.pools, work).await });
        self.heard.noted(done.await)
    }

    /// How long ago it last did what it was asked to; `None`: never yet.
    pub fn heard_before(&self) -> Option<Duration> {
        self.heard.before()
    }

    /// The database's own clock, in milliseconds: leases and freshness are judged by it.
    pub async fn now_ms(&self) -> Result<Millis, StorageError> {
        let row = self.fetch_optional(&NOW, vec![]).await?;
        row.ok_or_else(|| StorageError::corrupt("clock", "now", "no row"))?.i64(0)
    }

    pub(super) fn pools(&self) -> &Pools {
        &self.pools
    }

    /// Runs a database future to its end even when the caller stops waiting.
    async fn in_task<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        match self.runtime.spawn(carried(work)).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Only when the runtime itself is shutting down: nobody is left to hear an answer.
            Err(_) => std::future::pending().await,
        }
    }

    pub async fn close(&self) {
        match &self.pools {
            Pools::MySql { pool, .. } => pool.close().await,
            Pools::Sqlite { write, read } => {
                read.close().await;
                write.close().await;
            }
        }
    }
}

/// Does `attempt` again when it met a deadlock: so it must not change anything outside.
async fn again_after_deadlock<T, E, A>(attempt: impl Fn() -> A) -> Result<T, E>
where
    E: AsStorageError,
    A: Future<Output = Result<T, E>>,
{
    let mut attempts = 1;
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let again = error.as_storage_error().is_some_and(is_retry);
        if !again || attempts == TRANSACTION_ATTEMPTS {
            return Err(error);
        }
        // Two transactions that met once would meet again without jitter.
        let jitter_ms = rand::Rng::random_range(&mut jitter(), 1..=20 * u64::from(attempts));
        tokio::time::sleep(Duration::from_millis(jitter_ms)).await;
        attempts += 1;
    }
}

/// Lets [`Db::transaction`] see whether a caller's own error is a deadlock underneath.
pub trait AsStorageError {
    fn as_storage_error(&self) -> Option<&StorageError>;
}

impl AsStorageError for StorageError {
    fn as_storage_error(&self) -> Option<&StorageError> {
        Some(self)
    }
}

fn is_retry(error: &StorageError) -> bool {
    match error {
        StorageError::Unavailable { source, .. } => classify(source) == Class::Retry,
        _ => false,
    }
}

#[expect(clippy::disallowed_methods, reason = "a pause's length needs no seed: nothing is decided by it")]
fn jitter() -> impl rand::Rng {
    rand::rng()
}
