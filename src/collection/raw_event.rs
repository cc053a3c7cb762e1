//! An event as its sender wrote it: read, not yet judged.
//!
//! Every protocol's file reads its own shape into a [`RawEvent`]; from there on all vendors' events
//! go the same way. Texts are borrowed from the body, properties are already flat and typed. What
//! cannot be kept as it is becomes the event's `problem`, and reading goes on: the rest of the body
//! still has to be known to be JSON.

use std::borrow::Cow;

use super::outcome::{Reason, Rejection};
use super::payload::json::{Kind, Number, Reader, SyntaxError};

/// A field that should be a scalar.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Field<'a> {
    /// Not there, or null.
    #[default]
    Absent,
    Text {
        value: Cow<'a, str>,
        /// It held half a surrogate pair, now U+FFFD.
        is_repaired: bool,
    },
    Number(Number<'a>),
    /// A flag, an object or an array: nothing any field takes.
    Other(Kind),
}

#[derive(Clone, PartialEq, Debug)]
pub struct Property<'a> {
    /// Nested names are joined by dots.
    pub name: Cow<'a, str>,
    pub value: RawValue<'a>,
}

#[derive(Clone, PartialEq, Debug)]
pub enum RawValue<'a> {
    String(Cow<'a, str>),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// An array or an empty object, written anew.
    Json(String),
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct RawEvent<'a> {
    pub event: Field<'a>,
    pub distinct_id: Field<'a>,
    pub anonymous_id: Field<'a>,
    pub id: Field<'a>,
    pub timestamp: Field<'a>,
    /// The client's clock when it sent the request.
    pub sent_at: Field<'a>,
    /// In the order of the text; a name may come twice.
    pub properties: Vec<Property<'a>>,
    /// The first thing that makes the event unusable.
    pub problem: Option<Rejection>,
    /// The event's own text.
    pub text: &'a str,
}

impl RawEvent<'_> {
    pub fn reject(&mut self, reason: Reason, detail: impl Into<String>) {
        self.problem.get_or_insert_with(|| Rejection::new(reason, detail));
    }
}

impl<'a> Field<'a> {
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, SyntaxError> {
        Ok(match reader.peek()? {
            Kind::String => {
                let text = reader.string()?;
                Self::Text { value: text.value, is_repaired: text.is_repaired }
            }
            Kind::Number => Self::Number(reader.number()?),
            Kind::Null => {
                reader.null()?;
                Self::Absent
            }
            kind => {
                reader.skip()?;
                Self::Other(kind)
            }
        })
    }

    pub fn text(value: &'a str) -> Self {
        Self::Text { value: Cow::Borrowed(value), is_repaired: false }
    }

    pub fn is_absent(&self) -> bool {
        *self == Self::Absent
    }

    /// Not there, null or a text without a word.
    pub fn is_blank(&self) -> bool {
        match self {
            Self::Absent => true,
            Self::Text { value, .. } => value.trim().is_empty(),
            Self::Number(_) | Self::Other(_) => false,
        }
    }

    /// The value for an error's detail, short whatever it is.
    pub fn shown(&self) -> String {
        match self {
            Self::Absent => "nothing".to_owned(),
            Self::Text { value, .. } => shown_text(value),
            Self::Number(number) => shortened(number.text, 40),
            Self::Other(Kind::Bool) => "a flag".to_owned(),
            Self::Other(Kind::Array) => "an array".to_owned(),
            Self::Other(_) => "an object".to_owned(),
        }
    }
}

/// A text for an error's detail: quoted, at most 40 characters of it.
pub fn shown_text(text: &str) -> String {
    format!("{:?}", shortened(text, 40))
}

fn shortened(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
