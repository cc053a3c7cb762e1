//! Persons who have no event left that their project keeps.

use crate::model::{Millis, PersonNo, ProjectId, ShardNo, utc_day};
use crate::storage::db::statement;
use crate::storage::{Db, Statement, StorageError, Tx, Value};
use crate::values;

/// Persons of one list and of one deletion.
pub const LAPSED_AT_ONCE_MAX: usize = 200;
/// Rejected events of one deletion.
pub const REJECTED_AT_ONCE: u64 = 1_000;

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
    "SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN p.last_day < ? OR (p.last_day IS NULL AND p.created_at < ?) \
     THEN 1 ELSE 0 END), 0) AS SIGNED) FROM persons p LEFT JOIN masks m ON m.shard_no = p.shard_no \
     AND m.project_id = p.project_id AND m.person_no = p.person_no \
     WHERE p.shard_no = ? AND p.project_id = ? AND p.person_no >= ? AND p.person_no < ? \
     AND m.person_no IS NULL"
);

/// How many persons with numbers in a range a project has in a shard, without those who are masked, and how
/// many of them are lapsed.
pub async fn count_persons(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    numbers: std::ops::Range<PersonNo>,
    kept_from: Millis,
) -> Result<(u64, u64), StorageError> {
    let (first, end, day) = (numbers.start, numbers.end, i64::from(utc_day(kept_from)));
    let binds = values![day, kept_from, shard_no, project_id, first, end];
    let row = db.fetch_optional(&COUNT, binds).await?;
    row.map_or(Ok((0, 0)), |row| Ok((row.u64(0)?, row.u64(1)?)))
}

// Joined with the lists, as `journal.delete` is and for the same reason.
static DELETE_IDS: Statement = statement!(
    "distinct_ids.delete_lapsed",
    mysql: "DELETE distinct_ids FROM (SELECT * FROM ({rows}) AS listed) AS done STRAIGHT_JOIN distinct_ids \
            FORCE INDEX (distinct_ids_person) ON distinct_ids.shard_no = ? AND distinct_ids.project_id = ? \
            AND distinct_ids.person_no = done.person_no",
    sqlite: "DELETE FROM distinct_ids WHERE person_no IN ({rows}) AND shard_no = ? AND project_id = ?",
);
static DELETE: Statement = statement!(
    "persons.delete_lapsed",
    mysql: "DELETE persons FROM (SELECT * FROM ({rows}) AS listed) AS done STRAIGHT_JOIN persons \
            FORCE INDEX (PRIMARY) ON persons.shard_no = ? AND persons.project_id = ? \
            AND persons.person_no = done.person_no",
    sqlite: "DELETE FROM persons WHERE person_no IN ({rows}) AND shard_no = ? AND project_id = ?",
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
    let mut binds: Vec<Value> = person_nos.iter().map(|&person_no| person_no.into()).collect();
    binds.extend(values![shard_no, project_id]);
    for statement in [&DELETE_IDS, &DELETE] {
        let one = "SELECT ? AS person_no";
        let joined = statement.with_joined_rows(one, " UNION ALL ", person_nos.len());
        tx.execute(joined, binds.clone()).await?;
    }
    Ok(())
}

static DELETE_REJECTED: Statement = statement!(
    "failed_events.delete_older",
    mysql: "DELETE FROM failed_events WHERE project_id = ? AND failed_at < ? LIMIT ?",
    sqlite: "DELETE FROM failed_events WHERE failed_id IN (SELECT failed_id FROM failed_events \
             WHERE project_id = ? AND failed_at < ? LIMIT ?)",
);

/// Deletes up to [`REJECTED_AT_ONCE`] rejected events of a server that came before `kept_from`; how many.
pub async fn delete_rejected(db: &Db, project_id: ProjectId, kept_from: Millis) -> Result<u64, StorageError> {
    db.execute(&DELETE_REJECTED, values![project_id, kept_from, REJECTED_AT_ONCE]).await
}
