//! Questions: JSON in, a validated model out, or every problem at once.
//!
//! One Rust type per kind. Fields are read by hand ([`fields`]) so that unknown ones are refused
//! everywhere and every error names its field, value and limit. [`Question::canonical`] gives the
//! form that is hashed, stored and run: the range resolved to instants, defaults written out, so
//! that parsing it at any later time gives the same question. [`Question::asked`] keeps relative
//! times, for saving and sharing what was asked.

mod error;
mod events;
mod fields;
mod filter;
mod funnel;
mod limits;
mod persons;
#[cfg(test)]
mod tests;
mod trends;
mod when;

use serde_json::{Value, json};

use crate::model::Millis;

pub use error::{QuestionError, QuestionErrorCode};
pub use events::EventSelector;
pub use filter::{Filter, Scalar, Test};
pub use funnel::{FunnelQuestion, FunnelStep, format_window};
pub use limits::QuestionLimits;
pub use persons::{Outcome, PersonsQuestion};
pub use trends::{BreakdownBy, Measure, PropertyFunction, Series, TrendsBreakdown, TrendsQuestion};
pub use when::{Relative, RelativeUnit, TimeBound, When};

use fields::{Fields, Problems, show};

#[derive(Clone, PartialEq, Debug)]
pub enum Question {
    Trends(TrendsQuestion),
    Funnel(FunnelQuestion),
    Persons(PersonsQuestion),
}

/// What a question takes from its project and its moment.
#[derive(Clone, Debug)]
pub struct ProjectSettings {
    /// A name of the tz database, used when the question has none.
    pub time_zone: String,
    pub now: Millis,
    pub limits: QuestionLimits,
}

impl ProjectSettings {
    pub fn new(time_zone: &str, now: Millis) -> Self {
        Self { time_zone: time_zone.to_owned(), now, limits: QuestionLimits::default() }
    }
}

/// The kinds of design.md that have no kernel yet: named, so that the error can say so.
const KINDS_TO_COME: [&str; 6] = ["retention", "paths", "lifecycle", "stickiness", "sessions", "events"];

impl Question {
    pub fn parse(json: &Value, settings: &ProjectSettings) -> Result<Self, Vec<QuestionError>> {
        let mut problems = Problems::default();
        let question = Self::read(json, settings, &mut problems);
        problems.check(question)
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Self::Trends(_) => "trends",
            Self::Funnel(_) => "funnel",
            Self::Persons(_) => "persons",
        }
    }

    pub fn when(&self) -> &When {
        match self {
            Self::Trends(question) => &question.when,
            Self::Funnel(question) => &question.when,
            Self::Persons(question) => &question.funnel.when,
        }
    }

    /// The form that two equal questions share and that means the same at any time.
    pub fn canonical(&self) -> Value {
        let range = self.when().range;
        self.to_json(TimeBound::Instant(range.from), TimeBound::Instant(range.to))
    }

    /// The same with `from` and `to` as they were asked.
    pub fn asked(&self) -> Value {
        self.to_json(self.when().from, self.when().to)
    }

    fn to_json(&self, from: TimeBound, to: TimeBound) -> Value {
        match self {
            Self::Trends(question) => question.to_json(from, to),
            Self::Funnel(question) => question.to_json(from, to),
            Self::Persons(question) => question.to_json(from, to),
        }
    }

    fn read(json: &Value, settings: &ProjectSettings, problems: &mut Problems) -> Option<Self> {
        let mut fields = Fields::open("", json, problems)?;
        let limits = &settings.limits;
        match fields.get_text("kind", problems)? {
            "trends" => TrendsQuestion::read(fields, settings, limits, problems).map(Self::Trends),
            "funnel" => FunnelQuestion::read(fields, settings, limits, problems).map(Self::Funnel),
            "persons" => PersonsQuestion::read(fields, settings, limits, problems).map(Self::Persons),
            kind if KINDS_TO_COME.contains(&kind) => {
                let detail = format!("the kind `{kind}` is not answered yet; trends, funnel and persons are");
                problems.report("kind", QuestionErrorCode::Unsupported, detail);
                None
            }
            kind => {
                let detail =
                    format!("{} is no kind of question; trends, funnel and persons are", show(&json!(kind)));
                problems.report("kind", QuestionErrorCode::UnknownValue, detail);
                None
            }
        }
    }
}
