//! Answers as typed values, for those who show them. Their JSON is the public shape.

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::number::Number;
use super::question::Outcome;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Answer {
    Trends(TrendsAnswer),
    Funnel(FunnelAnswer),
    Persons(PersonsAnswer),
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TrendsAnswer {
    /// RFC 3339 instants in UTC: the first instant of each bucket.
    pub buckets: Vec<String>,
    /// In the question's order; broken down, each of its series by rank of the value, `$other` last.
    pub series: Vec<TrendsAnswerSeries>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TrendsAnswerSeries {
    /// The event names, or "every event".
    pub label: String,
    pub measure: String,
    /// What the measure is taken of; only for measures that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub property: Option<String>,
    /// Only in the answers of questions with a breakdown.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_breakdown")]
    pub breakdown: Option<Breakdown>,
    /// One a bucket. Counts, persons and sums of nothing are 0, other measures of nothing `null`.
    pub values: Vec<Option<Number>>,
    /// Over the whole range; of persons, unique over it.
    pub total: Option<Number>,
}

/// The value of a breakdown that a series stands for.
#[derive(Clone, PartialEq, Debug)]
pub enum Breakdown {
    /// The property is absent. `null` in JSON.
    Absent,
    Bool(bool),
    /// Whole floats are integers: 5 and 5.0 are one value.
    Number(Number),
    Text(String),
    /// An array, as the JSON it is.
    Json(Value),
    /// All values beyond the limit. `"$other"` in JSON, as would be a property of that very text.
    Other,
}

const OTHER: &str = "$other";

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FunnelAnswer {
    pub steps: Vec<FunnelAnswerStep>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FunnelAnswerStep {
    pub label: String,
    /// How many persons reached this step.
    pub persons: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PersonsAnswer {
    /// As they were asked; the step counts from 1.
    pub step: usize,
    pub outcome: Outcome,
    /// What the step is called in the funnel's own answer.
    pub label: String,
    /// Of all, whatever the limit is: the figure of the funnel's answer, or a difference of two.
    pub total: u64,
    /// The latest first, and of equal times the smaller id, byte by byte.
    pub persons: Vec<PersonsAnswerPerson>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PersonsAnswerPerson {
    /// The smallest of the person's ids, byte by byte.
    pub distinct_id: String,
    /// RFC 3339 in UTC: when they first reached the step, or the one before of those who dropped out.
    pub reached_at: String,
}

impl Serialize for Breakdown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent => serializer.serialize_none(),
            Self::Bool(flag) => flag.serialize(serializer),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => text.serialize(serializer),
            Self::Json(value) => value.serialize(serializer),
            Self::Other => OTHER.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Breakdown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Value::deserialize(deserializer)? {
            Value::Null => Self::Absent,
            Value::Bool(flag) => Self::Bool(flag),
            Value::Number(number) => Self::Number(Number::deserialize(number).map_err(D::Error::custom)?),
            Value::String(text) if text == OTHER => Self::Other,
            Value::String(text) => Self::Text(text),
            value @ (Value::Array(_) | Value::Object(_)) => Self::Json(value),
        })
    }
}

/// serde would read a `null` that is there as `None`.
fn some_breakdown<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Breakdown>, D::Error> {
    Breakdown::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_keep_their_shape_both_ways() {
        let cases = [
            json!({"kind": "funnel", "steps": [{"label": "order_placed", "persons": 5765}]}),
            json!({"kind": "persons", "step": 2, "outcome": "dropped", "label": "a", "total": 7,
                   "persons": [{"distinct_id": "u1", "reached_at": "2011-01-01T00:00:00Z"}]}),
            json!({"kind": "trends", "buckets": ["2011-01-01T00:00:00Z"], "series": [
                {"label": "a", "measure": "count", "values": [3], "total": 3},
                {"label": "a", "measure": "sum", "property": "p", "values": [2.5], "total": 2.5},
                {"label": "a", "measure": "count", "breakdown": null, "values": [0], "total": 0},
                {"label": "a", "measure": "count", "breakdown": "Germany", "values": [0], "total": 0},
                {"label": "a", "measure": "count", "breakdown": true, "values": [0], "total": 0},
                {"label": "a", "measure": "count", "breakdown": [1, "x"], "values": [0], "total": 0},
                {"label": "a", "measure": "count", "breakdown": 5, "values": [0], "total": 0},
                {"label": "a", "measure": "max", "property": "p", "breakdown": "$other", "values": [null], "total": null},
            ]}),
        ];
        for json in cases {
            let answer: Answer = serde_json::from_value(json.clone()).unwrap();
            assert_eq!(serde_json::to_value(&answer).unwrap(), json);
        }
    }

    #[test]
    fn an_absent_value_is_not_a_missing_breakdown() {
        let text = r#"{"label":"a","measure":"count","breakdown":null,"values":[],"total":0}"#;
        let series: TrendsAnswerSeries = serde_json::from_str(text).unwrap();
        assert_eq!(series.breakdown, Some(Breakdown::Absent));
        let text = r#"{"label":"a","measure":"count","values":[],"total":0}"#;
        let series: TrendsAnswerSeries = serde_json::from_str(text).unwrap();
        assert_eq!(series.breakdown, None);
    }
}
