//! weir's own protocol: an event, a list of events, `{"batch": […], "sent_at"?, "key"?}`, or one
//! event a line (NDJSON).
//!
//! ```json
//! {"event": "purchase", "distinct_id": "u1", "anonymous_id": "a1", "id": "…",
//!  "timestamp": "2026-01-31T10:00:00Z", "sent_at": "…", "properties": {"amount": 5}}
//! ```
//! `user_id` is another name of `distinct_id`. Members that are not named here are passed over.
//! Content-Type says little (sendBeacon sends text/plain), so the form is told by the text: lines
//! are what is called NDJSON, or begins with a whole object on a line of its own and goes on.

use std::borrow::Cow;

use crate::collection::outcome::{CollectError, Reason, Rejection};
use crate::collection::payload::json::{Kind, Reader, SyntaxError};
use crate::collection::properties::read_properties;
use crate::collection::raw_event::{Field, RawEvent, shown_text};
use crate::config::CollectionConfig;

/// A body whose outline is known: enough to see whose it is before its events are read.
#[derive(Debug)]
pub struct Document<'a> {
    text: &'a str,
    form: Form,
    /// The write key, when the body carries it.
    pub key: Option<Cow<'a, str>>,
    sent_at: Field<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    One,
    List,
    /// Where the list inside begins and ends.
    Batch {
        from: usize,
        to: usize,
    },
    Lines,
}

impl<'a> Document<'a> {
    pub fn open(text: &'a str, content_type: Option<&str>) -> Result<Self, CollectError> {
        let mut document = Self::of_lines(text);
        if is_lines(text, content_type) {
            return Ok(document);
        }
        let mut reader = Reader::new(text);
        document.form = match reader.peek().map_err(CollectError::NotJson)? {
            Kind::Array => Form::List,
            Kind::Object => document.outline(&mut reader).map_err(CollectError::NotJson)?,
            _ => return Err(CollectError::Shape("send an event, a list of events or a batch of events")),
        };
        Ok(document)
    }

    /// Lines of NDJSON, whatever they look like.
    pub fn of_lines(text: &'a str) -> Self {
        Self { text, form: Form::Lines, key: None, sent_at: Field::Absent }
    }

    fn outline(&mut self, reader: &mut Reader<'a>) -> Result<Form, SyntaxError> {
        let mut form = Form::One;
        reader.begin_object()?;
        let mut is_first = true;
        while let Some(name) = reader.next_key(is_first)? {
            is_first = false;
            let kind = reader.peek()?;
            match (name.value.as_ref(), kind) {
                ("batch", Kind::Array) => {
                    let from = reader.offset();
                    // Its grammar is checked when its events are read.
                    reader.skip_unchecked()?;
                    form = Form::Batch { from, to: reader.position() };
                }
                ("sent_at", _) => self.sent_at = Field::read(reader)?,
                ("key", Kind::String) => self.key = Some(reader.string()?.value),
                (_, Kind::Array | Kind::Object) => reader.skip_unchecked()?,
                _ => reader.skip_scalar(kind)?,
            }
        }
        reader.end()?;
        Ok(form)
    }

    /// Gives every event to `sink`, in order. An error means that the body is refused as a whole,
    /// whatever was given before.
    pub fn read_events(
        &self,
        limits: &CollectionConfig,
        sink: &mut dyn FnMut(RawEvent<'a>),
    ) -> Result<(), CollectError> {
        let mut counted = Counted { count: 0, limit: limits.batch_events_max as usize, sink };
        let mut reader = Reader::new(self.text);
        match self.form {
            Form::Lines => return self.read_lines(limits, &mut counted),
            Form::One => {
                let event = read_event(&mut reader, limits).map_err(CollectError::NotJson)?;
                counted.push(event)?;
            }
            Form::List => {
                self.read_list(&mut reader, limits, &mut counted)?;
                reader.end().map_err(CollectError::NotJson)?;
            }
            Form::Batch { from, to } => {
                reader.seek(from);
                self.read_list(&mut reader, limits, &mut counted)?;
                if reader.position() != to {
                    // The outline, which went by brackets alone, saw another end: one of them is of
                    // the wrong kind, and a proper reading says which.
                    let mut whole = Reader::new(self.text);
                    whole.skip().and_then(|()| whole.end()).map_err(CollectError::NotJson)?;
                }
            }
        }
        Ok(())
    }

    fn read_list(
        &self,
        reader: &mut Reader<'a>,
        limits: &CollectionConfig,
        counted: &mut Counted<'_, 'a>,
    ) -> Result<(), CollectError> {
        reader.begin_array().map_err(CollectError::NotJson)?;
        let mut is_first = true;
        while reader.next_element(is_first).map_err(CollectError::NotJson)? {
            is_first = false;
            let mut event = read_event(reader, limits).map_err(CollectError::NotJson)?;
            if event.sent_at.is_absent() {
                event.sent_at = self.sent_at.clone();
            }
            counted.push(event)?;
        }
        Ok(())
    }

    fn read_lines(
        &self,
        limits: &CollectionConfig,
        counted: &mut Counted<'_, 'a>,
    ) -> Result<(), CollectError> {
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

struct Counted<'s, 'a> {
    count: usize,
    limit: usize,
    sink: &'s mut dyn FnMut(RawEvent<'a>),
}

impl<'a> Counted<'_, 'a> {
    fn push(&mut self, event: RawEvent<'a>) -> Result<(), CollectError> {
        self.count += 1;
        if self.count > self.limit {
            return Err(CollectError::TooManyEvents { limit: self.limit });
        }
        (self.sink)(event);
        Ok(())
    }
}

fn is_lines(text: &str, content_type: Option<&str>) -> bool {
    let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    let names =
        ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"];
    if names.iter().any(|name| media_type.eq_ignore_ascii_case(name)) {
        return true;
    }
    let text = text.trim_ascii();
    // An indented object never ends on its first line.
    text.split_once('\n')
        .is_some_and(|(first, _)| first.starts_with('{') && first.trim_ascii_end().ends_with('}'))
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
            skip_unknown(reader, &mut event, limits)?;
            continue;
        };
        if seen.again(known) {
            event.reject(Reason::DuplicateField, format!("{} is there twice", shown_text(&name.value)));
            reader.skip()?;
            continue;
        }
        match known {
            Known::Properties => match reader.peek()? {
                Kind::Object => read_properties(reader, &mut event, limits, 2)?,
                Kind::Null => reader.null()?,
                _ => {
                    let found = Field::read(reader)?.shown();
                    event.reject(Reason::Properties, format!("properties must be an object, not {found}"));
                }
            },
            Known::Event => event.event = Field::read(reader)?,
            Known::DistinctId => event.distinct_id = Field::read(reader)?,
            // The other spelling wins when both are there, whichever comes first.
            Known::UserId if seen.has(Known::DistinctId) => reader.skip()?,
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

/// A member that no one asked for: passed over, but an event that nests too deep is one wherever it
/// does so.
fn skip_unknown<'a>(
    reader: &mut Reader<'a>,
    event: &mut RawEvent<'a>,
    limits: &CollectionConfig,
) -> Result<(), SyntaxError> {
    let start = reader.offset();
    reader.skip()?;
    if nesting(reader.since(start)) + 1 > limits.depth_max as usize {
        event.reject(Reason::TooDeep, format!("nested deeper than {} levels", limits.depth_max));
    }
    Ok(())
}

/// How deep a sound JSON text nests.
fn nesting(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
    }
    deepest
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

/// The known members that were already there.
#[derive(Default)]
struct Seen(u8);

impl Seen {
    fn has(&self, known: Known) -> bool {
        self.0 >> (known as u8) & 1 == 1
    }

    fn again(&mut self, known: Known) -> bool {
        let again = self.has(known);
        self.0 |= 1 << (known as u8);
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each event as `name@distinct_id`, or its problem.
    fn read(text: &str, content_type: Option<&str>) -> Result<Vec<String>, CollectError> {
        let mut shown = Vec::new();
        let document = Document::open(text, content_type)?;
        document.read_events(&CollectionConfig::default(), &mut |event| {
            shown.push(match event.problem {
                Some(problem) => problem.reason.code().to_owned(),
                None => {
                    let field = |field: &Field<'_>| match field {
                        Field::Text { value, .. } => value.to_string(),
                        other => other.shown(),
                    };
                    format!("{}@{}", field(&event.event), field(&event.distinct_id))
                }
            });
        })?;
        Ok(shown)
    }

    #[test]
    fn every_form_gives_its_events_in_order() {
        let a = r#"{"event":"a","distinct_id":"u"}"#;
        let b = r#"{"distinct_id":"v","event":"b"}"#;
        let indented = "{\n  \"event\": \"a\",\n  \"distinct_id\": \"u\"\n}\n";
        for (name, text, content_type, expected) in [
            ("one", a.to_owned(), None, vec!["a@u"]),
            ("one, indented", indented.to_owned(), None, vec!["a@u"]),
            ("list", format!("[{a}, {b}]"), None, vec!["a@u", "b@v"]),
            ("empty list", "[]".to_owned(), None, vec![]),
            ("batch", format!(r#"{{"batch":[{a},{b}]}}"#), None, vec!["a@u", "b@v"]),
            ("batch last", format!(r#"{{"sent_at":1,"x":[{{}}],"batch":[{a}]}}"#), None, vec!["a@u"]),
            ("lines", format!("{a}\n{b}\n"), None, vec!["a@u", "b@v"]),
            ("lines of Windows", format!("{a}\r\n\r\n{b}"), None, vec!["a@u", "b@v"]),
            (
                "one line, called NDJSON",
                a.to_owned(),
                Some("application/x-ndjson; charset=utf-8"),
                vec!["a@u"],
            ),
            ("a broken line", format!("{a}\n{{oops\n{b}"), None, vec!["a@u", "not_json", "b@v"]),
            (
                "a broken first line, called so",
                format!("{{\n{b}"),
                Some("application/x-ndjson"),
                vec!["not_json", "b@v"],
            ),
            ("two on one line", format!("{a}\n{a}{b}"), None, vec!["a@u", "not_json"]),
            ("a line that is a list", format!("{a}\n[{b}]"), None, vec!["a@u", "not_an_object"]),
            (
                "no object in a list",
                format!("[1, {a}, null, \"x\", []]"),
                None,
                vec!["not_an_object", "a@u", "not_an_object", "not_an_object", "not_an_object"],
            ),
            ("user_id", r#"{"user_id":"w","event":"a"}"#.to_owned(), None, vec!["a@w"]),
            ("both ids", r#"{"user_id":"w","distinct_id":"u","event":"a"}"#.to_owned(), None, vec!["a@u"]),
            (
                "both ids, other order",
                r#"{"distinct_id":"u","user_id":"w","event":"a"}"#.to_owned(),
                None,
                vec!["a@u"],
            ),
            ("a field twice", r#"{"event":"a","event":"b"}"#.to_owned(), None, vec!["duplicate_field"]),
            ("properties of a kind", r#"{"properties":[1]}"#.to_owned(), None, vec!["properties"]),
            ("null properties", r#"{"event":"a","properties":null}"#.to_owned(), None, vec!["a@nothing"]),
            ("batch is no list", r#"{"batch":1,"event":"a"}"#.to_owned(), None, vec!["a@nothing"]),
        ] {
            assert_eq!(read(&text, content_type).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn broken_json_is_refused_as_a_whole_with_its_offset() {
        let a = r#"{"event":"a","distinct_id":"u"}"#;
        for (name, text, at) in [
            ("not JSON", "event=a".to_owned(), 0),
            ("trailing comma", format!("[{a},]"), a.len() + 2),
            ("NaN", r#"{"event":"a","properties":{"x":NaN}}"#.to_owned(), 31),
            ("bytes after the end", format!("{a} x"), a.len() + 1),
            ("bytes after a list", format!("[{a}] x"), a.len() + 3),
            ("cut", a[..20].to_owned(), 20),
            ("cut in a batch", format!(r#"{{"batch":[{a},"#), a.len() + 11),
            ("wrong brackets in a batch", r#"{"batch":[{"event":"a"]}}"#.to_owned(), 22),
            ("broken after a batch", format!(r#"{{"batch":[{a}] "x"}}"#), a.len() + 12),
            ("single quotes", "{'event':'a'}".to_owned(), 1),
        ] {
            match read(&text, None) {
                Err(CollectError::NotJson(error)) => assert_eq!(error.at, at, "{name}: {error}"),
                other => panic!("{name}: {other:?}"),
            }
        }
        assert!(matches!(read("5", None), Err(CollectError::Shape(_))));
        assert!(matches!(read("null", None), Err(CollectError::Shape(_))));
    }

    #[test]
    fn depth_costs_only_the_event_that_has_it() {
        let good = r#"{"event":"a","distinct_id":"u"}"#;
        for depth in [17, 128, 5_000] {
            let nested =
                |open: &str, close: &str| format!("{}1{}", open.repeat(depth - 1), close.repeat(depth - 1));
            for bad in [
                format!(r#"{{"properties":{}}}"#, nested("{\"a\":", "}")),
                format!(r#"{{"properties":{{"a":{}}}}}"#, nested("[", "]")),
                format!(r#"{{"unknown":{}}}"#, nested("[", "]")),
            ] {
                let list = format!("[{good},{bad},{good}]");
                assert_eq!(read(&list, None).unwrap(), ["a@u", "too_deep", "a@u"], "{depth}");
                let lines = format!("{good}\n{bad}\n{good}");
                assert_eq!(read(&lines, None).unwrap(), ["a@u", "too_deep", "a@u"], "{depth}");
            }
        }
    }

    #[test]
    fn sixteen_levels_are_not_too_deep() {
        // The event is one level, its properties another.
        let text = format!(
            r#"{{"event":"a","distinct_id":"u","properties":{{"a":{}1{}}}}}"#,
            "[".repeat(14),
            "]".repeat(14)
        );
        assert_eq!(read(&text, None).unwrap(), ["a@u"]);
    }

    #[test]
    fn more_events_than_allowed_are_refused() {
        let list = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
        assert_eq!(read(&list(2_000), None).unwrap().len(), 2_000);
        assert!(matches!(read(&list(2_001), None), Err(CollectError::TooManyEvents { limit: 2_000 })));
    }

    #[test]
    fn the_key_may_come_with_the_body() {
        for text in [
            r#"{"key":"wk_1","batch":[]}"#,
            r#"{"batch":[{"key":"other"}],"key":"wk_1"}"#,
            r#"{"event":"a","key":"wk_1"}"#,
        ] {
            assert_eq!(Document::open(text, None).unwrap().key.as_deref(), Some("wk_1"), "{text}");
        }
        assert_eq!(Document::open(r#"[{"key":"wk_1"}]"#, None).unwrap().key, None);
    }

    #[test]
    fn an_event_keeps_its_own_text_and_time_of_sending() {
        let text = r#"{"sent_at":5, "batch":[ {"event":"a"} ,{"sent_at":6}]}"#;
        let mut seen = Vec::new();
        Document::open(text, None)
            .unwrap()
            .read_events(&CollectionConfig::default(), &mut |event| {
                seen.push((event.text.to_owned(), event.sent_at.shown()));
            })
            .unwrap();
        assert_eq!(seen, [(r#"{"event":"a"}"#.into(), "5".into()), (r#"{"sent_at":6}"#.into(), "6".into())]);
    }
}
