//! Analysis: from a question's JSON to its answer's JSON, over decoded rows.
//!
//! [`Question::parse`] turns JSON into a validated [`Question`], or into every problem it has.
//! A [`Plan`] says which events, properties and times a question reads, and answers it in one or
//! more rounds: in each, every shard computes a [`Partial`] over its own
//! [`RowBlock`](crate::eventstore::RowBlock)s, the partials are merged in any order, and the plan
//! says what comes next. [`QuestionKind`] drives these rounds over all shards of a project, as a
//! kind of ticket, and ends in an [`Answer`].
//!
//! The same events give the same bytes, however they are spread over shards and blocks: counts are
//! integers, sums are exact and rounded once (`exact`), ties are broken by value, and a person is
//! in one shard only, so that unique persons add up.

mod answer;
mod asked;
mod completeness;
mod elsewhere;
mod exact;
mod finish;
mod kernels;
mod known_projects;
mod naming;
mod number;
mod plan;
mod question;
mod question_kind;
mod room;
mod split;
#[cfg(test)]
mod tests;
mod time;
mod together;

pub use answer::{
    Answer, Breakdown, FunnelAnswer, FunnelAnswerStep, PersonsAnswer, PersonsAnswerPerson, TrendsAnswer,
    TrendsAnswerSeries,
};
pub use completeness::{Away, Completeness};
pub use kernels::{Cancel, KernelError};
pub use number::Number;
pub use plan::{Next, Partial, Plan, Reads, Round};
pub use question::{
    BreakdownBy, EventSelector, Filter, FunnelQuestion, FunnelStep, Measure, Outcome, PersonsQuestion,
    ProjectSettings, PropertyFunction, Question, QuestionError, QuestionErrorCode, QuestionLimits, Relative,
    RelativeUnit, Scalar, Series, Test, TimeBound, TrendsBreakdown, TrendsQuestion, When, format_window,
};
pub use question_kind::{QUESTION, QuestionKind, QuestionParts};
pub use time::{Buckets, Granularity, TimeRange, find_time_zone};
