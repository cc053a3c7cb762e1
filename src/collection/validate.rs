//! One event's judgement: whether it can be counted, and what is kept of it.
//!
//! Names and ids are kept byte for byte as they were sent: `A` and `a`, `a` and `a ` are different
//! persons. Integers are taken as ids in their decimal spelling. An id that is no UUID is kept as the
//! property `$event_id`, since only its hash has a place of its own.

use std::borrow::Cow;

use super::cardinality::{Cardinality, TooMany};
use super::outcome::{Reason, Rejection};
use super::properties::sort_properties;
use super::raw_event::{Field, Property, RawEvent, RawValue, shown_text};
use super::timestamp::{self, Now};
use crate::config::CollectionConfig;
use crate::model::{Clock, EventId, LINK_EVENT, ProjectId, PropertyRef, Random, TimeSource};
use crate::storage::batch::{RecordHead, encode_record};

/// What senders write when they have no id: everybody's events would become one person's.
const PLACEHOLDER_IDS: [&str; 8] = [
    "null",
    "NULL",
    "undefined",
    "None",
    "nil",
    "NaN",
    "[object Object]",
    "00000000-0000-0000-0000-000000000000",
];

/// Holds the id as sent of an event whose id is no UUID.
const EVENT_ID_PROPERTY: &str = "$event_id";

/// An id is a short text; a longer one is something else by mistake.
const EVENT_ID_BYTES_MAX: usize = 255;

/// They say that `anonymous_id` was `distinct_id` before the log-in.
const LINKING_EVENTS: [&str; 2] = ["$identify", "$alias"];

/// What all events of a request are judged by.
pub struct Judge<'j> {
    pub project_id: ProjectId,
    pub now: Now,
    pub limits: &'j CollectionConfig,
    pub cardinality: &'j Cardinality,
    pub clock: &'j dyn Clock,
    pub random: &'j dyn Random,
}

/// An event that will be counted.
#[derive(Debug)]
pub struct ValidEvent<'a> {
    pub event: Cow<'a, str>,
    pub distinct_id: Cow<'a, str>,
    pub anonymous_id: Option<Cow<'a, str>>,
    pub event_id: EventId,
    pub occurred_at: i64,
    pub time_source: TimeSource,
    /// Sorted, each name once.
    pub properties: Vec<Property<'a>>,
}

impl ValidEvent<'_> {
    /// Appends the event as a record of a batch.
    pub fn encode(&self, judge: &Judge<'_>, records: &mut Vec<u8>) {
        let head = self.head(judge);
        let properties = self.properties.iter().map(|property| {
            let value = match &property.value {
                RawValue::String(text) => PropertyRef::String(text),
                RawValue::Integer(number) => PropertyRef::Integer(*number),
                RawValue::Float(number) => PropertyRef::Float(*number),
                RawValue::Bool(flag) => PropertyRef::Bool(*flag),
                RawValue::Json(text) => PropertyRef::Json(text),
            };
            (property.name.as_ref(), value)
        });
        encode_record(head, properties, records);
    }

    /// The id from before the log-in, when this event says that both are one person.
    pub fn linked_id(&self) -> Option<&str> {
        if !LINKING_EVENTS.contains(&self.event.as_ref()) {
            return None;
        }
        self.anonymous_id.as_deref().filter(|anonymous_id| *anonymous_id != self.distinct_id)
    }

    /// Appends the record that tells the linked id's home of the link: an event of that id with the
    /// person's other id beside it.
    pub fn encode_link(&self, linked_id: &str, judge: &Judge<'_>, records: &mut Vec<u8>) {
        let head = RecordHead {
            event: LINK_EVENT,
            distinct_id: linked_id,
            anonymous_id: Some(&self.distinct_id),
            ..self.head(judge)
        };
        encode_record(head, std::iter::empty(), records);
    }

    fn head(&self, judge: &Judge<'_>) -> RecordHead<'_> {
        RecordHead {
            project_id: judge.project_id,
            event_id: self.event_id,
            occurred_at: self.occurred_at,
            received_at: judge.now.received_at,
            time_source: self.time_source,
            event: &self.event,
            distinct_id: &self.distinct_id,
            anonymous_id: self.anonymous_id.as_deref(),
        }
    }
}

impl Judge<'_> {
    pub fn validate<'a>(&self, raw: RawEvent<'a>) -> Result<ValidEvent<'a>, Rejection> {
        let limit = self.limits.event_bytes_max as usize;
        if raw.text.len() > limit {
            let detail = format!("the event has {} bytes, {limit} at most", raw.text.len());
            return Err(Rejection::new(Reason::TooLarge, detail));
        }
        if let Some(problem) = raw.problem {
            return Err(problem);
        }
        let event = self.event_name(raw.event)?;
        let distinct_id = self.distinct_id(raw.distinct_id)?;
        let anonymous_id = self.anonymous_id(raw.anonymous_id)?;
        let (occurred_at, time_source) = timestamp::occurred_at(&raw.timestamp, &raw.sent_at, self.now)?;
        let mut properties = raw.properties;
        sort_properties(&mut properties);
        let event_id = self.event_id(raw.id, &mut properties)?;
        self.admit_names(&event, &properties)?;
        Ok(ValidEvent { event, distinct_id, anonymous_id, event_id, occurred_at, time_source, properties })
    }

    fn event_name<'a>(&self, field: Field<'a>) -> Result<Cow<'a, str>, Rejection> {
        let reject = |detail: String| Err(Rejection::new(Reason::EventName, detail));
        let name = match field {
            Field::Text { value, is_repaired: false } if is_clean(&value) => value,
            other => return reject(format!("event must be a name, not {}", other.shown())),
        };
        if name == LINK_EVENT {
            return reject(format!("{LINK_EVENT} is made by weir itself; send $identify or $alias"));
        }
        let limit = self.limits.event_name_chars_max as usize;
        // Fewer bytes than that cannot be more characters.
        if name.len() > limit && name.chars().count() > limit {
            return reject(format!("event has {} characters, {limit} at most", name.chars().count()));
        }
        Ok(name)
    }

    fn distinct_id<'a>(&self, field: Field<'a>) -> Result<Cow<'a, str>, Rejection> {
        let limit = self.limits.distinct_id_bytes_max as usize;
        id_text(field, limit).map_err(|problem| {
            let what = format!("distinct_id must say who did it, at most {limit} bytes: ");
            Rejection::new(Reason::DistinctId, what + &problem)
        })
    }

    fn anonymous_id<'a>(&self, field: Field<'a>) -> Result<Option<Cow<'a, str>>, Rejection> {
        if field.is_blank() {
            return Ok(None);
        }
        let limit = self.limits.distinct_id_bytes_max as usize;
        id_text(field, limit).map(Some).map_err(|problem| {
            let what = format!("anonymous_id must be an id of at most {limit} bytes or be left out: ");
            Rejection::new(Reason::AnonymousId, what + &problem)
        })
    }

    fn event_id<'a>(
        &self,
        field: Field<'a>,
        properties: &mut Vec<Property<'a>>,
    ) -> Result<EventId, Rejection> {
        if field.is_blank() {
            return Ok(EventId::time_ordered(self.clock, self.random));
        }
        let text = id_text(field, EVENT_ID_BYTES_MAX).map_err(|problem| {
            let what = "id must be a text that no other event has, best a UUID, or be left out: ";
            Rejection::new(Reason::Id, format!("{what}{problem}"))
        })?;
        let (event_id, is_uuid) = EventId::from_text(&text);
        if !is_uuid {
            let kept = Property { name: EVENT_ID_PROPERTY.into(), value: RawValue::String(text) };
            match properties.binary_search_by(|property| property.name.as_ref().cmp(EVENT_ID_PROPERTY)) {
                Ok(at) => properties[at] = kept,
                Err(at) => properties.insert(at, kept),
            }
        }
        Ok(event_id)
    }

    fn admit_names(&self, event: &str, properties: &[Property<'_>]) -> Result<(), Rejection> {
        let names = properties.iter().map(|property| property.name.as_ref());
        let admitted = self.cardinality.admit(self.project_id, self.now.received_at, event, names);
        admitted.map_err(|too_many| {
            let detail = match too_many {
                TooMany::EventNames { limit } => {
                    format!("{} is a new event name, but the project has {limit} already", shown_text(event))
                }
                TooMany::PropertyNames { limit } => {
                    format!("a new property name, but the project has {limit} already")
                }
            };
            Rejection::new(Reason::Cardinality, detail)
        })
    }
}

/// An id as text, or what is wrong with it.
fn id_text(field: Field<'_>, bytes_max: usize) -> Result<Cow<'_, str>, String> {
    match field {
        Field::Text { value, is_repaired: false } if is_clean(&value) => {
            if PLACEHOLDER_IDS.contains(&value.as_ref()) {
                return Err(format!("{} stands for no id", shown_text(&value)));
            }
            if value.len() > bytes_max {
                return Err(format!("it has {} bytes", value.len()));
            }
            Ok(value)
        }
        Field::Number(number) => match number.as_i64() {
            Some(integer) => Ok(Cow::Owned(integer.to_string())),
            None => Err(format!("{} is no id", Field::Number(number).shown())),
        },
        other => Err(format!("it is {}", other.shown())),
    }
}

/// Says something, and nothing that ends a text elsewhere.
fn is_clean(text: &str) -> bool {
    !text.trim().is_empty() && !text.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::protocols::native::read_line;
    use crate::model::{ManualClock, SeededRandom};

    const NOW: i64 = 1_769_853_600_000;

    fn judge<T>(
        json: &str,
        limits: &CollectionConfig,
        then: impl FnOnce(Result<ValidEvent<'_>, Rejection>) -> T,
    ) -> T {
        let judge = Judge {
            project_id: ProjectId(1),
            now: Now { received_at: NOW, future_ms_max: 3_600_000 },
            limits,
            cardinality: &Cardinality::new(100, 100),
            clock: &ManualClock::new(NOW),
            random: &SeededRandom::new(1),
        };
        then(judge.validate(read_line(json, 1, limits)))
    }

    fn reason(json: &str) -> Option<Reason> {
        judge(json, &CollectionConfig::default(), |judged| judged.err().map(|rejection| rejection.reason))
    }

    #[test]
    fn names_are_judged() {
        let at_limit = "é".repeat(200);
        let over_limit = "é".repeat(201);
        for (name, event, is_accepted) in [
            ("plain", r#""purchase""#, true),
            ("inner and outer blanks", r#"" a b ""#, true),
            ("reserved", r#""$identify""#, true),
            ("markup", r#""<img onerror>\r\n\u001b[31m=HYPERLINK()""#, true),
            ("200 characters", &format!("{at_limit:?}"), true),
            ("201 characters", &format!("{over_limit:?}"), false),
            ("null", "null", false),
            ("a number", "5", false),
            ("empty", r#""""#, false),
            ("blank", r#"" ""#, false),
            ("NUL", r#""a\u0000b""#, false),
            ("half a surrogate pair", r#""a\ud83d""#, false),
            ("an object", "{}", false),
            ("our own", r#""$link""#, false),
        ] {
            let found = reason(&format!(r#"{{"event":{event},"distinct_id":"u"}}"#));
            assert_eq!(found, (!is_accepted).then_some(Reason::EventName), "{name}");
        }
        assert_eq!(reason(r#"{"distinct_id":"u"}"#), Some(Reason::EventName));
    }

    #[test]
    fn distinct_ids_are_judged_and_kept_as_sent() {
        for (id, kept) in [
            (r#""u1""#, Some("u1")),
            (r#""A""#, Some("A")),
            (r#""a ""#, Some("a ")),
            (r#""e\u0301""#, Some("e\u{301}")),
            (r#""é""#, Some("é")),
            (r#""🍣""#, Some("🍣")),
            ("42", Some("42")),
            ("-7", Some("-7")),
            ("4.2", None),
            ("18446744073709551616", None),
            ("true", None),
            ("null", None),
            (r#""""#, None),
            (r#""  ""#, None),
            (r#""null""#, None),
            (r#""undefined""#, None),
            (r#""[object Object]""#, None),
            (r#""00000000-0000-0000-0000-000000000000""#, None),
            (r#""a\u0000""#, None),
            (r#""\ud83d""#, None),
        ] {
            let json = format!(r#"{{"event":"e","distinct_id":{id}}}"#);
            judge(&json, &CollectionConfig::default(), |judged| match (judged, kept) {
                (Ok(event), Some(kept)) => assert_eq!(event.distinct_id, kept),
                (Err(rejection), None) => assert_eq!(rejection.reason, Reason::DistinctId, "{id}"),
                (judged, _) => panic!("{id}: {judged:?}"),
            });
        }
        let of_size = |size: usize| format!(r#"{{"event":"e","distinct_id":"{}"}}"#, "x".repeat(size));
        assert_eq!(reason(&of_size(255)), None);
        assert_eq!(reason(&of_size(256)), Some(Reason::DistinctId));
        assert_eq!(reason(r#"{"event":"e"}"#), Some(Reason::DistinctId));
    }

    #[test]
    fn an_anonymous_id_may_be_left_out_but_not_be_wrong() {
        let anonymous = |value: &str| {
            let json = format!(r#"{{"event":"e","distinct_id":"u","anonymous_id":{value}}}"#);
            judge(&json, &CollectionConfig::default(), |judged| {
                judged.map(|event| event.anonymous_id.map(Cow::into_owned)).map_err(|r| r.reason)
            })
        };
        assert_eq!(anonymous(r#""a1""#), Ok(Some("a1".to_owned())));
        assert_eq!(anonymous("null"), Ok(None));
        assert_eq!(anonymous(r#""""#), Ok(None));
        assert_eq!(anonymous(r#""undefined""#), Err(Reason::AnonymousId));
        assert_eq!(anonymous("[]"), Err(Reason::AnonymousId));
    }

    #[test]
    fn ids_that_are_no_uuid_are_kept_as_a_property() {
        let with_id = |id: &str| {
            let json =
                format!(r#"{{"event":"e","distinct_id":"u","id":{id},"properties":{{"z":1,"$a":2}}}}"#);
            judge(&json, &CollectionConfig::default(), |judged| {
                let event = judged.map_err(|rejection| rejection.reason)?;
                let names: Vec<String> = event.properties.iter().map(|p| p.name.to_string()).collect();
                Ok::<_, Reason>((event.event_id, names.join(" ")))
            })
        };
        let uuid = "9b0759dd-7124-57d2-aebb-0c19d564075f";
        let (id, names) = with_id(&format!("{uuid:?}")).unwrap();
        assert_eq!((id.to_string().as_str(), names.as_str()), (uuid, "$a z"));
        let (id, names) = with_id(r#""node-next-1-x""#).unwrap();
        assert_eq!((id, names.as_str()), (EventId::from_text("node-next-1-x").0, "$a $event_id z"));
        let (id, _) = with_id("17").unwrap();
        assert_eq!(id, EventId::from_text("17").0);
        // Without an id, one that is made: by time, and never the same again.
        for absent in ["null", r#""""#] {
            let (id, names) = with_id(absent).unwrap();
            assert_eq!(uuid::Uuid::from_bytes(id.0).get_version_num(), 7);
            assert_eq!(names, "$a z");
        }
        for wrong in
            ["{}", "1.5", r#""00000000-0000-0000-0000-000000000000""#, &format!("{:?}", "x".repeat(256))]
        {
            assert_eq!(with_id(wrong), Err(Reason::Id), "{wrong}");
        }
    }

    #[test]
    fn an_event_has_a_size() {
        let limits = CollectionConfig { event_bytes_max: 60, ..CollectionConfig::default() };
        let of_size = |size: usize| {
            let empty = r#"{"event":"e","distinct_id":"u","x":""}"#;
            let json = empty.replace(r#""""#, &format!("{:?}", "y".repeat(size - empty.len())));
            assert_eq!(json.len(), size);
            judge(&json, &limits, |judged| judged.err().map(|rejection| rejection.reason))
        };
        assert_eq!(of_size(60), None);
        assert_eq!(of_size(61), Some(Reason::TooLarge));
    }

    #[test]
    fn a_property_may_change_its_type() {
        for value in ["1", "\"1\"", "{}", "1.5", "true", "[1]"] {
            let json = format!(r#"{{"event":"e","distinct_id":"u","properties":{{"p":{value}}}}}"#);
            assert_eq!(reason(&json), None, "{value}");
        }
    }

    #[test]
    fn details_name_the_value_and_the_limit() {
        for (json, detail) in [
            (r#"{"event":5,"distinct_id":"u"}"#, "event must be a name, not 5"),
            (
                r#"{"event":"e","distinct_id":"null"}"#,
                r#"distinct_id must say who did it, at most 255 bytes: "null" stands for no id"#,
            ),
            (
                r#"{"event":"e","distinct_id":"u","timestamp":"yesterday"}"#,
                r#"timestamp "yesterday" is no RFC 3339 time and no Unix time"#,
            ),
            (
                r#"{"event":"e","distinct_id":"u","properties":{"n":18446744073709551616}}"#,
                r#"property "n": 18446744073709551616 does not fit a 64-bit integer; send it as text"#,
            ),
        ] {
            judge(json, &CollectionConfig::default(), |judged| {
                assert_eq!(judged.unwrap_err().detail, detail);
            });
        }
    }
}
