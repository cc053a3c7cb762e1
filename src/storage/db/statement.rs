//! Statements with names, in one or two dialects.

use super::Dialect;

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
    ($name:literal, mysql: $mysql:literal, sqlite: $sqlite:literal $(,)?) => {
        $crate::storage::Statement {
            name: $name,
            mysql: concat!("/* ", $name, " */ ", $mysql),
            sqlite: concat!("/* ", $name, " */ ", $sqlite),
        }
    };
    ($name:literal, $both:literal $(,)?) => {
        $crate::storage::db::statement!($name, mysql: $both, sqlite: $both)
    };
}
pub(crate) use statement;
