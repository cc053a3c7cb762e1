//! Where a database is, and how its connections are set up.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::runtime::Handle;

use super::heard::Heard;
use super::pool::MySqlPool;
use super::{Db, Pools};
use crate::storage::StorageError;

/// Where one database is: `mysql://user:password@host:port/database`, or a file.
#[derive(Clone, PartialEq, Eq)]
pub enum Dsn {
    MySql(String),
    Sqlite(PathBuf),
}

/// Never shows the password.
impl std::fmt::Debug for Dsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Dsn {
    /// `mysql://…` (`mariadb://…` is the same), or `sqlite:FILE`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(file) = text.strip_prefix("sqlite:") {
            return Ok(Self::Sqlite(PathBuf::from(file.strip_prefix("//").unwrap_or(file))));
        }
        let url = match text.strip_prefix("mariadb://") {
            Some(rest) => format!("mysql://{rest}"),
            None => text.to_owned(),
        };
        if !url.starts_with("mysql://") {
            return Err("expected mysql://user:password@host:port/database or sqlite:FILE".to_owned());
        }
        match MySqlConnectOptions::from_str(&url) {
            Ok(options) if options.get_database().is_none_or(str::is_empty) => {
                Err("the URL names no database: add it after the port, as in …:3306/weir".to_owned())
            }
            Ok(_) => Ok(Self::MySql(url)),
            // The driver's own words may repeat the URL and its password.
            Err(_) => Err("the URL cannot be read: special characters in the password must be \
                           percent-encoded"
                .to_owned()),
        }
    }

    /// Host, port and database of a server, or the file: what logs and `doctor` may show.
    pub fn shown(&self) -> String {
        match self {
            Self::MySql(url) => match MySqlConnectOptions::from_str(url) {
                Ok(options) => format!(
                    "mysql://{}:{}/{}",
                    options.get_host(),
                    options.get_port(),
                    options.get_database().unwrap_or_default()
                ),
                Err(_) => "mysql://(unreadable)".to_owned(),
            },
            Self::Sqlite(path) => path.display().to_string(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct PoolOptions {
    pub connections_max: u32,
    /// How long a caller waits for a free connection. Shorter than any client waits for an answer.
    pub acquire_timeout: Duration,
    /// How long one statement may take on MySQL. SQLite has no server that could be frozen.
    pub statement_max: Duration,
}

impl Db {
    /// Sets up the pool without connecting: a server that is away must not keep weir from starting.
    /// Needs a runtime: all that is asked of the database runs there.
    pub fn open(dsn: &Dsn, options: PoolOptions) -> Result<Self, StorageError> {
        let pools = match dsn {
            Dsn::MySql(url) => open_mysql(url, options)?,
            Dsn::Sqlite(path) => open_sqlite(path, options),
        };
        Ok(Self { pools, runtime: Handle::current(), heard: Heard::new() })
    }
}

fn open_mysql(url: &str, options: PoolOptions) -> Result<Pools, StorageError> {
    let connect = MySqlConnectOptions::from_str(url)
        .map_err(|error| StorageError::Refused(format!("the database URL cannot be read: {error}")))?
        .charset("utf8mb4")
        // One that does not fit ends another, and what that costs is said at `mysql_statement`.
        .statement_cache_capacity(256)
        .disable_statement_logging();
    let pool = MySqlPool::new(connect, options.connections_max, options.acquire_timeout);
    Ok(Pools::MySql { pool, statement_max: options.statement_max })
}

fn open_sqlite(path: &std::path::Path, options: PoolOptions) -> Pools {
    let connect = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // FULL: an answer of 200 means on disk, also when the power fails.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(10))
        .foreign_keys(false)
        .disable_statement_logging();
    let write = SqlitePoolOptions::new()
        .max_connections(1)
        // The embedded writer is shared by everything in this process, and each wait is short.
        .acquire_timeout(options.acquire_timeout.max(Duration::from_secs(10)))
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(connect.clone());
    let read = SqlitePoolOptions::new()
        .max_connections(options.connections_max.clamp(1, 4))
        .acquire_timeout(options.acquire_timeout.max(Duration::from_secs(10)))
        .idle_timeout(Duration::from_secs(60))
        .max_lifetime(None)
        .connect_lazy_with(connect);
    Pools::Sqlite { write, read }
}
