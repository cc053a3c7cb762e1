//! What somebody wants to read of an object.

use std::sync::Arc;

use super::RowRanges;
use crate::eventstore::RowColumns;
use crate::model::{Millis, PersonNo};

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Columns {
    /// For a question: events, what `with` says, and these properties by their literal names.
    Block {
        with: RowColumns,
        properties: Vec<String>,
        /// Of all rows only those of these events, sorted; `None`: all of them.
        of_events: Option<Arc<[String]>>,
    },
    /// For the rows of somebody, or of some time.
    PersonsAndTimes,
    /// For duplicates: persons, times and event ids.
    Identity,
    /// What rows have beside what is known of them.
    Located(Located),
    All,
}

/// Rows of one person that were found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Located {
    pub person_no: PersonNo,
    /// Of each row that is asked for.
    pub occurred_at: Vec<Millis>,
    /// Whether anybody wants to know their properties.
    pub with_properties: bool,
}

/// What somebody wants to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Want {
    pub columns: Columns,
    pub rows: RowRanges,
}
