//! Statements with names, in one or two dialects.

use super::{Dialect, Value};
use crate::model::ShardNo;

/// Shards of one [`OfShards`] statement.
pub const SHARDS_PER_STATEMENT: usize = 16;

/// A fixed statement. Its text opens with its name as a comment, so that the server's own logs and
/// process list name it too.
pub struct Statement {
    pub name: &'static str,
    pub mysql: &'static str,
    pub sqlite: &'static str,
}

/// A statement ready to run: fixed, or made by [`Statement::with_rows`].
#[derive(Clone)]
pub struct Sql {
    pub name: &'static str,
    mysql: Text,
    sqlite: Text,
}

#[derive(Clone)]
enum Text {
    Fixed(&'static str),
    /// Made for one call: not worth a place among the prepared statements.
    Made(String),
}

impl From<&'static Statement> for Sql {
    fn from(statement: &'static Statement) -> Self {
        Self {
            name: statement.name,
            mysql: Text::Fixed(statement.mysql),
            sqlite: Text::Fixed(statement.sqlite),
        }
    }
}

impl Statement {
    /// The statement with its `{rows}` replaced by `count` copies of `row`, such as `"(?, ?)"` or
    /// `"?"`, separated by commas. Keep `count` times the binds of a row at or below 10,000.
    pub fn with_rows(&'static self, row: &str, count: usize) -> Sql {
        self.with_joined_rows(row, ",", count)
    }

    /// The same with another separator, such as `" UNION ALL "` between `"SELECT ?"`.
    pub fn with_joined_rows(&'static self, row: &str, separator: &str, count: usize) -> Sql {
        debug_assert!(count > 0 && self.mysql.contains("{rows}"), "{}", self.name);
        let mut rows = String::with_capacity((row.len() + separator.len()) * count);
        for n in 0..count {
            if n > 0 {
                rows.push_str(separator);
            }
            rows.push_str(row);
        }
        Sql {
            name: self.name,
            mysql: Text::Made(self.mysql.replace("{rows}", &rows)),
            sqlite: Text::Made(self.sqlite.replace("{rows}", &rows)),
        }
    }
}

/// A statement about some shards, `{shards}` in its text: a text for each power of two of them, so that
/// each is worth keeping prepared.
pub struct OfShards {
    of_powers: Vec<Statement>,
}

impl OfShards {
    pub fn new(name: &'static str, text: &str) -> Self {
        let of_count = |count: usize| {
            let text = text.replace("{shards}", &vec!["?"; count].join(","));
            let text: &'static str = format!("/* {name} */ {text}").leak();
            Statement { name, mysql: text, sqlite: text }
        };
        let counts = (0..).map(|power| 1 << power).take_while(|count| *count <= SHARDS_PER_STATEMENT);
        Self { of_powers: counts.map(of_count).collect() }
    }

    /// The statement, and its shards as it takes them: the last one several times.
    ///
    /// Precondition: 1 to [`SHARDS_PER_STATEMENT`] shards.
    pub fn with(&'static self, shards: &[ShardNo]) -> (&'static Statement, Vec<Value>) {
        let count = shards.len().next_power_of_two();
        let filled = (0..count).map(|n| shards[n.min(shards.len() - 1)].into());
        (&self.of_powers[count.ilog2() as usize], filled.collect())
    }
}

impl Sql {
    /// The text for a dialect, and whether it is worth keeping prepared.
    pub(super) fn text(&self, dialect: Dialect) -> (sqlx::SqlStr, bool) {
        use sqlx::SqlSafeStr;
        #[cfg(test)]
        super::ran::note(self.name, dialect);
        let text = match dialect {
            Dialect::MySql => &self.mysql,
            Dialect::Sqlite => &self.sqlite,
        };
        match text {
            Text::Fixed(fixed) => (fixed.into_sql_str(), true),
            // Made of fixed text and question marks only.
            Text::Made(made) => (sqlx::AssertSqlSafe(made.clone()).into_sql_str(), false),
        }
    }
}

/// `statement!("clock.now", "SELECT …")` for words that both dialects understand, or
/// `statement!("clock.now", mysql: "…", sqlite: "…")`.
macro_rules! statement {
    ($name:literal, mysql: $mysql:expr, sqlite: $sqlite:expr $(,)?) => {
        $crate::storage::Statement {
            name: $name,
            mysql: concat!("/* ", $name, " */ ", $mysql),
            sqlite: concat!("/* ", $name, " */ ", $sqlite),
        }
    };
    ($name:literal, $both:expr $(,)?) => {
        $crate::storage::db::statement!($name, mysql: $both, sqlite: $both)
    };
}
pub(crate) use statement;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_shards_take_the_next_larger_statement() {
        let statement: &'static OfShards =
            Box::leak(Box::new(OfShards::new("test.shards", "SELECT 1 FROM a WHERE shard_no IN ({shards})")));
        for (count, takes) in [(1, 1), (2, 2), (3, 4), (5, 8), (15, 16), (SHARDS_PER_STATEMENT, 16)] {
            let shards: Vec<ShardNo> = (0..count as u16).map(ShardNo).collect();
            let (statement, binds) = statement.with(&shards);
            assert_eq!((statement.mysql.matches('?').count(), binds.len()), (takes, takes), "{count}");
        }
    }
}
