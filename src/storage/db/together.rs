//! Several statements of one transaction, none of which waits for another's answer.
//!
//! On MySQL they are one message, with the beginning and the end of their transaction: what a question
//! costs before it reads a row, and after, is mostly ways there and back. SQLite has none, and runs them
//! one by one.

use futures_util::TryStreamExt;
use sqlx::Either;
use sqlx::mysql::{MySqlQueryResult, MySqlRow};

use super::pool::Borrowed;
use super::transaction::BEGIN_WRITE;
use super::{Db, NOW, Pools, Row, Sql, Value, again_after_deadlock, deadline, row};
use crate::model::Millis;
use crate::storage::StorageError;
use crate::telemetry::queries::timed;

type Decode<T> = Box<dyn FnOnce(&[Row]) -> Result<T, StorageError> + Send>;

/// A statement that reads, and what its rows say.
pub struct Read<T> {
    sql: Sql,
    values: Vec<Value>,
    decode: Decode<T>,
}

/// Reads that will be sent together.
#[derive(Default)]
pub struct Reads(Vec<(Sql, Vec<Value>)>);

/// Where the answer of one of them will be.
pub struct Place<T> {
    index: usize,
    decode: Decode<T>,
}

/// What they all found.
pub struct Found {
    /// The database's clock just before the point in time.
    pub now: Millis,
    rows: Vec<Vec<Row>>,
}

/// At which points in time several reads look.
#[derive(Clone, Copy)]
enum Moments {
    One,
    Each,
}

/// What one statement did.
struct Done {
    /// On MySQL: matched.
    changed: u64,
    rows: Vec<Row>,
}

impl<T> Read<T> {
    pub fn new(
        sql: impl Into<Sql>,
        values: Vec<Value>,
        decode: impl FnOnce(&[Row]) -> Result<T, StorageError> + Send + 'static,
    ) -> Self {
        Self { sql: sql.into(), values, decode: Box::new(decode) }
    }
}

impl Reads {
    pub fn add<T>(&mut self, read: Read<T>) -> Place<T> {
        self.0.push((read.sql, read.values));
        Place { index: self.0.len() - 1, decode: read.decode }
    }
}

impl Found {
    pub fn get<T>(&self, place: Place<T>) -> Result<T, StorageError> {
        (place.decode)(&self.rows[place.index])
    }

    /// The first statement was [`NOW`].
    fn new(answers: Vec<Done>) -> Result<Self, StorageError> {
        let mut rows = answers.into_iter().map(|answer| answer.rows);
        let clock = rows.next().unwrap_or_default();
        let now = clock.first().ok_or_else(|| StorageError::corrupt("clock", "now", "no row"))?.i64(0)?;
        Ok(Self { now, rows: rows.collect() })
    }
}

/// The session's level is READ COMMITTED.
const BEGIN_SNAPSHOT: &str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;\n\
                              START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";

impl Db {
    /// Reads of one point in time.
    pub async fn read_together(&self, reads: Reads) -> Result<Found, StorageError> {
        self.read(reads, Moments::One).await
    }

    /// Reads in their order, each of its own point in time: three statements less. `now` is before the first.
    pub async fn read_in_order(&self, reads: Reads) -> Result<Found, StorageError> {
        self.read(reads, Moments::Each).await
    }

    async fn read(&self, reads: Reads, moments: Moments) -> Result<Found, StorageError> {
        let pools = self.pools.clone();
        let mut statements = vec![(Sql::from(&NOW), Vec::new())];
        statements.extend(reads.0);
        let found = self.in_task(async move {
            let name = match moments {
                Moments::One => "snapshot.read",
                Moments::Each => "reads.in_order",
            };
            let failed = |error| StorageError::from_sqlx(name, error);
            let answers = match &pools {
                Pools::MySql { pool, statement_max } => {
                    let connection = pool.borrow().await.map_err(failed)?;
                    // The clock is read before the snapshot is taken.
                    let (clock, reads) = statements.split_at(1);
                    let snapshot = [
                        Piece::Statements(clock),
                        Piece::Text(BEGIN_SNAPSHOT, 2),
                        Piece::Statements(reads),
                        Piece::Text("ROLLBACK", 1),
                    ];
                    let in_order = [Piece::Statements(&statements)];
                    let pieces: &[Piece<'_>] = match moments {
                        Moments::One => &snapshot,
                        Moments::Each => &in_order,
                    };
                    send(connection, *statement_max, pieces, name).await?
                }
                Pools::Sqlite { read, .. } => {
                    // The point in time is that of the first read of a table.
                    let mut tx = read.begin().await.map_err(failed)?;
                    let mut answers = Vec::with_capacity(statements.len());
                    for (sql, values) in statements {
                        answers.push(Done { changed: 0, rows: fetch_sqlite(&mut tx, &sql, values).await? });
                    }
                    answers
                }
            };
            Found::new(answers)
        });
        self.heard.noted(found.await)
    }

    /// Makes changes in a transaction; nothing is changed when one of them fails. Not for many bytes: on MySQL
    /// they are sent as text. Like [`Db::transaction`] it is done again after a deadlock. How many rows each
    /// changed (on MySQL: matched).
    pub async fn change_together(&self, changes: Vec<(Sql, Vec<Value>)>) -> Result<Vec<u64>, StorageError> {
        let done = self.change(changes, None).await?;
        Ok(done.into_iter().map(|done| done.changed).collect())
    }

    /// The same, and reads what it has come to before that is committed.
    pub async fn change_and_read<T>(
        &self,
        changes: Vec<(Sql, Vec<Value>)>,
        read: Read<T>,
    ) -> Result<(Vec<u64>, T), StorageError> {
        let mut done = self.change(changes, Some((read.sql, read.values))).await?;
        let rows = done.pop().map(|done| done.rows).unwrap_or_default();
        let changed = done.iter().map(|done| done.changed).collect();
        Ok((changed, (read.decode)(&rows)?))
    }

    /// What became of each change, and at last of the reading, if there is one.
    async fn change(
        &self,
        changes: Vec<(Sql, Vec<Value>)>,
        read: Option<(Sql, Vec<Value>)>,
    ) -> Result<Vec<Done>, StorageError> {
        let pools = self.pools.clone();
        let count = changes.len();
        let mut statements = changes;
        statements.extend(read);
        let done = self.in_task(again_after_deadlock(move || {
            let (pools, statements) = (pools.clone(), statements.clone());
            async move {
                let name = statements[0].0.name;
                let failed = |error| StorageError::from_sqlx(name, error);
                match &pools {
                    Pools::MySql { pool, statement_max } => {
                        let connection = pool.borrow().await.map_err(failed)?;
                        let pieces = [
                            Piece::Text("START TRANSACTION", 1),
                            Piece::Statements(&statements),
                            Piece::Text("COMMIT", 1),
                        ];
                        send(connection, *statement_max, &pieces, name).await
                    }
                    Pools::Sqlite { write, .. } => {
                        let begin = sqlx::SqlStr::from_static(BEGIN_WRITE);
                        let mut tx = write.begin_with(begin).await.map_err(failed)?;
                        let mut answers = Vec::with_capacity(statements.len());
                        let (changes, read) = statements.split_at(count);
                        for (sql, values) in changes {
                            let done = timed(row::sqlite_query(sql, values.clone()).execute(&mut *tx)).await;
                            let done = done.map_err(|error| StorageError::from_sqlx(sql.name, error))?;
                            answers.push(Done { changed: done.rows_affected(), rows: Vec::new() });
                        }
                        for (sql, values) in read {
                            let rows = fetch_sqlite(&mut tx, sql, values.clone()).await?;
                            answers.push(Done { changed: 0, rows });
                        }
                        timed(tx.commit()).await.map_err(failed)?;
                        Ok(answers)
                    }
                }
            }
        }));
        self.heard.noted(done.await)
    }
}

/// Of what is sent.
enum Piece<'a> {
    Statements(&'a [(Sql, Vec<Value>)]),
    /// So many statements whose answers nobody wants.
    Text(&'static str, usize),
}

/// The answers of all [`Piece::Statements`], in their order. An error that no statement of these has made is
/// called `name`.
async fn send(
    mut connection: Borrowed,
    statement_max: std::time::Duration,
    pieces: &[Piece<'_>],
    name: &'static str,
) -> Result<Vec<Done>, StorageError> {
    let mut texts = Vec::new();
    // Of the answers that somebody wants.
    let mut names: Vec<Option<&'static str>> = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Text(text, count) => {
                texts.push((*text).to_owned());
                names.extend(std::iter::repeat_n(None, *count));
            }
            Piece::Statements(statements) => {
                texts.extend(statements.iter().map(|(sql, values)| row::written_text(sql, values)));
                names.extend(statements.iter().map(|(sql, _)| Some(sql.name)));
            }
        }
    }
    let text = sqlx::AssertSqlSafe(texts.join(";\n"));
    let mut answers = Vec::with_capacity(names.len());
    let work = tokio::time::timeout(statement_max, fetch(&mut connection, text, &mut answers));
    let ended = timed(work).await;
    match ended.unwrap_or_else(|_| Err(deadline::too_slow())) {
        Ok(()) if answers.len() == names.len() => {
            connection.give_back();
            let wanted = names.into_iter().zip(answers).filter_map(|(name, (rows, done))| {
                let name = name?;
                let rows = rows.into_iter().map(|row| Row::mysql(name, row)).collect();
                Some(Done { changed: done.rows_affected(), rows })
            });
            Ok(wanted.collect())
        }
        Ok(()) => {
            let detail = format!("{} answers to {} statements", answers.len(), names.len());
            Err(StorageError::corrupt("transaction", "answers", detail))
        }
        Err(error) => {
            if matches!(error, sqlx::Error::Database(_)) {
                // What was sent after it was not done, nor was the end of the transaction.
                give_up(connection, statement_max).await;
            }
            let name = names.get(answers.len()).copied().flatten().unwrap_or(name);
            Err(StorageError::from_sqlx(name, error))
        }
    }
}

async fn give_up(mut connection: Borrowed, statement_max: std::time::Duration) {
    let rollback = sqlx::raw_sql("ROLLBACK").execute(&mut *connection);
    if let Ok(Ok(_)) = tokio::time::timeout(statement_max, rollback).await {
        connection.give_back();
    }
}

type MySqlAnswer = (Vec<MySqlRow>, MySqlQueryResult);

/// The rows of each statement, also of those that have none, and what it did.
async fn fetch(
    connection: &mut sqlx::MySqlConnection,
    text: sqlx::AssertSqlSafe<String>,
    answers: &mut Vec<MySqlAnswer>,
) -> Result<(), sqlx::Error> {
    let mut rows = Vec::new();
    let mut stream = sqlx::raw_sql(text).fetch_many(connection);
    while let Some(next) = stream.try_next().await? {
        match next {
            Either::Left(done) => answers.push((std::mem::take(&mut rows), done)),
            Either::Right(row) => rows.push(row),
        }
    }
    Ok(())
}

async fn fetch_sqlite(
    tx: &mut sqlx::Transaction<'_, sqlx::Sqlite>,
    sql: &Sql,
    values: Vec<Value>,
) -> Result<Vec<Row>, StorageError> {
    let rows = timed(row::sqlite_query(sql, values).fetch_all(&mut **tx)).await;
    let rows = rows.map_err(|error| StorageError::from_sqlx(sql.name, error))?;
    Ok(rows.into_iter().map(|row| Row::sqlite(sql.name, row)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Statement;
    use crate::storage::conformance::{POOL, fresh_mysql, on_both};
    use crate::storage::db::statement;
    use crate::values;

    static ECHO: Statement = statement!("test.echo", "SELECT ?, ?");
    static NOTHING: Statement = statement!("test.nothing", "SELECT 1 FROM projects WHERE project_id = ?");
    static WRONG: Statement = statement!("test.wrong", "SELECT no_such_column FROM projects");

    fn echo(number: i64, text: &'static str) -> Read<(i64, String)> {
        Read::new(&ECHO, values![number, text], |rows| Ok((rows[0].i64(0)?, rows[0].text(1)?)))
    }

    on_both! {
        async fn each_read_has_its_own_answer_whatever_is_in_its_values(db: Db) {
            for moments in [Moments::One, Moments::Each] {
                let mut reads = Reads::default();
                let first = reads.add(echo(-7, "; DROP TABLE projects; -- ?'\""));
                let none = reads.add(Read::new(&NOTHING, values![5], |rows| Ok(rows.len())));
                let last = reads.add(echo(8, "é"));
                let before = db.now_ms().await.unwrap();
                let found = db.read(reads, moments).await.unwrap();
                assert!((before..=before + 10_000).contains(&found.now));
                assert_eq!(found.get(last).unwrap(), (8, "é".to_owned()));
                assert_eq!(found.get(first).unwrap(), (-7, "; DROP TABLE projects; -- ?'\"".to_owned()));
                assert_eq!(found.get(none).unwrap(), 0);
            }
        }
    }

    static ADD: Statement = statement!(
        "test.add",
        "INSERT INTO masks (shard_no, project_id, person_no, version, reason, masked_at) \
         VALUES (?, 1, ?, 1, 'erased', 0)"
    );
    static COUNT: Statement = statement!("test.count", "SELECT COUNT(*) FROM masks");
    static RENAME: Statement = statement!("test.rename", "UPDATE masks SET reason = ? WHERE shard_no = ?");

    async fn count(db: &Db) -> u64 {
        db.fetch_optional(&COUNT, vec![]).await.unwrap().unwrap().u64(0).unwrap()
    }

    on_both! {
        async fn all_of_a_transaction_is_done_or_nothing(db: Db) {
            let add = |shard: i64, person: i64| (Sql::from(&ADD), values![shard, person]);
            let rename = (Sql::from(&RENAME), values!["'; ROLLBACK; -", 1]);
            let counted = || Read::new(&COUNT, values![], |rows| rows[0].u64(0));
            let changes = vec![add(1, 1), add(1, 2), add(2, 1), rename];
            let done = db.change_and_read(changes, counted()).await.unwrap();
            assert_eq!(done, (vec![1, 1, 1, 2], 3), "it sees what it did");
            let twice = db.change_and_read(vec![add(3, 1), add(1, 1), add(4, 1)], counted()).await;
            assert!(matches!(twice.err(), Some(StorageError::Conflict { .. })));
            assert_eq!(count(&db).await, 3);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_that_fails_leaves_no_transaction_open() {
        static SESSION: Statement = statement!(
            "test.session",
            mysql: "SELECT CONNECTION_ID(), @@tx_isolation",
            sqlite: "SELECT 0, ''",
        );
        static IN_TRANSACTION: Statement =
            statement!("test.in_transaction", mysql: "SELECT @@in_transaction", sqlite: "SELECT 0");
        let database = fresh_mysql().await;
        let options = crate::storage::PoolOptions { connections_max: 1, ..POOL };
        let db = Db::open(&database.dsn, options).unwrap();
        let session = async || {
            let row = db.fetch_optional(&SESSION, vec![]).await.unwrap().unwrap();
            (row.u64(0).unwrap(), row.text(1).unwrap())
        };
        let before = session().await;
        assert_eq!(before.1, "READ-COMMITTED");
        let mut reads = Reads::default();
        reads.add(Read::new(&WRONG, vec![], |_| Ok(())));
        let failure = db.read_together(reads).await.err().expect("there is no such column");
        assert!(failure.to_string().contains("test.wrong"), "{failure}");
        assert_eq!(session().await, before, "the connection outlives it");
        for _ in 0..2 {
            let row = db.fetch_optional(&IN_TRANSACTION, vec![]).await.unwrap().unwrap();
            assert_eq!(row.i64(0).unwrap(), 0);
            db.read_together(Reads::default()).await.unwrap();
        }
    }
}
