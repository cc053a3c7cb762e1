//! Which events and properties a project has, for the menus of a form and the catalogue of the API.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{ScanError, ScanRequest};
use crate::eventstore::RowColumns;
use crate::eventstore::format::{ObjectFacts, PropertyKind, SliceFacts};
use crate::model::{Millis, ProjectId, ShardNo};
use crate::storage::server::objects;
use crate::storage::{Db, StorageError};

/// Read from the facts of runs and segments alone. Rows of masked persons are still counted here; values
/// are not in it, so there is nothing to erase.
///
/// It lists so many names of each kind, the most frequent ones, however many there are: beyond twice as
/// many the rarest are left out, and counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProjectMenu {
    pub events: BTreeMap<String, MenuEvent>,
    pub properties: BTreeMap<String, MenuProperty>,
    /// When the latest event occurred.
    pub last_at: Option<Millis>,
    /// There are more names than are listed.
    pub more_events: bool,
    pub more_properties: bool,
    /// Some shards did not answer.
    pub is_partial: bool,
    /// Names that were known and left out, of events and of properties.
    pub left_out: (u64, u64),
    names_max: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MenuEvent {
    pub rows: u64,
    pub last_at: Millis,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MenuProperty {
    pub rows: u64,
    pub last_at: Millis,
    /// The types it has had, with the rows of each.
    pub kinds: BTreeMap<PropertyKind, u64>,
}

impl ProjectMenu {
    pub fn new(names_max: usize) -> Self {
        Self { names_max, ..Self::default() }
    }

    /// What one shard holds.
    pub async fn of_shard(
        db: &Db,
        shard_no: ShardNo,
        project_id: ProjectId,
        names_max: usize,
    ) -> Result<Self, ScanError> {
        let (from, to) = (Millis::MIN, Millis::MAX);
        let (runs, segments) = db
            .snapshot(move |tx| {
                Box::pin(async move {
                    let runs = objects::list_runs_in(tx, &[shard_no]).await?;
                    let segments = objects::list_segments_in(tx, &[shard_no], project_id, from, to).await?;
                    Ok::<_, StorageError>((runs, segments))
                })
            })
            .await?;
        // Facts of many objects with many names are some milliseconds of work each.
        let gathered = tokio::task::spawn_blocking(move || {
            let mut menu = Self::new(names_max);
            for object in runs.iter().chain(&segments) {
                let facts = ObjectFacts::from_bytes(&object.facts)
                    .map_err(|source| ScanError::Format { object_id: object.object_id, source })?;
                if let Some(slice) = facts.slice_of(project_id) {
                    menu.add_slice(slice);
                }
            }
            Ok(menu)
        });
        gathered.await?
    }

    fn add_slice(&mut self, slice: &SliceFacts) {
        self.last_at = self.last_at.max(Some(slice.occurred_max));
        self.more_events |= slice.more_events;
        self.more_properties |= slice.more_properties;
        for event in &slice.events {
            self.add_event(
                &event.name,
                MenuEvent { rows: event.rows, last_at: slice.last_at(event.quiet_secs) },
            );
        }
        for fact in &slice.properties {
            let kinds = BTreeMap::from([(fact.kind, fact.rows)]);
            let last_at = slice.last_at(fact.quiet_secs);
            self.add_property(&fact.name, MenuProperty { rows: fact.rows, last_at, kinds });
        }
        self.shorten(2 * self.names_max);
    }

    /// Adds what another shard holds.
    pub fn merge(&mut self, other: Self) {
        self.last_at = self.last_at.max(other.last_at);
        self.more_events |= other.more_events;
        self.more_properties |= other.more_properties;
        self.is_partial |= other.is_partial;
        self.left_out.0 += other.left_out.0;
        self.left_out.1 += other.left_out.1;
        for (name, event) in other.events {
            self.add_event(&name, event);
        }
        for (name, property) in other.properties {
            self.add_property(&name, property);
        }
        self.shorten(2 * self.names_max);
    }

    /// When everything has been added: no more names than may be listed.
    pub fn finish(mut self) -> Self {
        self.shorten(self.names_max);
        self
    }

    fn add_event(&mut self, name: &str, event: MenuEvent) {
        match self.events.get_mut(name) {
            Some(known) => {
                known.rows += event.rows;
                known.last_at = known.last_at.max(event.last_at);
            }
            None => drop(self.events.insert(name.to_owned(), event)),
        }
    }

    fn add_property(&mut self, name: &str, property: MenuProperty) {
        let Some(known) = self.properties.get_mut(name) else {
            self.properties.insert(name.to_owned(), property);
            return;
        };
        known.rows += property.rows;
        known.last_at = known.last_at.max(property.last_at);
        for (kind, rows) in property.kinds {
            *known.kinds.entry(kind).or_default() += rows;
        }
    }

    /// Leaves the rarest names out when there are more than `limit`.
    fn shorten(&mut self, limit: usize) {
        if self.events.len() > limit {
            self.left_out.0 += keep_most_frequent(&mut self.events, self.names_max, |event| event.rows);
            self.more_events = true;
        }
        if self.properties.len() > limit {
            self.left_out.1 +=
                keep_most_frequent(&mut self.properties, self.names_max, |property| property.rows);
            self.more_properties = true;
        }
    }
}

/// Of equal ones those that come first by name; how many went.
fn keep_most_frequent<V>(names: &mut BTreeMap<String, V>, max: usize, rows: impl Fn(&V) -> u64) -> u64 {
    let mut all: Vec<_> = std::mem::take(names).into_iter().collect();
    all.sort_by_key(|(_, value)| Reverse(rows(value)));
    let left_out = all.len().saturating_sub(max);
    all.truncate(max);
    names.extend(all);
    left_out as u64
}

impl ScanRequest {
    /// Everything a shard holds of a project, without properties.
    pub fn everything(project_id: ProjectId) -> Self {
        Self {
            project_id,
            from: Millis::MIN,
            to: Millis::MAX,
            with: RowColumns::ALL,
            properties: Vec::new(),
            events: None,
            needs: Vec::new(),
            counted_by: None,
        }
    }
}
