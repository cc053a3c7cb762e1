mod limits;

use serde_json::{Value, json};

use super::QuestionErrorCode as Code;
use super::*;
use crate::analysis::time::{Granularity, format_instant};
use crate::eventstore::ValueRef;

/// 2024-05-15T10:20:30.500Z, a Wednesday.
const NOW: Millis = 1_715_768_430_500;

fn settings() -> ProjectSettings {
    ProjectSettings::new("Europe/Berlin", NOW)
}

fn trends(fields: Value) -> Value {
    let mut json = json!({"kind": "trends", "from": "2024-01-01", "to": "2024-02-01", "series": [{}]});
    json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json
}

fn funnel(fields: Value) -> Value {
    let mut json = json!({"kind": "funnel", "from": "2024-01-01", "to": "2024-02-01",
                          "steps": [{"event": "a"}, {"event": "b"}]});
    json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json
}

fn persons(fields: Value) -> Value {
    let mut json = json!({"kind": "persons", "funnel": funnel(json!({})), "step": 1});
    json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json
}

/// A trends question whose one series has this one filter.
fn filtered(filter: Value) -> Value {
    trends(json!({"series": [{"filters": [filter]}]}))
}

fn parse(json: &Value) -> Question {
    Question::parse(json, &settings()).unwrap_or_else(|errors| panic!("{json}: {errors:?}"))
}

fn errors(json: &Value) -> Vec<(String, Code)> {
    let errors = Question::parse(json, &settings()).expect_err("refused");
    errors.into_iter().map(|error| (error.field, error.code)).collect()
}

#[test]
fn the_examples_of_the_design_are_read() {
    let trends = json!({"kind": "trends", "from": "2011-01-01", "to": "2011-02-01", "granularity": "day",
        "time_zone": "UTC",
        "series": [{"event": "order_placed", "measure": "count"},
                   {"measure": "persons"},
                   {"events": ["order_placed", "item_gifted"], "measure": "sum", "property": "amount_pence",
                    "filters": [{"property": "country", "op": "in", "value": ["Germany", "France"]}]}],
        "filters": [{"property": "country", "op": "is_set"}],
        "breakdown": {"property": "country", "limit": 10}});
    let Question::Trends(question) = parse(&trends) else { panic!("trends") };
    assert_eq!(question.granularity, Some(Granularity::Day));
    assert_eq!(question.buckets().len(), 31);
    assert_eq!(question.series[1].events, EventSelector::Every);
    assert_eq!(question.series[2].measure, Measure::OfProperty(PropertyFunction::Sum, "amount_pence".into()));

    let funnel = json!({"kind": "funnel", "from": "2010-12-01", "to": "2011-12-10", "window": "7d", "order": "ordered",
        "steps": [{"event": "order_placed"}, {"events": ["order_cancelled"], "filters": []}, {"event": "order_placed"}]});
    let Question::Funnel(question) = parse(&funnel) else { panic!("funnel") };
    assert_eq!(question.window, Some(604_800_000));
    assert_eq!(question.steps.len(), 3);
}

#[test]
fn persons_are_asked_of_a_whole_funnel() {
    let Question::Persons(question) = parse(&persons(json!({}))) else { panic!("persons") };
    assert_eq!((question.step, question.outcome, question.limit), (1, Outcome::Converted, 100));
    let asked = persons(json!({"step": 2, "outcome": "dropped", "limit": 10_000}));
    let Question::Persons(question) = parse(&asked) else { panic!("persons") };
    assert_eq!((question.outcome, question.limit, question.reached_step()), (Outcome::Dropped, 10_000, 0));
    assert_eq!(parse(&asked).asked()["funnel"]["kind"], "funnel");

    let few = QuestionLimits { persons_max: 7, ..QuestionLimits::default() };
    let settings = ProjectSettings { limits: few, ..settings() };
    let Ok(Question::Persons(question)) = Question::parse(&persons(json!({})), &settings) else {
        panic!("persons")
    };
    assert_eq!(question.limit, 7, "nobody asked for a hundred");
    assert!(Question::parse(&persons(json!({"limit": 8})), &settings).is_err());
}

#[test]
fn the_canonical_form_is_a_fixed_point() {
    let questions = [
        trends(json!({"from": "-7d", "to": "now", "granularity": "hour"})),
        trends(json!({"series": [{"events": ["a", "b", "a"], "measure": "p99", "property": "x.y"}],
                      "breakdown": {"event": true}, "filters": [{"property": "p", "op": "eq", "value": 5.0}]})),
        funnel(json!({"window": "90s"})),
        persons(json!({})),
        persons(
            json!({"funnel": funnel(json!({"from": "-2w", "to": "now"})), "step": 2, "outcome": "dropped"}),
        ),
        funnel(
            json!({"from": "-2w", "to": "now", "filters": [{"property": "p", "op": "not_in", "value": [true, "x", 1.5]}]}),
        ),
    ];
    for json in questions {
        let question = parse(&json);
        let canonical = question.canonical();
        let later = ProjectSettings::new("America/New_York", NOW + 86_400_000);
        let again = Question::parse(&canonical, &later).unwrap();
        assert_eq!(again.canonical(), canonical, "of {json}");
        assert_eq!(parse(&question.asked()).canonical(), canonical, "of {json} as asked");
    }
}

#[test]
fn different_spellings_of_a_question_are_one() {
    let pairs = [
        (trends(json!({})), trends(json!({"time_zone": "europe/berlin", "filters": [], "breakdown": null}))),
        (
            trends(json!({"series": [{"event": "a"}]})),
            trends(json!({"series": [{"events": ["a"], "measure": "count"}]})),
        ),
        (
            trends(json!({})),
            trends(json!({"from": "2023-12-31T23:00:00Z", "to": "2024-02-01T00:00:00+01:00"})),
        ),
        (
            filtered(json!({"property": "p", "op": "eq", "value": 5})),
            filtered(json!({"property": "p", "op": "eq", "value": 5.0})),
        ),
        (funnel(json!({"window": "1d"})), funnel(json!({"window": "24h", "order": "ordered"}))),
        (funnel(json!({"window": null})), funnel(json!({}))),
        (persons(json!({})), persons(json!({"outcome": "converted", "limit": 100}))),
        (
            persons(json!({"funnel": funnel(json!({"window": "1d"}))})),
            persons(json!({"funnel": funnel(json!({"window": "24h", "time_zone": "Europe/Berlin"}))})),
        ),
    ];
    for (a, b) in pairs {
        assert_eq!(parse(&a).canonical(), parse(&b).canonical(), "{a} and {b}");
    }
}

#[test]
fn times_are_resolved_in_the_time_zone() {
    let cases = [
        ("2024-01-01", "2023-12-31T23:00:00Z"),
        ("2024-04-01", "2024-03-31T22:00:00Z"),
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("2024-01-01T00:00:00+05:30", "2023-12-31T18:30:00Z"),
        ("2024-01-01T00:00:00.0001Z", "2024-01-01T00:00:00.001Z"),
        ("today", "2024-05-14T22:00:00Z"),
        ("yesterday", "2024-05-13T22:00:00Z"),
        ("-7d", "2024-05-07T22:00:00Z"),
        ("-2w", "2024-04-30T22:00:00Z"),
        ("-2mo", "2024-03-14T23:00:00Z"),
        ("-1y", "2023-05-14T22:00:00Z"),
        ("-24h", "2024-05-14T10:21:00Z"),
    ];
    for (text, expected) in cases {
        let question = parse(&trends(json!({"from": text, "to": "now"})));
        assert_eq!(format_instant(question.when().range.from), expected, "from {text}");
    }
    let question = parse(&trends(json!({"from": "-1d", "to": null})));
    assert_eq!(format_instant(question.when().range.to), "2024-05-15T10:21:00Z", "without to");
    assert_eq!(question.asked()["to"], "now");
    let question = parse(&trends(json!({"from": "-1d", "to": "tomorrow"})));
    assert_eq!(format_instant(question.when().range.to), "2024-05-15T22:00:00Z", "to tomorrow");
}

#[test]
fn every_problem_is_named_with_its_field() {
    let filter = |property: Value, op: &str, value: Value| {
        filtered(json!({"property": property, "op": op, "value": value}))
    };
    let value = "series[0].filters[0].value";
    let cases: Vec<(&str, Value, &str, Code)> = vec![
        ("not an object", json!([1]), "", Code::WrongType),
        ("no kind", json!({}), "kind", Code::MissingField),
        ("unknown kind", json!({"kind": "x"}), "kind", Code::UnknownValue),
        ("a kind to come", json!({"kind": "retention"}), "kind", Code::Unsupported),
        ("unknown field", trends(json!({"x": 1})), "x", Code::UnknownField),
        ("persons of nothing", persons(json!({"funnel": null})), "funnel", Code::MissingField),
        ("persons of a text", persons(json!({"funnel": "a"})), "funnel", Code::WrongType),
        (
            "persons of trends",
            persons(json!({"funnel": trends(json!({}))})),
            "funnel.kind",
            Code::UnknownValue,
        ),
        (
            "a problem of the funnel",
            persons(json!({"funnel": funnel(json!({"window": "1x"}))})),
            "funnel.window",
            Code::InvalidValue,
        ),
        (
            "an unknown field of the funnel",
            persons(json!({"funnel": funnel(json!({"limit": 5}))})),
            "funnel.limit",
            Code::UnknownField,
        ),
        ("a range beside the funnel", persons(json!({"from": "-7d"})), "from", Code::UnknownField),
        ("no step", persons(json!({"step": null})), "step", Code::MissingField),
        ("steps count from one", persons(json!({"step": 0})), "step", Code::OutOfRange),
        ("a step that is not there", persons(json!({"step": 3})), "step", Code::OutOfRange),
        ("a step in words", persons(json!({"step": "2"})), "step", Code::OutOfRange),
        ("an outcome", persons(json!({"outcome": "gone"})), "outcome", Code::UnknownValue),
        (
            "dropped before the first",
            persons(json!({"outcome": "dropped"})),
            "outcome",
            Code::ConflictingFields,
        ),
        ("no limit at all", persons(json!({"limit": 0})), "limit", Code::OutOfRange),
        ("a person too many", persons(json!({"limit": 10_001})), "limit", Code::OutOfRange),
        ("a fraction", persons(json!({"limit": 1.5})), "limit", Code::OutOfRange),
        (
            "unknown field of a series",
            trends(json!({"series": [{"x": 1}]})),
            "series[0].x",
            Code::UnknownField,
        ),
        ("a funnel's field", trends(json!({"window": "1d"})), "window", Code::UnknownField),
        ("no from", trends(json!({"from": null})), "from", Code::MissingField),
        ("from as a number", trends(json!({"from": 5})), "from", Code::WrongType),
        ("from unreadable", trends(json!({"from": "last week"})), "from", Code::InvalidValue),
        ("a date that does not exist", trends(json!({"from": "2023-02-29"})), "from", Code::InvalidValue),
        (
            "an instant without an offset",
            trends(json!({"from": "2024-01-01T00:00:00"})),
            "from",
            Code::InvalidValue,
        ),
        ("a relative unit", trends(json!({"from": "-7x"})), "from", Code::InvalidValue),
        ("too far back", trends(json!({"from": "-100y"})), "from", Code::OutOfRange),
        ("too far ahead", trends(json!({"to": "2300-01-01"})), "to", Code::OutOfRange),
        ("an empty range", trends(json!({"to": "2024-01-01"})), "to", Code::EmptyRange),
        ("time zone", trends(json!({"time_zone": "Mars/Base"})), "time_zone", Code::UnknownValue),
        (
            "a zone without a name",
            trends(json!({"time_zone": "Etc/Unknown"})),
            "time_zone",
            Code::UnknownValue,
        ),
        ("granularity", trends(json!({"granularity": "minute"})), "granularity", Code::UnknownValue),
        ("no series", trends(json!({"series": null})), "series", Code::MissingField),
        ("empty series", trends(json!({"series": []})), "series", Code::TooFew),
        ("series no list", trends(json!({"series": {}})), "series", Code::WrongType),
        (
            "measure",
            trends(json!({"series": [{"measure": "mean"}]})),
            "series[0].measure",
            Code::UnknownValue,
        ),
        (
            "sum of nothing",
            trends(json!({"series": [{"measure": "sum"}]})),
            "series[0].property",
            Code::MissingField,
        ),
        (
            "count of a property",
            trends(json!({"series": [{"property": "p"}]})),
            "series[0].property",
            Code::ConflictingFields,
        ),
        (
            "event twice",
            trends(json!({"series": [{"event": "a", "events": ["b"]}]})),
            "series[0].events",
            Code::ConflictingFields,
        ),
        ("no events", trends(json!({"series": [{"events": []}]})), "series[0].events", Code::TooFew),
        ("empty event", trends(json!({"series": [{"event": ""}]})), "series[0].event", Code::InvalidValue),
        (
            "event no text",
            trends(json!({"series": [{"events": ["a", 1]}]})),
            "series[0].events[1]",
            Code::WrongType,
        ),
        ("breakdown of nothing", trends(json!({"breakdown": {}})), "breakdown", Code::MissingField),
        (
            "breakdown by both",
            trends(json!({"breakdown": {"event": true, "property": "p"}})),
            "breakdown.event",
            Code::ConflictingFields,
        ),
        (
            "breakdown by no event",
            trends(json!({"breakdown": {"event": false}})),
            "breakdown.event",
            Code::InvalidValue,
        ),
        (
            "breakdown limit 0",
            trends(json!({"breakdown": {"event": true, "limit": 0}})),
            "breakdown.limit",
            Code::OutOfRange,
        ),
        (
            "breakdown limit 1.5",
            trends(json!({"breakdown": {"event": true, "limit": 1.5}})),
            "breakdown.limit",
            Code::OutOfRange,
        ),
        ("operator", filter(json!("p"), "like", json!("x")), "series[0].filters[0].op", Code::UnknownValue),
        (
            "empty property",
            filter(json!(""), "eq", json!("x")),
            "series[0].filters[0].property",
            Code::InvalidValue,
        ),
        ("eq null", filter(json!("p"), "eq", json!(null)), value, Code::MissingField),
        ("eq a list", filter(json!("p"), "eq", json!(["x"])), value, Code::WrongType),
        ("in a text", filter(json!("p"), "in", json!("x")), value, Code::WrongType),
        ("in nothing", filter(json!("p"), "in", json!([])), value, Code::TooFew),
        (
            "in with null",
            filter(json!("p"), "in", json!(["x", null])),
            "series[0].filters[0].value[1]",
            Code::WrongType,
        ),
        ("gt a text", filter(json!("p"), "gt", json!("x")), value, Code::WrongType),
        ("contains a number", filter(json!("p"), "contains", json!(5)), value, Code::WrongType),
        ("contains nothing", filter(json!("p"), "contains", json!("")), value, Code::InvalidValue),
        ("is_set with a value", filter(json!("p"), "is_set", json!("x")), value, Code::ConflictingFields),
        ("beyond i64", filter(json!("p"), "eq", json!(u64::MAX)), value, Code::OutOfRange),
        ("no steps", funnel(json!({"steps": null})), "steps", Code::MissingField),
        ("one step", funnel(json!({"steps": [{}]})), "steps", Code::TooFew),
        ("window no text", funnel(json!({"window": 7})), "window", Code::WrongType),
        ("window unreadable", funnel(json!({"window": "7"})), "window", Code::InvalidValue),
        ("window of nothing", funnel(json!({"window": "d"})), "window", Code::InvalidValue),
        ("endless window", funnel(json!({"window": "99999999999999999999d"})), "window", Code::OutOfRange),
        ("window unit", funnel(json!({"window": "7 days"})), "window", Code::InvalidValue),
        ("window 0", funnel(json!({"window": "0s"})), "window", Code::OutOfRange),
        ("window for ever", funnel(json!({"window": "99999999999999999d"})), "window", Code::OutOfRange),
        ("strict order", funnel(json!({"order": "strict"})), "order", Code::Unsupported),
        ("any order", funnel(json!({"order": "any"})), "order", Code::Unsupported),
        ("no order", funnel(json!({"order": "random"})), "order", Code::UnknownValue),
        (
            "a measure in a step",
            funnel(json!({"steps": [{}, {"measure": "count"}]})),
            "steps[1].measure",
            Code::UnknownField,
        ),
    ];
    for (name, json, field, code) in cases {
        assert_eq!(errors(&json), [(field.to_owned(), code)], "{name}");
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let json = json!({"kind": "trends", "from": "x", "granularity": "x", "series": [{"measure": "x"}, {"filters": [{}]}],
                      "filters": 5, "breakdown": 5, "more": 1});
    let fields: Vec<String> = errors(&json).into_iter().map(|(field, _)| field).collect();
    let expected = [
        "from",
        "granularity",
        "series[0].measure",
        "series[1].filters[0].property",
        "series[1].filters[0].op",
        "filters",
        "breakdown",
        "more",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn filters_compare_by_type() {
    use ValueRef::{Bool, Float, Integer, Json, String as Text};
    let cases: Vec<(&str, Value, Option<ValueRef<'_>>, bool)> = vec![
        ("eq", json!("5"), Some(Text("5")), true),
        ("eq", json!("5"), Some(Integer(5)), false),
        ("eq", json!(5), Some(Text("5")), false),
        ("eq", json!(5), Some(Integer(5)), true),
        ("eq", json!(5), Some(Float(5.0)), true),
        ("eq", json!(5.5), Some(Float(5.5)), true),
        ("eq", json!(9_007_199_254_740_993_i64), Some(Float(9_007_199_254_740_992.0)), false),
        ("eq", json!(1), Some(Bool(true)), false),
        ("eq", json!(true), Some(Bool(true)), true),
        ("eq", json!(true), Some(Text("true")), false),
        ("eq", json!("[1]"), Some(Json("[1]")), false),
        ("eq", json!("x"), None, false),
        ("ne", json!("x"), None, false),
        ("ne", json!("x"), Some(Text("y")), true),
        ("ne", json!("x"), Some(Text("x")), false),
        ("ne", json!("5"), Some(Integer(5)), true),
        ("ne", json!("x"), Some(Json("[1]")), true),
        ("in", json!(["x", 5, true]), Some(Float(5.0)), true),
        ("in", json!(["x", 5, true]), Some(Bool(false)), false),
        ("in", json!(["x"]), None, false),
        ("not_in", json!(["x"]), Some(Text("y")), true),
        ("not_in", json!(["x"]), Some(Text("x")), false),
        ("not_in", json!(["x"]), None, false),
        ("contains", json!("HEART"), Some(Text("A HEART B")), true),
        ("contains", json!("heart"), Some(Text("A HEART B")), false),
        ("contains", json!("5"), Some(Integer(5)), false),
        ("contains", json!("5"), None, false),
        ("not_contains", json!("5"), Some(Integer(5)), true),
        ("not_contains", json!("x"), Some(Text("axb")), false),
        ("not_contains", json!("x"), Some(Text("ab")), true),
        ("not_contains", json!("x"), None, false),
        ("gt", json!(5), Some(Integer(5)), false),
        ("gt", json!(5), Some(Float(5.000_001)), true),
        ("gte", json!(5), Some(Float(5.0)), true),
        ("lt", json!(2), Some(Float(1.95)), true),
        ("lt", json!(2), Some(Integer(2)), false),
        ("lte", json!(2), Some(Integer(2)), true),
        ("gt", json!(5), Some(Text("9")), false),
        ("lt", json!(5), Some(Text("1")), false),
        ("gt", json!(0), Some(Bool(true)), false),
        ("lte", json!(5), None, false),
        ("is_set", json!(null), Some(Json("[]")), true),
        ("is_set", json!(null), None, false),
        ("is_not_set", json!(null), None, true),
        ("is_not_set", json!(null), Some(Text("")), false),
    ];
    for (op, value, given, expected) in cases {
        let Question::Trends(question) = parse(&filtered(json!({"property": "p", "op": op, "value": value})))
        else {
            panic!("trends")
        };
        assert_eq!(question.series[0].filters[0].matches(given), expected, "{given:?} {op} {value}");
    }
}
