//! Properties on their way from nested JSON to flat, typed names.
//!
//! `{"a": {"b": 1}}` becomes `a.b = 1`, an array becomes JSON text written anew, null is the same as
//! absent. A name that comes twice, also as `a.b` beside `a: {b}`, keeps its last value. Integers
//! are 64 bits; what does not fit rejects the event, since a float would silently change an id.

use std::borrow::Cow;

use super::outcome::Reason;
use super::payload::json::{Kind, Number, Reader, SyntaxError};
use super::raw_event::{Property, RawEvent, RawValue, shown_text};
use crate::config::CollectionConfig;

/// Reads the object that comes next into `event.properties`.
///
/// `depth` is that of the object itself: 1 for an event, 2 for its properties.
pub fn read_properties<'a>(
    reader: &mut Reader<'a>,
    event: &mut RawEvent<'a>,
    limits: &CollectionConfig,
    depth: u32,
) -> Result<(), SyntaxError> {
    let mut flattening = Flattening { event, limits };
    flattening.object(reader, None, depth)
}

/// Reads the value that comes next as the property `name`, found in an object of that depth.
pub fn read_property<'a>(
    reader: &mut Reader<'a>,
    event: &mut RawEvent<'a>,
    limits: &CollectionConfig,
    name: Cow<'a, str>,
    depth: u32,
) -> Result<(), SyntaxError> {
    if event.problem.is_some() {
        // Only its grammar matters any more.
        return reader.skip();
    }
    Flattening { event, limits }.value(reader, name, depth)
}

struct Flattening<'e, 'a> {
    event: &'e mut RawEvent<'a>,
    limits: &'e CollectionConfig,
}

impl<'a> Flattening<'_, 'a> {
    fn object(
        &mut self,
        reader: &mut Reader<'a>,
        prefix: Option<&str>,
        depth: u32,
    ) -> Result<(), SyntaxError> {
        if self.is_too_deep(depth) {
            return reader.skip();
        }
        reader.begin_object()?;
        let mut is_first = true;
        while let Some(key) = reader.next_key(is_first)? {
            is_first = false;
            if self.event.problem.is_some() {
                // Only its grammar matters any more; a name would cost as much as its prefix is long.
                reader.skip()?;
                continue;
            }
            if key.is_repaired {
                reject_repaired(self.event, &key.value);
                reader.skip()?;
                continue;
            }
            let name = match prefix {
                None => key.value,
                Some(prefix) => Cow::Owned(format!("{prefix}.{}", key.value)),
            };
            self.value(reader, name, depth)?;
        }
        if is_first && let Some(prefix) = prefix {
            self.push(Cow::Owned(prefix.to_owned()), RawValue::Json("{}".to_owned()));
        }
        Ok(())
    }

    /// The value of `name`, found in an object of that depth.
    fn value(&mut self, reader: &mut Reader<'a>, name: Cow<'a, str>, depth: u32) -> Result<(), SyntaxError> {
        let limit = self.limits.key_bytes_max;
        if name.is_empty() {
            self.event.reject(Reason::PropertyName, "a property has an empty name");
            return reader.skip();
        }
        if name.len() > limit as usize {
            let detail = format!("property {} has {} bytes, {limit} at most", shown_text(&name), name.len());
            self.event.reject(Reason::KeyLength, detail);
            return reader.skip();
        }
        let value = match reader.peek()? {
            Kind::Object => return self.object(reader, Some(&name), depth + 1),
            Kind::Null => return reader.null(),
            Kind::Bool => RawValue::Bool(reader.bool()?),
            Kind::Number => match self.number(reader.number()?, &name) {
                Some(number) => number,
                None => return Ok(()),
            },
            Kind::String => {
                let text = reader.string()?.value;
                self.check_string(&text, &name);
                RawValue::String(text)
            }
            Kind::Array => {
                let mut json = String::new();
                self.json(reader, &mut json, &name, depth + 1)?;
                RawValue::Json(json)
            }
        };
        self.push(name, value);
        Ok(())
    }

    fn push(&mut self, name: Cow<'a, str>, value: RawValue<'a>) {
        let limit = self.limits.properties_max as usize;
        if self.event.properties.len() >= limit {
            let detail = format!("more than {limit} properties");
            self.event.reject(Reason::TooManyProperties, detail);
            return;
        }
        self.event.properties.push(Property { name, value });
    }

    fn number(&mut self, number: Number<'_>, name: &str) -> Option<RawValue<'a>> {
        let value = if number.is_integer {
            number.as_i64().map(RawValue::Integer)
        } else {
            number.as_f64().map(RawValue::Float)
        };
        if value.is_none() {
            let kind = if number.is_integer { "a 64-bit integer; send it as text" } else { "a 64-bit float" };
            let shown: String = number.text.chars().take(40).collect();
            let detail = format!("property {}: {shown} does not fit {kind}", shown_text(name));
            self.event.reject(Reason::Number, detail);
        }
        value
    }

    fn check_string(&mut self, text: &str, name: &str) {
        let limit = self.limits.string_bytes_max;
        if text.len() > limit as usize {
            let detail =
                format!("property {} has a text of {} bytes, {limit} at most", shown_text(name), text.len());
            self.event.reject(Reason::StringLength, detail);
        }
    }

    fn is_too_deep(&mut self, depth: u32) -> bool {
        let limit = self.limits.depth_max;
        if depth > limit {
            self.event.reject(Reason::TooDeep, format!("nested deeper than {limit} levels"));
        }
        depth > limit
    }

    /// Writes the value that comes next, which is inside an array, anew: without white space, with
    /// the last of equal keys, numbers in one spelling.
    fn json(
        &mut self,
        reader: &mut Reader<'a>,
        out: &mut String,
        name: &str,
        depth: u32,
    ) -> Result<(), SyntaxError> {
        match reader.peek()? {
            Kind::Array | Kind::Object if self.is_too_deep(depth) => reader.skip()?,
            Kind::Array => {
                reader.begin_array()?;
                out.push('[');
                let mut is_first = true;
                while reader.next_element(is_first)? {
                    if !is_first {
                        out.push(',');
                    }
                    is_first = false;
                    self.json(reader, out, name, depth + 1)?;
                }
                out.push(']');
            }
            Kind::Object => {
                reader.begin_object()?;
                let mut members: Vec<(Cow<'a, str>, String)> = Vec::new();
                let mut is_first = true;
                while let Some(key) = reader.next_key(is_first)? {
                    is_first = false;
                    if key.is_repaired {
                        reject_repaired(self.event, &key.value);
                    }
                    let mut value = String::new();
                    self.json(reader, &mut value, name, depth + 1)?;
                    members.push((key.value, value));
                }
                keep_last_of_each(&mut members, |(key, _)| key);
                out.push('{');
                for (n, (key, value)) in members.iter().enumerate() {
                    if n > 0 {
                        out.push(',');
                    }
                    write_string(out, key);
                    out.push(':');
                    out.push_str(value);
                }
                out.push('}');
            }
            Kind::String => {
                let text = reader.string()?.value;
                self.check_string(&text, name);
                write_string(out, &text);
            }
            Kind::Number => match self.number(reader.number()?, name) {
                Some(RawValue::Integer(number)) => out.push_str(&number.to_string()),
                Some(RawValue::Float(number)) => out.push_str(&serde_json::Value::from(number).to_string()),
                _ => out.push_str("null"),
            },
            Kind::Bool => out.push_str(if reader.bool()? { "true" } else { "false" }),
            Kind::Null => {
                reader.null()?;
                out.push_str("null");
            }
        }
        Ok(())
    }
}

/// Half of a surrogate pair has no place in UTF-8. In a value it becomes U+FFFD; two names would become
/// one, and one of their values would be lost.
pub fn reject_repaired(event: &mut RawEvent<'_>, name: &str) {
    let detail = format!("property {} has half of a surrogate pair in its name", shown_text(name));
    event.reject(Reason::PropertyName, detail);
}

fn write_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).expect("text can always be written as JSON"));
}

/// Sorts by name and keeps the last of each, as the event store wants properties.
pub fn sort_properties(properties: &mut Vec<Property<'_>>) {
    keep_last_of_each(properties, |property| &property.name);
}

fn keep_last_of_each<T>(items: &mut Vec<T>, name: impl Fn(&T) -> &str) {
    if items.is_sorted_by(|a, b| name(a) < name(b)) {
        return;
    }
    // Stable, so the last of equal names stays last; `dedup_by` keeps the first of a run.
    items.sort_by(|a, b| name(a).cmp(name(b)));
    items.reverse();
    items.dedup_by(|a, b| name(a) == name(b));
    items.reverse();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, limits: &CollectionConfig) -> RawEvent<'static> {
        let json: &'static str = json.to_owned().leak();
        let mut event = RawEvent::default();
        let mut reader = Reader::new(json);
        read_properties(&mut reader, &mut event, limits, 2).unwrap();
        reader.end().unwrap();
        sort_properties(&mut event.properties);
        event
    }

    fn shown(json: &str) -> Vec<String> {
        let event = read(json, &CollectionConfig::default());
        assert_eq!(event.problem, None, "{json}");
        event.properties.iter().map(|p| format!("{}={:?}", p.name, p.value)).collect()
    }

    #[test]
    fn nested_objects_become_dotted_names() {
        for (json, expected) in [
            ("{}", vec![]),
            (r#"{"b":1,"a":"x"}"#, vec![r#"a=String("x")"#, "b=Integer(1)"]),
            (r#"{"a":{"b":{"c":true}}}"#, vec!["a.b.c=Bool(true)"]),
            (r#"{"a":null,"b":{"c":null}}"#, vec![]),
            (r#"{"a":{}}"#, vec![r#"a=Json("{}")"#]),
            (r#"{"a":[]}"#, vec![r#"a=Json("[]")"#]),
            (
                r#"{"a":[1, {"b": "\u00e9", "b": 2.50}, null, "x\n"]}"#,
                vec![r#"a=Json("[1,{\"b\":2.5},null,\"x\\n\"]")"#],
            ),
            (r#"{"a":1,"a":2}"#, vec!["a=Integer(2)"]),
            (r#"{"a":1,"c":0,"a":null}"#, vec!["a=Integer(1)", "c=Integer(0)"]),
            (r#"{"a":{"b":1},"a.b":2}"#, vec!["a.b=Integer(2)"]),
            (r#"{"a.b":2,"a":{"b":1}}"#, vec!["a.b=Integer(1)"]),
            (r#"{"f":1.0,"i":-0,"e":1e2}"#, vec!["e=Float(100.0)", "f=Float(1.0)", "i=Integer(0)"]),
            (r#"{"a":"\ud83d"}"#, vec!["a=String(\"\u{fffd}\")"]),
            (r#"{"a":"\u0000"}"#, vec![r#"a=String("\0")"#]),
        ] {
            assert_eq!(shown(json), expected, "{json}");
        }
    }

    #[test]
    fn each_limit_holds_at_its_edge() {
        let limits = CollectionConfig {
            depth_max: 4,
            properties_max: 3,
            key_bytes_max: 5,
            string_bytes_max: 6,
            ..CollectionConfig::default()
        };
        for (json, reason) in [
            (r#"{"a":{"b":{"c":1}}}"#, None),
            (r#"{"a":{"b":{"c":{}}}}"#, Some(Reason::TooDeep)),
            (r#"{"a":[[1]]}"#, None),
            (r#"{"a":[[[]]]}"#, Some(Reason::TooDeep)),
            (r#"{"a":[{"b":{}}]}"#, Some(Reason::TooDeep)),
            (r#"{"a":1,"b":2,"c":3,"d":null}"#, None),
            (r#"{"a":1,"b":2,"c":3,"d":4}"#, Some(Reason::TooManyProperties)),
            (r#"{"ab":{"cd":1}}"#, None),
            (r#"{"ab":{"cde":1}}"#, Some(Reason::KeyLength)),
            (r#"{"":1}"#, Some(Reason::PropertyName)),
            (r#"{"a":{"":1}}"#, None),
            (r#"{"\ud83c":1}"#, Some(Reason::PropertyName)),
            (r#"{"a":{"\udf63":1}}"#, Some(Reason::PropertyName)),
            (r#"{"a":[{"\ud83c":1}]}"#, Some(Reason::PropertyName)),
            (r#"{"\ud83c\udf63":1}"#, None),
            (r#"{"a":"123456"}"#, None),
            (r#"{"a":"1234567"}"#, Some(Reason::StringLength)),
            (r#"{"a":["1234567"]}"#, Some(Reason::StringLength)),
            (r#"{"a":9223372036854775807}"#, None),
            (r#"{"a":9223372036854775808}"#, Some(Reason::Number)),
            (r#"{"a":[18446744073709551616]}"#, Some(Reason::Number)),
            (r#"{"a":1e308}"#, None),
            (r#"{"a":1e400}"#, Some(Reason::Number)),
            (r#"{"a":[-1e400]}"#, Some(Reason::Number)),
        ] {
            let problem = read(json, &limits).problem;
            assert_eq!(problem.map(|p| p.reason), reason, "{json}");
        }
    }

    /// Names are built from their prefixes, so a long prefix over many members would be copied for
    /// each of them: 3.5 TB for a body of 8 MB.
    #[test]
    fn a_prefix_that_is_too_long_is_never_copied_into_the_names_below_it() {
        let members = "\"a\":1,".repeat(500_000);
        for json in [
            format!(r#"{{"{}":{{{members}"z":1}}}}"#, "x".repeat(5_000_000)),
            format!(r#"{{"bad":1e400,"{}":{{{members}"z":1}}}}"#, "x".repeat(5_000_000)),
        ] {
            let started = std::time::Instant::now();
            let problem = read(&json, &CollectionConfig::default()).problem;
            assert!(problem.is_some());
            // Milliseconds; minutes when the names are built.
            assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
        }
    }

    #[test]
    fn reading_goes_on_after_a_problem_and_still_finds_broken_json() {
        let mut event = RawEvent::default();
        let mut reader = Reader::new(r#"{"a":1e400,"b":[1,}"#);
        let read = read_properties(&mut reader, &mut event, &CollectionConfig::default(), 2);
        assert_eq!(read.map_err(|error| error.at), Err(18));
    }
}
