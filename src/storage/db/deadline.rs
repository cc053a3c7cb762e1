//! What becomes of a MySQL connection whose statement ran out of time.
//!
//! Its server may be frozen, or its packets lost: an answer can still come in an hour, in the middle of
//! somebody else's conversation. So such a connection is closed, never given back to the pool. Whether
//! the statement took effect is not known, as after any broken connection.

use tokio::time::error::Elapsed;

use super::pool::Borrowed;

/// Gives the connection back when the statement ended, and closes it when time ran out.
pub(super) fn keep_or_close<T>(
    connection: Borrowed,
    ended: Result<Result<T, sqlx::Error>, Elapsed>,
) -> Result<T, sqlx::Error> {
    let done = ended.unwrap_or_else(|_| Err(too_slow()));
    match &done {
        Ok(_) => connection.give_back(),
        Err(error) => connection.give_back_after(error),
    }
    done
}

pub(super) fn too_slow() -> sqlx::Error {
    let text = "the database did not answer within storage.statement_secs_max";
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::storage::conformance::{POOL, fresh_mysql};
    use crate::storage::db::{PoolOptions, Sql, Statement, Tx, statement};
    use crate::storage::{Db, StorageError};
    use crate::values;

    static SLEEP: Statement = statement!("tests.sleep", mysql: "SELECT SLEEP(?)", sqlite: "SELECT ?");
    static CONNECTION: Statement =
        statement!("tests.connection", mysql: "SELECT CONNECTION_ID()", sqlite: "SELECT 0");

    /// With a single connection, so that one which is not closed would be met again.
    async fn impatient() -> Db {
        let statement_max = Duration::from_millis(300);
        let database = fresh_mysql().await;
        Db::open(&database.dsn, PoolOptions { connections_max: 1, statement_max, ..POOL }).unwrap()
    }

    fn is_away<T>(done: Result<T, StorageError>) {
        let failed = done.err().expect("it takes longer than its deadline");
        assert!(matches!(failed, StorageError::Unavailable { .. }), "{failed:?}");
    }

    async fn connection_id(db: &Db) -> u64 {
        db.fetch_optional(&CONNECTION, vec![]).await.unwrap().unwrap().u64(0).unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_statement_that_takes_too_long_costs_its_connection_and_no_more() {
        let db = impatient().await;
        let before = connection_id(&db).await;
        is_away(db.fetch_all(&SLEEP, values![20_i64]).await);
        let between = connection_id(&db).await;
        assert_ne!(before, between);
        is_away(db.execute(&SLEEP, values![20_i64]).await);
        assert_ne!(between, connection_id(&db).await);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_writes_into_a_transaction_that_was_left_open() {
        let db = impatient().await;
        let before = connection_id(&db).await;
        let left = tokio::spawn({
            let db = db.clone();
            async move {
                let tried = db.transaction(|_: &mut Tx| {
                    Box::pin(async { panic!("in the middle of it") as Result<(), StorageError> })
                });
                tried.await
            }
        });
        assert!(left.await.unwrap_err().is_panic());
        assert_ne!(before, connection_id(&db).await, "it is closed, and the transaction with it");
        let before = connection_id(&db).await;
        db.transaction(|_: &mut Tx| Box::pin(async { Ok::<(), StorageError>(()) })).await.unwrap();
        let failed = db.transaction(|_: &mut Tx| {
            Box::pin(async { Err::<(), _>(StorageError::Refused("by its closure".into())) })
        });
        failed.await.unwrap_err();
        assert_eq!(before, connection_id(&db).await, "who has ended goes back");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_transaction_that_takes_too_long_is_over() {
        let db = impatient().await;
        let before = connection_id(&db).await;
        let tried = db.transaction(|tx: &mut Tx| {
            Box::pin(async move {
                is_away(tx.execute(&SLEEP, values![20_i64]).await);
                // What follows must not reach a server that may wake up in the middle of it.
                is_away(tx.fetch_all(Sql::from(&CONNECTION), vec![]).await);
                Ok::<(), StorageError>(())
            })
        });
        is_away(tried.await);
        assert_ne!(before, connection_id(&db).await);
    }
}
