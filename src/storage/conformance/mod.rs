//! One suite for both back ends: every test gets a fresh database and runs on SQLite and on MariaDB.
//!
//! ```ignore
//! on_both! { async fn a_row_comes_back(db: Db) { … } }
//! ```
//! makes the tests `a_row_comes_back::sqlite` and `a_row_comes_back::mysql`. The server's address
//! comes from `WEIR_TEST_MYSQL` (`mysql://user:password@host:port`, no database); without it the
//! MySQL half fails, it is never left out.

mod access;
mod erasure;
mod failed_events;
mod journal;
mod leases;
mod links;
mod masks;
mod objects;
mod overview;
mod persons;
mod queries;
mod retention;
mod schema;

use std::time::Duration;

use super::{Db, Dsn, PoolOptions, Read, Reads};
use crate::model::{Random, SystemRandom};

pub const POOL: PoolOptions = PoolOptions {
    connections_max: 8,
    acquire_timeout: Duration::from_secs(5),
    statement_max: Duration::from_secs(30),
};

/// A fresh database that goes away with this value: a temporary folder, or a database on the server.
pub struct TestDatabase {
    pub dsn: Dsn,
    _folder: Option<tempfile::TempDir>,
}

pub fn fresh_sqlite() -> TestDatabase {
    let folder = tempfile::tempdir().expect("a temporary folder");
    TestDatabase { dsn: Dsn::Sqlite(folder.path().join("test.db")), _folder: Some(folder) }
}

pub async fn fresh_mysql() -> TestDatabase {
    let server = std::env::var("WEIR_TEST_MYSQL")
        .expect("WEIR_TEST_MYSQL names the test server; scripts/test starts one and sets it");
    let name = format!("weir_{:016x}", SystemRandom.next_u64());
    let mut connection =
        <sqlx::MySqlConnection as sqlx::Connection>::connect(&server).await.expect("the test server answers");
    sqlx::Executor::execute(&mut connection, sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .await
        .expect("a database can be created");
    TestDatabase { dsn: Dsn::MySql(format!("{}/{name}", server.trim_end_matches('/'))), _folder: None }
}

impl TestDatabase {
    pub fn open(&self) -> Db {
        Db::open(&self.dsn, POOL).expect("the address is readable")
    }

    /// With both schemas applied.
    pub async fn open_with_schemas(&self) -> Db {
        let db = self.open();
        super::schema::apply(&db, super::schema::Schema::Control).await.expect("the control schema applies");
        super::schema::apply(&db, super::schema::Schema::Server).await.expect("the server schema applies");
        db
    }
}

/// What one read finds by itself.
async fn read_one<T>(db: &Db, read: Read<T>) -> T {
    let mut reads = Reads::default();
    let place = reads.add(read);
    db.read_together(reads).await.unwrap().get(place).unwrap()
}

/// Runs an async test with a migrated database on both back ends.
macro_rules! on_both {
    ($(#[$meta:meta])* async fn $name:ident($db:ident: Db) $body:block) => {
        mod $name {
            #[allow(unused_imports, reason = "a test may need nothing of its file")]
            use super::*;

            async fn run($db: $crate::storage::Db) $body

            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                let database = $crate::storage::conformance::fresh_sqlite();
                run(database.open_with_schemas().await).await;
            }

            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn mysql() {
                let database = $crate::storage::conformance::fresh_mysql().await;
                run(database.open_with_schemas().await).await;
            }
        }
    };
}
pub(crate) use on_both;
