//! Filters: a property, an operator, a value.
//!
//! How values compare:
//! * A comparison with an absent property is false, for `ne`, `not_in` and `not_contains` too.
//!   Among rows that have the property, these three are exactly the rows that `eq`, `in` and
//!   `contains` leave.
//! * Text equals text only, byte by byte; `"5"` is not `5`. Numbers compare by value, integers and
//!   floats together and exactly: `5` equals `5.0`. `true` and `false` equal themselves only.
//! * `gt`, `gte`, `lt` and `lte` take a number and are false for everything that is not one.
//! * `contains` looks into text, case-sensitive; nothing else contains anything.
//! * Arrays equal no value; they are set.

use serde_json::{Value, json};

use super::events::read_property;
use super::fields::{Fields, Problems, all, read_list, read_word, shorten, show};
use super::{QuestionErrorCode as Code, QuestionLimits};
use crate::analysis::number::Number;
use crate::eventstore::ValueRef;
use crate::eventstore::scan::Need;

#[derive(Clone, PartialEq, Debug)]
pub struct Filter {
    pub property: String,
    pub test: Test,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Test {
    Eq(Scalar),
    Ne(Scalar),
    In(Vec<Scalar>),
    NotIn(Vec<Scalar>),
    Contains(String),
    NotContains(String),
    Gt(Number),
    Gte(Number),
    Lt(Number),
    Lte(Number),
    IsSet,
    IsNotSet,
}

/// One value that a filter names. Numbers are in their [canonical](Number::canonical) form.
#[derive(Clone, PartialEq, Debug)]
pub enum Scalar {
    Text(String),
    Number(Number),
    Bool(bool),
}

#[derive(Clone, Copy)]
enum Operator {
    Eq,
    Ne,
    In,
    NotIn,
    Contains,
    NotContains,
    Gt,
    Gte,
    Lt,
    Lte,
    IsSet,
    IsNotSet,
}

const OPERATORS: [(&str, Operator); 12] = [
    ("eq", Operator::Eq),
    ("ne", Operator::Ne),
    ("in", Operator::In),
    ("not_in", Operator::NotIn),
    ("contains", Operator::Contains),
    ("not_contains", Operator::NotContains),
    ("gt", Operator::Gt),
    ("gte", Operator::Gte),
    ("lt", Operator::Lt),
    ("lte", Operator::Lte),
    ("is_set", Operator::IsSet),
    ("is_not_set", Operator::IsNotSet),
];

impl Filter {
    pub fn matches(&self, value: Option<ValueRef<'_>>) -> bool {
        match (&self.test, value) {
            (Test::IsSet, value) => value.is_some(),
            (Test::IsNotSet, value) => value.is_none(),
            (_, None) => false,
            (Test::Eq(scalar), Some(value)) => scalar.equals(value),
            (Test::Ne(scalar), Some(value)) => !scalar.equals(value),
            (Test::In(list), Some(value)) => list.iter().any(|scalar| scalar.equals(value)),
            (Test::NotIn(list), Some(value)) => !list.iter().any(|scalar| scalar.equals(value)),
            (Test::Contains(part), Some(value)) => text_contains(value, part),
            (Test::NotContains(part), Some(value)) => !text_contains(value, part),
            (Test::Gt(limit), Some(value)) => Number::of(value).is_some_and(|number| number > *limit),
            (Test::Gte(limit), Some(value)) => Number::of(value).is_some_and(|number| number >= *limit),
            (Test::Lt(limit), Some(value)) => Number::of(value).is_some_and(|number| number < *limit),
            (Test::Lte(limit), Some(value)) => Number::of(value).is_some_and(|number| number <= *limit),
        }
    }

    /// What every row that passes has, if that can be said without looking at rows.
    pub fn need(&self) -> Option<Need> {
        let around = |low: f64, high: f64| Some((low.next_down(), high.next_up()));
        let range = match &self.test {
            Test::IsNotSet => return None,
            Test::Eq(Scalar::Number(number)) => around(number.to_f64(), number.to_f64()),
            Test::In(list) => {
                let numbers = list.iter().map(|scalar| match scalar {
                    Scalar::Number(number) => Some(number.to_f64()),
                    Scalar::Text(_) | Scalar::Bool(_) => None,
                });
                let bounds = numbers.collect::<Option<Vec<f64>>>().map(|numbers| {
                    let widen = |(low, high): (f64, f64), n: &f64| (low.min(*n), high.max(*n));
                    numbers.iter().fold((f64::INFINITY, f64::NEG_INFINITY), widen)
                });
                bounds.and_then(|(low, high)| around(low, high))
            }
            Test::Gt(limit) | Test::Gte(limit) => around(limit.to_f64(), f64::INFINITY),
            Test::Lt(limit) | Test::Lte(limit) => around(f64::NEG_INFINITY, limit.to_f64()),
            Test::Eq(_) | Test::Ne(_) | Test::NotIn(_) | Test::Contains(_) | Test::NotContains(_) => None,
            Test::IsSet => None,
        };
        Some(Need { property: self.property.clone(), range })
    }

    pub(super) fn read_list(
        fields: &mut Fields<'_>,
        limits: &QuestionLimits,
        problems: &mut Problems,
    ) -> Option<Vec<Self>> {
        let list = fields.list("filters", limits.filters_max, problems)?;
        all(list.iter().map(|(path, value)| Self::read(path, value, limits, problems)).collect())
    }

    fn read(path: &str, value: &Value, limits: &QuestionLimits, problems: &mut Problems) -> Option<Self> {
        let mut fields = Fields::open(path, value, problems)?;
        let property = match fields.get("property", problems) {
            Some(value) => read_property(&fields.path("property"), value, limits, problems),
            None => None,
        };
        let operator = match fields.get_text("op", problems) {
            Some(word) => read_word(&fields.path("op"), word, &OPERATORS, problems),
            None => None,
        };
        let test = operator.and_then(|operator| read_test(operator, &mut fields, limits, problems));
        if operator.is_none() {
            fields.find("value");
        }
        fields.finish(problems);
        Some(Self { property: property?, test: test? })
    }

    pub(super) fn to_json(&self) -> Value {
        let (op, value) = match &self.test {
            Test::Eq(scalar) => ("eq", scalar.to_json()),
            Test::Ne(scalar) => ("ne", scalar.to_json()),
            Test::In(list) => ("in", list.iter().map(Scalar::to_json).collect()),
            Test::NotIn(list) => ("not_in", list.iter().map(Scalar::to_json).collect()),
            Test::Contains(part) => ("contains", json!(part)),
            Test::NotContains(part) => ("not_contains", json!(part)),
            Test::Gt(limit) => ("gt", json!(limit)),
            Test::Gte(limit) => ("gte", json!(limit)),
            Test::Lt(limit) => ("lt", json!(limit)),
            Test::Lte(limit) => ("lte", json!(limit)),
            Test::IsSet => return json!({"property": self.property, "op": "is_set"}),
            Test::IsNotSet => return json!({"property": self.property, "op": "is_not_set"}),
        };
        json!({"property": self.property, "op": op, "value": value})
    }
}

impl Scalar {
    pub fn equals(&self, value: ValueRef<'_>) -> bool {
        match (self, value) {
            (Self::Text(text), ValueRef::String(other)) => text == other,
            (Self::Bool(flag), ValueRef::Bool(other)) => *flag == other,
            (Self::Number(number), value) => Number::of(value) == Some(*number),
            _ => false,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Number(number) => json!(number),
            Self::Bool(flag) => json!(flag),
        }
    }
}

impl Number {
    /// The number that a property's value is, if it is one.
    pub fn of(value: ValueRef<'_>) -> Option<Self> {
        match value {
            ValueRef::Integer(integer) => Some(Self::Integer(integer)),
            ValueRef::Float(float) => Some(Self::Float(float)),
            ValueRef::String(_) | ValueRef::Bool(_) | ValueRef::Json(_) => None,
        }
    }
}

fn text_contains(value: ValueRef<'_>, part: &str) -> bool {
    matches!(value, ValueRef::String(text) if text.contains(part))
}

fn read_test(
    operator: Operator,
    fields: &mut Fields<'_>,
    limits: &QuestionLimits,
    problems: &mut Problems,
) -> Option<Test> {
    let path = fields.path("value");
    if matches!(operator, Operator::IsSet | Operator::IsNotSet) {
        if fields.find("value").is_some() {
            problems.report(&path, Code::ConflictingFields, "`is_set` and `is_not_set` take no value");
        }
        return Some(if matches!(operator, Operator::IsSet) { Test::IsSet } else { Test::IsNotSet });
    }
    let value = fields.get("value", problems)?;
    Some(match operator {
        Operator::Eq => Test::Eq(read_scalar(&path, value, limits, problems)?),
        Operator::Ne => Test::Ne(read_scalar(&path, value, limits, problems)?),
        Operator::In => Test::In(read_scalars(&path, value, limits, problems)?),
        Operator::NotIn => Test::NotIn(read_scalars(&path, value, limits, problems)?),
        Operator::Contains => Test::Contains(read_part(&path, value, limits, problems)?),
        Operator::NotContains => Test::NotContains(read_part(&path, value, limits, problems)?),
        Operator::Gt => Test::Gt(read_limit(&path, value, problems)?),
        Operator::Gte => Test::Gte(read_limit(&path, value, problems)?),
        Operator::Lt => Test::Lt(read_limit(&path, value, problems)?),
        Operator::Lte => Test::Lte(read_limit(&path, value, problems)?),
        Operator::IsSet => Test::IsSet,
        Operator::IsNotSet => Test::IsNotSet,
    })
}

fn read_scalars(
    path: &str,
    value: &Value,
    limits: &QuestionLimits,
    problems: &mut Problems,
) -> Option<Vec<Scalar>> {
    let list = read_list(path, value, limits.filter_values_max, problems)?;
    if list.is_empty() {
        problems.report(path, Code::TooFew, "the list of values is empty");
    }
    all(list.iter().map(|(path, value)| read_scalar(path, value, limits, problems)).collect())
}

fn read_scalar(
    path: &str,
    value: &Value,
    limits: &QuestionLimits,
    problems: &mut Problems,
) -> Option<Scalar> {
    match value {
        Value::String(text) => Some(Scalar::Text(check_text(path, text, limits, problems)?)),
        Value::Bool(flag) => Some(Scalar::Bool(*flag)),
        Value::Number(_) => Some(Scalar::Number(read_number(path, value, problems)?)),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            let detail = format!("{} is not a string, a number, true or false", show(value));
            problems.report(path, Code::WrongType, detail);
            None
        }
    }
}

fn read_part(path: &str, value: &Value, limits: &QuestionLimits, problems: &mut Problems) -> Option<String> {
    let text = super::fields::read_text(path, value, problems)?;
    if text.is_empty() {
        problems.report(path, Code::InvalidValue, "every text contains the empty one; use `is_set`");
    }
    check_text(path, text, limits, problems)
}

fn check_text(path: &str, text: &str, limits: &QuestionLimits, problems: &mut Problems) -> Option<String> {
    let max = limits.filter_text_bytes_max;
    if text.len() > max {
        let detail = format!("`{}` has {} bytes, more than the {max} of a value", shorten(text), text.len());
        problems.report(path, Code::TooLong, detail);
        return None;
    }
    Some(text.to_owned())
}

fn read_limit(path: &str, value: &Value, problems: &mut Problems) -> Option<Number> {
    if value.is_number() {
        return read_number(path, value, problems);
    }
    let detail = format!("{} is not a number, and only numbers have an order", show(value));
    problems.report(path, Code::WrongType, detail);
    None
}

fn read_number(path: &str, value: &Value, problems: &mut Problems) -> Option<Number> {
    if let Some(integer) = value.as_i64() {
        return Some(Number::Integer(integer));
    }
    // Whole numbers from 2^63 on would lose digits as floats; no event holds one.
    if value.is_u64() {
        problems.report(path, Code::OutOfRange, format!("{} is above {}", show(value), i64::MAX));
        return None;
    }
    let float = value.as_f64().filter(|float| float.is_finite());
    if float.is_none() {
        problems.report(path, Code::OutOfRange, format!("{} is not a number of 64 bits", show(value)));
    }
    float.map(|float| Number::Float(float).canonical())
}
