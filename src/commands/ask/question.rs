//! The question: from a file, from standard input, pasted, or from flags.

use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use super::{AskArgs, AskError};

/// Between a property and its value, longest first, so that `>=` is not read as `>`.
const OPERATORS: [(&str, &str); 8] = [
    ("!=", "ne"),
    (">=", "gte"),
    ("<=", "lte"),
    ("!~", "not_contains"),
    ("=", "eq"),
    (">", "gt"),
    ("<", "lt"),
    ("~", "contains"),
];

/// As it is sent: `{"kind": …}`.
pub fn read(args: &AskArgs) -> Result<Value, AskError> {
    let mut question = match &args.question {
        // A path that begins like this is a question that was pasted from the pages.
        Some(pasted) if pasted.starts_with('{') => from_text(pasted, "the question")?,
        Some(file) => from_text(&text_of(Path::new(file))?, file)?,
        None => from_flags(args)?,
    };
    if args.fresh {
        question["fresh"] = json!(true);
    }
    Ok(question)
}

fn text_of(file: &Path) -> Result<String, AskError> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|read| text = read)
    };
    read.map_err(|error| AskError::Usage(format!("{}: {error}", file.display())))?;
    Ok(text)
}

/// The question itself, or the body of a request that holds it.
fn from_text(text: &str, name: &str) -> Result<Value, AskError> {
    let not_json = |error| AskError::Usage(format!("{name} is not JSON: {error}"));
    let mut question: Value = serde_json::from_str(text).map_err(not_json)?;
    if let Some(inner) = question.get_mut("question") {
        question = inner.take();
    }
    if !question.is_object() {
        return Err(AskError::Usage(format!("{name} holds no question: it is an object with a \"kind\"")));
    }
    Ok(question)
}

fn from_flags(args: &AskArgs) -> Result<Value, AskError> {
    let filters = args.filters.iter().map(|text| filter(text)).collect::<Result<Vec<_>, _>>()?;
    let mut question = json!({"from": args.from, "to": args.to});
    if !args.steps.is_empty() {
        if !args.events.is_empty() || args.by.is_some() || args.every.is_some() {
            return Err(AskError::Usage(
                "--step asks for a funnel; leave out --event, --by and --every".into(),
            ));
        }
        question["kind"] = json!("funnel");
        question["window"] = json!(args.window);
        let steps = args.steps.iter().map(|event| json!({"event": event, "filters": filters}));
        question["steps"] = steps.collect();
        return Ok(question);
    }
    question["kind"] = json!("trends");
    let series = |event: Option<&String>| {
        let mut series = json!({"measure": args.measure});
        if let Some(event) = event {
            series["event"] = json!(event);
        }
        if let Some(property) = &args.property {
            series["property"] = json!(property);
        }
        series
    };
    question["series"] = match args.events.as_slice() {
        [] => json!([series(None)]),
        events => events.iter().map(|event| series(Some(event))).collect(),
    };
    if !filters.is_empty() {
        question["filters"] = json!(filters);
    }
    if let Some(every) = &args.every {
        question["granularity"] = json!(every);
    }
    match args.by.as_deref() {
        None => {}
        Some("event") => question["breakdown"] = json!({"event": true}),
        Some(property) => question["breakdown"] = json!({"property": property}),
    }
    Ok(question)
}

/// `country=NL`, `total>=100`, `plan="5"`, `path~/docs`.
fn filter(text: &str) -> Result<Value, AskError> {
    let at = text.find(['=', '!', '>', '<', '~']).filter(|at| *at > 0);
    let found = at.and_then(|at| {
        let (property, rest) = text.split_at(at);
        let (sign, op) = OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign))?;
        Some((property.trim(), *op, rest[sign.len()..].trim()))
    });
    let Some((property, op, value)) = found else {
        return Err(AskError::Usage(format!(
            "--where {text:?} is not PROPERTY=VALUE (or !=, >, >=, <, <=, ~ for contains, !~)"
        )));
    };
    // What reads as a number, a flag or a quoted text is one; anything else is text.
    let value = match serde_json::from_str::<Value>(value) {
        Ok(scalar @ (Value::Number(_) | Value::Bool(_) | Value::String(_))) => scalar,
        _ => json!(value),
    };
    Ok(json!({"property": property, "op": op, "value": value}))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: AskArgs,
    }

    fn of(line: &[&str]) -> Result<Value, String> {
        let line = Line::try_parse_from([&["ask"], line].concat()).map_err(|error| error.to_string())?;
        read(&line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_make_a_question() {
        for (line, expected) in [
            (
                vec![],
                json!({"kind": "trends", "from": "-30d", "to": "now", "series": [{"measure": "count"}]}),
            ),
            (
                vec![
                    "--event",
                    "a",
                    "--event",
                    "b",
                    "--measure",
                    "persons",
                    "--every",
                    "day",
                    "--by",
                    "event",
                ],
                json!({"kind": "trends", "from": "-30d", "to": "now", "granularity": "day",
                       "series": [{"event": "a", "measure": "persons"}, {"event": "b", "measure": "persons"}],
                       "breakdown": {"event": true}}),
            ),
            (
                vec![
                    "--event",
                    "a",
                    "--measure",
                    "sum",
                    "--property",
                    "total",
                    "--by",
                    "country",
                    "--from",
                    "2011-01-01",
                    "--to",
                    "2011-02-01",
                    "--where",
                    "country=NL",
                    "--where",
                    "total>=5",
                    "--fresh",
                ],
                json!({"kind": "trends", "from": "2011-01-01", "to": "2011-02-01", "fresh": true,
                       "series": [{"event": "a", "measure": "sum", "property": "total"}],
                       "filters": [{"property": "country", "op": "eq", "value": "NL"},
                                   {"property": "total", "op": "gte", "value": 5}],
                       "breakdown": {"property": "country"}}),
            ),
            (
                vec!["--step", "a", "--step", "b", "--window", "7d"],
                json!({"kind": "funnel", "from": "-30d", "to": "now", "window": "7d",
                       "steps": [{"event": "a", "filters": []}, {"event": "b", "filters": []}]}),
            ),
        ] {
            assert_eq!(of(&line), Ok(expected), "{line:?}");
        }
        assert!(of(&["--step", "a", "--by", "country"]).unwrap_err().contains("funnel"));
        assert!(of(&["question.json", "--event", "a"]).is_err(), "a file says everything");
        assert!(of(&["--json", "--csv"]).is_err());
    }

    #[test]
    fn filters_are_read_by_their_sign() {
        for (text, property, op, value) in [
            ("country=NL", "country", "eq", json!("NL")),
            ("a != b c", "a", "ne", json!("b c")),
            ("n>5", "n", "gt", json!(5)),
            ("n<=-2.5", "n", "lte", json!(-2.5)),
            ("flag=true", "flag", "eq", json!(true)),
            ("id=\"5\"", "id", "eq", json!("5")),
            ("path~/docs?a=b", "path", "contains", json!("/docs?a=b")),
            ("path!~x", "path", "not_contains", json!("x")),
            ("empty=", "empty", "eq", json!("")),
        ] {
            let expected = json!({"property": property, "op": op, "value": value});
            assert_eq!(filter(text).unwrap(), expected, "{text}");
        }
        for text in ["country", "=NL", "a!b", ""] {
            assert!(filter(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_may_hold_the_body_of_a_request() {
        let question = json!({"kind": "trends"});
        assert_eq!(from_text(&question.to_string(), "q").unwrap(), question);
        assert_eq!(from_text(&json!({"question": question}).to_string(), "q").unwrap(), question);
        for (text, problem) in [("{", "not JSON"), ("[]", "no question"), ("{\"question\":5}", "no question")]
        {
            assert!(from_text(text, "q").unwrap_err().to_string().contains(problem), "{text}");
        }
    }
}
