use serde_json::json;

use super::write::filter_json;
use super::*;
use crate::http::web::range::Params;

fn params(query: &str) -> Params {
    serde_urlencoded::from_str(query).unwrap()
}

fn types(name: &str) -> PropertyTypes {
    match name {
        "zip" | "country" => PropertyTypes { text: true, ..PropertyTypes::default() },
        "amount" => PropertyTypes { number: true, ..PropertyTypes::default() },
        _ => PropertyTypes::default(),
    }
}

fn question(query: &str) -> Value {
    AskForm::read(&params(query), "day").to_json("2011-01-01", "2011-02-01", &types)
}

#[test]
fn an_empty_address_counts_every_event() {
    let expected = json!({"kind": "trends", "from": "2011-01-01", "to": "2011-02-01", "granularity": "day",
        "series": [{"measure": "count"}]});
    assert_eq!(question(""), expected);
}

#[test]
fn an_address_becomes_a_question() {
    let query = "kind=trends&s0.event=order_placed&s0.event=gifted&s0.measure=sum&s0.property=amount&s0.f0.property=zip&s0.f0.op=eq&s0.f0.value=12345\
        &s1.event=&s1.measure=persons&f0.property=country&f0.op=in&f0.value=Germany,+France&f1.property=amount&f1.op=gt&f1.value=10&by=country&limit=3&granularity=none";
    let expected = json!({"kind": "trends", "from": "2011-01-01", "to": "2011-02-01",
        "series": [
            {"events": ["order_placed", "gifted"], "measure": "sum", "property": "amount",
             "filters": [{"property": "zip", "op": "eq", "value": "12345"}]},
            {"measure": "persons"}],
        "breakdown": {"property": "country", "limit": 3},
        "filters": [{"property": "country", "op": "in", "value": ["Germany", "France"]},
                    {"property": "amount", "op": "gt", "value": 10}]});
    assert_eq!(question(query), expected);
    let form = AskForm::read(&params(query), "day");
    assert_eq!(AskForm::read(&form.params(), "day"), form, "the address leads back to the form");
    let again = AskForm::from_json(&expected).unwrap().to_json("2011-01-01", "2011-02-01", &types);
    assert_eq!(again, expected, "and so does the question");
}

#[test]
fn what_is_not_filled_in_yet_takes_no_part() {
    let query = "kind=funnel&s0.event=a&s1.event=&s2.event=b&f0.property=country&f0.op=eq&window=";
    let expected = json!({"kind": "funnel", "from": "2011-01-01", "to": "2011-02-01",
        "steps": [{"event": "a"}, {"event": "b"}]});
    assert_eq!(question(query), expected);
    let form = AskForm::read(&params(query), "day");
    assert_eq!(form.place_of("steps[1].event"), "s2.event", "errors stand at the field they belong to");
    assert_eq!(form.next_choice(), None);
    assert!(AskForm::read(&params("kind=funnel&s0.event=a"), "day").next_choice().is_some());
    assert!(AskForm::read(&params("s0.measure=sum"), "day").next_choice().is_some());
}

#[test]
fn buttons_edit_the_form() {
    let base = "kind=funnel&s0.event=a&s1.event=b&s2.event=c&s1.f0.property=x&s1.f0.op=is_set&f0.property=y&f0.op=is_set";
    let events = |edit: &str| {
        let form = AskForm::read(&params(&format!("{base}&do={edit}")), "day");
        form.parts.iter().map(|part| part.events.join("|")).collect::<Vec<_>>().join(" ")
    };
    for (edit, expected) in [
        ("add-s", "a b c "),
        ("del-s-1", "a c"),
        ("up-s-2", "a c b"),
        ("down-s-0", "b a c"),
        ("add-e-1", "a b| c"),
        ("up-s-0", "a b c"),
        ("down-s-2", "a b c"),
        ("del-s-9", "a b c"),
        ("del-s-18446744073709551616", "a b c"),
        ("nonsense", "a b c"),
    ] {
        assert_eq!(events(edit), expected, "{edit}");
    }
    let form = |edit: &str| AskForm::read(&params(&format!("{base}&do={edit}")), "day");
    assert_eq!(form("add-f").filters.len(), 2);
    assert_eq!(form("del-f-0").filters.len(), 0);
    assert_eq!(form("add-sf-1").parts[1].filters.len(), 2);
    assert_eq!(form("del-sf-1-0").parts[1].filters.len(), 0);
    assert_eq!(form("del-sf-7-0"), form("nonsense"));
}

#[test]
fn typed_values_get_the_propertys_type() {
    for (property, typed, expected) in [
        ("zip", "12345", json!("12345")),
        ("amount", "12.5", json!(12.5)),
        ("amount", "much", json!("much")),
        ("unknown", "12", json!(12)),
        ("unknown", "\"12\"", json!("12")),
        ("unknown", "true", json!(true)),
        ("country", "true", json!("true")),
        ("country", "New Zealand", json!("New Zealand")),
    ] {
        let filter = FilterForm { property: property.into(), op: "eq".into(), value: typed.into() };
        assert_eq!(filter_json(&filter, &types)["value"], expected, "{property} {typed}");
    }
}

#[test]
fn questions_that_the_form_cannot_show_stay_json() {
    for (name, question) in [
        ("a list", json!([])),
        ("another kind", json!({"kind": "paths"})),
        ("no series", json!({"kind": "trends", "series": []})),
        ("an unknown field", json!({"kind": "trends", "series": [{"measure": "count"}], "colour": 1})),
        (
            "a comma in a value",
            json!({"kind": "trends", "series": [{"measure": "count"}],
            "filters": [{"property": "p", "op": "in", "value": ["a,b", "c"]}]}),
        ),
        ("both event and events", json!({"kind": "trends", "series": [{"event": "a", "events": ["b"]}]})),
    ] {
        assert_eq!(AskForm::from_json(&question), None, "{name}");
    }
}

#[test]
fn text_that_looks_like_a_number_keeps_its_type() {
    let question = json!({"kind": "trends", "from": "x", "to": "y", "granularity": "day", "series": [{"measure": "count"}],
        "filters": [{"property": "unknown", "op": "in", "value": ["12", 12, true, "true", "a"]}]});
    let form = AskForm::from_json(&question).unwrap();
    assert_eq!(form.to_json("x", "y", &types), question);
}

#[test]
fn errors_of_the_json_find_their_field() {
    let query = "s0.measure=sum&s0.property=x&s0.f0.property=a&s0.f0.op=eq&s0.f1.property=b&s0.f1.op=gt&s0.f1.value=c\
        &f0.property=d&f0.op=eq&f0.value=1";
    let form = AskForm::read(&params(query), "day");
    for (field, place) in [
        ("series[0].property", "s0.property"),
        ("series[0].events[3]", "s0.event"),
        // The first filter has no value yet, so it is not part of the question.
        ("series[0].filters[0].value", "s0.f1.value"),
        ("series[7].property", ""),
        ("filters[0].property", "f0.property"),
        ("filters[0]", "f0.value"),
        ("to", "range"),
        ("breakdown.limit", "limit"),
        ("breakdown", "by"),
        ("window", "window"),
        ("", ""),
        ("series[", ""),
        ("series", ""),
    ] {
        assert_eq!(form.place_of(field), place, "{field}");
    }
}
