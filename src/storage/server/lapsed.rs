//! Persons who have no event left that their project keeps.

use crate::model::{Millis, PersonNo, ProjectId, ShardNo, utc_day};
use crate::storage::db::statement;
use crate::storage::{Db, Statement, StorageError, Tx, Value};
use crate::values;

/// Persons of one list and of one deletion.
pub const LAPSED_AT_ONCE_MAX: usize = 500;

// A masked person's rows may still be on their way to somebody else, whose they are by then.
static LIST: Statement = statement!(
    "persons.list_lapsed",
    "SELECT p.person_no FROM persons p LEFT JOIN masks m ON m.shard_no = p.shard_no \
     AND m.project_id = p.project_id AND m.person_no = p.person_no \
     WHERE p.shard_no = ? AND p.project_id = ? AND p.person_no >= ? AND p.person_no < ? \
     AND (p.last_day < ? OR (p.last_day IS NULL AND p.created_at < ?)) AND m.person_no IS NULL \
     ORDER BY p.person_no LIMIT ?"
);

/// Persons with numbers in a range whose events all occurred before `kept_from`, ascending; whoever never
/// had one lapses by the time they became known. At most [`LAPSED_AT_ONCE_MAX`].
pub async fn list_lapsed(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    numbers: std::ops::Range<PersonNo>,
    kept_from: Millis,
) -> Result<Vec<PersonNo>, StorageError> {
    let (first, end, day) = (numbers.start, numbers.end, i64::from(utc_day(kept_from)));
    let binds = values![shard_no, project_id, first, end, day, kept_from, LAPSED_AT_ONCE_MAX];
    let rows = db.fetch_all(&LIST, binds).await?;
    rows.iter().map(|row| row.u32(0)).collect()
}

static COUNT: Statement = statement!(
    "persons.count_lapsed",
    "SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN last_day < ? OR (last_day IS NULL AND created_at < ?) \
     THEN 1 ELSE 0 END), 0) AS SIGNED) FROM persons WHERE shard_no = ? AND project_id = ?"
);

/// How many persons a project has in a shard, and how many of them are lapsed.
pub async fn count_persons(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    kept_from: Millis,
) -> Result<(u64, u64), StorageError> {
    let binds = values![i64::from(utc_day(kept_from)), kept_from, shard_no, project_id];
    let row = db.fetch_optional(&COUNT, binds).await?;
    row.map_or(Ok((0, 0)), |row| Ok((row.u64(0)?, row.u64(1)?)))
}

static DELETE_IDS: Statement = statement!(
    "distinct_ids.delete_lapsed",
    "DELETE FROM distinct_ids WHERE shard_no = ? AND project_id = ? AND person_no IN ({rows})"
);
static DELETE: Statement = statement!(
    "persons.delete_lapsed",
    "DELETE FROM persons WHERE shard_no = ? AND project_id = ? AND person_no IN ({rows})"
);

/// Deletes persons and their ids, under the lease of the shard's sealer: nobody else gives a person
/// events. Their numbers are never used again.
///
/// Precondition: 1 to [`LAPSED_AT_ONCE_MAX`] persons.
pub async fn delete_in(
    tx: &mut Tx,
    shard_no: ShardNo,
    project_id: ProjectId,
    person_nos: &[PersonNo],
) -> Result<(), StorageError> {
    let mut binds = values![shard_no, project_id];
    binds.extend(person_nos.iter().map(|&person_no| Value::from(person_no)));
    tx.execute(DELETE_IDS.with_rows("?", person_nos.len()), binds.clone()).await?;
    tx.execute(DELETE.with_rows("?", person_nos.len()), binds).await?;
    Ok(())
}

static DELETE_REJECTED: Statement = statement!(
    "failed_events.delete_older",
    mysql: "DELETE FROM failed_events WHERE project_id = ? AND failed_at < ? LIMIT 1000",
    sqlite: "DELETE FROM failed_events WHERE failed_id IN (SELECT failed_id FROM failed_events \
             WHERE project_id = ? AND failed_at < ? LIMIT 1000)",
);

/// Deletes up to 1,000 rejected events of a server that came before `kept_from`; how many.
pub async fn delete_rejected(db: &Db, project_id: ProjectId, kept_from: Millis) -> Result<u64, StorageError> {
    db.execute(&DELETE_REJECTED, values![project_id, kept_from]).await
}
