//! One recorded fact, validated and flattened.

use bytestring::ByteString;
use serde_json::Value;

use super::{EventId, Millis, ProjectId, Properties, PropertyRef};

/// Stored, but not part of "every event": they say who somebody is, not what happened.
pub const UNCOUNTED_EVENTS: [&str; 3] = ["$identify", "$alias", "$group"];

/// The name under which collection sends a link to the home of the linked id: `distinct_id` is that id,
/// `anonymous_id` the one it now belongs to. Never stored as a row, and no sender may use it.
pub const LINK_EVENT: &str = "$link";

pub fn is_counted_as_every_event(event: &str) -> bool {
    !UNCOUNTED_EVENTS.contains(&event)
}

/// Texts and properties of events that came in one batch share its memory.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    pub project_id: ProjectId,
    pub distinct_id: ByteString,
    pub anonymous_id: Option<ByteString>,
    pub event: ByteString,
    pub event_id: EventId,
    pub occurred_at: Millis,
    pub received_at: Millis,
    pub time_source: TimeSource,
    pub properties: Properties,
    /// Empty, but for an event that follows links: the ids whose pointers it has followed, the latest
    /// last, and behind them the id it belongs to now.
    pub route: Vec<ByteString>,
}

/// Whose clock `occurred_at` is. A resend of an event whose time is not the client's own may land
/// on a neighbouring day, so duplicates are looked for there too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum TimeSource {
    Client = 0,
    /// Moved by more than a second because the client's clock was off.
    Corrected = 1,
    Server = 2,
}

impl TimeSource {
    pub fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Client),
            1 => Some(Self::Corrected),
            2 => Some(Self::Server),
            _ => None,
        }
    }

    pub fn may_shift(self) -> bool {
        self != Self::Client
    }
}

/// A property's value with its type; `null` is the same as absent.
#[derive(Clone, PartialEq, Debug)]
pub enum PropertyValue {
    String(String),
    Integer(i64),
    /// Finite.
    Float(f64),
    Bool(bool),
    /// An array or an empty object, as JSON text.
    Json(String),
}

impl PropertyValue {
    pub fn as_ref(&self) -> PropertyRef<'_> {
        match self {
            Self::String(text) => PropertyRef::String(text),
            Self::Integer(number) => PropertyRef::Integer(*number),
            Self::Float(number) => PropertyRef::Float(*number),
            Self::Bool(flag) => PropertyRef::Bool(*flag),
            Self::Json(text) => PropertyRef::Json(text),
        }
    }

    pub fn to_json(&self) -> Value {
        match self {
            Self::String(text) => Value::from(text.as_str()),
            Self::Integer(number) => Value::from(*number),
            Self::Float(number) => Value::from(*number),
            Self::Bool(flag) => Value::from(*flag),
            Self::Json(text) => serde_json::from_str(text).unwrap_or(Value::Null),
        }
    }

    /// The type of a flat JSON value; `None` for null and for numbers that fit neither type.
    /// Objects become JSON text: the caller flattens those that have members.
    pub fn from_json(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => return None,
            Value::Bool(flag) => Self::Bool(*flag),
            Value::String(text) => Self::String(text.clone()),
            Value::Number(number) => match number.as_i64() {
                Some(integer) => Self::Integer(integer),
                None if number.is_u64() => return None,
                None => Self::Float(number.as_f64().filter(|f| f.is_finite())?),
            },
            Value::Array(_) | Value::Object(_) => Self::Json(value.to_string()),
        })
    }
}
