//! Values in, rows out, the same for both drivers.

use sqlx::mysql::{MySqlRow, MySqlValue};
use sqlx::sqlite::SqliteRow;
use sqlx::{MySql, Sqlite, Value as _, ValueRef};

use super::{Dialect, Sql};
use crate::storage::StorageError;

/// A bind. Numbers are 64-bit integers everywhere; times are milliseconds; flags are 0 and 1.
#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Integer(i64),
    Text(String),
    Bytes(bytes::Bytes),
}

impl Value {
    fn size(&self) -> usize {
        match self {
            Self::Null | Self::Integer(_) => size_of::<i64>(),
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

macro_rules! integer_values {
    ($($type:ty),*) => {$(
        impl From<$type> for Value {
            fn from(number: $type) -> Self {
                Self::Integer(i64::from(number))
            }
        }
    )*};
}
integer_values!(i64, i32, u32, u16, u8, bool);

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Integer(number as i64)
    }
}
impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(number as i64)
    }
}
impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}
impl From<bytes::Bytes> for Value {
    fn from(bytes: bytes::Bytes) -> Self {
        Self::Bytes(bytes)
    }
}
impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes::Bytes::copy_from_slice(bytes))
    }
}
impl<const N: usize> From<[u8; N]> for Value {
    fn from(bytes: [u8; N]) -> Self {
        Self::Bytes(bytes::Bytes::copy_from_slice(&bytes))
    }
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

use crate::model::{
    AccountId, BatchId, EventId, KeyId, ObjectId, ProjectId, ReplicaId, ServerId, ShardNo, TicketId,
};

macro_rules! id_values {
    ($($type:ty),*) => {$(
        impl From<$type> for Value {
            fn from(id: $type) -> Self {
                id.0.into()
            }
        }
    )*};
}
id_values!(AccountId, KeyId, BatchId, EventId, ObjectId, ReplicaId, ServerId, TicketId, ProjectId, ShardNo);

/// `values![a, b]` is a `Vec<Value>` of anything that converts.
#[macro_export]
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::storage::Value::from($value)),*] };
}

pub struct Row {
    name: &'static str,
    inner: Inner,
}

enum Inner {
    MySql(MySqlRow),
    Sqlite(SqliteRow),
}

impl Row {
    pub(super) fn mysql(name: &'static str, row: MySqlRow) -> Self {
        Self { name, inner: Inner::MySql(row) }
    }

    pub(super) fn sqlite(name: &'static str, row: SqliteRow) -> Self {
        Self { name, inner: Inner::Sqlite(row) }
    }

    pub fn columns(&self) -> usize {
        match &self.inner {
            Inner::MySql(row) => sqlx::Row::len(row),
            Inner::Sqlite(row) => sqlx::Row::len(row),
        }
    }

    pub fn i64(&self, index: usize) -> Result<i64, StorageError> {
        self.opt_i64(index)?.ok_or_else(|| self.missing(index))
    }

    /// SUM() is a DECIMAL on MySQL: wrap it in `CAST(… AS SIGNED)`, which both dialects take.
    pub fn opt_i64(&self, index: usize) -> Result<Option<i64>, StorageError> {
        self.get(index, |row| try_get(row, index), |row| try_get(row, index))
    }

    pub fn u64(&self, index: usize) -> Result<u64, StorageError> {
        self.number(index)
    }
    pub fn u32(&self, index: usize) -> Result<u32, StorageError> {
        self.number(index)
    }
    pub fn u16(&self, index: usize) -> Result<u16, StorageError> {
        self.number(index)
    }
    pub fn bool(&self, index: usize) -> Result<bool, StorageError> {
        Ok(self.i64(index)? != 0)
    }

    pub fn text(&self, index: usize) -> Result<String, StorageError> {
        self.opt_text(index)?.ok_or_else(|| self.missing(index))
    }
    pub fn opt_text(&self, index: usize) -> Result<Option<String>, StorageError> {
        self.get(index, |row| try_get(row, index), |row| try_get(row, index))
    }

    pub fn bytes(&self, index: usize) -> Result<Vec<u8>, StorageError> {
        self.opt_bytes(index)?.ok_or_else(|| self.missing(index))
    }
    pub fn opt_bytes(&self, index: usize) -> Result<Option<Vec<u8>>, StorageError> {
        self.get(index, |row| try_get(row, index), |row| try_get(row, index))
    }

    /// The same memory that the driver has read into, where it can be shared: what is large is not copied.
    pub fn shared_bytes(&self, index: usize) -> Result<bytes::Bytes, StorageError> {
        let Inner::MySql(row) = &self.inner else { return self.bytes(index).map(bytes::Bytes::from) };
        let value = sqlx::Row::try_get_raw(row, index).map_err(|error| self.unreadable(index, &error))?;
        let value = OwnedValue(ValueRef::to_owned(&value));
        match value.bytes() {
            Some(_) => Ok(bytes::Bytes::from_owner(value)),
            None => Err(self.missing(index)),
        }
    }

    pub fn array<const N: usize>(&self, index: usize) -> Result<[u8; N], StorageError> {
        let bytes = self.bytes(index)?;
        bytes.as_slice().try_into().map_err(|_| {
            StorageError::corrupt(
                self.name,
                "binary id",
                format!("column {index} has {} bytes, {N} expected", bytes.len()),
            )
        })
    }

    fn number<T: TryFrom<i64>>(&self, index: usize) -> Result<T, StorageError> {
        let number = self.i64(index)?;
        number
            .try_into()
            .map_err(|_| StorageError::corrupt(self.name, "number", format!("column {index} holds {number}")))
    }

    fn get<T>(
        &self,
        index: usize,
        mysql: impl FnOnce(&MySqlRow) -> Result<Option<T>, sqlx::Error>,
        sqlite: impl FnOnce(&SqliteRow) -> Result<Option<T>, sqlx::Error>,
    ) -> Result<Option<T>, StorageError> {
        match &self.inner {
            Inner::MySql(row) => mysql(row),
            Inner::Sqlite(row) => sqlite(row),
        }
        .map_err(|error| self.unreadable(index, &error))
    }

    fn unreadable(&self, index: usize, error: &sqlx::Error) -> StorageError {
        StorageError::corrupt(self.name, "row", format!("column {index}: {error}"))
    }

    fn missing(&self, index: usize) -> StorageError {
        StorageError::corrupt(self.name, "row", format!("column {index} is null"))
    }
}

/// A value that holds on to the message it came in.
struct OwnedValue(MySqlValue);

impl OwnedValue {
    /// `None`: it is null.
    fn bytes(&self) -> Option<&[u8]> {
        <Option<&[u8]> as sqlx::Decode<MySql>>::decode(self.0.as_ref()).ok().flatten()
    }
}

impl AsRef<[u8]> for OwnedValue {
    fn as_ref(&self) -> &[u8] {
        self.bytes().unwrap_or_default()
    }
}

fn try_get<'r, R, T>(row: &'r R, index: usize) -> Result<Option<T>, sqlx::Error>
where
    R: sqlx::Row,
    usize: sqlx::ColumnIndex<R>,
    Option<T>: sqlx::Decode<'r, R::Database>,
{
    // Unchecked, since the drivers' type checks are stricter than the conversion is: an INT column
    // reads as i64, a VARBINARY as text, and every mismatch that matters still fails to decode.
    row.try_get_unchecked(index)
}

type MySqlQuery = sqlx::query::Query<'static, MySql, sqlx::mysql::MySqlArguments>;
pub(super) type SqliteQuery = sqlx::query::Query<'static, Sqlite, sqlx::sqlite::SqliteArguments>;

/// A statement on its way to MySQL.
pub(super) enum MySqlStatement {
    Prepared(MySqlQuery),
    /// With its values written into it.
    Text(sqlx::SqlStr),
}

/// Values up to this size together are written into a statement that is not kept prepared.
const TEXT_BYTES_MAX: usize = 64 << 10;

pub(super) fn mysql_statement(sql: &Sql, values: Vec<Value>) -> MySqlStatement {
    let (text, keep) = sql.text(Dialect::MySql);
    // To prepare a statement for one use is a second round trip. And it ends with a message that the
    // server does not answer: without TCP_NODELAY, which sqlx 0.9.0 does not set, the connection's next
    // statement then waits 40 ms for that one's acknowledgement.
    let is_text = !keep && values.iter().map(Value::size).sum::<usize>() <= TEXT_BYTES_MAX;
    // With another number of values it is the driver that says so.
    if is_text && text.as_str().matches('?').count() == values.len() {
        let text = write_into(text.as_str(), &values);
        return MySqlStatement::Text(sqlx::SqlSafeStr::into_sql_str(sqlx::AssertSqlSafe(text)));
    }
    let mut query = sqlx::query(text).persistent(keep);
    for value in values {
        query = match value {
            Value::Null => query.bind(None::<i64>),
            Value::Integer(number) => query.bind(number),
            Value::Text(text) => query.bind(text),
            Value::Bytes(bytes) => query.bind(Vec::from(bytes)),
        };
    }
    MySqlStatement::Prepared(query)
}

impl MySqlStatement {
    pub(super) async fn execute(
        self,
        connection: &mut sqlx::MySqlConnection,
    ) -> Result<sqlx::mysql::MySqlQueryResult, sqlx::Error> {
        match self {
            Self::Prepared(query) => query.execute(connection).await,
            Self::Text(text) => sqlx::raw_sql(text).execute(connection).await,
        }
    }

    pub(super) async fn fetch_all(
        self,
        connection: &mut sqlx::MySqlConnection,
    ) -> Result<Vec<MySqlRow>, sqlx::Error> {
        match self {
            Self::Prepared(query) => query.fetch_all(connection).await,
            Self::Text(text) => sqlx::raw_sql(text).fetch_all(connection).await,
        }
    }
}

/// A statement with its values written into it, whatever its size.
pub(super) fn written_text(sql: &Sql, values: &[Value]) -> String {
    let (text, _) = sql.text(Dialect::MySql);
    debug_assert_eq!(text.as_str().matches('?').count(), values.len(), "{}", sql.name);
    write_into(text.as_str(), values)
}

/// The statement with each `?` replaced by its value: numbers as they are, all else in hexadecimal, so that
/// nothing in a value can end it. Precondition: there are as many values as places.
fn write_into(sql: &str, values: &[Value]) -> String {
    use std::fmt::Write;
    let size = values.iter().map(|value| 2 * value.size() + 16).sum::<usize>();
    let mut text = String::with_capacity(sql.len() + size);
    let mut pieces = sql.split('?');
    text.push_str(pieces.next().unwrap_or_default());
    for (piece, value) in pieces.zip(values) {
        // A String takes everything.
        let _ = match value {
            Value::Null => write!(text, "NULL"),
            Value::Integer(number) => write!(text, "{number}"),
            Value::Text(value) => write!(text, "_utf8mb4 x'{}'", hex::encode(value)),
            Value::Bytes(bytes) => write!(text, "x'{}'", hex::encode(bytes)),
        };
        text.push_str(piece);
    }
    text
}

pub(super) fn sqlite_query(sql: &Sql, values: Vec<Value>) -> SqliteQuery {
    let (text, keep) = sql.text(Dialect::Sqlite);
    let mut query = sqlx::query(text).persistent(keep);
    for value in values {
        query = match value {
            Value::Null => query.bind(None::<i64>),
            Value::Integer(number) => query.bind(number),
            Value::Text(text) => query.bind(text),
            Value::Bytes(bytes) => query.bind(Vec::from(bytes)),
        };
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_value_can_end_it() {
        let values = values![7_i64, "a'?\u{e9}", -1_i64, &b"\0'\\"[..], None::<i64>, ""];
        assert_eq!(
            write_into("SELECT ? WHERE a IN (?,?) AND b = ? AND c <=> ? AND d = ?", &values),
            "SELECT 7 WHERE a IN (_utf8mb4 x'61273fc3a9',-1) AND b = x'00275c' AND c <=> NULL AND d = _utf8mb4 x''"
        );
    }
}
