//! What a server's settings mean for weir's promises: read by `weir doctor` and at the start.

use super::db::{Db, Dialect, Statement, statement};
use super::{Shards, StorageError, server};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    Good,
    /// Works, but slower or with less room than it could.
    Advice,
    /// A promise does not hold.
    Problem,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub severity: Severity,
    /// What was looked at, and what it is.
    pub what: String,
    /// What to do; empty when it is good.
    pub fix: String,
}

impl Finding {
    pub fn good(what: impl Into<String>) -> Self {
        Self { severity: Severity::Good, what: what.into(), fix: String::new() }
    }

    pub fn advice(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { severity: Severity::Advice, what: what.into(), fix: fix.into() }
    }

    pub fn problem(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { severity: Severity::Problem, what: what.into(), fix: fix.into() }
    }
}

static MYSQL_SETTINGS: Statement = statement!(
    "checkup.settings",
    mysql: "SELECT VERSION(), @@GLOBAL.innodb_flush_log_at_trx_commit, @@GLOBAL.log_bin, @@GLOBAL.sync_binlog, \
            @@GLOBAL.max_allowed_packet, @@GLOBAL.local_infile, @@GLOBAL.max_connections, \
            @@GLOBAL.max_prepared_stmt_count, @@GLOBAL.binlog_row_image, CAST(@@GLOBAL.innodb_doublewrite AS CHAR), \
            @@GLOBAL.innodb_buffer_pool_size",
    sqlite: "SELECT sqlite_version()",
);
static SQLITE_JOURNAL_MODE: Statement = statement!("checkup.journal_mode", "PRAGMA journal_mode");
static SQLITE_SYNCHRONOUS: Statement = statement!("checkup.synchronous", "PRAGMA synchronous");

/// Looks at all servers that are there and logs what breaks a promise: whoever starts weir without
/// asking `doctor` first shall still read that a crash of the server would lose events.
pub async fn warn_of_problems(shards: &Shards) {
    for server in shards.servers() {
        let Ok(db) = server.db() else { continue };
        let findings = match look(db, 0).await {
            Ok(findings) => findings,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(server.at = server.shown, error, "the server's settings cannot be read");
                continue;
            }
        };
        for Finding { what, fix, .. } in findings.iter().filter(|f| f.severity == Severity::Problem) {
            tracing::warn!(server.at = server.shown, fix, "{what}");
        }
    }
}

/// Looks at one database. `connections` is what all replicas together may open, as far as known.
pub async fn look(db: &Db, connections: u32) -> Result<Vec<Finding>, StorageError> {
    match db.dialect() {
        Dialect::MySql => look_at_mysql(db, connections).await,
        Dialect::Sqlite => look_at_sqlite(db).await,
    }
}

struct MySqlSettings {
    version: String,
    flush_log_at_commit: i64,
    log_bin: bool,
    sync_binlog: i64,
    max_allowed_packet: i64,
    local_infile: bool,
    max_connections: i64,
    max_prepared_statements: i64,
    binlog_row_image: String,
    /// `1` on older servers; on newer ones a word: `ON`, `OFF`, `fast`, `DETECT_AND_RECOVER`, `DETECT_ONLY`.
    doublewrite: String,
    buffer_pool_bytes: i64,
}

async fn look_at_mysql(db: &Db, connections: u32) -> Result<Vec<Finding>, StorageError> {
    let row = db.fetch_optional(&MYSQL_SETTINGS, vec![]).await?;
    let row = row.ok_or_else(|| StorageError::corrupt("checkup", "settings", "no row"))?;
    let settings = MySqlSettings {
        version: row.text(0)?,
        flush_log_at_commit: row.i64(1)?,
        log_bin: row.bool(2)?,
        sync_binlog: row.i64(3)?,
        max_allowed_packet: row.i64(4)?,
        local_infile: row.bool(5)?,
        max_connections: row.i64(6)?,
        max_prepared_statements: row.i64(7)?,
        binlog_row_image: row.text(8)?,
        doublewrite: row.text(9)?,
        buffer_pool_bytes: row.i64(10)?,
    };
    Ok(judge(&settings, connections))
}

fn judge(settings: &MySqlSettings, connections: u32) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.push(match version_of(&settings.version) {
        Some((true, version)) if version >= (10, 6) => Finding::good(format!("MariaDB {}", settings.version)),
        Some((false, version)) if version >= (8, 0) => Finding::good(format!(
            "MySQL {} (weir is tested on MariaDB 10.11; MySQL itself is not tested yet)",
            settings.version
        )),
        _ => Finding::problem(format!("version {}", settings.version), "use MySQL 8.0+ or MariaDB 10.6+"),
    });
    findings.push(match settings.flush_log_at_commit {
        1 => Finding::good("innodb_flush_log_at_trx_commit = 1: a commit is on disk"),
        other => Finding::problem(
            format!("innodb_flush_log_at_trx_commit = {other}: a crash loses answered events"),
            "set it to 1",
        ),
    });
    findings.push(match settings.doublewrite.to_uppercase().as_str() {
        "0" | "OFF" => Finding::problem("innodb_doublewrite is off: a crash can tear a page", "switch it on"),
        "DETECT_ONLY" => Finding::problem(
            "innodb_doublewrite = DETECT_ONLY: a page torn by a crash is found but not mended",
            "set it to ON",
        ),
        other => Finding::good(format!("innodb_doublewrite = {other}")),
    });
    if settings.log_bin {
        findings.push(match settings.sync_binlog {
            1 => Finding::good("sync_binlog = 1"),
            other => Finding::problem(
                format!("sync_binlog = {other}: after a crash replicas may lack answered events"),
                "set it to 1",
            ),
        });
        if settings.binlog_row_image.to_uppercase() != "MINIMAL" {
            findings.push(Finding::advice(
                format!(
                    "binlog_row_image = {}: each deleted batch is logged once more",
                    settings.binlog_row_image
                ),
                "set it to MINIMAL",
            ));
        }
    }
    findings.push(if settings.max_allowed_packet >= 16 << 20 {
        Finding::good(format!("max_allowed_packet = {} MiB", settings.max_allowed_packet >> 20))
    } else {
        Finding::problem(
            format!(
                "max_allowed_packet = {} bytes: statements of 4 MiB and their answers must fit",
                settings.max_allowed_packet
            ),
            "set it to 16M or more",
        )
    });
    if settings.local_infile {
        findings.push(Finding::advice("local_infile is on, and nothing here needs it", "switch it off"));
    }
    let free = settings.max_connections - 20;
    findings.push(if i64::from(connections) <= free {
        Finding::good(format!(
            "max_connections = {}; this process may open {connections}",
            settings.max_connections
        ))
    } else {
        Finding::problem(
            format!(
                "max_connections = {}, but this process alone may open {connections}",
                settings.max_connections
            ),
            "raise it, or lower storage.pool_connections_max; count every replica",
        )
    });
    // 128 statements are kept prepared on each connection.
    if i64::from(connections) * 128 > settings.max_prepared_statements {
        findings.push(Finding::advice(
            format!("max_prepared_stmt_count = {}", settings.max_prepared_statements),
            format!("raise it to {} or more for each replica", i64::from(connections) * 128),
        ));
    }
    if settings.buffer_pool_bytes <= 128 << 20 {
        findings.push(Finding::advice(
            format!("innodb_buffer_pool_size = {} MiB, the default", settings.buffer_pool_bytes >> 20),
            "give it most of the memory that the server has to itself",
        ));
    }
    findings
}

/// Whether it is MariaDB, and major and minor number.
fn version_of(text: &str) -> Option<(bool, (u32, u32))> {
    let is_mariadb = text.to_lowercase().contains("mariadb");
    // Behind some proxies MariaDB still announces itself with 5.5.5- in front.
    let text = text.strip_prefix("5.5.5-").unwrap_or(text);
    let mut numbers = text.split(['.', '-']).map_while(|part| part.parse().ok());
    Some((is_mariadb, (numbers.next()?, numbers.next()?)))
}

async fn look_at_sqlite(db: &Db) -> Result<Vec<Finding>, StorageError> {
    let one = async |statement: &'static Statement| -> Result<crate::storage::Row, StorageError> {
        let row = db.fetch_optional(statement, vec![]).await?;
        row.ok_or_else(|| StorageError::corrupt("checkup", "pragma", "no row"))
    };
    let version = one(&MYSQL_SETTINGS).await?.text(0)?;
    let mode = one(&SQLITE_JOURNAL_MODE).await?.text(0)?;
    let synchronous = one(&SQLITE_SYNCHRONOUS).await?.i64(0)?;
    let mut findings = vec![Finding::good(format!("SQLite {version}, embedded"))];
    findings.push(match mode.as_str() {
        "wal" => Finding::good("journal_mode = wal"),
        other => Finding::problem(
            format!("journal_mode = {other}"),
            "the folder's file system must allow shared memory: use a local disk",
        ),
    });
    findings.push(match synchronous {
        2.. => Finding::good("synchronous = full: a commit is on disk"),
        other => Finding::problem(format!("synchronous = {other}"), "a crash loses answered events"),
    });
    Ok(findings)
}

/// What waits in a server's journal, in words.
pub async fn look_at_journal(db: &Db) -> Result<Finding, StorageError> {
    let backlog = server::journal::backlog(db).await?;
    let Some(oldest) = backlog.iter().map(|entry| entry.oldest_inserted_at).min() else {
        return Ok(Finding::good("the journal is empty: everything received is sealed"));
    };
    let age_secs = (server::journal::database_now(db).await? - oldest).max(0) / 1_000;
    let batches: u64 = backlog.iter().map(|entry| entry.batches).sum();
    let what = format!("{batches} batches wait in the journal, the oldest since {age_secs} s");
    Ok(match age_secs {
        ..=30 => Finding::good(what),
        _ => {
            Finding::problem(what, "start a replica with the role `work`, or read its log: sealing is stuck")
        }
    })
}

/// From so many on a question opens more objects than it reads pages of.
const LIVE_OBJECTS_MANY: u64 = 50_000;
/// MariaDB's own purging keeps far below this unless something holds it up.
const HISTORY_LONG: u64 = 1_000_000;

/// How many runs and segments a server holds, in words.
pub async fn look_at_objects(db: &Db) -> Result<Finding, StorageError> {
    use server::overview::{count_run_states, count_segment_states};
    let (runs, segments) = (count_run_states(db).await?, count_segment_states(db).await?);
    let of = |state: &str| {
        let counted = runs.iter().chain(&segments).filter(|counted| counted.state == state);
        counted.map(|counted| counted.count.objects).sum::<u64>()
    };
    let (live, retired) = (of("live"), of("retired"));
    let what = format!("{live} runs and segments, {retired} more that were replaced and will be deleted");
    Ok(match live {
        ..LIVE_OBJECTS_MANY => Finding::good(what),
        _ => Finding::advice(what, "see weir_compact_failures_total, or give compaction more time"),
    })
}

/// How far purging is behind, where a server tells.
pub async fn look_at_history(db: &Db) -> Result<Option<Finding>, StorageError> {
    let Some(length) = server::overview::find_history_length(db).await? else { return Ok(None) };
    let what = format!("{length} changes wait to be purged");
    Ok(Some(match length {
        ..HISTORY_LONG => Finding::good(what),
        _ => Finding::advice(
            what,
            "end transactions that have been open for long: reading the journal is slow",
        ),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::conformance::on_both;

    fn good() -> MySqlSettings {
        MySqlSettings {
            version: "10.11.6-MariaDB-1".into(),
            flush_log_at_commit: 1,
            log_bin: true,
            sync_binlog: 1,
            max_allowed_packet: 16 << 20,
            local_infile: false,
            max_connections: 151,
            max_prepared_statements: 16_382,
            binlog_row_image: "MINIMAL".into(),
            doublewrite: "1".into(),
            buffer_pool_bytes: 1 << 30,
        }
    }

    fn worst(settings: &MySqlSettings) -> Vec<String> {
        let findings = judge(settings, 20);
        findings.into_iter().filter(|f| f.severity != Severity::Good).map(|f| f.what).collect()
    }

    #[test]
    fn settings_that_break_a_promise_are_named() {
        assert!(worst(&good()).is_empty());
        let cases: [(&str, MySqlSettings); 6] = [
            ("flush_log", MySqlSettings { flush_log_at_commit: 2, ..good() }),
            ("sync_binlog", MySqlSettings { sync_binlog: 0, ..good() }),
            ("max_allowed_packet", MySqlSettings { max_allowed_packet: 1 << 20, ..good() }),
            ("max_connections", MySqlSettings { max_connections: 30, ..good() }),
            ("doublewrite", MySqlSettings { doublewrite: "OFF".into(), ..good() }),
            ("5.7", MySqlSettings { version: "5.7.44".into(), ..good() }),
        ];
        for (value, is_good) in
            [("1", true), ("ON", true), ("fast", true), ("0", false), ("OFF", false), ("DETECT_ONLY", false)]
        {
            let settings = MySqlSettings { doublewrite: value.into(), ..good() };
            assert_eq!(worst(&settings).is_empty(), is_good, "{value}");
        }
        for (word, settings) in cases {
            let found = worst(&settings);
            assert!(found.len() == 1 && found[0].contains(word), "{word}: {found:?}");
        }
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(version_of("10.11.19-MariaDB-0+deb12u1"), Some((true, (10, 11))));
        assert_eq!(version_of("5.5.5-10.6.1-MariaDB"), Some((true, (10, 6))));
        assert_eq!(version_of("8.4.0"), Some((false, (8, 4))));
        assert_eq!(version_of("strange"), None);
    }

    on_both! {
        async fn a_real_server_is_looked_at(db: Db) {
            let findings = look(&db, 10).await.unwrap();
            assert!(findings.len() >= 3);
            assert!(findings.iter().all(|finding| finding.severity != Severity::Problem), "{findings:?}");
            assert_eq!(look_at_journal(&db).await.unwrap().severity, Severity::Good);
            let objects = look_at_objects(&db).await.unwrap();
            assert_eq!((objects.severity, objects.what.starts_with("0 runs")), (Severity::Good, true));
            let history = look_at_history(&db).await.unwrap();
            assert_eq!(history.is_some(), db.dialect() == Dialect::MySql);
        }
    }
}
