//! Random facts and questions, small enough to collide all the time: few persons, few times, few
//! values, and properties that change their type.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use serde_json::{Value, json};

use super::reference::Fact;

const EVENTS: [&str; 5] = ["a", "b", "c", "$pageview", "$identify"];
const PROPERTIES: [&str; 4] = ["p", "q", "n", "deep.n"];

/// Ranges with something to trip over: a plain week, days of 23 and 25 hours, a skipped day, a
/// clock set back by half an hour and one set back across midnight; beginnings within an hour and within a
/// day of UTC.
const RANGES: [(&str, &str, &str); 9] = [
    ("UTC", "2024-01-29", "2024-02-05"),
    ("Europe/Berlin", "2024-03-30", "2024-04-02"),
    ("America/New_York", "2024-11-02", "2024-11-05"),
    ("Pacific/Apia", "2011-12-29", "2012-01-02"),
    ("Australia/Lord_Howe", "2024-04-06", "2024-04-09"),
    ("America/St_Johns", "2006-10-28", "2006-10-31"),
    ("UTC", "2024-05-06T10:15:00Z", "2024-05-09T00:00:00Z"),
    ("Europe/London", "2024-10-21", "2024-11-18"),
    ("Asia/Kolkata", "2024-01-31T20:17:01.003Z", "2024-02-02T03:04:05.006Z"),
];

pub fn choose_range(rng: &mut ChaCha12Rng) -> usize {
    rng.random_range(0..RANGES.len())
}

pub fn generate_facts(rng: &mut ChaCha12Rng, range: usize) -> Vec<Fact> {
    let (zone, from, to) = RANGES[range];
    let question = json!({"kind": "trends", "time_zone": zone, "from": from, "to": to, "series": [{}]});
    let range = super::plan(&question).reads().range;
    // A little beyond both ends, on few different instants.
    let length = range.to - range.from;
    let instants: Vec<i64> = (0..rng.random_range(1..30))
        .map(|_| range.from + rng.random_range(-length / 5..length * 6 / 5))
        .collect();
    let edges = [range.from - 1, range.from, range.to - 1, range.to];
    let persons = rng.random_range(1..12);
    let mut keeps = ChaCha12Rng::from_rng(rng);
    (0..rng.random_range(0..120))
        .map(|_| Fact {
            person: format!("person {}", rng.random_range(0..persons)),
            event: (*EVENTS.choose(rng).unwrap()).to_owned(),
            at: if rng.random_bool(0.1) {
                edges[rng.random_range(0..4)]
            } else {
                *instants.choose(rng).unwrap()
            },
            properties: PROPERTIES
                .iter()
                .filter(|_| keeps.random_bool(0.7))
                .map(|name| ((*name).to_owned(), generate_value(rng, name)))
                .collect(),
        })
        .collect()
}

fn generate_value(rng: &mut ChaCha12Rng, property: &str) -> Value {
    match (property, rng.random_range(0..10)) {
        ("p" | "q", 0) => json!(rng.random_range(0..3)),
        ("p" | "q", 1) => json!(rng.random_bool(0.5)),
        ("p" | "q", 2) => json!([rng.random_range(0..2)]),
        ("p" | "q", 3) => json!(f64::from(rng.random_range(0..6)) / 2.0),
        ("p" | "q", _) => json!(["", "x", "xy", "Xy", "5"].choose(rng).unwrap()),
        (_, 0) => json!("1"),
        (_, 1) => json!(rng.random_range(i64::MIN..i64::MAX)),
        (_, 2) => json!([1e300, -1e300, 5e-324, 0.1, -0.0, 9_007_199_254_740_993.0].choose(rng).unwrap()),
        (_, 3..6) => json!(f64::from(rng.random_range(-300..300)) / 100.0),
        _ => json!(rng.random_range(-5..5)),
    }
}

/// Precondition: `range` is one of [`RANGES`].
pub fn generate_question(rng: &mut ChaCha12Rng, range: usize) -> Value {
    let (zone, from, to) = RANGES[range];
    let kind = rng.random_range(0..10);
    let mut question = if kind < 5 { funnel(rng) } else { trends(rng) };
    question["time_zone"] = json!(zone);
    question["from"] = json!(from);
    question["to"] = json!(to);
    if rng.random_bool(0.3) {
        question["filters"] = filters(rng);
    }
    if kind < 2 { persons(rng, question) } else { question }
}

fn persons(rng: &mut ChaCha12Rng, funnel: Value) -> Value {
    let steps = funnel["steps"].as_array().unwrap().len();
    let step = rng.random_range(1..=steps);
    let outcome = if step > 1 && rng.random_bool(0.5) { "dropped" } else { "converted" };
    // Few persons, so that the limit cuts; few times, so that it cuts among equals.
    json!({"kind": "persons", "funnel": funnel, "step": step, "outcome": outcome,
           "limit": rng.random_range(1..8)})
}

fn trends(rng: &mut ChaCha12Rng) -> Value {
    let mut question = json!({"kind": "trends"});
    let granularity = ["hour", "day", "week", "month", ""].choose(rng).unwrap();
    if !granularity.is_empty() {
        question["granularity"] = json!(granularity);
    }
    question["series"] = (0..rng.random_range(1..4)).map(|_| series(rng)).collect();
    match rng.random_range(0..4) {
        0 => question["breakdown"] = json!({"event": true, "limit": rng.random_range(1..5)}),
        1 | 2 => {
            let property = PROPERTIES.choose(rng).unwrap();
            question["breakdown"] = json!({"property": property, "limit": rng.random_range(1..12)});
        }
        _ => {}
    }
    question
}

fn series(rng: &mut ChaCha12Rng) -> Value {
    const MEASURES: [&str; 11] =
        ["count", "persons", "per_person", "sum", "avg", "min", "max", "median", "p90", "p95", "p99"];
    let mut series = events(rng);
    let measure = *MEASURES.choose(rng).unwrap();
    series["measure"] = json!(measure);
    if !["count", "persons", "per_person"].contains(&measure) {
        series["property"] = json!(PROPERTIES.choose(rng).unwrap());
    }
    series
}

fn funnel(rng: &mut ChaCha12Rng) -> Value {
    let mut question = json!({"kind": "funnel"});
    question["steps"] = (0..rng.random_range(2..5)).map(|_| events(rng)).collect();
    if rng.random_bool(0.6) {
        question["window"] = json!(["1s", "1h", "6h", "1d", "2d", "1w"].choose(rng).unwrap());
    }
    question
}

fn events(rng: &mut ChaCha12Rng) -> Value {
    let mut part = match rng.random_range(0..4) {
        0 => json!({}),
        1 => json!({"events": [EVENTS.choose(rng).unwrap(), "b"]}),
        _ => json!({"event": EVENTS.choose(rng).unwrap()}),
    };
    if part["events"][0] == "b" {
        part = json!({"event": "b"});
    }
    if rng.random_bool(0.3) {
        part["filters"] = filters(rng);
    }
    part
}

fn filters(rng: &mut ChaCha12Rng) -> Value {
    (0..rng.random_range(1..3)).map(|_| filter(rng)).collect()
}

fn filter(rng: &mut ChaCha12Rng) -> Value {
    const OPERATORS: [&str; 12] = [
        "eq",
        "ne",
        "in",
        "not_in",
        "contains",
        "not_contains",
        "gt",
        "gte",
        "lt",
        "lte",
        "is_set",
        "is_not_set",
    ];
    let op = *OPERATORS.choose(rng).unwrap();
    let scalar = |rng: &mut ChaCha12Rng| {
        [json!("x"), json!("5"), json!(""), json!(1), json!(0.5), json!(2.0), json!(true), json!(-3)]
            .choose(rng)
            .cloned()
            .unwrap()
    };
    let value = match op {
        "is_set" | "is_not_set" => Value::Null,
        "in" | "not_in" => (0..rng.random_range(1..4)).map(|_| scalar(rng)).collect(),
        "contains" | "not_contains" => json!(["x", "y", "xy"].choose(rng).unwrap()),
        "eq" | "ne" => scalar(rng),
        _ => json!([json!(0), json!(0.5), json!(2), json!(-1.25)].choose(rng).unwrap()),
    };
    let mut filter = json!({"property": PROPERTIES.choose(rng).unwrap(), "op": op});
    if !value.is_null() {
        filter["value"] = value;
    }
    filter
}
