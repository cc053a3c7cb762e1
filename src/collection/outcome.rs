//! What became of each event and of a whole request, in the field's words; `http` and the files of
//! `protocols/` turn them into answers.

use std::borrow::Cow;

use serde::Serialize;

use super::payload::BodyError;
use super::payload::json::SyntaxError;

/// Why an event was rejected: the sender was wrong, and sending it again is of no use.
///
/// One closed list, shared by answers, metrics and the rejected events that are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A line of NDJSON that is not JSON.
    NotJson,
    NotAnObject,
    /// The event is larger than allowed.
    TooLarge,
    TooDeep,
    /// A field of the event itself is there twice.
    DuplicateField,
    EventName,
    DistinctId,
    AnonymousId,
    /// The event's own id cannot be used.
    Id,
    Timestamp,
    /// `properties` is not an object.
    Properties,
    TooManyProperties,
    /// A property without a name, or with one that is no Unicode text.
    PropertyName,
    KeyLength,
    StringLength,
    /// A number that fits neither 64-bit integers nor floats.
    Number,
    /// The project already has as many different names as it may.
    Cardinality,
}

impl Reason {
    pub const ALL: [Self; 17] = [
        Self::NotJson,
        Self::NotAnObject,
        Self::TooLarge,
        Self::TooDeep,
        Self::DuplicateField,
        Self::EventName,
        Self::DistinctId,
        Self::AnonymousId,
        Self::Id,
        Self::Timestamp,
        Self::Properties,
        Self::TooManyProperties,
        Self::PropertyName,
        Self::KeyLength,
        Self::StringLength,
        Self::Number,
        Self::Cardinality,
    ];

    pub fn code(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::DuplicateField => "duplicate_field",
            Self::EventName => "event_name",
            Self::DistinctId => "distinct_id",
            Self::AnonymousId => "anonymous_id",
            Self::Id => "id",
            Self::Timestamp => "timestamp",
            Self::Properties => "properties",
            Self::TooManyProperties => "too_many_properties",
            Self::PropertyName => "property_name",
            Self::KeyLength => "key_length",
            Self::StringLength => "string_length",
            Self::Number => "number",
            Self::Cardinality => "cardinality",
        }
    }
}

/// A reason and, in words, the value and the limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    pub reason: Reason,
    pub detail: String,
}

impl Rejection {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// A rejected event of a request, by its place there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RejectedEvent {
    pub index: usize,
    pub code: Reason,
    pub detail: String,
}

/// All accepted events are committed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Collected {
    pub accepted: usize,
    /// In the order of the request.
    pub rejected: Vec<RejectedEvent>,
}

/// Why nothing can be said of single events.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// No key, an unknown one, a revoked one, two that differ: one text for all, so that it tells
    /// nothing to whoever guesses.
    #[error("send a valid write key as \"Authorization: Bearer wk_…\"")]
    Unauthorized,
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("the body is not JSON: {0}")]
    NotJson(SyntaxError),
    /// JSON, but no event, list of events or batch.
    #[error("{0}")]
    Shape(&'static str),
    #[error("more than {limit} events in one request; send them in several")]
    TooManyEvents { limit: usize },
    #[error("the events have more than {limit} bytes once their nested names are flat; send fewer at a time")]
    TooLargeWhenFlat { limit: usize },
    /// Some events may be committed and some not: send everything again.
    #[error("the events could not be committed now; send them again")]
    Unavailable(#[source] Unavailable),
}

/// Why events could not be committed now.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unavailable {
    #[error("the queue is full")]
    QueueFull,
    #[error("the commit failed: {0}")]
    CommitFailed(Cow<'static, str>),
    #[error("the commit took too long")]
    CommitTooSlow,
    #[error("the server is not answering")]
    ServerAway,
    #[error("keys cannot be read")]
    Keys,
    #[error("weir is stopping")]
    Stopping,
}

impl Unavailable {
    /// Seconds after which another try may succeed.
    pub fn retry_after_secs(&self) -> u32 {
        match self {
            Self::QueueFull => 1,
            Self::CommitFailed(_) | Self::CommitTooSlow | Self::ServerAway | Self::Keys | Self::Stopping => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_the_same_word_everywhere() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.code());
        }
    }
}
