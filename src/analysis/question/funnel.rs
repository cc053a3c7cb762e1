//! The kind `funnel`: how many persons did one thing, then another.

use serde_json::{Map, Value, json};

use super::events::EventSelector;
use super::fields::{Fields, Problems, all, read_list, shorten};
use super::filter::Filter;
use super::when::{TimeBound, When};
use super::{ProjectSettings, QuestionErrorCode as Code, QuestionLimits};
use crate::model::Millis;

/// Steps in order, by the rule `distinct`: a person reaches step k when k different events match
/// steps 1 to k and none is earlier than the one before; of events at the same time any may come
/// first. The last of them is at most `window` after the first, and any event of step 1 may be the
/// first. All lie within the range.
#[derive(Clone, PartialEq, Debug)]
pub struct FunnelQuestion {
    pub when: When,
    /// Inclusive, in ms; `None`: no limit.
    pub window: Option<Millis>,
    /// At least two.
    pub steps: Vec<FunnelStep>,
    /// For all steps.
    pub filters: Vec<Filter>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct FunnelStep {
    pub events: EventSelector,
    pub filters: Vec<Filter>,
}

pub const STEPS_MIN: usize = 2;

const SECOND_MS: Millis = 1_000;

/// A day of a window is 24 hours: a window does not know time zones.
const WINDOW_UNITS: [(&str, Millis); 5] = [
    ("w", 7 * 24 * 3_600 * SECOND_MS),
    ("d", 24 * 3_600 * SECOND_MS),
    ("h", 3_600 * SECOND_MS),
    ("m", 60 * SECOND_MS),
    ("s", SECOND_MS),
];

impl FunnelQuestion {
    pub(super) fn read(
        mut fields: Fields<'_>,
        settings: &ProjectSettings,
        limits: &QuestionLimits,
        problems: &mut Problems,
    ) -> Option<Self> {
        let when = When::read(&mut fields, settings, problems);
        let window = match fields.find_text("window", problems) {
            None => Some(None),
            Some(text) => read_window(&fields.path("window"), text, limits, problems).map(Some),
        };
        read_order(&mut fields, problems);
        let steps = read_steps(&mut fields, limits, problems);
        let filters = Filter::read_list(&mut fields, limits, problems);
        fields.finish(problems);
        Some(Self { when: when?, window: window?, steps: steps?, filters: filters? })
    }

    pub(super) fn to_json(&self, from: TimeBound, to: TimeBound) -> Value {
        let mut json = self.when.start_json("funnel", from, to);
        if let Some(window) = self.window {
            json.insert("window".into(), json!(format_window(window)));
        }
        json.insert("order".into(), json!("ordered"));
        json.insert("steps".into(), self.steps.iter().map(FunnelStep::to_json).collect());
        if !self.filters.is_empty() {
            json.insert("filters".into(), self.filters.iter().map(Filter::to_json).collect());
        }
        Value::Object(json)
    }
}

impl FunnelStep {
    fn read(path: &str, value: &Value, limits: &QuestionLimits, problems: &mut Problems) -> Option<Self> {
        let mut fields = Fields::open(path, value, problems)?;
        let events = EventSelector::read(&mut fields, limits, problems);
        let filters = Filter::read_list(&mut fields, limits, problems);
        fields.finish(problems);
        Some(Self { events: events?, filters: filters? })
    }

    fn to_json(&self) -> Value {
        let mut json = Map::new();
        if let Some((name, value)) = self.events.to_field() {
            json.insert(name.into(), value);
        }
        if !self.filters.is_empty() {
            json.insert("filters".into(), self.filters.iter().map(Filter::to_json).collect());
        }
        Value::Object(json)
    }
}

fn read_steps(
    fields: &mut Fields<'_>,
    limits: &QuestionLimits,
    problems: &mut Problems,
) -> Option<Vec<FunnelStep>> {
    let path = fields.path("steps");
    let list = read_list(&path, fields.get("steps", problems)?, limits.steps_max, problems)?;
    if list.len() < STEPS_MIN {
        let detail =
            format!("a funnel has {STEPS_MIN} to {} steps; this one has {}", limits.steps_max, list.len());
        problems.report(&path, Code::TooFew, detail);
    }
    all(list.iter().map(|(path, value)| FunnelStep::read(path, value, limits, problems)).collect())
}

fn read_order(fields: &mut Fields<'_>, problems: &mut Problems) {
    let path = fields.path("order");
    match fields.find_text("order", problems) {
        None | Some("ordered") => {}
        Some(word @ ("strict" | "any")) => {
            let detail = format!("the order `{word}` is not answered yet; `ordered` is");
            problems.report(&path, Code::Unsupported, detail);
        }
        Some(word) => {
            let detail = format!("`{}` is no order; `ordered` is", shorten(word));
            problems.report(&path, Code::UnknownValue, detail);
        }
    }
}

fn read_window(path: &str, text: &str, limits: &QuestionLimits, problems: &mut Problems) -> Option<Millis> {
    let parsed = text.find(|c: char| !c.is_ascii_digit()).and_then(|digits| {
        // Only digits: so many that it does not fit are too many.
        let amount = if digits == 0 { return None } else { text[..digits].parse().unwrap_or(Millis::MAX) };
        let unit =
            WINDOW_UNITS.iter().find(|(suffix, _)| *suffix == &text[digits..]).map(|&(_, unit)| unit)?;
        Some(amount.saturating_mul(unit))
    });
    let Some(window) = parsed else {
        let detail = format!("`{}` is not a window such as `30s`, `30m`, `1h`, `7d` or `2w`", shorten(text));
        problems.report(path, Code::InvalidValue, detail);
        return None;
    };
    if !(SECOND_MS..=limits.window_ms_max).contains(&window) {
        let max = format_window(limits.window_ms_max);
        let detail = format!("`{}` is not from 1s to {max}; leave `window` out for no limit", shorten(text));
        problems.report(path, Code::OutOfRange, detail);
        return None;
    }
    Some(window)
}

/// In the largest unit that divides it.
pub fn format_window(window: Millis) -> String {
    let unit = WINDOW_UNITS.iter().skip(1).find(|(_, unit)| window % unit == 0);
    unit.map_or_else(
        || format!("{}s", window / SECOND_MS),
        |(suffix, unit)| format!("{}{suffix}", window / unit),
    )
}
