//! Rows of a question's events, kept beside the whole columns of a segment.
//!
//! Most questions are about few events, and those are asked for again: with another filter, on another
//! dashboard, an hour later. Segments are in the order of persons, so the rows of an event lie all over them,
//! and a kernel that picks them touches most of the memory of every column. Who reads some events for the second
//! time gathers what it needs of their rows into columns of their own, if they are at most half of all; whoever
//! asks for the same events later takes those. What a projection lacks comes out of the whole columns, which
//! are read if need be.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::columns::{ColumnCache, KeptRows, Known, Standing};
use super::{ListedObject, ROWS_AT_ONCE_MAX, ScanRequest, Scanner};
use crate::eventstore::{RowBlock, RowColumns};
use crate::model::ProjectId;

/// What of an object is there for a question before anything of it is read.
pub(super) struct Found {
    /// Of a projection that has all that is asked, or of all rows.
    pub known: Known,
    /// The properties that `known` was asked for.
    pub properties: Vec<String>,
    /// What is to be done with all rows.
    pub projecting: Option<Projecting>,
}

/// A projection that lacks something.
pub(super) struct Projecting {
    columns: Arc<ColumnCache>,
    object: ListedObject,
    project_id: ProjectId,
    events: AskedEvents,
    known: Known,
    /// Those that it lacks.
    properties: Vec<String>,
}

/// The events that a question counts, as they are looked for in all of its objects.
#[derive(Clone)]
pub(super) struct AskedEvents {
    /// Sorted.
    names: Arc<[String]>,
    rows: KeptRows,
}

impl AskedEvents {
    /// `None`: all of them.
    pub fn of(request: &ScanRequest) -> Option<Self> {
        let mut names = request.events.clone()?;
        names.sort_unstable();
        names.dedup();
        let mut hash = Sha256::new();
        for name in &names {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
        }
        let hash = hash.finalize();
        let rows = KeptRows::OfEvents(std::array::from_fn(|place| hash[place]));
        Some(Self { names: names.into(), rows })
    }
}

impl Found {
    pub fn of_rollup(block: RowBlock) -> Self {
        Self { known: Known::of_rollup(block), properties: Vec::new(), projecting: None }
    }

    /// Whether nothing has to be read or gathered.
    pub fn is_complete(&self) -> bool {
        self.known.is_complete() && self.projecting.is_none()
    }
}

/// The block of a question out of one that has whatever its projection lacks.
pub(super) fn projected(projecting: Option<Projecting>, block: RowBlock) -> RowBlock {
    match projecting {
        None => block,
        Some(projecting) => projecting.apply(block),
    }
}

impl Projecting {
    fn apply(self, block: RowBlock) -> RowBlock {
        let Self { columns, object, project_id, events, known, properties } = self;
        match block.of_events(&events.names) {
            Some(few) if !few.event.is_empty() => {
                columns.keep(&object, project_id, events.rows, &properties, &few);
                known.complete_with(few)
            }
            // They are none, few or many whichever columns are asked for: so nothing was known.
            _ => {
                columns.keep_standing(&object, project_id, events.rows, Standing::NotKept);
                block
            }
        }
    }
}

impl Scanner {
    /// What is kept of an object, of a rollup aside; that its events were asked for is kept too.
    pub(super) fn look_for(
        &self,
        request: &ScanRequest,
        events: Option<&AskedEvents>,
        object: &ListedObject,
        with: RowColumns,
    ) -> Found {
        let (columns, project_id, asked) = (&self.columns, request.project_id, &request.properties);
        let of_all = |with, properties: Vec<String>, projecting| {
            let known = columns.find(object, project_id, KeptRows::All, with, &properties);
            Found { known, properties, projecting }
        };
        let found = match events.filter(|_| columns.are_on() && object.may_be_projected()) {
            None => of_all(with, asked.clone(), None),
            Some(events) => {
                let known = columns.find(object, project_id, events.rows, with, asked);
                if known.is_complete() {
                    Found { known, properties: asked.clone(), projecting: None }
                } else {
                    match columns.standing(object, project_id, events.rows) {
                        None => {
                            columns.keep_standing(object, project_id, events.rows, Standing::Asked);
                            of_all(with, asked.clone(), None)
                        }
                        Some(Standing::NotKept) => of_all(with, asked.clone(), None),
                        Some(Standing::Asked) => {
                            let (with, properties) = known.missing(asked);
                            let projecting = Projecting {
                                columns: columns.clone(),
                                object: object.clone(),
                                project_id,
                                events: events.clone(),
                                known,
                                properties: properties.clone(),
                            };
                            of_all(with, properties, Some(projecting))
                        }
                    }
                }
            }
        };
        columns.observe(with, asked, found.known.count_missing());
        found
    }

    /// Whether all that is asked of an object is kept.
    pub(super) fn has_all(
        &self,
        request: &ScanRequest,
        events: Option<&AskedEvents>,
        object: &ListedObject,
        with: RowColumns,
    ) -> bool {
        let has = |rows| self.columns.has_all(object, request.project_id, rows, with, &request.properties);
        has(KeptRows::All) || events.is_some_and(|events| object.may_be_projected() && has(events.rows))
    }
}

impl ListedObject {
    fn may_be_projected(&self) -> bool {
        !self.is_run() && self.rows_to_read() > ROWS_AT_ONCE_MAX
    }
}
