//! What the catalogue of an installation lists, read past weir.

use sqlx::{Connection, MySqlConnection, Row, SqliteConnection};

use super::Installation;

/// The live objects of all shards.
#[derive(Debug, Default)]
pub struct Catalogue {
    pub runs: Vec<Object>,
    pub segments: Vec<Object>,
}

#[derive(Debug)]
pub struct Object {
    pub shard_no: i64,
    pub rows: u64,
    /// Of a run: 0.
    pub tier: i64,
}

/// In words that both dialects understand, with columns of one width.
const RUNS: &str = "SELECT CAST(shard_no AS SIGNED), CAST(events AS SIGNED), CAST(0 AS SIGNED) FROM runs \
                    WHERE state = 'live'";
const SEGMENTS: &str = "SELECT CAST(shard_no AS SIGNED), CAST(events AS SIGNED), CAST(tier AS SIGNED) \
                        FROM segments WHERE state = 'live'";

impl Catalogue {
    pub async fn read(installation: &Installation) -> Self {
        let mut catalogue = Self::default();
        for server in installation.servers() {
            catalogue.runs.extend(read(&server, RUNS).await);
            catalogue.segments.extend(read(&server, SEGMENTS).await);
        }
        catalogue
    }
}

async fn read(server: &str, statement: &'static str) -> Vec<Object> {
    if server.starts_with("sqlite:") {
        let mut connection = SqliteConnection::connect(server).await.expect("the file can be opened");
        let rows = sqlx::query(statement).fetch_all(&mut connection).await.expect("the catalogue is read");
        rows.iter().map(|row| object(row.get(0), row.get(1), row.get(2))).collect()
    } else {
        let mut connection = MySqlConnection::connect(server).await.expect("the server answers");
        let rows = sqlx::query(statement).fetch_all(&mut connection).await.expect("the catalogue is read");
        rows.iter().map(|row| object(row.get(0), row.get(1), row.get(2))).collect()
    }
}

fn object(shard_no: i64, rows: i64, tier: i64) -> Object {
    Object { shard_no, rows: rows as u64, tier }
}
