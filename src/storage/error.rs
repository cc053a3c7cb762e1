//! What happened to the database, in variants chosen by what a caller would do.

#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The server is away, busy or shutting down: try again later.
    #[error("the database is unavailable ({name})")]
    Unavailable {
        name: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// A unique key or a guard said no: somebody else was first.
    #[error("conflict with an existing row ({name})")]
    Conflict { name: &'static str },
    /// Stored bytes are not what was written: page someone.
    #[error("{table}.{column} holds something unreadable: {detail}")]
    Corrupt { table: &'static str, column: &'static str, detail: String },
    /// The statement itself failed: a defect of ours or a broken schema.
    #[error("the statement {name} failed")]
    Query {
        name: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// The installation is not what the configuration says; the text tells what to do.
    #[error("{0}")]
    Refused(String),
}

impl StorageError {
    /// Whether the same call may succeed later without anybody's doing.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    pub fn corrupt(table: &'static str, column: &'static str, detail: impl Into<String>) -> Self {
        Self::Corrupt { table, column, detail: detail.into() }
    }

    pub(super) fn from_sqlx(name: &'static str, source: sqlx::Error) -> Self {
        match classify(&source) {
            Class::Conflict => Self::Conflict { name },
            Class::Unavailable | Class::Retry => Self::Unavailable { name, source },
            Class::Other => Self::Query { name, source },
        }
    }
}

/// What kind of failure an error of the driver is.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub(super) enum Class {
    Conflict,
    /// A deadlock, a lock wait that took too long, a busy SQLite file: the transaction may run again.
    Retry,
    Unavailable,
    Other,
}

pub(super) fn classify(error: &sqlx::Error) -> Class {
    use sqlx::Error as E;
    match error {
        E::Database(database) => {
            if database.is_unique_violation() {
                return Class::Conflict;
            }
            if let Some(mysql) = database.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
                return match mysql.number() {
                    // Lock wait timeout, deadlock, and a row changed since the snapshot (MariaDB).
                    1205 | 1213 | 1020 => Class::Retry,
                    // Shutdown, too many connections, killed, read-only, disk full, aborted.
                    1053
                    | 1040
                    | 1203
                    | 1317
                    | 1290
                    | 1836
                    | 1021
                    | 1114
                    | 1152
                    | 1158..=1161
                    | 1184
                    | 1927
                    | 3024
                    | 1969
                    | 4031 => Class::Unavailable,
                    _ => Class::Other,
                };
            }
            // SQLite: BUSY, LOCKED (with their extended codes), FULL, IOERR, CANTOPEN.
            match database.code().and_then(|code| code.parse::<i32>().ok()).map(|code| code & 0xff) {
                Some(5 | 6) => Class::Retry,
                Some(10 | 13 | 14) => Class::Unavailable,
                _ => Class::Other,
            }
        }
        E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::Protocol(_) => {
            Class::Unavailable
        }
        _ => Class::Other,
    }
}
