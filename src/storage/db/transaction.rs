//! Transactions that always end: committed by us, or rolled back.

use futures_util::future::BoxFuture;
use sqlx::{MySql, Sqlite};

use super::{Pools, Row, Sql, Value, row};
use crate::storage::StorageError;

/// An open transaction. Ends with its closure; it cannot be kept.
pub struct Tx {
    inner: Inner,
}

enum Inner {
    MySql(sqlx::Transaction<'static, MySql>),
    Sqlite(sqlx::Transaction<'static, Sqlite>),
}

impl Tx {
    pub async fn execute(&mut self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<u64, StorageError> {
        let sql = sql.into();
        match &mut self.inner {
            Inner::MySql(tx) => {
                row::mysql_query(&sql, values).execute(&mut **tx).await.map(|done| done.rows_affected())
            }
            Inner::Sqlite(tx) => {
                row::sqlite_query(&sql, values).execute(&mut **tx).await.map(|done| done.rows_affected())
            }
        }
        .map_err(|error| StorageError::from_sqlx(sql.name, error))
    }

    /// Inserts into a table with an AUTO_INCREMENT key; the key.
    pub async fn insert(&mut self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<u64, StorageError> {
        let sql = sql.into();
        match &mut self.inner {
            Inner::MySql(tx) => {
                row::mysql_query(&sql, values).execute(&mut **tx).await.map(|done| done.last_insert_id())
            }
            Inner::Sqlite(tx) => row::sqlite_query(&sql, values)
                .execute(&mut **tx)
                .await
                .map(|done| done.last_insert_rowid() as u64),
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
            Inner::MySql(tx) => row::mysql_query(&sql, values)
                .fetch_all(&mut **tx)
                .await
                .map(|rows| rows.into_iter().map(|row| Row::mysql(name, row)).collect()),
            Inner::Sqlite(tx) => row::sqlite_query(&sql, values)
                .fetch_all(&mut **tx)
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

    async fn begin(pools: &Pools) -> Result<Self, StorageError> {
        let inner = match pools {
            Pools::MySql(pool) => pool.begin().await.map(Inner::MySql),
            // IMMEDIATE: a transaction that reads first and writes later would get BUSY at once.
            Pools::Sqlite { write, .. } => write.begin_with("BEGIN IMMEDIATE").await.map(Inner::Sqlite),
        };
        Ok(Self { inner: inner.map_err(|error| StorageError::from_sqlx("transaction.begin", error))? })
    }

    async fn commit(self) -> Result<(), StorageError> {
        match self.inner {
            Inner::MySql(tx) => tx.commit().await,
            Inner::Sqlite(tx) => tx.commit().await,
        }
        .map_err(|error| StorageError::from_sqlx("transaction.commit", error))
    }

    /// After a lock wait timeout the half that was done would still be committed by a COMMIT, so
    /// every error ends here.
    async fn rollback(self) {
        let ended = match self.inner {
            Inner::MySql(tx) => tx.rollback().await,
            Inner::Sqlite(tx) => tx.rollback().await,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "rollback failed; the connection is given up");
        }
    }
}

pub(super) async fn attempt<T, E, F>(pools: &Pools, work: &F) -> Result<T, E>
where
    E: From<StorageError>,
    F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>>,
{
    let mut tx = Tx::begin(pools).await?;
    match work(&mut tx).await {
        Ok(done) => {
            tx.commit().await?;
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
        Pools::MySql(pool) => {
            let mut connection = pool.acquire().await.map_err(failed)?;
            sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                .execute(&mut *connection)
                .await
                .map_err(failed)?;
            let begun = sqlx::Transaction::begin(
                connection,
                Some(sqlx::SqlStr::from_static("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")),
            );
            Inner::MySql(begun.await.map_err(failed)?)
        }
        Pools::Sqlite { read, .. } => Inner::Sqlite(read.begin().await.map_err(failed)?),
    };
    let mut tx = Tx { inner };
    let done = work(&mut tx).await;
    tx.rollback().await;
    done
}
