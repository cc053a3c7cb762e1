//! What stops a pass, and is not the database's state, lies in a batch: the way to the very event.
//!
//! * A record that cannot be read is known by its place, as soon as reading it has failed three times.
//! * What reads well may still be refused when it is written. After three such passes in a row the
//!   next takes half as many batches, then half of those, until one batch is alone; its events are
//!   then tried in halves ([`Sift`]), each try up to the end of its transaction and then rolled back.
//!
//! What is found goes to `failed_events` in the transaction that seals the rest of its batch. Nothing
//! here is stored: a worker that takes over begins to count anew.

use std::collections::HashMap;
use std::ops::Range;

use super::SealError;
use super::pass::Content;
use crate::model::{BatchId, Event, EventId, Millis, ProjectId, Properties, TimeSource};
use crate::storage::batch::{BatchDecoder, Salvaged};
use crate::storage::server::failed_events::{FailedEvent, Stage};
use crate::storage::server::journal::JournalBatch;

/// So often something fails before it is believed to be broken.
const ATTEMPTS: u32 = 3;

#[derive(Default)]
pub struct Doubts {
    /// How often each batch could not be read whole.
    unread: HashMap<BatchId, u32>,
    /// Passes in a row that failed over what they had read.
    failures: u32,
    /// So many batches at most in the next pass.
    batches_max: Option<usize>,
    /// What the last pass took.
    taken: usize,
}

impl Doubts {
    pub fn batches_max(&self) -> usize {
        self.batches_max.unwrap_or(usize::MAX)
    }

    /// Whether the next pass takes one batch, which has failed alone before.
    pub fn is_alone(&self) -> bool {
        self.batches_max == Some(1) && self.failures > 0
    }

    pub fn pass_failed(&mut self) {
        self.failures += 1;
        if self.batches_max.is_some() || self.failures >= ATTEMPTS {
            self.batches_max = Some((self.taken / 2).max(1));
            // Alone only once it has failed alone.
            if self.taken > 1 {
                self.failures = 0;
            }
        }
    }

    pub fn pass_succeeded(&mut self) {
        self.failures = 0;
        // Slowly back, since the one that was looked for may be behind those that went well.
        self.batches_max = self.batches_max.and_then(|max| max.checked_mul(4)).filter(|max| *max < 1_000);
    }

    /// Reads batches, and leaves out those that may read better next time.
    pub fn read(&mut self, batches: Vec<JournalBatch>, read: Vec<ReadBatch>) -> Content {
        let mut content = Content::default();
        let mut unread = HashMap::new();
        let readable = read.iter().flatten().map(|salvaged| salvaged.batch.events.len());
        content.events.reserve_exact(readable.sum());
        for (batch, read) in batches.into_iter().zip(read) {
            let batch_id = batch.entry.batch_id;
            let is_whole = matches!(&read, Ok(salvaged) if salvaged.broken.is_empty());
            if !is_whole {
                let failures = self.unread.get(&batch_id).copied().unwrap_or_default() + 1;
                if failures < ATTEMPTS {
                    unread.insert(batch_id, failures);
                    tracing::warn!(batch.id = %batch_id, failures, "a batch of the journal cannot be read whole");
                    continue;
                }
            }
            content.batch_ids.push(batch_id);
            let inserted_at = batch.entry.inserted_at;
            content.inserted_at =
                content.inserted_at.map_or(Some(inserted_at), |least| Some(least.min(inserted_at)));
            match read {
                Ok(Salvaged { batch, broken }) => {
                    content.events.extend(batch.events);
                    content.broken.extend(broken.into_iter().map(|record| Broken {
                        project_id: record.project_id,
                        reason: "broken_event",
                        detail: record.detail,
                        body: record.bytes,
                    }));
                }
                Err(detail) => content.broken.push(Broken {
                    project_id: None,
                    reason: "broken_batch",
                    detail,
                    body: batch.body,
                }),
            }
        }
        content.held_back = unread.len();
        self.unread = unread;
        self.taken = content.batch_ids.len();
        content
    }
}

pub type ReadBatch = Result<Salvaged, String>;

/// Reads what can be read. Runs on a blocking thread.
pub fn read_batches(batches: &[JournalBatch]) -> Vec<ReadBatch> {
    let mut decoder = BatchDecoder::default();
    batches.iter().map(|batch| decoder.salvage(&batch.body).map_err(|error| error.to_string())).collect()
}

/// Something that will not be sealed.
#[derive(Clone, Debug)]
pub struct Broken {
    pub project_id: Option<ProjectId>,
    /// One of `broken_batch`, `broken_event`, `unsealable_event`.
    pub reason: &'static str,
    pub detail: String,
    pub body: Vec<u8>,
}

impl Broken {
    fn unsealable(event: Event, error: &SealError) -> Self {
        let mut detail = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            detail = format!("{detail}: {cause}");
            source = cause.source();
        }
        let properties: serde_json::Map<_, _> =
            event.properties.iter().map(|(name, value)| (name.to_owned(), value.to_json())).collect();
        let body = serde_json::json!({
            "event": &*event.event, "distinct_id": &*event.distinct_id,
            "anonymous_id": event.anonymous_id.as_deref(),
            "route": event.route.iter().map(|id| &**id).collect::<Vec<_>>(), "id": uuid::Uuid::from_bytes(event.event_id.0), "timestamp": event.occurred_at,
            "properties": properties,
        });
        Self {
            project_id: Some(event.project_id),
            reason: "unsealable_event",
            detail,
            body: body.to_string().into_bytes(),
        }
    }

    pub fn put_aside(self, failed_id: BatchId, now: Millis) -> FailedEvent {
        tracing::error!(
            failed.id = %failed_id,
            reason = self.reason,
            error = self.detail,
            "an event of the journal cannot be sealed; it was put into failed_events"
        );
        FailedEvent {
            failed_id,
            // A batch that cannot be read does not say whose it is.
            project_id: self.project_id.unwrap_or(ProjectId(0)),
            stage: Stage::Seal,
            reason: self.reason.to_owned(),
            detail: self.detail,
            body: self.body.into(),
            failed_at: now,
        }
    }
}

impl SealError {
    /// Whether what was read may be the cause. Not so when the server is away, somebody else was
    /// faster, or an object that is stored already cannot be read: no event is given up for those.
    pub fn may_be_an_event(&self) -> bool {
        use crate::storage::StorageError as S;
        match self {
            Self::Unresolved | Self::Worker(_) | Self::Format(_) => true,
            Self::Storage(error) => matches!(error, S::Query { .. } | S::Conflict { .. }),
            Self::LeaseLost
            | Self::ObjectGivenUp
            | Self::JournalChanged { .. }
            | Self::ObjectsKeepVanishing
            | Self::Unreadable { .. }
            | Self::NotTogether
            | Self::RolledBack => false,
        }
    }
}

/// The search for the events of a batch that cannot be sealed: try what [`Sift::next`] gives, tell
/// [`Sift::judge`] how that ended, until there is nothing left to try.
pub struct Sift {
    events: Vec<Event>,
    /// Ranges not yet tried; the last is next. `None` first: the probe.
    doubtful: Vec<Option<Range<usize>>>,
    under_trial: Option<Range<usize>>,
    is_refused: bool,
    bad: HashMap<usize, SealError>,
}

impl Sift {
    pub fn new(events: Vec<Event>) -> Self {
        // When not even an event of nothing can be sealed, no event is to blame.
        let doubtful = match events.len() {
            0 => Vec::new(),
            count => vec![Some(0..count), None],
        };
        Self { events, doubtful, under_trial: None, is_refused: false, bad: HashMap::new() }
    }

    pub fn next(&mut self) -> Option<Vec<Event>> {
        self.under_trial = self.doubtful.pop()?;
        Some(match &self.under_trial {
            None => vec![harmless(&self.events[0])],
            Some(range) => self.events[range.clone()].to_vec(),
        })
    }

    /// An error is one that the events have nothing to do with.
    pub fn judge(&mut self, error: SealError) -> Result<(), SealError> {
        match (self.under_trial.take(), error) {
            (_, SealError::RolledBack) => {}
            (Some(range), error) if error.may_be_an_event() => {
                self.is_refused = true;
                if range.len() == 1 {
                    self.bad.insert(range.start, error);
                } else {
                    let middle = range.start + range.len() / 2;
                    self.doubtful.extend([Some(middle..range.end), Some(range.start..middle)]);
                }
            }
            (_, error) => return Err(error),
        }
        Ok(())
    }

    /// The events that can be sealed, and the others.
    pub fn finish(mut self) -> (Vec<Event>, Vec<Broken>) {
        let is_together = self.is_refused && self.bad.is_empty();
        let (mut sound, mut broken) = (Vec::with_capacity(self.events.len()), Vec::new());
        for (n, event) in self.events.into_iter().enumerate() {
            match self.bad.remove(&n) {
                Some(error) => broken.push(Broken::unsealable(event, &error)),
                // Each can be sealed, but not with the others: such a batch would stop its shard for
                // ever.
                None if is_together => broken.push(Broken::unsealable(event, &SealError::NotTogether)),
                None => sound.push(event),
            }
        }
        tracing::warn!(events = broken.len(), "a batch was searched for events that cannot be sealed");
        (sound, broken)
    }
}

fn harmless(like: &Event) -> Event {
    Event {
        project_id: like.project_id,
        distinct_id: "$probe".into(),
        anonymous_id: None,
        event: "$probe".into(),
        event_id: EventId([0; 16]),
        occurred_at: like.received_at,
        received_at: like.received_at,
        time_source: TimeSource::Server,
        properties: Properties::default(),
        route: Vec::new(),
    }
}
