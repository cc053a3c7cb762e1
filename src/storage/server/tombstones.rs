//! Distinct ids of erased persons, as hashes ([`crate::model::IdHash`]). They outlast the person, so
//! that an event which is sent again years later is dropped too. Every server has all of them.

use crate::model::{IdHash, Millis, ProjectId};
use crate::storage::db::statement;
use crate::storage::{Db, Statement, StorageError, Value};
use crate::values;

/// Rows of one insert and ids of one look-up.
const ROWS_MAX: usize = 1_000;

static INSERT: Statement = statement!(
    "tombstones.insert",
    mysql: "INSERT INTO tombstones (project_id, id_hash, erased_until) VALUES {rows} \
            ON DUPLICATE KEY UPDATE erased_until = GREATEST(erased_until, VALUES(erased_until))",
    sqlite: "INSERT INTO tombstones (project_id, id_hash, erased_until) VALUES {rows} \
             ON CONFLICT DO UPDATE SET erased_until = MAX(erased_until, excluded.erased_until)",
);

/// Marks ids as erased until then; one that was erased before keeps the later of the two times.
pub async fn insert(
    db: &Db,
    project_id: ProjectId,
    ids: &[IdHash],
    erased_until: Millis,
) -> Result<(), StorageError> {
    for ids in ids.chunks(ROWS_MAX) {
        let binds = ids.iter().flat_map(|id| values![project_id, id.0, erased_until]).collect();
        db.execute(INSERT.with_rows("(?, ?, ?)", ids.len()), binds).await?;
    }
    Ok(())
}

static LATEST: Statement =
    statement!("tombstones.latest", "SELECT MAX(erased_until) FROM tombstones WHERE project_id = ?");

/// Until when at most something of a project is erased: what is later needs no look-up.
pub async fn find_latest(db: &Db, project_id: ProjectId) -> Result<Option<Millis>, StorageError> {
    db.fetch_optional(&LATEST, values![project_id]).await?.map_or(Ok(None), |row| row.opt_i64(0))
}

static FIND: Statement = statement!(
    "tombstones.find",
    "SELECT id_hash, erased_until FROM tombstones WHERE project_id = ? AND id_hash IN ({rows})"
);

/// Those of the ids that were erased, in any order.
pub async fn find(
    db: &Db,
    project_id: ProjectId,
    ids: &[IdHash],
) -> Result<Vec<(IdHash, Millis)>, StorageError> {
    let mut found = Vec::new();
    for ids in ids.chunks(ROWS_MAX) {
        let mut binds = values![project_id];
        binds.extend(ids.iter().map(|id| Value::from(id.0)));
        for row in db.fetch_all(FIND.with_rows("?", ids.len()), binds).await? {
            found.push((IdHash(row.array(0)?), row.i64(1)?));
        }
    }
    Ok(found)
}
