//! An event as it is kept: its person and its distinct id are numbers.

use bytestring::ByteString;

use crate::model::{Event, EventId, IdNo, Millis, PersonNo, ProjectId, Properties, TimeSource, utc_day};

#[derive(Clone, PartialEq, Debug)]
pub struct StoredRow {
    pub project_id: ProjectId,
    pub person_no: PersonNo,
    pub id_no: IdNo,
    pub occurred_at: Millis,
    pub received_at: Millis,
    pub event: ByteString,
    pub event_id: EventId,
    pub time_source: TimeSource,
    pub properties: Properties,
}

impl StoredRow {
    /// The event as it was sent: `distinct_id` is the name of the row's `id_no`.
    pub fn into_event(self, distinct_id: ByteString, route: Vec<ByteString>) -> Event {
        Event {
            project_id: self.project_id,
            distinct_id,
            anonymous_id: None,
            event: self.event,
            event_id: self.event_id,
            occurred_at: self.occurred_at,
            received_at: self.received_at,
            time_source: self.time_source,
            properties: self.properties,
            route,
        }
    }

    /// Copies what shares the memory of a whole page: for the few rows of it that are kept.
    pub fn detach(&mut self) {
        self.properties.detach();
    }

    /// The order of rows in a segment.
    pub fn segment_key(&self) -> (PersonNo, Millis, EventId) {
        (self.person_no, self.occurred_at, self.event_id)
    }

    /// The order of rows in a run.
    pub fn run_key(&self) -> (ProjectId, i32, PersonNo, Millis, EventId) {
        (self.project_id, utc_day(self.occurred_at), self.person_no, self.occurred_at, self.event_id)
    }

    /// About how many bytes the row takes when it is not compressed: what objects are sized by.
    pub fn raw_bytes(&self) -> u64 {
        const FIXED: usize = 4 + 4 + 8 + 8 + 16 + 1;
        (FIXED + self.event.len()) as u64 + self.properties.raw_bytes()
    }
}
