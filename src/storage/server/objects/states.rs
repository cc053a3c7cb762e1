//! The life of an object: written as `building`, made live, retired, deleted.

use bytes::Bytes;

use super::{NewObject, ObjectKind, Pair, STATEMENT_BYTES_MAX};
use crate::model::{Millis, ObjectId, ShardNo};
use crate::storage::db::statement;
use crate::storage::{Db, Statement, StorageError, Tx, Value};
use crate::values;

/// Objects that one statement changes.
const OBJECTS_PER_STATEMENT: usize = 200;

static INSERT_RUN: Statement = statement!(
    "runs.insert",
    "INSERT INTO runs (shard_no, run_id, state, events, bytes, parts, min_at, max_at, mask_version, \
     directory, created_at, retired_at) VALUES (?, ?, 'building', ?, ?, ?, ?, ?, ?, ?, ?, NULL)"
);
static INSERT_SEGMENT: Statement = statement!(
    "segments.insert",
    "INSERT INTO segments (shard_no, segment_id, project_id, state, day_from, day_to, min_at, max_at, \
     events, bytes, parts, tier, mask_version, facts, created_at, retired_at) \
     VALUES (?, ?, ?, 'building', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)"
);
static INSERT_PARTS: Statement =
    statement!("parts.insert", "INSERT INTO parts (object_id, part_no, body) VALUES {rows}");

/// Writes the `building` row and the parts, each statement on its own. What is left of it when the
/// writer dies is given up by [`abandon`].
pub async fn upload(db: &Db, object: NewObject, now: Millis) -> Result<(), StorageError> {
    let bytes: usize = object.parts.iter().map(Bytes::len).sum();
    let parts = object.parts.len();
    match object.project_id {
        None => {
            let binds = values![
                object.shard_no,
                object.object_id,
                object.events,
                bytes,
                parts,
                object.min_at,
                object.max_at,
                object.mask_version,
                object.facts,
                now
            ];
            db.execute(&INSERT_RUN, binds).await?;
        }
        Some(project_id) => {
            let binds = values![
                object.shard_no,
                object.object_id,
                project_id,
                object.day_from,
                object.day_to,
                object.min_at,
                object.max_at,
                object.events,
                bytes,
                parts,
                object.tier,
                object.mask_version,
                object.facts,
                now
            ];
            db.execute(&INSERT_SEGMENT, binds).await?;
        }
    }
    let (mut binds, mut rows, mut waiting) = (Vec::new(), 0, 0);
    for (part_no, part) in object.parts.into_iter().enumerate() {
        if rows > 0 && waiting + part.len() > STATEMENT_BYTES_MAX {
            db.execute(INSERT_PARTS.with_rows("(?, ?, ?)", rows), std::mem::take(&mut binds)).await?;
            (rows, waiting) = (0, 0);
        }
        waiting += part.len();
        rows += 1;
        binds.extend(values![object.object_id, part_no, part]);
    }
    if rows > 0 {
        db.execute(INSERT_PARTS.with_rows("(?, ?, ?)", rows), binds).await?;
    }
    Ok(())
}

static MAKE_LIVE: Pair = Pair {
    run: statement!(
        "runs.make_live",
        mysql: "UPDATE (SELECT * FROM ({rows}) AS listed) AS done STRAIGHT_JOIN runs \
                ON runs.shard_no = ? AND runs.run_id = done.object_id \
                SET runs.state = 'live' WHERE runs.state = 'building'",
        sqlite: "UPDATE runs SET state = 'live' WHERE run_id IN ({rows}) AND shard_no = ? AND state = 'building'",
    ),
    segment: statement!(
        "segments.make_live",
        mysql: "UPDATE (SELECT * FROM ({rows}) AS listed) AS done STRAIGHT_JOIN segments \
                ON segments.shard_no = ? AND segments.segment_id = done.object_id \
                SET segments.state = 'live' WHERE segments.state = 'building'",
        sqlite: "UPDATE segments SET state = 'live' \
                 WHERE segment_id IN ({rows}) AND shard_no = ? AND state = 'building'",
    ),
};

/// In the closing transaction: the objects count from now on. False when one of them is not
/// `building` any more, and then the transaction must not be committed.
///
/// Many at once, since a merge of old runs may make thousands of segments, and the transaction that
/// closes it must stay short.
pub async fn make_live(
    tx: &mut Tx,
    kind: ObjectKind,
    shard_no: ShardNo,
    object_ids: &[ObjectId],
) -> Result<bool, StorageError> {
    let mut made = 0;
    for ids in object_ids.chunks(OBJECTS_PER_STATEMENT) {
        let mut binds: Vec<Value> = ids.iter().map(|&id| id.into()).collect();
        binds.push(shard_no.into());
        let one = "SELECT ? AS object_id";
        let statement = MAKE_LIVE.of(kind).with_joined_rows(one, " UNION ALL ", ids.len());
        made += tx.execute(statement, binds).await?;
    }
    Ok(made == object_ids.len() as u64)
}

static RETIRE: Pair = Pair {
    run: statement!(
        "runs.retire",
        "UPDATE runs SET state = 'retired', retired_at = ? \
         WHERE shard_no = ? AND run_id = ? AND state = 'live'"
    ),
    segment: statement!(
        "segments.retire",
        "UPDATE segments SET state = 'retired', retired_at = ? \
         WHERE shard_no = ? AND segment_id = ? AND state = 'live'"
    ),
};

/// In the closing transaction: the object has been replaced. False when it was not `live`, and then
/// the transaction must not be committed.
pub async fn retire(
    tx: &mut Tx,
    kind: ObjectKind,
    shard_no: ShardNo,
    object_id: ObjectId,
    now: Millis,
) -> Result<bool, StorageError> {
    Ok(tx.execute(RETIRE.of(kind), values![now, shard_no, object_id]).await? == 1)
}

static ABANDON: Pair = Pair {
    run: statement!(
        "runs.abandon",
        "UPDATE runs SET state = 'retired', retired_at = ? \
         WHERE shard_no = ? AND state = 'building' AND created_at < ?"
    ),
    segment: statement!(
        "segments.abandon",
        "UPDATE segments SET state = 'retired', retired_at = ? \
         WHERE shard_no = ? AND state = 'building' AND created_at < ?"
    ),
};

/// Gives up what nobody has finished since `built_before`: its builder died, or will find that its
/// object is no longer `building`.
pub async fn abandon(
    db: &Db,
    shard_no: ShardNo,
    built_before: Millis,
    now: Millis,
) -> Result<u64, StorageError> {
    let mut abandoned = 0;
    for kind in [ObjectKind::Run, ObjectKind::Segment] {
        abandoned += db.execute(ABANDON.of(kind), values![now, shard_no, built_before]).await?;
    }
    Ok(abandoned)
}

static GIVE_UP_BELOW: Pair = Pair {
    run: statement!(
        "runs.give_up_below",
        "UPDATE runs SET state = 'retired', retired_at = 0 \
         WHERE shard_no = ? AND state = 'building' AND mask_version < ?"
    ),
    segment: statement!(
        "segments.give_up_below",
        "UPDATE segments SET state = 'retired', retired_at = 0 \
         WHERE shard_no = ? AND state = 'building' AND mask_version < ?"
    ),
};

/// Gives up what is being built without knowledge of the latest masks: it may hold a person who was
/// just erased. Its builder finds out when it closes, and begins again. Nobody ever listed it, so it
/// goes without a grace period: [`delete_given_up`].
pub async fn give_up_below_in(tx: &mut Tx, shard_no: ShardNo, version: i64) -> Result<(), StorageError> {
    for kind in [ObjectKind::Run, ObjectKind::Segment] {
        tx.execute(GIVE_UP_BELOW.of(kind), values![shard_no, version]).await?;
    }
    Ok(())
}

/// Deletes up to 400 objects that were given up by [`give_up_below_in`]; how many.
pub async fn delete_given_up(db: &Db, shard_no: ShardNo) -> Result<u64, StorageError> {
    delete_retired(db, shard_no, 1).await
}

static HASTEN: Pair = Pair {
    run: statement!(
        "runs.hasten",
        mysql: "UPDATE runs SET retired_at = LEAST(retired_at, ?) \
                WHERE shard_no = ? AND run_id = ? AND state = 'retired'",
        sqlite: "UPDATE runs SET retired_at = MIN(retired_at, ?) \
                 WHERE shard_no = ? AND run_id = ? AND state = 'retired'",
    ),
    segment: statement!(
        "segments.hasten",
        mysql: "UPDATE segments SET retired_at = LEAST(retired_at, ?) \
                WHERE shard_no = ? AND segment_id = ? AND state = 'retired'",
        sqlite: "UPDATE segments SET retired_at = MIN(retired_at, ?) \
                 WHERE shard_no = ? AND segment_id = ? AND state = 'retired'",
    ),
};

/// Lets a retired object be deleted as if it had been retired at that time, unless it was earlier.
pub async fn hasten(
    db: &Db,
    kind: ObjectKind,
    shard_no: ShardNo,
    object_id: ObjectId,
    retired_at: Millis,
) -> Result<(), StorageError> {
    db.execute(HASTEN.of(kind), values![retired_at, shard_no, object_id]).await?;
    Ok(())
}

static RAISE_MASKS: Pair = Pair {
    run: statement!(
        "runs.raise_masks",
        "UPDATE runs SET mask_version = ? WHERE shard_no = ? AND run_id = ? AND mask_version < ?"
    ),
    segment: statement!(
        "segments.raise_masks",
        "UPDATE segments SET mask_version = ? WHERE shard_no = ? AND segment_id = ? AND mask_version < ?"
    ),
};

/// Records that the object obeys all masks up to a version: it was looked through and holds none of
/// those persons.
pub async fn raise_masks(
    db: &Db,
    kind: ObjectKind,
    shard_no: ShardNo,
    object_id: ObjectId,
    version: i64,
) -> Result<(), StorageError> {
    db.execute(RAISE_MASKS.of(kind), values![version, shard_no, object_id, version]).await?;
    Ok(())
}

static GIVE_UP: Pair = Pair {
    run: statement!(
        "runs.give_up",
        "UPDATE runs SET state = 'retired', retired_at = ? \
         WHERE shard_no = ? AND run_id = ? AND state = 'building'"
    ),
    segment: statement!(
        "segments.give_up",
        "UPDATE segments SET state = 'retired', retired_at = ? \
         WHERE shard_no = ? AND segment_id = ? AND state = 'building'"
    ),
};
static STATE: Pair = Pair {
    run: statement!("runs.state", "SELECT state FROM runs WHERE shard_no = ? AND run_id = ?"),
    segment: statement!("segments.state", "SELECT state FROM segments WHERE shard_no = ? AND segment_id = ?"),
};

/// What its builder does with an object whose closing transaction failed: takes it away at once. One
/// that became live after all, when only the answer was lost, stays.
pub async fn discard(
    db: &Db,
    kind: ObjectKind,
    shard_no: ShardNo,
    object_id: ObjectId,
    now: Millis,
) -> Result<(), StorageError> {
    db.execute(GIVE_UP.of(kind), values![now, shard_no, object_id]).await?;
    // Somebody else may have given it up and deleted it while its last parts were still coming.
    let state = db.fetch_optional(STATE.of(kind), values![shard_no, object_id]).await?;
    let state = state.map(|row| row.text(0)).transpose()?;
    if matches!(state.as_deref(), None | Some("retired")) {
        db.execute(&DELETE_PARTS, values![object_id]).await?;
        db.execute(DELETE.of(kind), values![shard_no, object_id]).await?;
    }
    Ok(())
}

static LIST_RETIRED: Pair = Pair {
    run: statement!(
        "runs.list_retired",
        "SELECT run_id FROM runs WHERE shard_no = ? AND state = 'retired' AND retired_at < ? LIMIT 200"
    ),
    segment: statement!(
        "segments.list_retired",
        "SELECT segment_id FROM segments \
         WHERE shard_no = ? AND state = 'retired' AND retired_at < ? LIMIT 200"
    ),
};
static DELETE_PARTS: Statement = statement!("parts.delete", "DELETE FROM parts WHERE object_id = ?");
static DELETE: Pair = Pair {
    run: statement!(
        "runs.delete",
        "DELETE FROM runs WHERE shard_no = ? AND run_id = ? AND state = 'retired'"
    ),
    segment: statement!(
        "segments.delete",
        "DELETE FROM segments WHERE shard_no = ? AND segment_id = ? AND state = 'retired'"
    ),
};

/// Deletes up to 400 objects that were retired before `retired_before`; how many. The catalogue row
/// goes last, so that an interrupted deletion is taken up again.
pub async fn delete_retired(db: &Db, shard_no: ShardNo, retired_before: Millis) -> Result<u64, StorageError> {
    let mut deleted = 0;
    for kind in [ObjectKind::Run, ObjectKind::Segment] {
        for row in &db.fetch_all(LIST_RETIRED.of(kind), values![shard_no, retired_before]).await? {
            let object_id = ObjectId(row.array(0)?);
            db.execute(&DELETE_PARTS, values![object_id]).await?;
            deleted += db.execute(DELETE.of(kind), values![shard_no, object_id]).await?;
        }
    }
    Ok(deleted)
}
