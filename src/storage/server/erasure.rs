//! Taking a person out of one shard: who is found there, and the one transaction that masks their rows
//! and deletes everything that names them.

use std::collections::BTreeSet;

use super::leases::{self, LeaseTask};
use super::{masks, objects};
use crate::model::{Millis, PersonNo, ProjectId, ShardNo};
use crate::storage::db::statement;
use crate::storage::{AsStorageError, Db, Sql, Statement, StorageError, Tx, Value};
use crate::values;

/// Ids or persons named in one statement. SQLite takes at most 500 parts of a compound SELECT.
const PER_STATEMENT: usize = 200;
/// Rows of one answer; more belong to no person.
const FOUND_MAX: usize = 100_000;

/// Ids and numbers of a person in one shard.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Known {
    pub ids: BTreeSet<String>,
    /// Those that were masked when their rows moved, too.
    pub persons: BTreeSet<PersonNo>,
}

static PERSONS_OF_IDS: Statement = statement!(
    "erasure.persons_of_ids",
    "SELECT person_no FROM distinct_ids WHERE shard_no = ? AND project_id = ? AND distinct_id IN ({rows})"
);
static IDS_OF_PERSONS: Statement = statement!(
    "erasure.ids_of_persons",
    "SELECT distinct_id FROM distinct_ids WHERE shard_no = ? AND project_id = ? AND person_no IN ({rows}) \
     LIMIT 100000"
);
static LINKS_OF_IDS: Statement = statement!(
    "erasure.links_of_ids",
    "SELECT target_id, person_no FROM links WHERE shard_no = ? AND project_id = ? AND distinct_id IN ({rows})"
);
static MOVES_OF_IDS: Statement = statement!(
    "erasure.moves_of_ids",
    "SELECT target_id, person_no FROM moves WHERE shard_no = ? AND project_id = ? AND distinct_id IN ({rows})"
);
static LINKED_TO: Statement = statement!(
    "erasure.linked_to",
    "SELECT distinct_id FROM links WHERE shard_no = ? AND project_id = ? AND target_id IN ({rows}) LIMIT 100000"
);

/// What one shard knows of these ids: the numbers they have or had here, all other ids of those
/// numbers, and the ids that they are linked to or that are linked to them.
pub async fn find_known(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    ids: &BTreeSet<String>,
) -> Result<Known, StorageError> {
    let ids = ids.clone();
    db.snapshot(move |tx| Box::pin(async move { find_known_in(tx, shard_no, project_id, &ids).await })).await
}

async fn find_known_in(
    tx: &mut Tx,
    shard_no: ShardNo,
    project_id: ProjectId,
    ids: &BTreeSet<String>,
) -> Result<Known, StorageError> {
    let mut known = Known::default();
    let all: Vec<Value> = ids.iter().map(|id| id.as_str().into()).collect();
    for some in all.chunks(PER_STATEMENT) {
        let mut binds = values![shard_no, project_id];
        binds.extend_from_slice(some);
        for row in tx.fetch_all(PERSONS_OF_IDS.with_rows("?", some.len()), binds.clone()).await? {
            known.persons.insert(row.u32(0)?);
        }
        for statement in [&LINKS_OF_IDS, &MOVES_OF_IDS] {
            for row in tx.fetch_all(statement.with_rows("?", some.len()), binds.clone()).await? {
                known.ids.insert(row.text(0)?);
                if row.opt_i64(1)?.is_some() {
                    known.persons.insert(row.u32(1)?);
                }
            }
        }
        for row in tx.fetch_all(LINKED_TO.with_rows("?", some.len()), binds).await? {
            known.ids.insert(row.text(0)?);
        }
    }
    let persons: Vec<Value> = known.persons.iter().map(|&person_no| person_no.into()).collect();
    for some in persons.chunks(PER_STATEMENT) {
        let mut binds = values![shard_no, project_id];
        binds.extend_from_slice(some);
        let rows = tx.fetch_all(IDS_OF_PERSONS.with_rows("?", some.len()), binds).await?;
        if rows.len() >= FOUND_MAX {
            return Err(StorageError::corrupt("distinct_ids", "person_no", "one person has 100,000 ids"));
        }
        for row in &rows {
            known.ids.insert(row.text(0)?);
        }
    }
    Ok(known)
}

#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// More became known of the person since they were looked for; nothing was changed.
    #[error("the person has got more ids meanwhile")]
    Grown,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl AsStorageError for EraseError {
    fn as_storage_error(&self) -> Option<&StorageError> {
        match self {
            Self::Storage(error) => Some(error),
            Self::Grown => None,
        }
    }
}

// Joined with the lists, as `journal.delete` is and for the same reason.
static DELETE_IDS: Statement = statement!(
    "erasure.delete_ids",
    mysql: "DELETE distinct_ids FROM (SELECT * FROM ({rows}) AS listed) AS done STRAIGHT_JOIN distinct_ids \
            ON distinct_ids.shard_no = ? AND distinct_ids.project_id = ? \
            AND distinct_ids.distinct_id = done.id",
    sqlite: "DELETE FROM distinct_ids WHERE distinct_id IN ({rows}) AND shard_no = ? AND project_id = ?",
);
static DELETE_LINKS: Statement = statement!(
    "erasure.delete_links",
    mysql: "DELETE links FROM (SELECT * FROM ({rows}) AS listed) AS done STRAIGHT_JOIN links \
            ON links.shard_no = ? AND links.project_id = ? AND links.distinct_id = done.id",
    sqlite: "DELETE FROM links WHERE distinct_id IN ({rows}) AND shard_no = ? AND project_id = ?",
);
static DELETE_MOVES: Statement = statement!(
    "erasure.delete_moves",
    mysql: "DELETE moves FROM (SELECT * FROM ({rows}) AS listed) AS done STRAIGHT_JOIN moves \
            ON moves.shard_no = ? AND moves.project_id = ? AND moves.distinct_id = done.id",
    sqlite: "DELETE FROM moves WHERE distinct_id IN ({rows}) AND shard_no = ? AND project_id = ?",
);
static DELETE_PERSONS: Statement = statement!(
    "erasure.delete_persons",
    mysql: "DELETE persons FROM (SELECT * FROM ({rows}) AS listed) AS done STRAIGHT_JOIN persons \
            ON persons.shard_no = ? AND persons.project_id = ? AND persons.person_no = done.id",
    sqlite: "DELETE FROM persons WHERE person_no IN ({rows}) AND shard_no = ? AND project_id = ?",
);
static RAISE_EPOCH: Statement = statement!(
    "erasure.raise_epoch",
    "UPDATE project_shards SET erasure_epoch = erasure_epoch + 1, data_version = data_version + 1 \
     WHERE shard_no = ? AND project_id IN (0, ?)"
);

/// Masks the person's rows and deletes what names them, in one transaction that takes the sealer's lease
/// away: no pass that began before it comes to anything, and none that begins after it remembers the
/// person. Running it again changes nothing that matters.
///
/// Tombstones are to be there already: the next pass reads them.
pub async fn erase(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    known: &Known,
    now: Millis,
) -> Result<(), EraseError> {
    leases::create(db, shard_no, LeaseTask::Seal).await?;
    let known = known.clone();
    db.transaction(move |tx| {
        let known = known.clone();
        Box::pin(async move {
            // First: whoever closes a pass holds this row.
            leases::take_away(tx, shard_no, LeaseTask::Seal).await?;
            let found = find_known_in(tx, shard_no, project_id, &known.ids).await?;
            if !found.ids.is_subset(&known.ids) || !found.persons.is_subset(&known.persons) {
                return Err(EraseError::Grown);
            }
            let persons: Vec<PersonNo> = known.persons.iter().copied().collect();
            // A new version also when nobody was found: a pass may be writing the person's first rows.
            let version = masks::insert_all(tx, shard_no, project_id, &persons, masks::ERASED, now).await?;
            objects::give_up_below_in(tx, shard_no, version).await?;
            let ids: Vec<Value> = known.ids.iter().map(|id| id.as_str().into()).collect();
            for statement in [&DELETE_IDS, &DELETE_LINKS, &DELETE_MOVES] {
                delete(tx, statement, &ids, shard_no, project_id).await?;
            }
            let persons: Vec<Value> = known.persons.iter().map(|&person_no| person_no.into()).collect();
            delete(tx, &DELETE_PERSONS, &persons, shard_no, project_id).await?;
            tx.execute(&RAISE_EPOCH, values![shard_no, project_id]).await?;
            Ok(())
        })
    })
    .await
}

async fn delete(
    tx: &mut Tx,
    statement: &'static Statement,
    keys: &[Value],
    shard_no: ShardNo,
    project_id: ProjectId,
) -> Result<(), StorageError> {
    for some in keys.chunks(PER_STATEMENT) {
        let mut binds = some.to_vec();
        binds.extend(values![shard_no, project_id]);
        let sql: Sql = statement.with_joined_rows("SELECT ? AS id", " UNION ALL ", some.len());
        tx.execute(sql, binds).await?;
    }
    Ok(())
}
