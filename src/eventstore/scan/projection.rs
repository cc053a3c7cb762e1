//! Rows of a question's events, kept beside the whole columns of a segment.
//!
//! Most questions are about few events, and those are asked for again: with another filter, on another
//! dashboard, an hour later. Segments are in the order of persons, so the rows of an event lie all over them,
//! and a kernel that picks them touches most of the memory of every column. So what a question needs of their rows
//! has columns of its own, if they are at most half of all; whoever asks for the same events later takes those.
//!
//! Where something has to be read, and the segment has its times by event, these rows alone are decoded and of
//! times no others are read ([`ObjectReader::rows_of_events_at_most`]), until so many have been read that way, of one
//! event after the other, that all of them would have cost about as much: then whole columns are read. Out of whole
//! columns the rows are gathered when their events are asked for a second time.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::columns::{ColumnCache, KeptRows, Known, Standing};
use super::{ListedObject, ROWS_AT_ONCE_MAX, ScanRequest, Scanner};
use crate::eventstore::format::{Columns, FormatError, ObjectReader, RowRanges, Want};
use crate::eventstore::{RowBlock, RowColumns};
use crate::model::ProjectId;

/// However few rows are read alone, they count as one in so many of all.
const ROWS_A_SELECTION_PART: u64 = 8;

/// What of an object is there for a question before anything of it is read.
pub(super) struct Found {
    /// Of a projection that has all that is asked, or of all rows.
    pub known: Known,
    /// The properties that `known` was asked for.
    pub properties: Vec<String>,
    /// What is to be done with all rows, or instead of reading them.
    pub projecting: Option<Projecting>,
}

/// A projection that lacks something.
pub(super) struct Projecting {
    columns: Arc<ColumnCache>,
    object: ListedObject,
    project_id: ProjectId,
    events: AskedEvents,
    known: Known,
    /// What it lacks.
    with: RowColumns,
    properties: Vec<String>,
    /// Whether these events were asked for before.
    is_again: bool,
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

    fn of_nothing() -> Self {
        Self { known: Known::default(), properties: Vec::new(), projecting: None }
    }

    /// Whether nothing has to be read or gathered.
    pub fn is_complete(&self) -> bool {
        self.known.is_complete() && self.projecting.is_none()
    }
}

/// The block of a question out of one that has whatever its projection lacks, where it is to have one.
pub(super) fn projected(projecting: Option<Projecting>, block: RowBlock) -> RowBlock {
    match projecting.filter(|projecting| projecting.is_again) {
        None => block,
        Some(projecting) => projecting.apply(block),
    }
}

impl Projecting {
    fn apply(self, block: RowBlock) -> RowBlock {
        match block.of_events(&self.events.names) {
            Some(few) => self.keep(few),
            // They are few or many whichever columns are asked for: so nothing was known.
            None => {
                self.keep_standing(Standing::TooMany);
                block
            }
        }
    }

    /// What was lacking, with what was known.
    pub fn keep(self, few: RowBlock) -> RowBlock {
        if few.event.is_empty() {
            self.keep_standing(Standing::NoRows);
            return RowBlock::default();
        }
        self.columns.keep(&self.object, self.project_id, self.events.rows, &self.properties, &few);
        self.known.complete_with(few)
    }

    fn keep_standing(&self, standing: Standing) {
        self.columns.keep_standing(&self.object, self.project_id, self.events.rows, standing);
    }

    /// Whether part 0 says that there is none.
    pub fn has_no_rows(&self, reader: &ObjectReader) -> bool {
        reader.rows_of_events_at_most(&self.events.names, &[]) == Some(0)
    }

    /// What to read where no more than the rows of these events are to be read, `None` where all are; that they are
    /// is kept in mind. `whole`: what would be read of all rows, which may be less where most columns are kept.
    pub fn want(&self, reader: &ObjectReader, whole: &Want) -> Result<Option<Want>, FormatError> {
        let (rows, names) = (self.object.rows_to_read(), &self.events.names);
        let few = reader.rows_of_events_at_most(names, &self.properties);
        let Some(few) = few.filter(|few| *few <= rows / 2) else { return Ok(None) };
        let (with, properties, of_events) = (self.with, self.properties.clone(), Some(names.clone()));
        let want = Want { columns: Columns::Block { with, properties, of_events }, rows: RowRanges::All };
        if reader.parts_for(&want)?.len() > reader.parts_for(whole)?.len() {
            return Ok(None);
        }
        // To read the few of other columns costs a part of what all of them do.
        let counted = few.max(rows / ROWS_A_SELECTION_PART);
        let may = self.columns.may_select(&self.object, self.project_id, counted, rows / 2);
        Ok(may.then_some(want))
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
                let standing = columns.standing(object, project_id, events.rows);
                let (lacks, properties) = known.missing(asked);
                let projecting = |known, is_again| Projecting {
                    columns: columns.clone(),
                    object: object.clone(),
                    project_id,
                    events: events.clone(),
                    known,
                    with: lacks,
                    properties: properties.clone(),
                    is_again,
                };
                match standing {
                    _ if known.is_complete() => Found { known, properties: asked.clone(), projecting: None },
                    Some(Standing::NoRows) => Found::of_nothing(),
                    Some(Standing::TooMany) => of_all(with, asked.clone(), None),
                    Some(Standing::Asked) => of_all(lacks, properties.clone(), Some(projecting(known, true))),
                    None => {
                        columns.keep_standing(object, project_id, events.rows, Standing::Asked);
                        let whole = of_all(with, asked.clone(), None);
                        match whole.known.is_complete() {
                            true => whole,
                            false => Found { projecting: Some(projecting(known, false)), ..whole },
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
