//! Rows of a question's events, kept beside the whole columns of a segment.
//!
//! Most questions are about few events, and those are asked for again: with another filter, on another
//! dashboard, an hour later. Segments are in the order of persons, so the rows of an event lie all over them,
//! and a kernel that picks them touches most of the memory of every column. The second question about some
//! events gathers what it needs of their rows into columns of their own, if they are at most half of all;
//! whoever asks for the same events later takes those. What a projection lacks comes out of the whole columns,
//! which are read if need be.

use std::sync::Arc;

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
    events: Arc<[String]>,
    known: Known,
    /// Those that it lacks.
    properties: Vec<String>,
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
        let rows = KeptRows::OfEvents(events.clone());
        let Some(few) = block.of_events(&events) else {
            // The same rows are few or many whichever columns are asked for, so nothing was known.
            columns.keep_standing(&object, project_id, &rows, Standing::TooMany);
            return block;
        };
        columns.keep(&object, project_id, &rows, &properties, &few);
        known.complete_with(few)
    }
}

impl Scanner {
    /// What is kept of an object, of a rollup aside.
    pub(super) fn find(&self, request: &ScanRequest, object: &ListedObject, with: RowColumns) -> Found {
        let (columns, project_id, asked) = (&self.columns, request.project_id, &request.properties);
        let of_all = |with, properties: Vec<String>, projecting| {
            let known = columns.find(object, project_id, &KeptRows::All, with, &properties);
            Found { known, properties, projecting }
        };
        let events = request.projected_events(object);
        let found = match events.filter(|_| columns.are_on()) {
            None => of_all(with, asked.clone(), None),
            Some(events) => {
                let rows = KeptRows::OfEvents(events.clone());
                let known = columns.find(object, project_id, &rows, with, asked);
                if known.is_complete() {
                    Found { known, properties: asked.clone(), projecting: None }
                } else {
                    match columns.standing(object, project_id, &rows) {
                        None => {
                            columns.keep_standing(object, project_id, &rows, Standing::Asked);
                            of_all(with, asked.clone(), None)
                        }
                        Some(Standing::TooMany) => of_all(with, asked.clone(), None),
                        Some(Standing::Asked) => {
                            let (with, lacked) = known.missing(asked);
                            let (columns, object) = (columns.clone(), object.clone());
                            let properties = lacked.clone();
                            let projecting =
                                Projecting { columns, object, project_id, events, known, properties };
                            of_all(with, lacked, Some(projecting))
                        }
                    }
                }
            }
        };
        columns.observe(with, asked, found.known.count_missing());
        found
    }

    /// Whether all that is asked of an object is kept.
    pub(super) fn has_all(&self, request: &ScanRequest, object: &ListedObject, with: RowColumns) -> bool {
        let has = |rows| self.columns.has_all(object, request.project_id, &rows, with, &request.properties);
        has(KeptRows::All)
            || request.projected_events(object).is_some_and(|events| has(KeptRows::OfEvents(events)))
    }
}

impl ScanRequest {
    /// The events of whose rows a projection may be kept.
    fn projected_events(&self, object: &ListedObject) -> Option<Arc<[String]>> {
        let is_large = !object.is_run() && object.rows_to_read() > ROWS_AT_ONCE_MAX;
        self.events.as_deref().filter(|_| is_large).map(Arc::from)
    }
}
