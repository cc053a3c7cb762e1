//! What becomes of a MySQL connection whose statement ran out of time.
//!
//! Its server may be frozen, or its packets lost: an answer can still come in an hour, in the middle of
//! somebody else's conversation. So such a connection is closed, never given back to the pool. Whether
//! the statement took effect is not known, as after any broken connection.

use sqlx::MySql;
use sqlx::pool::PoolConnection;
use tokio::time::error::Elapsed;

/// Gives the connection back when the statement ended, and closes it when time ran out.
pub(super) fn keep_or_close<T>(
    connection: PoolConnection<MySql>,
    ended: Result<Result<T, sqlx::Error>, Elapsed>,
) -> Result<T, sqlx::Error> {
    match ended {
        Ok(done) => done,
        Err(_) => {
            // Dropping it closes the socket at once; its own end would wait for the server.
            drop(connection.detach());
            Err(too_slow())
        }
    }
}

pub(super) fn too_slow() -> sqlx::Error {
    let text = "the database did not answer within storage.statement_secs_max";
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, text))
}
