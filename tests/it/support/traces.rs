//! Looks for a text in everything that an installation has stored, past weir: every column of every
//! table of every database, also inside what is compressed there, and every value in Redis.

use sqlx::{AssertSqlSafe, Connection, MySqlConnection, Row, SqliteConnection};

use super::{Installation, Redis};

/// How every frame of zstd begins: batches of the journal, facts, and the pages of Parquet files.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Where the texts were found, as `table of database: …`.
pub async fn traces(installation: &Installation, redis: Option<&Redis>, texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for database in installation.databases() {
        let values = match database.strip_prefix("sqlite:") {
            Some(_) => sqlite_values(&database).await,
            None => mysql_values(&database).await,
        };
        for (table, value) in values {
            for text in texts.iter().filter(|text| holds(&value, text.as_bytes())) {
                found.push(format!("{table} of {database}: {text}"));
            }
        }
    }
    for value in redis.map(Redis::all_values).unwrap_or_default() {
        for text in texts.iter().filter(|text| holds(&value, text.as_bytes())) {
            found.push(format!("redis: {text}"));
        }
    }
    found.sort();
    found.dedup();
    found
}

fn holds(value: &[u8], text: &[u8]) -> bool {
    let contains = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    if contains(value) {
        return true;
    }
    let starts = value.windows(4).enumerate().filter(|(_, window)| *window == ZSTD).map(|(at, _)| at);
    starts.into_iter().any(|at| {
        // What looks like a frame and is none, or is cut off in its part, gives what it gives.
        let mut inflated = Vec::new();
        if let Ok(decoder) = zstd::Decoder::with_buffer(&value[at..]) {
            let _ = std::io::Read::read_to_end(&mut decoder.single_frame(), &mut inflated);
        }
        contains(&inflated)
    })
}

async fn sqlite_values(database: &str) -> Vec<(String, Vec<u8>)> {
    let mut connection = SqliteConnection::connect(database).await.expect("the file can be opened");
    let tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
    let tables = sqlx::query(tables).fetch_all(&mut connection).await.expect("tables are listed");
    let mut values = Vec::new();
    for table in tables {
        let table: String = table.get(0);
        let columns = format!("SELECT name FROM pragma_table_info('{table}')");
        let columns = sqlx::query(AssertSqlSafe(columns)).fetch_all(&mut connection).await.expect("columns");
        for column in columns {
            let column: String = column.get(0);
            let read = format!("SELECT CAST({column} AS BLOB) FROM {table}");
            let rows =
                sqlx::query(AssertSqlSafe(read)).fetch_all(&mut connection).await.expect("a table is read");
            values.extend(
                rows.iter().filter_map(|row| Some((table.clone(), row.get::<Option<Vec<u8>>, _>(0)?))),
            );
        }
    }
    values
}

async fn mysql_values(database: &str) -> Vec<(String, Vec<u8>)> {
    let mut connection = MySqlConnection::connect(database).await.expect("the server answers");
    let columns = "SELECT CAST(table_name AS CHAR), CAST(column_name AS CHAR) FROM information_schema.columns \
                   WHERE table_schema = DATABASE()";
    let columns = sqlx::query(columns).fetch_all(&mut connection).await.expect("columns are listed");
    let mut values = Vec::new();
    for column in columns {
        let (table, column): (String, String) = (column.get(0), column.get(1));
        let read = format!("SELECT CAST(`{column}` AS BINARY) FROM `{table}`");
        let rows =
            sqlx::query(AssertSqlSafe(read)).fetch_all(&mut connection).await.expect("a table is read");
        values.extend(rows.iter().filter_map(|row| Some((table.clone(), row.get::<Option<Vec<u8>>, _>(0)?))));
    }
    values
}
