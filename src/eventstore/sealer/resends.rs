//! Rows of a pass that are there already: in the pass itself, or in runs and segments. The first content
//! wins; how often another one came is counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::SealError;
use super::duplicates::{self, Identity, OpenedCache, Probe};
use crate::eventstore::format::StoredRow;
use crate::model::{
    DAY_MS, FastMap, Millis, ObjectId, ProjectId, Properties, PropertyRef, ShardNo, TimeSource, utc_day,
};
use crate::storage::server::objects::{self, ObjectRow};
use crate::storage::{Db, StorageError};

/// How often a list of objects is made again because compaction has replaced one meanwhile.
const LIST_ATTEMPTS: usize = 5;
/// Stored rows that one pass reads to compare them, and out of objects of which size: reading all of an
/// import that is made twice would take as long as the import.
const COMPARED_MAX: usize = 32;
const COMPARED_IN_BYTES_MAX: u64 = 4 << 20;

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Dropped {
    pub rows: u64,
    /// Those that were compared with the first.
    pub compared: u64,
    /// Those of them that say something else.
    pub changed: u64,
}

/// Leaves the first of several equal events.
pub fn drop_repeated(rows: &mut Vec<StoredRow>) -> Dropped {
    let mut seen: FastMap<Identity, usize> =
        FastMap::with_capacity_and_hasher(rows.len(), Default::default());
    let mut repeats = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let known = duplicates::probed_days(row)
            .find_map(|day| seen.get(&(row.person_no, row.event_id, day)).copied());
        match known {
            Some(first) => repeats.push((at, first)),
            None => drop(seen.insert((row.person_no, row.event_id, utc_day(row.occurred_at)), at)),
        }
    }
    if repeats.is_empty() {
        return Dropped::default();
    }
    let changed = repeats.iter().filter(|(at, first)| !is_same(&rows[*at], &rows[*first])).count();
    let all = repeats.len() as u64;
    let (mut at, mut repeats) = (0, repeats.into_iter().map(|(at, _)| at).peekable());
    rows.retain(|_| {
        at += 1;
        repeats.next_if_eq(&(at - 1)).is_none()
    });
    Dropped { rows: all, compared: all, changed: changed as u64 }
}

/// Removes what is stored already.
pub async fn drop_stored(
    db: &Db,
    opened: &mut OpenedCache,
    shard_no: ShardNo,
    probes: &BTreeMap<ProjectId, Arc<Vec<Probe>>>,
    rows: &mut BTreeMap<ProjectId, Vec<StoredRow>>,
) -> Result<Dropped, SealError> {
    let mut dropped = Dropped::default();
    for _ in 0..LIST_ATTEMPTS {
        let mut gone = false;
        let listed = list_objects(db, shard_no, rows).await?;
        opened.keep_only(&listed.runs.iter().map(|run| run.object_id).chain(listed.segment_ids()).collect());
        for (project_id, rows) in rows.iter_mut() {
            let Some(probes) = probes.get(project_id).filter(|probes| !probes.is_empty()) else { continue };
            let mut stored: FastMap<Identity, Option<StoredRow>> = FastMap::default();
            let segments = listed.segments.get(project_id).into_iter().flatten();
            for object in listed.runs.iter().chain(segments) {
                let left = match object.bytes {
                    0..=COMPARED_IN_BYTES_MAX => COMPARED_MAX.saturating_sub(dropped.compared as usize),
                    _ => 0,
                };
                let read = stored.values().filter(|row| row.is_some()).count();
                let left = left.saturating_sub(read);
                match duplicates::find_stored(db, opened, object, *project_id, probes, left).await? {
                    Some(found) => stored.extend(found),
                    None => gone = true,
                }
            }
            if !stored.is_empty() {
                rows.retain(|row| !is_stored(row, &stored, &mut dropped));
            }
        }
        if !gone {
            return Ok(dropped);
        }
    }
    Err(SealError::ObjectsKeepVanishing)
}

fn is_stored(row: &StoredRow, stored: &FastMap<Identity, Option<StoredRow>>, dropped: &mut Dropped) -> bool {
    let found = duplicates::probed_days(row).find_map(|day| stored.get(&(row.person_no, row.event_id, day)));
    let Some(first) = found else { return false };
    dropped.rows += 1;
    if let Some(first) = first {
        dropped.compared += 1;
        dropped.changed += u64::from(!is_same(row, first));
    }
    true
}

/// Whether a sender has said the same twice. A time that the server has given differs by itself.
fn is_same(again: &StoredRow, first: &StoredRow) -> bool {
    let is_given = |row: &StoredRow| row.time_source == TimeSource::Client;
    again.event == first.event
        && (again.occurred_at == first.occurred_at || !is_given(again) || !is_given(first))
        && (again.properties == first.properties || by_name(&again.properties) == by_name(&first.properties))
}

/// Segments do not keep the order in which they were sent.
fn by_name(properties: &Properties) -> Vec<(&str, PropertyRef<'_>)> {
    let mut sorted: Vec<_> = properties.into_iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    sorted
}

struct Listed {
    runs: Vec<ObjectRow>,
    segments: BTreeMap<ProjectId, Vec<ObjectRow>>,
}

impl Listed {
    fn segment_ids(&self) -> impl Iterator<Item = ObjectId> {
        self.segments.values().flatten().map(|segment| segment.object_id)
    }
}

/// Everything that may hold one of the rows, at one point in time: an object that compaction moves
/// from one list to the other is in exactly one of them.
async fn list_objects(
    db: &Db,
    shard_no: ShardNo,
    rows: &BTreeMap<ProjectId, Vec<StoredRow>>,
) -> Result<Listed, StorageError> {
    let ranges: Vec<(ProjectId, Millis, Millis)> = rows
        .iter()
        .filter_map(|(project_id, rows)| {
            let days = rows.iter().map(duplicates::probed_days);
            let from = days.clone().map(|days| *days.start()).min()?;
            let to = days.map(|days| *days.end()).max()?;
            Some((*project_id, i64::from(from) * DAY_MS, (i64::from(to) + 1) * DAY_MS))
        })
        .collect();
    db.snapshot(move |tx| {
        Box::pin(async move {
            let runs = objects::list_runs_in(tx, &[shard_no]).await?;
            let mut segments = BTreeMap::new();
            for (project_id, from, to) in ranges {
                let listed = objects::list_segments_in(tx, &[shard_no], project_id, from, to).await?;
                segments.insert(project_id, listed);
            }
            Ok(Listed { runs, segments })
        })
    })
    .await
}
