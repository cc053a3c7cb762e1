//! The connections to one MySQL server.
//!
//! sqlx's own pool asks each connection that comes back whether it works: another way there and back for
//! every statement. deadpool, which keeps Redis' connections too, hands it to the next as it is.
//!
//! * A connection goes back only by [`Borrowed::give_back`], when its conversation is known to be over.
//!   One that is dropped in any other way is closed, and whatever its server was doing with it.
//! * It is asked whether it works when there is a doubt: it was idle for long, or another of this pool has
//!   broken since it came back, as all do when the server ends. So statements that come one after the other
//!   meet one dead connection, and not as many as there are.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool::managed::{
    Manager, Metrics, Object, Pool, PoolConfig, PoolError, QueueMode, RecycleError, RecycleResult,
};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, MySqlConnection};

use crate::storage::error::{Class, classify};

/// For so long an idle connection is taken for one that works.
const IDLE_TRUSTED: Duration = Duration::from_millis(250);
/// Who is asked whether it works answers within this time, or does not.
const PING_MAX: Duration = Duration::from_millis(500);
/// The one that was used last is used next, so those that are not needed become idle. They are closed while
/// others are used: a pool that nobody uses keeps what it has.
const IDLE_MAX: Duration = Duration::from_secs(300);
const AGE_MAX: Duration = Duration::from_secs(1_800);
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Between two tries to connect to a server that is not there.
const CONNECT_PAUSE_MIN: Duration = Duration::from_millis(10);
const CONNECT_PAUSE_MAX: Duration = Duration::from_millis(400);
const CLOSE_PAUSE: Duration = Duration::from_millis(5);

#[derive(Clone)]
pub struct MySqlPool {
    connections: Pool<Connections>,
    /// How long a caller waits for a connection that works.
    acquire_timeout: Duration,
}

/// A connection, and closed when it is not given back.
pub struct Borrowed(Option<Object<Connections>>);

struct Connections {
    options: MySqlConnectOptions,
    /// When one was last closed for not working.
    broke: Mutex<Option<Instant>>,
    /// Why connecting was last put off.
    refused: Mutex<Option<sqlx::Error>>,
    swept: Mutex<Instant>,
}

struct Kept {
    connection: MySqlConnection,
    returned: Instant,
}

impl MySqlPool {
    /// Connects to nothing yet.
    pub fn new(options: MySqlConnectOptions, connections_max: u32, acquire_timeout: Duration) -> Self {
        let connections = Connections {
            options,
            broke: Mutex::default(),
            refused: Mutex::default(),
            swept: Mutex::new(Instant::now()),
        };
        let mut config = PoolConfig::new(connections_max as usize);
        config.queue_mode = QueueMode::Lifo;
        let pool = Pool::builder(connections).config(config).build();
        Self { connections: pool.expect("without timeouts it needs no runtime"), acquire_timeout }
    }

    pub async fn borrow(&self) -> Result<Borrowed, sqlx::Error> {
        self.sweep();
        match tokio::time::timeout(self.acquire_timeout, self.connections.get()).await {
            Ok(Ok(object)) => Ok(Borrowed(Some(object))),
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(PoolError::Closed)) => Err(sqlx::Error::PoolClosed),
            // Timeouts of its own and hooks it has none.
            Ok(Err(_)) | Err(_) => Err(self.out_of_time()),
        }
    }

    /// Who waits for a server that is not there hears that, and not that all connections are in use.
    fn out_of_time(&self) -> sqlx::Error {
        held(&self.connections.manager().refused).take().unwrap_or(sqlx::Error::PoolTimedOut)
    }

    /// One that is nobody else's and never will be.
    pub async fn connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        let connecting = tokio::time::timeout(self.acquire_timeout, self.connections.manager().create());
        Ok(connecting.await.map_err(|_| self.out_of_time())??.connection)
    }

    /// Waits for those that are in use.
    pub async fn close(&self) {
        let idle = self.connections.retain(|_, _| false).removed;
        self.connections.close();
        say_goodbye(idle).await;
        while self.connections.status().size > 0 {
            tokio::time::sleep(CLOSE_PAUSE).await;
        }
    }

    fn sweep(&self) {
        let now = Instant::now();
        {
            let mut swept = held(&self.connections.manager().swept);
            if now.duration_since(*swept) < SWEEP_EVERY {
                return;
            }
            *swept = now;
        }
        let is_wanted = |kept: &Kept, metrics: Metrics| {
            now.duration_since(kept.returned) < IDLE_MAX && now.duration_since(metrics.created) < AGE_MAX
        };
        let unwanted = self.connections.retain(is_wanted).removed;
        if !unwanted.is_empty() {
            tokio::spawn(say_goodbye(unwanted));
        }
    }
}

async fn say_goodbye(connections: Vec<Kept>) {
    for kept in connections {
        // Whether it hears it or not, the socket is closed.
        let _ = tokio::time::timeout(IDLE_TRUSTED, kept.connection.close()).await;
    }
}

impl Manager for Connections {
    type Type = Kept;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Kept, sqlx::Error> {
        let mut pause = CONNECT_PAUSE_MIN;
        loop {
            match self.options.connect().await {
                Ok(mut connection) => {
                    set_up(&mut connection).await?;
                    held(&self.refused).take();
                    return Ok(Kept { connection, returned: Instant::now() });
                }
                // It may be starting up, or have too many connections at the moment.
                Err(error) if is_worth_a_wait(&error) => held(&self.refused).replace(error),
                Err(error) => return Err(error),
            };
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(CONNECT_PAUSE_MAX);
        }
    }

    async fn recycle(&self, kept: &mut Kept, _: &Metrics) -> RecycleResult<sqlx::Error> {
        let broke = *held(&self.broke);
        if is_doubtful(kept.returned, broke, Instant::now()) {
            let ping = tokio::time::timeout(PING_MAX, kept.connection.ping()).await;
            if !matches!(ping, Ok(Ok(()))) {
                *held(&self.broke) = Some(Instant::now());
                return Err(RecycleError::message("it does not work any more"));
            }
        }
        Ok(())
    }
}

fn is_doubtful(returned: Instant, broke: Option<Instant>, now: Instant) -> bool {
    now.duration_since(returned) > IDLE_TRUSTED || broke.is_some_and(|broke| broke >= returned)
}

fn is_worth_a_wait(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        sqlx::Error::Database(_) => classify(error) == Class::Unavailable,
        _ => false,
    }
}

fn ends_its_connection(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return true };
    let error = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>();
    // Shutdown, aborted, packets lost, killed, idle for too long. MariaDB tells of KILL CONNECTION by 1317 too,
    // which is also that of KILL QUERY.
    error.is_none_or(|error| matches!(error.number(), 1053 | 1152 | 1158..=1161 | 1184 | 1317 | 1927 | 4031))
}

async fn set_up(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    // READ COMMITTED: an empty claim must not lock the gap that producers insert into.
    // In these words, since the variable's name differs between MySQL and MariaDB.
    connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
    // A lock wait of three seconds is an error that callers handle, fifty are an outage.
    connection
        .execute(
            "SET SESSION innodb_lock_wait_timeout = 3, lock_wait_timeout = 5, \
             sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ENGINE_SUBSTITUTION'",
        )
        .await?;
    Ok(())
}

/// What is in it is whole at every moment.
fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Borrowed {
    /// Its server has answered all that it was asked, and no transaction is open.
    pub fn give_back(mut self) {
        if let Some(mut object) = self.0.take() {
            object.returned = Instant::now();
        }
    }

    /// The same after a statement that failed, if the connection outlived it.
    pub fn give_back_after(self, error: &sqlx::Error) {
        if !ends_its_connection(error) {
            self.give_back();
        }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let Some(object) = self.0.take() else { return };
        if let Some(pool) = Object::pool(&object) {
            *held(&pool.manager().broke) = Some(Instant::now());
        }
        // Closes the socket at once; a farewell would wait for the server.
        drop(Object::take(object));
    }
}

impl Deref for Borrowed {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        &self.0.as_ref().expect("it is there until it is given back").connection
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.0.as_mut().expect("it is there until it is given back").connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::conformance::{POOL, fresh_mysql};
    use crate::storage::db::{PoolOptions, Statement, statement};
    use crate::storage::{Db, StorageError};
    use crate::values;

    static CONNECTION: Statement =
        statement!("test.connection", mysql: "SELECT CONNECTION_ID()", sqlite: "SELECT 0");
    static PINGS: Statement = statement!(
        "test.pings",
        mysql: "SHOW SESSION STATUS LIKE 'Com_admin_commands'",
        sqlite: "SELECT 0, 0",
    );
    static KILL: Statement = statement!("test.kill", mysql: "KILL ?", sqlite: "SELECT ?");
    static HOLD: Statement =
        statement!("test.hold", mysql: "SELECT CONNECTION_ID(), SLEEP(0.1)", sqlite: "SELECT ?");

    #[test]
    fn doubts_have_a_reason() {
        let returned = Instant::now();
        let later = |ms| returned + Duration::from_millis(ms);
        assert!(!is_doubtful(returned, None, later(250)));
        assert!(is_doubtful(returned, None, later(251)));
        assert!(is_doubtful(returned, Some(returned), later(1)));
        assert!(is_doubtful(returned, Some(later(1)), later(2)));
        assert!(!is_doubtful(later(3), Some(later(1)), later(4)));
    }

    async fn open(connections_max: u32) -> Db {
        let database = fresh_mysql().await;
        Db::open(&database.dsn, PoolOptions { connections_max, ..POOL }).unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_that_is_not_there_is_named_as_such() {
        let dsn = crate::storage::Dsn::parse("mysql://weir:weir@127.0.0.1:1/weir").unwrap();
        let acquire_timeout = Duration::from_millis(100);
        let db = Db::open(&dsn, PoolOptions { acquire_timeout, ..POOL }).unwrap();
        let failed = db.fetch_all(&CONNECTION, vec![]).await.err().unwrap();
        let StorageError::Unavailable { source: sqlx::Error::Io(source), .. } = &failed else {
            panic!("{failed:?}")
        };
        assert_eq!(source.kind(), std::io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn closing_waits_for_what_is_in_use() {
        let db = open(2).await;
        let (held, ()) = tokio::join!(db.fetch_optional(&HOLD, vec![]), db.close());
        // Either it had its connection before, and is answered, or it came too late.
        match held {
            Ok(row) => assert!(row.unwrap().u64(0).unwrap() > 0),
            Err(error) => assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}"),
        }
        assert!(db.fetch_all(&CONNECTION, vec![]).await.is_err());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_statement_is_one_way_there_and_back() {
        let db = open(1).await;
        let ids = async || db.fetch_optional(&CONNECTION, vec![]).await.unwrap().unwrap().u64(0).unwrap();
        let first = ids().await;
        for _ in 0..20 {
            assert_eq!(ids().await, first);
        }
        let refused = db.fetch_all(&KILL, values!["no number"]).await.err().unwrap();
        assert!(!matches!(refused, StorageError::Unavailable { .. }), "{refused:?}");
        assert_eq!(ids().await, first, "a statement that fails costs no connection");
        let pings = db.fetch_optional(&PINGS, vec![]).await.unwrap().unwrap().text(1).unwrap();
        let pings: u64 = pings.parse().unwrap();
        assert!(pings < 5, "{pings} for 22 statements");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_that_ends_its_connections_costs_one_statement_at_most() {
        let (db, other) = (open(4).await, open(1).await);
        let held = futures_util::future::join_all((0..4).map(|_| db.fetch_optional(&HOLD, vec![]))).await;
        let mut ids: Vec<u64> = held.into_iter().map(|row| row.unwrap().unwrap().u64(0).unwrap()).collect();
        for id in &ids {
            other.execute(&KILL, values![*id]).await.unwrap();
        }
        let mut failures = 0;
        for _ in 0..8 {
            match db.fetch_optional(&CONNECTION, vec![]).await {
                Ok(row) => ids.push(row.unwrap().u64(0).unwrap()),
                Err(error) => {
                    assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
                    failures += 1;
                }
            }
        }
        assert!(failures <= 1, "{failures} of eight failed");
        let met_again = ids[4..].iter().any(|id| ids[..4].contains(id));
        assert!(!met_again, "{ids:?}");
    }
}
