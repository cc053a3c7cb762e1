//! The two schemas and how they are applied: `control` once per installation, `server` on every server.
//!
//! Each line of migrations has its own table of applied versions, so both can live in one
//! database. Each version is one idempotent CREATE or ALTER: MySQL commits DDL by itself, so a
//! version that was interrupted half-way is simply run again. A lock keeps replicas that start
//! together apart.

use std::borrow::Cow;
use std::path::Path;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, SqlitePool};

use super::StorageError;
use super::db::{Db, MySqlPool, Pools};

static MYSQL_CONTROL: Migrator = sqlx::migrate!("migrations/mysql/control");
static MYSQL_SERVER: Migrator = sqlx::migrate!("migrations/mysql/server");
static SQLITE_CONTROL: Migrator = sqlx::migrate!("migrations/sqlite/control");
static SQLITE_SERVER: Migrator = sqlx::migrate!("migrations/sqlite/server");

/// How long a replica waits for another one that is applying migrations.
const LOCK_WAIT_SECS: i64 = 60;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Schema {
    Control,
    Server,
}

impl Schema {
    fn table(self) -> &'static str {
        match self {
            Self::Control => "weir_control_migrations",
            Self::Server => "weir_server_migrations",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Server => "server",
        }
    }
}

/// Applies what is missing. Safe to call from many processes at once, and again after a crash.
pub async fn apply(db: &Db, schema: Schema) -> Result<(), StorageError> {
    let applied = match db.pools() {
        Pools::MySql { pool, .. } => {
            let migrations = match schema {
                Schema::Control => &MYSQL_CONTROL,
                Schema::Server => &MYSQL_SERVER,
            };
            apply_mysql(pool, schema, migrations).await
        }
        Pools::Sqlite { write, .. } => {
            let migrations = match schema {
                Schema::Control => &SQLITE_CONTROL,
                Schema::Server => &SQLITE_SERVER,
            };
            apply_sqlite(write, schema, migrations).await
        }
    };
    applied.map_err(|error| explain(schema, error))
}

fn prepared(migrations: &'static Migrator, schema: Schema) -> Migrator {
    Migrator {
        migrations: Cow::Borrowed(&migrations.migrations),
        // A newer release may have gone ahead: what it added, this one does not need.
        ignore_missing: true,
        // Our own lock also covers the clean-up of an interrupted version.
        locking: false,
        table_name: Cow::Borrowed(schema.table()),
        ..Migrator::DEFAULT
    }
}

async fn apply_mysql(
    pool: &MySqlPool,
    schema: Schema,
    migrations: &'static Migrator,
) -> Result<(), MigrateError> {
    let mut connection = pool.connect().await?;
    let lock = "SELECT GET_LOCK(CONCAT('weir-migrations-', LEFT(DATABASE(), 40)), ?)";
    let locked: Option<i64> =
        sqlx::query_scalar(lock).bind(LOCK_WAIT_SECS).fetch_one(&mut connection).await?;
    if locked != Some(1) {
        return Err(MigrateError::Execute(sqlx::Error::PoolTimedOut));
    }
    let clean = match schema {
        Schema::Control => "DELETE FROM weir_control_migrations WHERE success = FALSE",
        Schema::Server => "DELETE FROM weir_server_migrations WHERE success = FALSE",
    };
    // Fails on the very first start, when there is no such table yet.
    let _ = sqlx::query(clean).execute(&mut connection).await;
    let applied = prepared(migrations, schema).run_direct(None, &mut connection, false).await;
    // The lock ends with the connection.
    let _ = connection.close().await;
    applied
}

async fn apply_sqlite(
    pool: &SqlitePool,
    schema: Schema,
    migrations: &'static Migrator,
) -> Result<(), MigrateError> {
    let file = pool.connect_options().get_filename().to_owned();
    let lock = tokio::task::spawn_blocking(move || lock_beside(&file))
        .await
        .map_err(|error| MigrateError::Execute(sqlx::Error::Io(std::io::Error::other(error))))?
        .map_err(|error| MigrateError::Execute(sqlx::Error::Io(error)))?;
    let mut connection = pool.acquire().await?;
    let applied = prepared(migrations, schema).run_direct(None, &mut *connection, false).await;
    drop(lock);
    applied
}

/// SQLite has no advisory lock: a locked file beside the database, released with its handle.
fn lock_beside(database: &Path) -> std::io::Result<std::fs::File> {
    let mut name = database.as_os_str().to_owned();
    name.push("-migrations-lock");
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(name)?;
    file.lock()?;
    Ok(file)
}

fn explain(schema: Schema, error: MigrateError) -> StorageError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            StorageError::from_sqlx("schema.apply", error)
        }
        MigrateError::VersionMismatch(version) => StorageError::Refused(format!(
            "version {version} of the {} schema was applied with other text than this release has; \
             use the release that applied it, or restore a backup",
            schema.name()
        )),
        other => StorageError::Refused(format!("the {} schema cannot be applied: {other}", schema.name())),
    }
}
