//! The kind `trends`: measures over buckets of time, optionally broken down.

use serde_json::{Map, Value, json};

use super::events::{EventSelector, read_property};
use super::fields::{Fields, Problems, all, read_list, read_word, show};
use super::filter::Filter;
use super::when::{TimeBound, When};
use super::{ProjectSettings, QuestionErrorCode as Code, QuestionLimits};
use crate::analysis::time::{Buckets, Granularity};

#[derive(Clone, PartialEq, Debug)]
pub struct TrendsQuestion {
    pub when: When,
    /// `None`: one bucket, the whole range.
    pub granularity: Option<Granularity>,
    pub series: Vec<Series>,
    /// For all series.
    pub filters: Vec<Filter>,
    pub breakdown: Option<TrendsBreakdown>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    pub events: EventSelector,
    pub measure: Measure,
    pub filters: Vec<Filter>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Measure {
    /// Events.
    Count,
    /// Unique persons; the total is unique over the whole range.
    Persons,
    /// Events divided by unique persons.
    PerPerson,
    /// Over the rows where the property is a number.
    OfProperty(PropertyFunction, String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PropertyFunction {
    Sum,
    Avg,
    Min,
    Max,
    Median,
    P90,
    P95,
    P99,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrendsBreakdown {
    pub by: BreakdownBy,
    /// Values that get a series of their own; the rest is `$other`.
    pub limit: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BreakdownBy {
    Event,
    Property(String),
}

const BREAKDOWN_LIMIT_DEFAULT: usize = 10;

const GRANULARITIES: [(&str, Granularity); 4] = [
    ("hour", Granularity::Hour),
    ("day", Granularity::Day),
    ("week", Granularity::Week),
    ("month", Granularity::Month),
];

#[derive(Clone, Copy)]
enum MeasureWord {
    Count,
    Persons,
    PerPerson,
    Function(PropertyFunction),
}

const MEASURES: [(&str, MeasureWord); 11] = [
    ("count", MeasureWord::Count),
    ("persons", MeasureWord::Persons),
    ("per_person", MeasureWord::PerPerson),
    ("sum", MeasureWord::Function(PropertyFunction::Sum)),
    ("avg", MeasureWord::Function(PropertyFunction::Avg)),
    ("min", MeasureWord::Function(PropertyFunction::Min)),
    ("max", MeasureWord::Function(PropertyFunction::Max)),
    ("median", MeasureWord::Function(PropertyFunction::Median)),
    ("p90", MeasureWord::Function(PropertyFunction::P90)),
    ("p95", MeasureWord::Function(PropertyFunction::P95)),
    ("p99", MeasureWord::Function(PropertyFunction::P99)),
];

impl TrendsQuestion {
    pub(super) fn read(
        mut fields: Fields<'_>,
        settings: &ProjectSettings,
        limits: &QuestionLimits,
        problems: &mut Problems,
    ) -> Option<Self> {
        let when = When::read(&mut fields, settings, problems);
        let granularity = match fields.find_text("granularity", problems) {
            None => Some(None),
            Some(word) => read_word(&fields.path("granularity"), word, &GRANULARITIES, problems).map(Some),
        };
        let series = read_series_list(&mut fields, limits, problems);
        let filters = Filter::read_list(&mut fields, limits, problems);
        let breakdown = match fields.find("breakdown") {
            None => Some(None),
            Some(value) => {
                TrendsBreakdown::read(&fields.path("breakdown"), value, limits, problems).map(Some)
            }
        };
        fields.finish(problems);
        let question = Self {
            when: when?,
            granularity: granularity?,
            series: series?,
            filters: filters?,
            breakdown: breakdown?,
        };
        question.check_size(limits, problems);
        Some(question)
    }

    pub fn buckets(&self) -> Buckets {
        Buckets::new(self.when.range, self.granularity, &self.when.zone)
    }

    fn check_size(&self, limits: &QuestionLimits, problems: &mut Problems) {
        let max = limits.buckets_max as u64;
        let estimate = Buckets::estimate_max(self.when.range, self.granularity);
        // The estimate is close; only when it is in doubt is the exact number worth building.
        let buckets = if estimate > 2 * max + 2 { estimate } else { self.buckets().len() as u64 };
        let word = self.granularity.map_or("none", Granularity::word);
        if buckets > max {
            let detail = format!("{buckets} buckets of one {word} are more than the {max} allowed");
            problems.report("granularity", Code::TooMany, detail);
            return;
        }
        let values = self.breakdown.as_ref().map_or(1, |breakdown| breakdown.limit + 1);
        let (series, max) = (self.series.len(), limits.cells_max);
        let cells = series * values * buckets as usize;
        if cells > max {
            let detail = format!(
                "{series} series × {values} values × {buckets} buckets are {cells} numbers, more than the {max} allowed"
            );
            problems.report("", Code::TooMany, detail);
        }
    }

    pub(super) fn to_json(&self, from: TimeBound, to: TimeBound) -> Value {
        let mut json = self.when.start_json("trends", from, to);
        if let Some(granularity) = self.granularity {
            json.insert("granularity".into(), json!(granularity.word()));
        }
        json.insert("series".into(), self.series.iter().map(Series::to_json).collect());
        if !self.filters.is_empty() {
            json.insert("filters".into(), self.filters.iter().map(Filter::to_json).collect());
        }
        if let Some(TrendsBreakdown { by, limit }) = &self.breakdown {
            let breakdown = match by {
                BreakdownBy::Event => json!({"event": true, "limit": limit}),
                BreakdownBy::Property(property) => json!({"property": property, "limit": limit}),
            };
            json.insert("breakdown".into(), breakdown);
        }
        Value::Object(json)
    }
}

impl Granularity {
    pub fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }
}

impl Measure {
    /// As questions and answers write it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Persons => "persons",
            Self::PerPerson => "per_person",
            Self::OfProperty(function, _) => function.word(),
        }
    }

    pub fn property(&self) -> Option<&str> {
        match self {
            Self::OfProperty(_, property) => Some(property),
            Self::Count | Self::Persons | Self::PerPerson => None,
        }
    }

    pub fn is_percentile(&self) -> bool {
        use PropertyFunction::{Median, P90, P95, P99};
        matches!(self, Self::OfProperty(Median | P90 | P95 | P99, _))
    }

    pub fn counts_persons(&self) -> bool {
        matches!(self, Self::Persons | Self::PerPerson)
    }

    fn read(fields: &mut Fields<'_>, limits: &QuestionLimits, problems: &mut Problems) -> Option<Self> {
        let word = match fields.find_text("measure", problems) {
            None => Some(MeasureWord::Count),
            Some(word) => read_word(&fields.path("measure"), word, &MEASURES, problems),
        };
        let (given, path) = (fields.find("property"), fields.path("property"));
        let property = given.and_then(|value| read_property(&path, value, limits, problems));
        let plain = match word? {
            MeasureWord::Function(function) => {
                if given.is_none() {
                    let detail =
                        format!("the measure `{}` needs the `property` it is taken of", function.word());
                    problems.report(&path, Code::MissingField, detail);
                }
                return Some(Self::OfProperty(function, property?));
            }
            MeasureWord::Count => Self::Count,
            MeasureWord::Persons => Self::Persons,
            MeasureWord::PerPerson => Self::PerPerson,
        };
        if given.is_some() {
            let detail = format!("the measure `{}` takes no `property`", plain.word());
            problems.report(&path, Code::ConflictingFields, detail);
        }
        Some(plain)
    }
}

impl PropertyFunction {
    pub fn word(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Median => "median",
            Self::P90 => "p90",
            Self::P95 => "p95",
            Self::P99 => "p99",
        }
    }
}

impl Series {
    fn read(path: &str, value: &Value, limits: &QuestionLimits, problems: &mut Problems) -> Option<Self> {
        let mut fields = Fields::open(path, value, problems)?;
        let events = EventSelector::read(&mut fields, limits, problems);
        let measure = Measure::read(&mut fields, limits, problems);
        let filters = Filter::read_list(&mut fields, limits, problems);
        fields.finish(problems);
        Some(Self { events: events?, measure: measure?, filters: filters? })
    }

    fn to_json(&self) -> Value {
        let mut json = Map::new();
        if let Some((name, value)) = self.events.to_field() {
            json.insert(name.into(), value);
        }
        json.insert("measure".into(), json!(self.measure.word()));
        if let Some(property) = self.measure.property() {
            json.insert("property".into(), json!(property));
        }
        if !self.filters.is_empty() {
            json.insert("filters".into(), self.filters.iter().map(Filter::to_json).collect());
        }
        Value::Object(json)
    }
}

impl TrendsBreakdown {
    fn read(path: &str, value: &Value, limits: &QuestionLimits, problems: &mut Problems) -> Option<Self> {
        let mut fields = Fields::open(path, value, problems)?;
        let (property, event, limit) = (fields.find("property"), fields.find("event"), fields.find("limit"));
        let by = match (property, event) {
            (Some(value), None) => {
                read_property(&fields.path("property"), value, limits, problems).map(BreakdownBy::Property)
            }
            (None, Some(Value::Bool(true))) => Some(BreakdownBy::Event),
            (None, Some(value)) => {
                problems.report(
                    &fields.path("event"),
                    Code::InvalidValue,
                    format!("{} is not true", show(value)),
                );
                None
            }
            (None, None) => {
                let detail = "a breakdown has a `property`, or `event`: true";
                problems.report(path, Code::MissingField, detail);
                None
            }
            (Some(_), Some(_)) => {
                let detail = "`property` and `event` are both there; give one of them";
                problems.report(&fields.path("event"), Code::ConflictingFields, detail);
                None
            }
        };
        let max = limits.breakdown_limit_max;
        let limit = match limit {
            None => Some(BREAKDOWN_LIMIT_DEFAULT.min(max)),
            Some(value) => {
                let limit = value.as_u64().and_then(|limit| usize::try_from(limit).ok());
                let limit = limit.filter(|limit| (1..=max).contains(limit));
                if limit.is_none() {
                    let detail = format!("{} is not a whole number from 1 to {max}", show(value));
                    problems.report(&fields.path("limit"), Code::OutOfRange, detail);
                }
                limit
            }
        };
        fields.finish(problems);
        Some(Self { by: by?, limit: limit? })
    }
}

fn read_series_list(
    fields: &mut Fields<'_>,
    limits: &QuestionLimits,
    problems: &mut Problems,
) -> Option<Vec<Series>> {
    let path = fields.path("series");
    let list = read_list(&path, fields.get("series", problems)?, limits.series_max, problems)?;
    if list.is_empty() {
        problems.report(&path, Code::TooFew, "a question needs at least one series");
    }
    all(list.iter().map(|(path, value)| Series::read(path, value, limits, problems)).collect())
}
