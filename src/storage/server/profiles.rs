//! What is known of a person beside the events: the days of the first and the last, and traits.

use crate::model::{Millis, PersonNo, ProjectId, ShardNo};
use crate::storage::db::statement;
use crate::storage::{Db, Statement, StorageError, Tx, Value};
use crate::values;

/// Rows of one statement: at most six binds each, below 10,000 placeholders.
const ROWS_MAX: usize = 1_000;
/// Traits take some tens of kilobytes each at most.
const TRAITS_READ_MAX: usize = 100;
/// Far below `max_allowed_packet`.
const TRAITS_WRITTEN_BYTES_MAX: usize = 2 << 20;

/// UTC days, inclusive.
pub type Days = (i32, i32);

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    pub person_no: PersonNo,
    /// `None` for a person without events yet.
    pub days: Option<Days>,
    /// As the event store encodes them.
    pub traits: Option<Vec<u8>>,
}

static FIND: Statement = statement!(
    "persons.find",
    "SELECT person_no, first_day, last_day, traits FROM persons \
     WHERE shard_no = ? AND project_id = ? AND person_no IN ({rows})"
);

/// Those of the persons that there are, in any order.
pub async fn find_profiles(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    person_nos: &[PersonNo],
) -> Result<Vec<Profile>, StorageError> {
    let mut found = Vec::with_capacity(person_nos.len());
    for some in person_nos.chunks(TRAITS_READ_MAX) {
        let rows =
            db.fetch_all(FIND.with_rows("?", some.len()), binds_of(shard_no, project_id, some)).await?;
        for row in &rows {
            let days = row.opt_i64(1)?.zip(row.opt_i64(2)?);
            found.push(Profile {
                person_no: row.u32(0)?,
                days: days.map(|(first, last)| (first as i32, last as i32)),
                traits: row.opt_bytes(3)?,
            });
        }
    }
    Ok(found)
}

static FIND_DAYS: Statement = statement!(
    "persons.find_days",
    "SELECT person_no, first_day, last_day FROM persons WHERE shard_no = ? AND project_id = ? \
     AND first_day IS NOT NULL AND last_day IS NOT NULL AND person_no IN ({rows})"
);

/// The days of those persons that have some, in any order.
pub async fn find_days(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    person_nos: &[PersonNo],
) -> Result<Vec<(PersonNo, Days)>, StorageError> {
    let mut found = Vec::with_capacity(person_nos.len());
    for some in person_nos.chunks(ROWS_MAX) {
        let binds = binds_of(shard_no, project_id, some);
        for row in db.fetch_all(FIND_DAYS.with_rows("?", some.len()), binds).await? {
            found.push((row.u32(0)?, (row.i64(1)? as i32, row.i64(2)? as i32)));
        }
    }
    Ok(found)
}

fn binds_of(shard_no: ShardNo, project_id: ProjectId, person_nos: &[PersonNo]) -> Vec<Value> {
    let mut binds = values![shard_no, project_id];
    binds.extend(person_nos.iter().map(|&person_no| Value::from(person_no)));
    binds
}

static WIDEN_DAYS: Statement = statement!(
    "persons.widen_days",
    mysql: "INSERT INTO persons (shard_no, project_id, person_no, created_at, first_day, last_day, traits) \
            VALUES {rows} ON DUPLICATE KEY UPDATE \
            first_day = LEAST(COALESCE(first_day, VALUES(first_day)), VALUES(first_day)), \
            last_day = GREATEST(COALESCE(last_day, VALUES(last_day)), VALUES(last_day))",
    sqlite: "INSERT INTO persons (shard_no, project_id, person_no, created_at, first_day, last_day, traits) \
             VALUES {rows} ON CONFLICT DO UPDATE SET \
             first_day = MIN(COALESCE(first_day, excluded.first_day), excluded.first_day), \
             last_day = MAX(COALESCE(last_day, excluded.last_day), excluded.last_day)",
);

/// Adds days on which persons had events: what is there already only grows.
pub async fn widen_days(
    tx: &mut Tx,
    shard_no: ShardNo,
    project_id: ProjectId,
    days: &[(PersonNo, Days)],
    now: Millis,
) -> Result<(), StorageError> {
    for some in days.chunks(ROWS_MAX) {
        let mut binds = Vec::with_capacity(some.len() * 6);
        for (person_no, (first, last)) in some {
            binds.extend(values![shard_no, project_id, *person_no, now, i64::from(*first), i64::from(*last)]);
        }
        tx.execute(WIDEN_DAYS.with_rows("(?, ?, ?, ?, ?, ?, NULL)", some.len()), binds).await?;
    }
    Ok(())
}

static SET_TRAITS: Statement = statement!(
    "persons.set_traits",
    mysql: "INSERT INTO persons (shard_no, project_id, person_no, created_at, first_day, last_day, traits) \
            VALUES {rows} ON DUPLICATE KEY UPDATE traits = VALUES(traits)",
    sqlite: "INSERT INTO persons (shard_no, project_id, person_no, created_at, first_day, last_day, traits) \
             VALUES {rows} ON CONFLICT DO UPDATE SET traits = excluded.traits",
);

/// Replaces the traits of persons.
pub async fn set_traits(
    tx: &mut Tx,
    shard_no: ShardNo,
    project_id: ProjectId,
    traits: &[(PersonNo, Vec<u8>)],
    now: Millis,
) -> Result<(), StorageError> {
    let mut left = traits;
    while !left.is_empty() {
        let mut bytes = 0;
        let fit = left.iter().take(ROWS_MAX).take_while(|(_, traits)| {
            let fits = bytes == 0 || bytes + traits.len() <= TRAITS_WRITTEN_BYTES_MAX;
            bytes += traits.len().max(1);
            fits
        });
        let (some, rest) = left.split_at(fit.count());
        let mut binds = Vec::with_capacity(some.len() * 5);
        for (person_no, traits) in some {
            binds.extend(values![shard_no, project_id, *person_no, now, traits.clone()]);
        }
        tx.execute(SET_TRAITS.with_rows("(?, ?, ?, ?, NULL, NULL, ?)", some.len()), binds).await?;
        left = rest;
    }
    Ok(())
}
