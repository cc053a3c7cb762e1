//! Links: which distinct ids belong to another one (`links`), and what of that is not done yet
//! (`moves`). Both rows live in the home shard of the linked id.

use std::sync::LazyLock;

use crate::model::{EventId, Millis, PersonNo, ProjectId, ShardNo};
use crate::storage::db::{OfShards, statement};
use crate::storage::{Db, Read, Row, Statement, StorageError, Tx, Value};
use crate::values;

/// Ids of one look-up.
const FIND_IDS_MAX: usize = 1_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkState {
    /// Heard, but the target's server has not answered since: events stay where they were.
    Recorded,
    /// A pointer: whatever comes for the id goes on to its target.
    Linked,
    /// Was found on a circle of links, and is where that circle ends now.
    Dropped,
}

impl LinkState {
    fn name(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Linked => "linked",
            Self::Dropped => "dropped",
        }
    }

    fn from_name(name: &str) -> Result<Self, StorageError> {
        [Self::Recorded, Self::Linked, Self::Dropped]
            .into_iter()
            .find(|state| state.name() == name)
            .ok_or_else(|| StorageError::corrupt("links", "state", format!("the unknown state {name:?}")))
    }
}

/// The one link of a distinct id: the first stays, whatever comes later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    pub distinct_id: String,
    pub target_id: String,
    /// Known from the moment the pointer is followed.
    pub target_shard: Option<ShardNo>,
    pub state: LinkState,
}

static ANY: Statement =
    statement!("links.any", "SELECT 1 FROM links WHERE shard_no = ? AND project_id = ? LIMIT 1");

/// Whether a project has links in the shard at all: most look-ups end here.
pub async fn has_any(db: &Db, shard_no: ShardNo, project_id: ProjectId) -> Result<bool, StorageError> {
    Ok(db.fetch_optional(&ANY, values![shard_no, project_id]).await?.is_some())
}

static FIND: Statement = statement!(
    "links.find",
    "SELECT distinct_id, target_id, target_shard, state FROM links \
     WHERE shard_no = ? AND project_id = ? AND distinct_id IN ({rows})"
);

/// The links of those ids that have one, in any order.
pub async fn find_links(
    db: &Db,
    shard_no: ShardNo,
    project_id: ProjectId,
    distinct_ids: &[String],
) -> Result<Vec<Link>, StorageError> {
    let mut links = Vec::new();
    for ids in distinct_ids.chunks(FIND_IDS_MAX) {
        let mut binds = values![shard_no, project_id];
        binds.extend(ids.iter().map(|id| Value::from(id.as_str())));
        for row in db.fetch_all(FIND.with_rows("?", ids.len()), binds).await? {
            links.push(link(&row)?);
        }
    }
    Ok(links)
}

/// The link of an id, if it has one, together with other reads.
pub fn read_link(shard_no: ShardNo, project_id: ProjectId, distinct_id: &str) -> Read<Option<Link>> {
    let binds = values![shard_no, project_id, distinct_id];
    Read::new(FIND.with_rows("?", 1), binds, |rows| rows.first().map(link).transpose())
}

fn link(row: &Row) -> Result<Link, StorageError> {
    Ok(Link {
        distinct_id: row.text(0)?,
        target_id: row.text(1)?,
        target_shard: opt_shard(row, 2)?,
        state: LinkState::from_name(&row.text(3)?)?,
    })
}

static PUT: Statement = statement!(
    "links.put",
    mysql: "INSERT INTO links (shard_no, project_id, distinct_id, target_id, target_shard, state, \
            moving_after, linked_at, person_no) VALUES (?, ?, ?, ?, ?, ?, NULL, ?, ?) \
            ON DUPLICATE KEY UPDATE target_shard = VALUES(target_shard), state = VALUES(state), \
            person_no = COALESCE(VALUES(person_no), person_no)",
    sqlite: "INSERT INTO links (shard_no, project_id, distinct_id, target_id, target_shard, state, \
             moving_after, linked_at, person_no) VALUES (?, ?, ?, ?, ?, ?, NULL, ?, ?) \
             ON CONFLICT DO UPDATE SET target_shard = excluded.target_shard, state = excluded.state, \
             person_no = COALESCE(excluded.person_no, person_no)",
);

/// Writes a link, or the state of one. The target of a link never changes, nor who was masked for it.
pub async fn put_link(
    tx: &mut Tx,
    shard_no: ShardNo,
    project_id: ProjectId,
    link: &Link,
    person_no: Option<PersonNo>,
    now: Millis,
) -> Result<(), StorageError> {
    let Link { distinct_id, target_id, target_shard, state } = link;
    let target_shard = target_shard.map_or(Value::Null, Value::from);
    let (distinct_id, target_id) = (distinct_id.as_str(), target_id.as_str());
    let state = state.name();
    let binds = values![shard_no, project_id, distinct_id, target_id, target_shard, state, now, person_no];
    tx.execute(&PUT, binds).await?;
    Ok(())
}

/// A link that waits for its target's server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitingLink {
    pub project_id: ProjectId,
    pub distinct_id: String,
    pub target_id: String,
}

/// A masked person whose rows are being copied towards a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Move {
    pub project_id: ProjectId,
    pub distinct_id: String,
    pub person_no: PersonNo,
    pub target_id: String,
    pub target_shard: ShardNo,
    /// By the server's clock.
    pub started_at: Millis,
    /// The last row that was copied.
    pub after: Option<(Millis, EventId)>,
}

static WAIT: Statement = statement!(
    "moves.wait",
    mysql: "INSERT INTO moves (shard_no, project_id, distinct_id, state, target_id, target_shard, person_no, \
            started_at, after_at, after_event) VALUES (?, ?, ?, 'waiting', ?, NULL, NULL, ?, NULL, NULL) \
            ON DUPLICATE KEY UPDATE shard_no = VALUES(shard_no)",
    sqlite: "INSERT INTO moves (shard_no, project_id, distinct_id, state, target_id, target_shard, person_no, \
             started_at, after_at, after_event) VALUES (?, ?, ?, 'waiting', ?, NULL, NULL, ?, NULL, NULL) \
             ON CONFLICT DO NOTHING",
);

/// Remembers that a recorded link is still to be followed.
pub async fn wait(
    tx: &mut Tx,
    shard_no: ShardNo,
    link: &WaitingLink,
    now: Millis,
) -> Result<(), StorageError> {
    let WaitingLink { project_id, distinct_id, target_id } = link;
    tx.execute(&WAIT, values![shard_no, *project_id, distinct_id.as_str(), target_id.as_str(), now]).await?;
    Ok(())
}

static LIST_WAITING: Statement = statement!(
    "moves.list_waiting",
    "SELECT project_id, distinct_id, target_id FROM moves WHERE shard_no = ? AND state = 'waiting' \
     ORDER BY project_id, distinct_id LIMIT ?"
);

/// Links of a shard that are not followed yet.
pub async fn list_waiting(
    db: &Db,
    shard_no: ShardNo,
    limit: usize,
) -> Result<Vec<WaitingLink>, StorageError> {
    let rows = db.fetch_all(&LIST_WAITING, values![shard_no, limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(WaitingLink {
                project_id: ProjectId(row.u32(0)?),
                distinct_id: row.text(1)?,
                target_id: row.text(2)?,
            })
        })
        .collect()
}

static START: Statement = statement!(
    "moves.start",
    mysql: "INSERT INTO moves (shard_no, project_id, distinct_id, state, target_id, target_shard, person_no, \
            started_at, after_at, after_event) VALUES (?, ?, ?, 'moving', ?, ?, ?, \
            CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED), NULL, NULL) \
            ON DUPLICATE KEY UPDATE state = VALUES(state), target_shard = VALUES(target_shard), \
            person_no = VALUES(person_no), started_at = VALUES(started_at)",
    sqlite: "INSERT INTO moves (shard_no, project_id, distinct_id, state, target_id, target_shard, person_no, \
             started_at, after_at, after_event) VALUES (?, ?, ?, 'moving', ?, ?, ?, \
             CAST(unixepoch('subsec') * 1000 AS INTEGER), NULL, NULL) \
             ON CONFLICT DO UPDATE SET state = excluded.state, target_shard = excluded.target_shard, \
             person_no = excluded.person_no, started_at = excluded.started_at",
);

/// Begins to move the rows of a person; in the transaction that masks it and sets the pointer.
pub async fn start(
    tx: &mut Tx,
    shard_no: ShardNo,
    project_id: ProjectId,
    link: &Link,
    target_shard: ShardNo,
    person_no: PersonNo,
) -> Result<(), StorageError> {
    let (distinct_id, target_id) = (link.distinct_id.as_str(), link.target_id.as_str());
    let binds = values![shard_no, project_id, distinct_id, target_id, target_shard, person_no];
    tx.execute(&START, binds).await?;
    Ok(())
}

static LIST_MOVING: Statement = statement!(
    "moves.list_moving",
    "SELECT project_id, distinct_id, person_no, target_id, target_shard, started_at, after_at, after_event \
     FROM moves WHERE shard_no = ? AND state = 'moving' ORDER BY project_id, distinct_id LIMIT ?"
);

/// Moves under way in a shard.
pub async fn list_moving(db: &Db, shard_no: ShardNo, limit: usize) -> Result<Vec<Move>, StorageError> {
    let rows = db.fetch_all(&LIST_MOVING, values![shard_no, limit]).await?;
    rows.iter()
        .map(|row| {
            let after = match row.opt_i64(6)? {
                None => None,
                Some(at) => Some((at, EventId(row.array(7)?))),
            };
            Ok(Move {
                project_id: ProjectId(row.u32(0)?),
                distinct_id: row.text(1)?,
                person_no: row.u32(2)?,
                target_id: row.text(3)?,
                target_shard: ShardNo(row.u16(4)?),
                started_at: row.i64(5)?,
                after,
            })
        })
        .collect()
}

static ADVANCE: Statement = statement!(
    "moves.advance",
    "UPDATE moves SET after_at = ?, after_event = ? WHERE shard_no = ? AND project_id = ? AND distinct_id = ?"
);

/// The rows up to here have been copied; in the transaction that copies them.
pub async fn advance(
    tx: &mut Tx,
    shard_no: ShardNo,
    of: &Move,
    (at, event_id): (Millis, EventId),
) -> Result<(), StorageError> {
    let binds = values![at, event_id, shard_no, of.project_id, of.distinct_id.as_str()];
    tx.execute(&ADVANCE, binds).await?;
    Ok(())
}

static END: Statement = statement!(
    "moves.end",
    mysql: "DELETE moves FROM (SELECT * FROM ({rows}) AS listed) AS done STRAIGHT_JOIN moves \
            ON moves.shard_no = ? AND moves.project_id = ? AND moves.distinct_id = done.distinct_id",
    sqlite: "DELETE FROM moves WHERE distinct_id IN ({rows}) AND shard_no = ? AND project_id = ?",
);
static RAISE: Statement = statement!(
    "project_shards.raise_data",
    "UPDATE project_shards SET data_version = data_version + 1 WHERE shard_no = ? AND project_id = ?"
);

/// Nothing is left to be done for these links. Answers say how many persons are moving, so the data
/// version rises.
///
/// Precondition: at most 500 ids.
pub async fn end(
    tx: &mut Tx,
    shard_no: ShardNo,
    project_id: ProjectId,
    distinct_ids: &[String],
) -> Result<(), StorageError> {
    if distinct_ids.is_empty() {
        return Ok(());
    }
    let mut binds: Vec<Value> = distinct_ids.iter().map(|id| id.as_str().into()).collect();
    binds.extend(values![shard_no, project_id]);
    tx.execute(END.with_joined_rows("SELECT ? AS distinct_id", " UNION ALL ", distinct_ids.len()), binds)
        .await?;
    tx.execute(&RAISE, values![shard_no, project_id]).await?;
    Ok(())
}

static COUNT_MOVING: LazyLock<OfShards> = LazyLock::new(|| {
    OfShards::new(
        "moves.count_moving",
        "SELECT shard_no, COUNT(*) FROM moves WHERE shard_no IN ({shards}) AND project_id = ? \
         AND state = 'moving' GROUP BY shard_no",
    )
});

/// How many persons of a project are neither here nor there, in the shards that have such; in the
/// snapshot that lists their objects.
///
/// Precondition: 1 to [`SHARDS_PER_STATEMENT`](crate::storage::db::SHARDS_PER_STATEMENT) shards.
pub fn read_moving(shards: &[ShardNo], project_id: ProjectId) -> Read<Vec<(ShardNo, u64)>> {
    let (statement, mut binds) = COUNT_MOVING.with(shards);
    binds.push(project_id.into());
    Read::new(statement, binds, |rows| {
        rows.iter().map(|row| Ok((ShardNo(row.u16(0)?), row.u64(1)?))).collect()
    })
}

static LIST_SHARDS: Statement =
    statement!("moves.list_shards", "SELECT DISTINCT shard_no FROM moves ORDER BY shard_no LIMIT 65536");

/// The shards of a server that have links to be worked on.
pub async fn list_shards(db: &Db) -> Result<Vec<ShardNo>, StorageError> {
    let rows = db.fetch_all(&LIST_SHARDS, vec![]).await?;
    rows.iter().map(|row| row.u16(0).map(ShardNo)).collect()
}

fn opt_shard(row: &Row, column: usize) -> Result<Option<ShardNo>, StorageError> {
    match row.opt_i64(column)? {
        None => Ok(None),
        Some(number) => match u16::try_from(number) {
            Ok(shard_no) => Ok(Some(ShardNo(shard_no))),
            Err(_) => Err(StorageError::corrupt("links", "target_shard", format!("{number} is no shard"))),
        },
    }
}
