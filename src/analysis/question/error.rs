//! What is wrong with a question: which field, and why, in words that name the value and the limit.

use serde::Serialize;

/// One problem of a question. A question is refused with all of them at once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, thiserror::Error)]
#[error("{}{detail}", if field.is_empty() { String::new() } else { format!("{field}: ") })]
pub struct QuestionError {
    /// Where in the question, such as `series[0].filters[1].value`; empty for the question itself.
    pub field: String,
    pub code: QuestionErrorCode,
    /// One sentence for people. Names the value and the limit.
    pub detail: String,
}

/// The closed list of reasons.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QuestionErrorCode {
    /// A field that this kind of question does not have.
    UnknownField,
    MissingField,
    /// Text where a number belongs, and the like.
    WrongType,
    /// Not one of the listed words: a kind, measure, operator, granularity, time zone.
    UnknownValue,
    /// The right type, but not readable as what it stands for: a date, a window, an empty name.
    InvalidValue,
    /// Two fields of which only one may be there.
    ConflictingFields,
    TooFew,
    TooMany,
    TooLong,
    /// A number or time beyond what is supported.
    OutOfRange,
    /// `to` is not after `from`.
    EmptyRange,
    /// Known, but not answered yet.
    Unsupported,
}
