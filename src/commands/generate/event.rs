//! One generated event, in the shape that `POST /api/v1/events` and `weir import` read.

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::model::{EventId, Millis, PropertyValue};

#[derive(Clone, PartialEq, Debug)]
pub struct GeneratedEvent {
    pub id: EventId,
    pub event: &'static str,
    pub distinct_id: String,
    /// Only on `$identify`: who the person was before.
    pub anonymous_id: Option<String>,
    pub occurred_at: Millis,
    pub properties: Vec<(&'static str, PropertyValue)>,
}

impl Serialize for GeneratedEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id.to_string())?;
        map.serialize_entry("event", self.event)?;
        map.serialize_entry("distinct_id", &self.distinct_id)?;
        if let Some(anonymous_id) = &self.anonymous_id {
            map.serialize_entry("anonymous_id", anonymous_id)?;
        }
        map.serialize_entry("timestamp", &rfc3339(self.occurred_at))?;
        map.serialize_entry("properties", &Properties(&self.properties))?;
        map.end()
    }
}

struct Properties<'a>(&'a [(&'static str, PropertyValue)]);

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            match value {
                PropertyValue::String(text) => map.serialize_entry(name, text)?,
                PropertyValue::Integer(number) => map.serialize_entry(name, number)?,
                PropertyValue::Float(number) => map.serialize_entry(name, number)?,
                PropertyValue::Bool(flag) => map.serialize_entry(name, flag)?,
                json @ PropertyValue::Json(_) => map.serialize_entry(name, &json.to_json())?,
            }
        }
        map.end()
    }
}

/// With milliseconds and `Z`, as a browser's `toISOString` writes it.
fn rfc3339(at: Millis) -> String {
    let time = jiff::Timestamp::from_millisecond(at).unwrap_or_default();
    format!("{time:.3}")
}
