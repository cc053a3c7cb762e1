//! Transactions that always end: committed by us, or rolled back.

use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::Sqlite;

use super::pool::{Borrowed, MySqlPool};
use super::{Done, Pools, Row, Sql, Statement, Value, deadline, row};
use crate::storage::StorageError;
use crate::telemetry::queries::timed;

/// IMMEDIATE: a transaction of SQLite that reads first and writes later would get BUSY at once.
pub(super) const BEGIN_WRITE: &str = "BEGIN IMMEDIATE";

/// An open transaction. Ends with its closure; it cannot be kept.
pub struct Tx {
    inner: Inner,
}

enum Inner {
    MySql(MySqlTx),
    Sqlite(sqlx::Transaction<'static, Sqlite>),
}

/// Begun and ended by statements of its own, since each of them needs a deadline.
///
/// The connection goes back to the pool only when the server has said that the transaction is over: left
/// open, whoever borrows it next would write into it, and what they wrote would vanish with it. So one
/// that ends in any other way (its closure panics, its end fails) is closed.
struct MySqlTx {
    connection: Borrowed,
    statement_max: Duration,
    /// A statement ran out of time: the connection is out of step with its server.
    is_lost: bool,
}

impl MySqlTx {
    async fn begin(
        pool: &MySqlPool,
        statement_max: Duration,
        text: &'static str,
    ) -> Result<Self, sqlx::Error> {
        let mut tx = Self::borrow(pool, statement_max).await?;
        tx.control(text).await?;
        Ok(tx)
    }

    /// Without a transaction yet.
    async fn borrow(pool: &MySqlPool, statement_max: Duration) -> Result<Self, sqlx::Error> {
        Ok(Self { connection: pool.borrow().await?, statement_max, is_lost: false })
    }

    async fn control(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        let statement_max = self.statement_max;
        let statement = sqlx::raw_sql(text).execute(&mut *self.connection);
        let ended = tokio::time::timeout(statement_max, statement).await;
        self.note(ended).map(drop)
    }

    fn note<T>(
        &mut self,
        ended: Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, sqlx::Error> {
        ended.unwrap_or_else(|_| {
            self.is_lost = true;
            Err(deadline::too_slow())
        })
    }

    async fn end(mut self, text: &'static str) -> Result<(), sqlx::Error> {
        if self.is_lost {
            return Err(deadline::too_slow());
        }
        self.control(text).await?;
        self.connection.give_back();
        Ok(())
    }
}

impl Tx {
    pub async fn execute(&mut self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<u64, StorageError> {
        Ok(self.run(sql.into(), values).await?.rows)
    }

    /// Inserts into a table with an AUTO_INCREMENT key; the key.
    pub async fn insert(&mut self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<u64, StorageError> {
        Ok(self.run(sql.into(), values).await?.inserted_id)
    }

    async fn run(&mut self, sql: Sql, values: Vec<Value>) -> Result<Done, StorageError> {
        match &mut self.inner {
            Inner::MySql(tx) if tx.is_lost => Err(deadline::too_slow()),
            Inner::MySql(tx) => {
                let statement_max = tx.statement_max;
                let query = row::mysql_statement(&sql, values).execute(&mut tx.connection);
                let ended = timed(tokio::time::timeout(statement_max, query)).await;
                tx.note(ended).map(Done::from)
            }
            Inner::Sqlite(tx) => {
                timed(row::sqlite_query(&sql, values).execute(&mut **tx)).await.map(Done::from)
            }
        }
        .map_err(|error| StorageError::from_sqlx(sql.name, error))
    }

    pub async fn fetch_all(
        &mut self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StorageError> {
        let sql = sql.into();
        let name = sql.name;
        match &mut self.inner {
            Inner::MySql(tx) if tx.is_lost => Err(deadline::too_slow()),
            Inner::MySql(tx) => {
                let statement_max = tx.statement_max;
                let query = row::mysql_statement(&sql, values).fetch_all(&mut tx.connection);
                let ended = timed(tokio::time::timeout(statement_max, query)).await;
                tx.note(ended).map(|rows| rows.into_iter().map(|row| Row::mysql(name, row)).collect())
            }
            Inner::Sqlite(tx) => timed(row::sqlite_query(&sql, values).fetch_all(&mut **tx))
                .await
                .map(|rows| rows.into_iter().map(|row| Row::sqlite(name, row)).collect()),
        }
        .map_err(|error| StorageError::from_sqlx(name, error))
    }

    pub async fn fetch_optional(
        &mut self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<Option<Row>, StorageError> {
        Ok(self.fetch_all(sql, values).await?.into_iter().next())
    }

    /// `first` is run on the transaction's connection before it begins.
    async fn begin(pools: &Pools, first: Option<&First>) -> Result<Self, StorageError> {
        let failed = |error| StorageError::from_sqlx("transaction.begin", error);
        let inner = match pools {
            Pools::MySql { pool, statement_max } => {
                let mut tx = MySqlTx::borrow(pool, *statement_max).await.map_err(failed)?;
                if let Some((statement, values)) = first {
                    let query = row::mysql_statement(&Sql::from(*statement), values.clone());
                    let ended = tokio::time::timeout(*statement_max, query.execute(&mut tx.connection)).await;
                    tx.note(ended).map_err(failed)?;
                }
                tx.control("START TRANSACTION").await.map_err(failed)?;
                Inner::MySql(tx)
            }
            Pools::Sqlite { write, .. } => {
                let mut connection = write.acquire().await.map_err(failed)?;
                if let Some((statement, values)) = first {
                    let query = row::sqlite_query(&Sql::from(*statement), values.clone());
                    query.execute(&mut *connection).await.map_err(failed)?;
                }
                let begin = sqlx::SqlStr::from_static(BEGIN_WRITE);
                Inner::Sqlite(sqlx::Transaction::begin(connection, Some(begin)).await.map_err(failed)?)
            }
        };
        Ok(Self { inner })
    }

    async fn commit(self) -> Result<(), StorageError> {
        match self.inner {
            Inner::MySql(tx) => tx.end("COMMIT").await,
            Inner::Sqlite(tx) => tx.commit().await,
        }
        .map_err(|error| StorageError::from_sqlx("transaction.commit", error))
    }

    /// After a lock wait timeout the half that was done would still be committed by a COMMIT, so
    /// every error ends here.
    async fn rollback(self) {
        let ended = match self.inner {
            Inner::MySql(tx) => tx.end("ROLLBACK").await,
            Inner::Sqlite(tx) => tx.rollback().await,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "rollback failed; the connection is given up");
        }
    }
}

/// A statement and its binds.
pub(super) type First = (&'static Statement, Vec<Value>);

pub(super) async fn attempt<T, E, F>(pools: &Pools, first: Option<&First>, work: &F) -> Result<T, E>
where
    E: From<StorageError>,
    F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>>,
{
    let mut tx = timed(Tx::begin(pools, first)).await?;
    match work(&mut tx).await {
        Ok(done) => {
            timed(tx.commit()).await?;
            Ok(done)
        }
        Err(error) => {
            tx.rollback().await;
            Err(error)
        }
    }
}

pub(super) async fn snapshot<T, F>(pools: &Pools, work: F) -> Result<T, StorageError>
where
    F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, StorageError>>,
{
    let failed = |error| StorageError::from_sqlx("snapshot.begin", error);
    let inner = match pools {
        // The session's level is READ COMMITTED; this one transaction reads at a single point.
        Pools::MySql { pool, statement_max } => {
            let begun = MySqlTx::begin(
                pool,
                *statement_max,
                // Two statements, one way there and back.
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
                 START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
            );
            Inner::MySql(timed(begun).await.map_err(failed)?)
        }
        Pools::Sqlite { read, .. } => Inner::Sqlite(timed(read.begin()).await.map_err(failed)?),
    };
    let mut tx = Tx { inner };
    let done = work(&mut tx).await;
    // It has changed nothing, so nobody waits for its end.
    tokio::spawn(tx.rollback());
    done
}
