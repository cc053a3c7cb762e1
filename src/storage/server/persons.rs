//! Numbers of persons and distinct ids within a shard and project, and their counters.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::model::{IdNo, Millis, PersonNo, ProjectId, ShardNo};
use crate::storage::db::{OfShards, statement};
use crate::storage::{Db, Read, Row, Statement, StorageError, Tx, Value};
use crate::values;

/// Rows of one insert: at most six binds each, below 10,000 placeholders.
const INSERT_ROWS_MAX: usize = 1_000;
/// Ids of one look-up.
const FIND_IDS_MAX: usize = 1_000;

/// A distinct id with its numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownId {
    pub distinct_id: String,
    pub id_no: IdNo,
    pub person_no: PersonNo,
}

/// The next free numbers of a project in a shard, and its versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProjectCounters {
    pub next_person_no: PersonNo,
    pub next_id_no: IdNo,
    pub data_version: i64,
    pub mask_version: i64,
}

static READ_COUNTERS: Statement = statement!(
    "project_shards.read",
    "SELECT next_person_no, next_id_no, data_version, mask_version FROM project_shards \
     WHERE shard_no = ? AND project_id = ?"
);

/// All zero for a project that has nothing here yet.
pub async fn get_counters(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
) -> Result<ProjectCounters, StorageError> {
    let row = db.fetch_optional(&READ_COUNTERS, values![shard_no, project_id]).await?;
    row.as_ref().map_or(Ok(ProjectCounters::default()), counters)
}

static LIST_COUNTERS: LazyLock<OfShards> = LazyLock::new(|| {
    OfShards::new(
        "project_shards.list",
        "SELECT next_person_no, next_id_no, data_version, mask_version, shard_no FROM project_shards \
         WHERE shard_no IN ({shards}) AND project_id = ?",
    )
});

/// Those of several shards; a shard that has nothing of the project is not there.
///
/// Precondition: 1 to [`SHARDS_PER_STATEMENT`](crate::storage::db::SHARDS_PER_STATEMENT) shards.
pub fn read_counters(shards: &[ShardNo], project_id: ProjectId) -> Read<BTreeMap<ShardNo, ProjectCounters>> {
    let (statement, mut binds) = LIST_COUNTERS.with(shards);
    binds.push(project_id.into());
    Read::new(statement, binds, |rows| {
        rows.iter().map(|row| Ok((ShardNo(row.u16(4)?), counters(row)?))).collect()
    })
}

fn counters(row: &Row) -> Result<ProjectCounters, StorageError> {
    Ok(ProjectCounters {
        next_person_no: row.u32(0)?,
        next_id_no: row.u32(1)?,
        data_version: row.i64(2)?,
        mask_version: row.i64(3)?,
    })
}

static LIST_DATA_VERSIONS: Statement = statement!(
    "project_shards.list_data_versions",
    "SELECT shard_no, data_version FROM project_shards WHERE project_id = ? ORDER BY shard_no LIMIT 65536"
);

/// The data version of a project in every shard of one server that has rows of it.
pub async fn list_data_versions(db: &Db, project_id: ProjectId) -> Result<Vec<(ShardNo, i64)>, StorageError> {
    let rows = db.fetch_all(&LIST_DATA_VERSIONS, values![project_id]).await?;
    rows.iter().map(|row| Ok((ShardNo(row.u16(0)?), row.i64(1)?))).collect()
}

static FIND_IDS: Statement = statement!(
    "distinct_ids.find",
    "SELECT distinct_id, id_no, person_no FROM distinct_ids \
     WHERE shard_no = ? AND project_id = ? AND distinct_id IN ({rows})"
);

static FIND_IDS_OF_PERSONS: Statement = statement!(
    "distinct_ids.find_of_persons",
    "SELECT distinct_id, id_no, person_no FROM distinct_ids \
     WHERE shard_no = ? AND project_id = ? AND person_no IN ({rows}) LIMIT 10000"
);

/// All ids of some persons, in any order: what turns numbers back into what was sent.
///
/// Precondition: 1 to 1,000 persons.
pub async fn find_ids_of_persons(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    person_nos: &[PersonNo],
) -> Result<Vec<KnownId>, StorageError> {
    debug_assert!((1..=FIND_IDS_MAX).contains(&person_nos.len()));
    let mut binds = values![shard_no, project_id];
    binds.extend(person_nos.iter().map(|&person_no| Value::from(person_no)));
    let rows = db.fetch_all(FIND_IDS_OF_PERSONS.with_rows("?", person_nos.len()), binds).await?;
    rows.iter().map(known_id).collect()
}

static FIND_NAMES: Statement = statement!(
    "distinct_ids.find_names",
    "SELECT person_no, MIN(distinct_id) FROM distinct_ids \
     WHERE shard_no = ? AND project_id = ? AND person_no IN ({rows}) GROUP BY person_no"
);

/// What some persons are called, in any order: each by the smallest of their ids, byte by byte, which
/// is the same however persons are spread over shards.
///
/// Precondition: 1 to 1,000 persons.
pub async fn find_names(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    person_nos: &[PersonNo],
) -> Result<Vec<(PersonNo, String)>, StorageError> {
    debug_assert!((1..=FIND_IDS_MAX).contains(&person_nos.len()));
    let mut binds = values![shard_no, project_id];
    binds.extend(person_nos.iter().map(|&person_no| Value::from(person_no)));
    let rows = db.fetch_all(FIND_NAMES.with_rows("?", person_nos.len()), binds).await?;
    rows.iter().map(|row| Ok((row.u32(0)?, row.text(1)?))).collect()
}

static FIND_IDS_BY_NO: Statement = statement!(
    "distinct_ids.find_by_no",
    "SELECT distinct_id, id_no, person_no FROM distinct_ids \
     WHERE shard_no = ? AND project_id = ? AND id_no IN ({rows})"
);

/// What was sent as these numbers, in any order, whoever it belongs to by now.
pub async fn find_ids_by_no(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    id_nos: &[IdNo],
) -> Result<Vec<KnownId>, StorageError> {
    let mut known = Vec::new();
    for id_nos in id_nos.chunks(FIND_IDS_MAX) {
        let mut binds = values![shard_no, project_id];
        binds.extend(id_nos.iter().map(|&id_no| Value::from(id_no)));
        for row in db.fetch_all(FIND_IDS_BY_NO.with_rows("?", id_nos.len()), binds).await? {
            known.push(known_id(&row)?);
        }
    }
    Ok(known)
}

/// Those of the ids that have numbers already, in any order.
pub async fn find_ids(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    distinct_ids: &[String],
) -> Result<Vec<KnownId>, StorageError> {
    let mut known = Vec::new();
    for ids in distinct_ids.chunks(FIND_IDS_MAX) {
        let mut binds = values![shard_no, project_id];
        binds.extend(ids.iter().map(|id| Value::from(id.as_str())));
        for row in db.fetch_all(FIND_IDS.with_rows("?", ids.len()), binds).await? {
            known.push(known_id(&row)?);
        }
    }
    Ok(known)
}

/// The numbers of an id, if it has some, together with other reads.
pub fn read_id(shard_no: ShardNo, project_id: ProjectId, distinct_id: &str) -> Read<Option<KnownId>> {
    let binds = values![shard_no, project_id, distinct_id];
    Read::new(FIND_IDS.with_rows("?", 1), binds, |rows| rows.first().map(known_id).transpose())
}

fn known_id(row: &Row) -> Result<KnownId, StorageError> {
    Ok(KnownId { distinct_id: row.text(0)?, id_no: row.u32(1)?, person_no: row.u32(2)? })
}

static INSERT_IDS: Statement = statement!(
    "distinct_ids.insert",
    "INSERT INTO distinct_ids (shard_no, project_id, distinct_id, id_no, person_no) VALUES {rows}"
);
static INSERT_PERSONS: Statement = statement!(
    "persons.insert",
    "INSERT INTO persons (shard_no, project_id, person_no, created_at, first_day, last_day, traits) VALUES {rows}"
);

/// Writes new ids, each with a person of its own.
pub async fn insert_new(
    tx: &mut Tx,
    shard_no: ShardNo,
    project_id: ProjectId,
    new: &[KnownId],
    now: Millis,
) -> Result<(), StorageError> {
    for ids in new.chunks(INSERT_ROWS_MAX) {
        let mut id_binds = Vec::with_capacity(ids.len() * 5);
        for KnownId { distinct_id, id_no, person_no } in ids {
            id_binds.extend(values![shard_no, project_id, distinct_id.as_str(), *id_no, *person_no]);
        }
        tx.execute(INSERT_IDS.with_rows("(?, ?, ?, ?, ?)", ids.len()), id_binds).await?;
    }
    let person_nos: Vec<PersonNo> = new.iter().map(|id| id.person_no).collect();
    insert_persons(tx, shard_no, project_id, &person_nos, now).await
}

/// Writes new persons whose ids are written by [`put_ids`].
pub async fn insert_persons(
    tx: &mut Tx,
    shard_no: ShardNo,
    project_id: ProjectId,
    person_nos: &[PersonNo],
    now: Millis,
) -> Result<(), StorageError> {
    for persons in person_nos.chunks(INSERT_ROWS_MAX) {
        let binds = persons.iter().flat_map(|&person_no| values![shard_no, project_id, person_no, now]);
        let statement = INSERT_PERSONS.with_rows("(?, ?, ?, ?, NULL, NULL, NULL)", persons.len());
        tx.execute(statement, binds.collect()).await?;
    }
    Ok(())
}

static PUT_IDS: Statement = statement!(
    "distinct_ids.put",
    mysql: "INSERT INTO distinct_ids (shard_no, project_id, distinct_id, id_no, person_no) VALUES {rows} \
            ON DUPLICATE KEY UPDATE person_no = VALUES(person_no)",
    sqlite: "INSERT INTO distinct_ids (shard_no, project_id, distinct_id, id_no, person_no) VALUES {rows} \
             ON CONFLICT DO UPDATE SET person_no = excluded.person_no",
);

/// Writes ids that belong to persons which have others already; an id that is there gets the person
/// and keeps its number.
pub async fn put_ids(
    tx: &mut Tx,
    shard_no: ShardNo,
    project_id: ProjectId,
    ids: &[KnownId],
) -> Result<(), StorageError> {
    for ids in ids.chunks(INSERT_ROWS_MAX) {
        let mut binds = Vec::with_capacity(ids.len() * 5);
        for KnownId { distinct_id, id_no, person_no } in ids {
            binds.extend(values![shard_no, project_id, distinct_id.as_str(), *id_no, *person_no]);
        }
        tx.execute(PUT_IDS.with_rows("(?, ?, ?, ?, ?)", ids.len()), binds).await?;
    }
    Ok(())
}

static RAISE: Statement = statement!(
    "project_shards.raise",
    mysql: "INSERT INTO project_shards (shard_no, project_id, next_person_no, next_id_no, data_version, \
            mask_version, erasure_epoch) VALUES (?, ?, ?, ?, 1, 0, 0) ON DUPLICATE KEY UPDATE \
            next_person_no = VALUES(next_person_no), next_id_no = VALUES(next_id_no), \
            data_version = data_version + 1",
    sqlite: "INSERT INTO project_shards (shard_no, project_id, next_person_no, next_id_no, data_version, \
             mask_version, erasure_epoch) VALUES (?, ?, ?, ?, 1, 0, 0) ON CONFLICT DO UPDATE SET \
             next_person_no = excluded.next_person_no, next_id_no = excluded.next_id_no, \
             data_version = data_version + 1",
);

/// Sets the counters after a pass and raises the data version: answers may differ from now on.
pub async fn raise_counters(
    tx: &mut Tx,
    shard_no: ShardNo,
    project_id: ProjectId,
    next_person_no: PersonNo,
    next_id_no: IdNo,
) -> Result<(), StorageError> {
    tx.execute(&RAISE, values![shard_no, project_id, next_person_no, next_id_no]).await?;
    Ok(())
}
