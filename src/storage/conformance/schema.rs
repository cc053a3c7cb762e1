//! Both dialects have the same tables and columns; installations are created once and refuse what
//! does not fit.

use std::collections::BTreeSet;

use super::{POOL, TestDatabase, fresh_mysql, fresh_sqlite, on_both};
use crate::model::{ManualClock, ShardNo, SystemRandom};
use crate::storage::db::{Statement, statement};
use crate::storage::{Db, Dialect, Dsn, Storage, StorageError, StorageSettings, schema};
use crate::values;

static COLUMNS: Statement = statement!(
    "test.columns",
    mysql: "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = DATABASE()",
    sqlite: "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c \
             WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%'",
);

async fn columns(db: &Db) -> BTreeSet<(String, String)> {
    let rows = db.fetch_all(&COLUMNS, vec![]).await.unwrap();
    rows.iter()
        .map(|row| (row.text(0).unwrap(), row.text(1).unwrap()))
        .filter(|(table, _)| !table.ends_with("_migrations"))
        .collect()
}

#[tokio::test]
async fn both_dialects_have_equal_tables_and_columns() {
    let sqlite = columns(&fresh_sqlite().open_with_schemas().await).await;
    let mysql = columns(&fresh_mysql().await.open_with_schemas().await).await;
    assert!(sqlite.len() > 100, "{}", sqlite.len());
    assert_eq!(sqlite, mysql);
}

#[test]
fn both_dialects_have_equal_versions_and_names() {
    for schema in ["control", "server"] {
        let list = |dialect: &str| {
            let folder = format!("{}/migrations/{dialect}/{schema}", env!("CARGO_MANIFEST_DIR"));
            let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
            names.collect::<BTreeSet<_>>()
        };
        assert_eq!(list("mysql"), list("sqlite"));
    }
}

async fn replicas_start_together(database: TestDatabase) {
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let db = database.open();
            tokio::spawn(async move {
                schema::apply(&db, schema::Schema::Control).await?;
                schema::apply(&db, schema::Schema::Server).await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_together_do_not_collide_on_sqlite() {
    replicas_start_together(fresh_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_together_do_not_collide_on_mysql() {
    replicas_start_together(fresh_mysql().await).await;
}

#[tokio::test]
async fn an_interrupted_migration_is_resumed() {
    static INTERRUPT: Statement =
        statement!("test.interrupt", "UPDATE weir_server_migrations SET success = FALSE WHERE version = 12");
    static DROP: Statement = statement!("test.drop", "DROP TABLE failed_events");
    let db = fresh_mysql().await.open_with_schemas().await;
    db.execute(&INTERRUPT, vec![]).await.unwrap();
    db.execute(&DROP, vec![]).await.unwrap();
    schema::apply(&db, schema::Schema::Server).await.unwrap();
    assert!(columns(&db).await.contains(&("failed_events".into(), "reason".into())));
}

on_both! {
    async fn binary_ids_texts_and_nulls_come_back_as_they_were(db: Db) {
        static INSERT: Statement = statement!(
            "test.insert",
            "INSERT INTO distinct_ids (shard_no, project_id, distinct_id, id_no, person_no) VALUES {rows}"
        );
        static SELECT: Statement = statement!(
            "test.select",
            "SELECT distinct_id, id_no FROM distinct_ids WHERE distinct_id = ?"
        );
        // Names that a collation would merge are different people.
        let names = ["a", "A", "a ", "é", "e\u{301}", "🍣", "🍺"];
        let mut binds = Vec::new();
        for (n, name) in names.iter().enumerate() {
            binds.extend(values![1_u16, 1_u32, *name, n, n]);
        }
        db.execute(INSERT.with_rows("(?, ?, ?, ?, ?)", names.len()), binds).await.unwrap();
        for (n, name) in names.iter().enumerate() {
            let rows = db.fetch_all(&SELECT, values![*name]).await.unwrap();
            assert_eq!(rows.len(), 1, "{name:?}");
            assert_eq!(rows[0].text(0).unwrap(), *name);
            assert_eq!(rows[0].u32(1).unwrap(), n as u32);
        }
    }
}

on_both! {
    async fn an_error_rolls_the_whole_transaction_back(db: Db) {
        static INSERT: Statement = statement!(
            "test.insert",
            "INSERT INTO servers (server_id, name, added_at) VALUES (?, ?, ?)"
        );
        static COUNT: Statement = statement!("test.count", "SELECT COUNT(*) FROM servers");
        let failed: Result<(), StorageError> = db
            .transaction(|tx| {
                Box::pin(async move {
                    tx.execute(&INSERT, values![[1; 16], "one", 1_i64]).await?;
                    tx.execute(&INSERT, values![[1; 16], "twin", 1_i64]).await?;
                    Ok(())
                })
            })
            .await;
        assert!(matches!(failed, Err(StorageError::Conflict { .. })), "{failed:?}");
        let count = db.fetch_optional(&COUNT, vec![]).await.unwrap().unwrap().i64(0).unwrap();
        assert_eq!(count, 0);
    }
}

on_both! {
    async fn the_clock_is_near_our_own(db: Db) {
        use crate::model::Clock;
        let ours = crate::model::SystemClock.now_ms();
        let theirs = db.now_ms().await.unwrap();
        assert!((ours - theirs).abs() < 60_000, "{ours} {theirs}");
    }
}

fn settings(control: &TestDatabase, servers: &[&TestDatabase], shards: Option<u16>) -> StorageSettings {
    StorageSettings {
        control: control.dsn.clone(),
        servers: servers.iter().map(|server| server.dsn.clone()).collect(),
        shards,
        shards_default: 4,
        pool: POOL,
    }
}

async fn open(settings: &StorageSettings) -> Result<Storage, StorageError> {
    Storage::open(settings, &ManualClock::new(1), &SystemRandom).await
}

fn refusal(opened: Result<Storage, StorageError>) -> String {
    match opened {
        Err(StorageError::Refused(text)) => text,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was not refused"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_servers_does_not_move_a_shard() {
    let (control, one, two) = (fresh_sqlite(), fresh_sqlite(), fresh_mysql().await);
    let first = open(&settings(&control, &[&one, &two], Some(6))).await.unwrap();
    let second = open(&settings(&control, &[&two, &one], None)).await.unwrap();
    assert_eq!(second.shards.count(), 6);
    for shard in (0..6).map(ShardNo) {
        assert_eq!(first.shards.server_of(shard).server_id, second.shards.server_of(shard).server_id);
    }
    assert_eq!(first.shards.db_of(ShardNo(1)).unwrap().dialect(), Dialect::MySql);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_with_advice() {
    let (control, one, two) = (fresh_sqlite(), fresh_sqlite(), fresh_sqlite());
    open(&settings(&control, &[&one, &two], Some(4))).await.unwrap();
    let text = refusal(open(&settings(&control, &[&one, &two], Some(8))).await);
    assert!(text.contains("4 shards") && text.contains("storage.shards"), "{text}");
    let text = refusal(open(&settings(&control, &[&one], Some(4))).await);
    assert!(text.contains("no DSN in storage.servers"), "{text}");
    let text = refusal(open(&settings(&control, &[&one, &one, &two], Some(4))).await);
    assert!(text.contains("twice"), "{text}");
    let stranger = fresh_sqlite();
    let text = refusal(open(&settings(&stranger, &[&one], Some(4))).await);
    assert!(text.contains("another weir installation"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_while_one_server_is_away() {
    let (control, one, two) = (fresh_sqlite(), fresh_sqlite(), fresh_mysql().await);
    let before = open(&settings(&control, &[&one, &two], Some(4))).await.unwrap();
    let Dsn::MySql(url) = &two.dsn else { unreachable!("a MySQL address") };
    // Nothing listens on port 1.
    let host = url.split('@').next_back().and_then(|rest| rest.split('/').next()).unwrap();
    let away = Dsn::MySql(url.replace(host, "127.0.0.1:1"));
    let mut settings = settings(&control, &[&one, &two], Some(4));
    settings.servers[1] = away;
    let storage = open(&settings).await.unwrap();
    assert!(storage.shards.db_of(ShardNo(0)).is_ok());
    assert!(matches!(storage.shards.db_of(ShardNo(1)), Err(StorageError::Unavailable { .. })));
    assert_eq!(storage.shards.server_of(ShardNo(1)).server_id, before.shards.server_of(ShardNo(1)).server_id);
    assert_eq!(storage.shards.verify_missing().await.len(), 1);
}
