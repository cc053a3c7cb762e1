//! `[questions]`: how much one question may ask for.

use serde::{Deserialize, Serialize};

use super::{Problem, check_range};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuestionsConfig {
    /// The largest `limit` of a question for persons. Every shard holds so many while it is answered.
    pub persons_max: u32,
}

impl Default for QuestionsConfig {
    fn default() -> Self {
        Self { persons_max: 10_000 }
    }
}

impl QuestionsConfig {
    pub(super) fn validate(&self, problems: &mut Vec<Problem>) {
        check_range(problems, "questions.persons_max", self.persons_max.into(), 1, 100_000);
    }
}
