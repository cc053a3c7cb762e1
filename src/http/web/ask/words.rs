//! A question in words, for headings and lists.

use serde_json::Value;

use super::form::{AskForm, BY_EVENT, Kind, MEASURES, OPERATORS, PartForm, takes_property};

/// Longer enumerations end in "and 4 more".
const NAMED_MAX: usize = 3;

/// "Count of order_placed per day by country", "a → b within 7 days"; the kind's name for questions
/// that the form cannot show.
pub fn in_words(question: &Value) -> String {
    match AskForm::from_json(question) {
        Some(form) => form_in_words(&form),
        None => match question.get("kind").and_then(Value::as_str) {
            Some("trends") => "Trends".to_owned(),
            Some("funnel") => "Funnel".to_owned(),
            Some("persons") => persons_in_words(question),
            Some(kind) => kind.to_owned(),
            None => "Question".to_owned(),
        },
    }
}

/// "Persons who reached step 2 of a → b within 7 days".
fn persons_in_words(question: &Value) -> String {
    let funnel = in_words(question.get("funnel").unwrap_or(&Value::Null));
    let step = question.get("step").and_then(Value::as_u64).unwrap_or(1);
    match question.get("outcome").and_then(Value::as_str) {
        Some("dropped") => format!("Persons who dropped out before step {step} of {funnel}"),
        _ => format!("Persons who reached step {step} of {funnel}"),
    }
}

fn form_in_words(form: &AskForm) -> String {
    let mut words = match form.kind {
        Kind::Trends => enumerated(form.parts.iter().map(series_in_words).collect(), ", "),
        Kind::Funnel => enumerated(form.parts.iter().map(events_in_words).collect(), " → "),
    };
    if form.kind == Kind::Trends {
        if form.granularity != "none" {
            words.push_str(&format!(" per {}", form.granularity));
        }
        match form.by.as_str() {
            "" => {}
            BY_EVENT => words.push_str(" by event"),
            property => words.push_str(&format!(" by {property}")),
        }
    }
    let filters: Vec<String> = form
        .filters
        .iter()
        .map(|filter| {
            let op = OPERATORS.iter().find(|(op, _)| *op == filter.op).map_or("", |(_, words)| words);
            format!("{} {op} {}", filter.property, filter.value).trim_end().to_owned()
        })
        .collect();
    if !filters.is_empty() {
        words.push_str(&format!(" where {}", enumerated(filters, " and ")));
    }
    if form.kind == Kind::Funnel && !form.window.is_empty() {
        words.push_str(&format!(" within {}", window_in_words(&form.window)));
    }
    words
}

/// "Sum of amount_pence of order_placed".
pub fn measure_in_words(measure: &str, property: Option<&str>, events: &str) -> String {
    let words = MEASURES.iter().find(|(word, _)| *word == measure).map_or(measure, |(_, words)| words);
    match property {
        Some(property) if takes_property(measure) => format!("{words} {property} of {events}"),
        _ => format!("{words} {events}"),
    }
}

/// `7d` as "7 days". A window that is none stays as it is.
pub fn window_in_words(window: &str) -> String {
    let digits = window.chars().take_while(char::is_ascii_digit).count();
    let (amount, unit) = window.split_at(digits);
    let unit = match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        _ => return window.to_owned(),
    };
    format!("{amount} {unit}{}", if amount == "1" { "" } else { "s" })
}

fn series_in_words(part: &PartForm) -> String {
    let property = (!part.property.is_empty()).then_some(part.property.as_str());
    measure_in_words(&part.measure, property, &events_in_words(part))
}

fn events_in_words(part: &PartForm) -> String {
    let named: Vec<String> = part.events.iter().filter(|name| !name.is_empty()).cloned().collect();
    if named.is_empty() { "every event".to_owned() } else { enumerated(named, " or ") }
}

fn enumerated(mut words: Vec<String>, between: &str) -> String {
    let more = words.len().saturating_sub(NAMED_MAX + 1);
    if more > 0 {
        let more = words.len() - NAMED_MAX;
        words.truncate(NAMED_MAX);
        return format!("{} and {more} more", words.join(between));
    }
    words.join(between)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn questions_read_as_sentences() {
        for (question, expected) in [
            (
                json!({"kind": "trends", "granularity": "day", "series": [{"measure": "count"}]}),
                "Count of every event per day",
            ),
            (
                json!({"kind": "trends", "series": [{"event": "order_placed", "measure": "sum", "property": "amount"},
                    {"events": ["a", "b"], "measure": "persons"}], "breakdown": {"property": "country"},
                    "filters": [{"property": "plan", "op": "eq", "value": "pro"}, {"property": "x", "op": "is_set"}]}),
                "Sum of amount of order_placed, Persons with a or b by country where plan is pro and x is set",
            ),
            (
                json!({"kind": "funnel", "window": "7d", "steps": [{"event": "a"}, {"event": "b"}]}),
                "a → b within 7 days",
            ),
            (
                json!({"kind": "funnel", "steps": [{"event": "a"}, {"event": "b"}, {"event": "c"}, {"event": "d"}, {"event": "e"}]}),
                "a → b → c and 2 more",
            ),
            (
                json!({"kind": "persons", "step": 2, "outcome": "dropped",
                    "funnel": {"kind": "funnel", "steps": [{"event": "a"}, {"event": "b"}]}}),
                "Persons who dropped out before step 2 of a → b",
            ),
            (
                json!({"kind": "persons", "step": 1, "funnel": {"kind": "funnel", "colour": 1}}),
                "Persons who reached step 1 of Funnel",
            ),
            (json!({"kind": "trends", "colour": 1}), "Trends"),
            (json!({"kind": "paths"}), "paths"),
            (json!(5), "Question"),
        ] {
            assert_eq!(in_words(&question), expected);
        }
        assert_eq!(window_in_words("1h"), "1 hour");
        assert_eq!(window_in_words("soon"), "soon");
    }
}
