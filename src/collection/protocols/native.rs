//! weir's own protocol: an event, a list of events, `{"batch": […], "sent_at"?, "key"?}`, or one
//! event a line (NDJSON).
//!
//! ```json
//! {"event": "purchase", "distinct_id": "u1", "anonymous_id": "a1", "id": "…",
//!  "timestamp": "2026-01-31T10:00:00Z", "sent_at": "…", "properties": {"amount": 5}}
//! ```
//! `user_id` is another name of `distinct_id`. Members that are not named here are passed over.
//! Content-Type says little (sendBeacon sends text/plain), so the form is told by the text: lines
//! are what is called NDJSON, or begins with a whole object on a line of its own and goes on. An object
//! with an event's own members is an event, also when it has a member called `batch`.

use actix_web::http::header;

use super::walk::{
    Counted, Envelope, EnvelopeNames, Seen, read_list, read_list_inside, read_properties_of, skip_member,
};
use super::{Answer, Begun, Document, Head, Protocol, Reading, Refusal, Route};
use crate::collection::keys::one_key;
use crate::collection::outcome::{CollectError, Collected, Reason, Rejection};
use crate::collection::payload::json::{Kind, Reader, SyntaxError};
use crate::collection::raw_event::{Field, RawEvent, shown_text};
use crate::config::CollectionConfig;

/// The protocol of `/api/v1/events`.
pub struct Native;

impl Protocol for Native {
    fn routes(&self) -> &'static [Route] {
        &[Route::Events("/api/v1/events")]
    }

    fn begin(&self, head: &Head<'_>) -> Result<Begun, CollectError> {
        let in_query = head.key_in_query("key")?;
        let key = match (head.authorization("Bearer"), in_query.as_deref()) {
            (None, None) => None,
            (in_header, in_query) => Some(one_key([in_header, in_query])?.to_owned()),
        };
        let content_type = head.header(header::CONTENT_TYPE).map(str::to_owned);
        Ok(Begun { key, reading: Box::new(NativeReading { content_type }) })
    }

    fn accepted(&self, collected: &Collected) -> Answer {
        Answer::json(200, serde_json::to_string(collected).expect("texts and numbers become JSON"))
    }

    fn refused(&self, _refusal: &Refusal<'_>) -> Option<Answer> {
        None
    }
}

struct NativeReading {
    content_type: Option<String>,
}

impl Reading for NativeReading {
    fn open<'a>(&self, text: &'a str) -> Result<Box<dyn Document + 'a>, CollectError> {
        Ok(Box::new(NativeBody::open(text, self.content_type.as_deref())?))
    }
}

const ENVELOPE: EnvelopeNames = EnvelopeNames {
    list: "batch",
    key: "key",
    sent_at: "sent_at",
    of_event: &["event", "distinct_id", "user_id"],
};

#[derive(Debug)]
pub struct NativeBody<'a> {
    text: &'a str,
    form: Form<'a>,
}

#[derive(Debug)]
enum Form<'a> {
    /// One event, or a batch of them.
    Object(Envelope<'a>),
    List,
    Lines,
}

impl<'a> NativeBody<'a> {
    pub fn open(text: &'a str, content_type: Option<&str>) -> Result<Self, CollectError> {
        if is_lines(text, content_type) {
            return Ok(Self::of_lines(text));
        }
        let mut reader = Reader::new(text);
        let form = match reader.peek().map_err(CollectError::NotJson)? {
            Kind::Array => Form::List,
            Kind::Object => Form::Object(Envelope::read(&mut reader, &ENVELOPE)?),
            _ => return Err(CollectError::Shape("send an event, a list of events or a batch of events")),
        };
        Ok(Self { text, form })
    }

    /// Lines of NDJSON, whatever they look like.
    pub fn of_lines(text: &'a str) -> Self {
        Self { text, form: Form::Lines }
    }

    fn read_lines(&self, limits: &CollectionConfig, counted: &mut Counted<'_>) -> Result<(), CollectError> {
        for (number, line) in (1..).zip(self.text.split('\n')) {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            counted.push(read_line(line, number, limits))?;
        }
        Ok(())
    }
}

impl Document for NativeBody<'_> {
    fn key(&self) -> Option<&str> {
        match &self.form {
            Form::Object(envelope) => envelope.key.as_deref(),
            Form::List | Form::Lines => None,
        }
    }

    fn read_events(
        &self,
        limits: &CollectionConfig,
        sink: &mut dyn FnMut(RawEvent<'_>),
    ) -> Result<(), CollectError> {
        let mut counted = Counted::new(limits, sink);
        let mut reader = Reader::new(self.text);
        match &self.form {
            Form::Lines => self.read_lines(limits, &mut counted),
            Form::Object(Envelope { list: None, .. }) => {
                counted.push(read_event(&mut reader, limits).map_err(CollectError::NotJson)?)
            }
            Form::Object(Envelope { list: Some(list), sent_at, .. }) => {
                read_list_inside(self.text, *list, |reader| {
                    let mut event = read_event(reader, limits).map_err(CollectError::NotJson)?;
                    if event.sent_at.is_absent() {
                        event.sent_at = sent_at.clone();
                    }
                    counted.push(event)
                })
            }
            Form::List => {
                read_list(&mut reader, |reader| {
                    counted.push(read_event(reader, limits).map_err(CollectError::NotJson)?)
                })?;
                reader.end().map_err(CollectError::NotJson)
            }
        }
    }
}

/// One line of NDJSON. One that is not JSON costs no other.
pub fn read_line<'a>(line: &'a str, number: usize, limits: &CollectionConfig) -> RawEvent<'a> {
    let mut reader = Reader::new(line);
    let read = read_event(&mut reader, limits).and_then(|event| reader.end().map(|()| event));
    read.unwrap_or_else(|error| RawEvent {
        problem: Some(Rejection::new(Reason::NotJson, format!("line {number}: {error}"))),
        text: line,
        ..RawEvent::default()
    })
}

fn is_lines(text: &str, content_type: Option<&str>) -> bool {
    let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    let names =
        ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"];
    if names.iter().any(|name| media_type.eq_ignore_ascii_case(name)) {
        return true;
    }
    // A whole object on the first line, and more after it: no other JSON looks like that, however it is
    // broken into lines.
    text.trim_ascii().split_once('\n').is_some_and(|(first, _)| {
        let mut reader = Reader::new(first);
        first.starts_with('{') && reader.skip().and_then(|()| reader.end()).is_ok()
    })
}

fn read_event<'a>(reader: &mut Reader<'a>, limits: &CollectionConfig) -> Result<RawEvent<'a>, SyntaxError> {
    let mut event = RawEvent::default();
    let start = reader.offset();
    if reader.peek()? != Kind::Object {
        reader.skip()?;
        event.text = reader.since(start);
        event.reject(Reason::NotAnObject, "an event is a JSON object");
        return Ok(event);
    }
    let mut seen = Seen::default();
    reader.begin_object()?;
    let mut is_first = true;
    while let Some(name) = reader.next_key(is_first)? {
        is_first = false;
        let Some(known) = Known::of(&name.value) else {
            skip_member(reader, &mut event, limits, 1)?;
            continue;
        };
        if seen.again(known as u8) {
            event.reject(Reason::DuplicateField, format!("{} is there twice", shown_text(&name.value)));
            reader.skip()?;
            continue;
        }
        match known {
            Known::Properties => read_properties_of(reader, &mut event, limits, &name.value)?,
            Known::Event => event.event = Field::read(reader)?,
            Known::DistinctId => event.distinct_id = Field::read(reader)?,
            // The other spelling wins when both are there, whichever comes first.
            Known::UserId if seen.has(Known::DistinctId as u8) => reader.skip()?,
            Known::UserId => event.distinct_id = Field::read(reader)?,
            Known::AnonymousId => event.anonymous_id = Field::read(reader)?,
            Known::Id => event.id = Field::read(reader)?,
            Known::Timestamp => event.timestamp = Field::read(reader)?,
            Known::SentAt => event.sent_at = Field::read(reader)?,
        }
    }
    event.text = reader.since(start);
    Ok(event)
}

#[derive(Clone, Copy)]
#[repr(u8)]
enum Known {
    Event,
    DistinctId,
    UserId,
    AnonymousId,
    Id,
    Timestamp,
    SentAt,
    Properties,
}

impl Known {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "event" => Self::Event,
            "distinct_id" => Self::DistinctId,
            "user_id" => Self::UserId,
            "anonymous_id" => Self::AnonymousId,
            "id" => Self::Id,
            "timestamp" => Self::Timestamp,
            "sent_at" => Self::SentAt,
            "properties" => Self::Properties,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
