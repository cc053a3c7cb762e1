//! Reading JSON field by field while collecting every problem on the way.
//!
//! serde's derive stops at the first problem and cannot say which limit a value broke, so question
//! types are read by hand: a [`Fields`] is one object, remembers which names were asked for, and
//! reports the rest as unknown when it is [finished](Fields::finish). A reader that returns `None`
//! for something that was there has reported why.

use serde_json::{Map, Value};

use super::{QuestionError, QuestionErrorCode as Code};

/// Problems beyond this many say nothing new.
const PROBLEMS_MAX: usize = 50;

/// How much of a value an error repeats.
const SHOWN_CHARS_MAX: usize = 60;

#[derive(Default)]
pub(super) struct Problems {
    found: Vec<QuestionError>,
}

impl Problems {
    pub fn report(&mut self, field: &str, code: Code, detail: impl Into<String>) {
        if self.found.len() < PROBLEMS_MAX {
            self.found.push(QuestionError { field: field.to_owned(), code, detail: detail.into() });
        }
    }

    /// The value when nothing was reported.
    pub fn check<T>(self, value: Option<T>) -> Result<T, Vec<QuestionError>> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            _ => Err(self.found),
        }
    }
}

/// One JSON object on its way to a type. `null` is the same as absent.
pub(super) struct Fields<'a> {
    path: String,
    map: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    pub fn open(path: &str, value: &'a Value, problems: &mut Problems) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self { path: path.to_owned(), map, known: Vec::new() }),
            other => {
                problems.report(path, Code::WrongType, format!("{} is not an object", show(other)));
                None
            }
        }
    }

    /// The path of one of this object's fields.
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub fn find(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub fn get(&mut self, name: &'static str, problems: &mut Problems) -> Option<&'a Value> {
        let found = self.find(name);
        if found.is_none() {
            let what = if self.map.contains_key(name) { "null, which is no value" } else { "missing" };
            problems.report(&self.path(name), Code::MissingField, format!("`{name}` is {what}"));
        }
        found
    }

    pub fn find_text(&mut self, name: &'static str, problems: &mut Problems) -> Option<&'a str> {
        let value = self.find(name)?;
        read_text(&self.path(name), value, problems)
    }

    pub fn get_text(&mut self, name: &'static str, problems: &mut Problems) -> Option<&'a str> {
        let value = self.get(name, problems)?;
        read_text(&self.path(name), value, problems)
    }

    /// Each element of a list with its path; an absent list is empty. `None` when it is no list
    /// or longer than `max`.
    pub fn list(
        &mut self,
        name: &'static str,
        max: usize,
        problems: &mut Problems,
    ) -> Option<Vec<(String, &'a Value)>> {
        let Some(value) = self.find(name) else { return Some(Vec::new()) };
        read_list(&self.path(name), value, max, problems)
    }

    /// Reports the fields that nobody asked for.
    pub fn finish(self, problems: &mut Problems) {
        for name in self.map.keys() {
            if !self.known.contains(&name.as_str()) {
                let known: Vec<String> = self.known.iter().map(|name| format!("`{name}`")).collect();
                let name = shorten(name);
                let detail = format!("there is no field `{name}` here; known are {}", known.join(", "));
                problems.report(&self.path(&name), Code::UnknownField, detail);
            }
        }
    }
}

pub(super) fn read_text<'a>(path: &str, value: &'a Value, problems: &mut Problems) -> Option<&'a str> {
    let text = value.as_str();
    if text.is_none() {
        problems.report(path, Code::WrongType, format!("{} is not a string", show(value)));
    }
    text
}

pub(super) fn read_list<'a>(
    path: &str,
    value: &'a Value,
    max: usize,
    problems: &mut Problems,
) -> Option<Vec<(String, &'a Value)>> {
    let Value::Array(list) = value else {
        problems.report(path, Code::WrongType, format!("{} is not a list", show(value)));
        return None;
    };
    if list.len() > max {
        problems.report(
            path,
            Code::TooMany,
            format!("{} entries are more than the {max} allowed", list.len()),
        );
        return None;
    }
    Some(list.iter().enumerate().map(|(index, item)| (format!("{path}[{index}]"), item)).collect())
}

/// One word of a list of words.
pub(super) fn read_word<T: Copy>(
    path: &str,
    word: &str,
    words: &[(&'static str, T)],
    problems: &mut Problems,
) -> Option<T> {
    let found = words.iter().find(|(known, _)| *known == word).map(|&(_, value)| value);
    if found.is_none() {
        let known: Vec<&str> = words.iter().map(|&(known, _)| known).collect();
        let detail = format!("`{}` is none of {}", shorten(word), known.join(", "));
        problems.report(path, Code::UnknownValue, detail);
    }
    found
}

/// All or nothing: `None` when any part is missing.
pub(super) fn all<T>(parts: Vec<Option<T>>) -> Option<Vec<T>> {
    parts.into_iter().collect()
}

/// A value as an error repeats it.
pub(super) fn show(value: &Value) -> String {
    format!("`{}`", shorten(&value.to_string()))
}

pub(super) fn shorten(text: &str) -> String {
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(SHOWN_CHARS_MAX).chain(['…']).collect()
}
