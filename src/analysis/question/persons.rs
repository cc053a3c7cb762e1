//! The kind `persons`: who is behind a step of a funnel.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fields::{Fields, Problems, read_word, show};
use super::funnel::FunnelQuestion;
use super::{ProjectSettings, QuestionErrorCode as Code, QuestionLimits, TimeBound};

/// The persons that a funnel counts at one of its steps, or that it loses just before.
#[derive(Clone, PartialEq, Debug)]
pub struct PersonsQuestion {
    pub funnel: FunnelQuestion,
    /// Counted from 1, as people do; one of the funnel's.
    pub step: usize,
    /// Never [`Outcome::Dropped`] of the first step.
    pub outcome: Outcome,
    /// At least one.
    pub limit: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Reached the step.
    Converted,
    /// Reached the step before, and not this one.
    Dropped,
}

const OUTCOMES: [(&str, Outcome); 2] = [("converted", Outcome::Converted), ("dropped", Outcome::Dropped)];

const LIMIT_DEFAULT: usize = 100;

impl Outcome {
    /// As questions and answers write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Converted => "converted",
            Self::Dropped => "dropped",
        }
    }
}

impl PersonsQuestion {
    pub(super) fn read(
        mut fields: Fields<'_>,
        settings: &ProjectSettings,
        limits: &QuestionLimits,
        problems: &mut Problems,
    ) -> Option<Self> {
        let path = fields.path("funnel");
        let funnel = fields.get("funnel", problems);
        let funnel = funnel.and_then(|value| read_funnel(&path, value, settings, limits, problems));
        let steps_max = funnel.as_ref().map_or(limits.steps_max, |funnel| funnel.steps.len());
        let (step, path) = (fields.get("step", problems), fields.path("step"));
        let step = step.and_then(|value| read_number(&path, value, steps_max, problems));
        let outcome = match fields.find_text("outcome", problems) {
            None => Some(Outcome::Converted),
            Some(word) => read_word(&fields.path("outcome"), word, &OUTCOMES, problems),
        };
        if (step, outcome) == (Some(1), Some(Outcome::Dropped)) {
            let detail = "nobody drops out before the first step; ask for step 2 or a later one";
            problems.report(&fields.path("outcome"), Code::ConflictingFields, detail);
        }
        let path = fields.path("limit");
        let limit = match fields.find("limit") {
            None => Some(LIMIT_DEFAULT.min(limits.persons_max)),
            Some(value) => read_number(&path, value, limits.persons_max, problems),
        };
        fields.finish(problems);
        Some(Self { funnel: funnel?, step: step?, outcome: outcome?, limit: limit? })
    }

    pub(super) fn to_json(&self, from: TimeBound, to: TimeBound) -> Value {
        let funnel = self.funnel.to_json(from, to);
        let (step, outcome, limit) = (self.step, self.outcome.word(), self.limit);
        json!({"kind": "persons", "funnel": funnel, "step": step, "outcome": outcome, "limit": limit})
    }

    /// The step whose time is told and orders the persons, counted from 0: the last that all of them
    /// reached.
    pub fn reached_step(&self) -> usize {
        match self.outcome {
            Outcome::Converted => self.step - 1,
            Outcome::Dropped => self.step - 2,
        }
    }
}

/// A whole funnel question, as it would be asked alone.
fn read_funnel(
    path: &str,
    value: &Value,
    settings: &ProjectSettings,
    limits: &QuestionLimits,
    problems: &mut Problems,
) -> Option<FunnelQuestion> {
    let mut fields = Fields::open(path, value, problems)?;
    match fields.get_text("kind", problems)? {
        "funnel" => FunnelQuestion::read(fields, settings, limits, problems),
        kind => {
            let detail = format!("{} is not asked for its persons; a `funnel` is", show(&json!(kind)));
            problems.report(&fields.path("kind"), Code::UnknownValue, detail);
            None
        }
    }
}

/// A whole number from 1.
fn read_number(path: &str, value: &Value, max: usize, problems: &mut Problems) -> Option<usize> {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    let number = number.filter(|number| (1..=max).contains(number));
    if number.is_none() {
        let detail = format!("{} is not a whole number from 1 to {max}", show(value));
        problems.report(path, Code::OutOfRange, detail);
    }
    number
}
