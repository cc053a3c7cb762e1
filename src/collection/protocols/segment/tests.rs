use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::*;
use crate::collection::raw_event::{Field, RawValue};

fn begin(path: &str, query: &str, authorization: Option<&str>) -> Result<Begun, CollectError> {
    let mut headers = HeaderMap::new();
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap());
    }
    Segment.begin(&Head { path, query, headers: &headers })
}

/// Each event as JSON with all that was read of it, or its problem.
fn read(path: &str, body: &Value) -> Result<Vec<Value>, CollectError> {
    let text = body.to_string();
    let begun = begin(path, "", None)?;
    let mut shown = Vec::new();
    begun.reading.open(&text)?.read_events(&CollectionConfig::default(), &mut |event| {
        shown.push(match &event.problem {
            Some(problem) => json!(problem.reason.code()),
            None => {
                let field = |field: &Field<'_>| match field {
                    Field::Text { value, .. } => json!(value),
                    Field::Absent => Value::Null,
                    other => json!(other.shown()),
                };
                let mut properties = event.properties.clone();
                crate::collection::properties::sort_properties(&mut properties);
                let properties: serde_json::Map<_, _> = properties
                    .iter()
                    .map(|property| {
                        let value = match &property.value {
                            RawValue::String(text) => json!(text),
                            RawValue::Integer(number) => json!(number),
                            RawValue::Float(number) => json!(number),
                            RawValue::Bool(flag) => json!(flag),
                            RawValue::Json(text) => serde_json::from_str(text).unwrap(),
                        };
                        (property.name.to_string(), value)
                    })
                    .collect();
                let mut fields = json!({
                    "event": field(&event.event), "distinct_id": field(&event.distinct_id),
                    "anonymous_id": field(&event.anonymous_id), "id": field(&event.id),
                    "timestamp": field(&event.timestamp), "sent_at": field(&event.sent_at),
                    "properties": properties,
                });
                fields.as_object_mut().unwrap().retain(|_, value| !value.is_null() && *value != json!({}));
                fields
            }
        });
    })?;
    Ok(shown)
}

#[test]
fn every_call_becomes_its_event() {
    for (name, path, message, expected) in [
        (
            "track",
            "/v1/track",
            json!({"type": "track", "event": "Signed Up", "userId": "u", "anonymousId": "a",
                   "properties": {"plan": "pro", "cart": {"size": 2}}, "messageId": "m-1",
                   "timestamp": "2026-01-31T10:00:00.000Z", "sentAt": "2026-01-31T10:00:01.000Z",
                   "context": {"library": {"name": "analytics-node", "version": "3.1.0"}},
                   "integrations": {"All": true}, "_metadata": {"nodeVersion": "20"}}),
            json!({"event": "Signed Up", "distinct_id": "u", "anonymous_id": "a", "id": "m-1",
                   "timestamp": "2026-01-31T10:00:00.000Z", "sent_at": "2026-01-31T10:00:01.000Z",
                   "properties": {"plan": "pro", "cart.size": 2, "$library": "analytics-node",
                                  "$library_version": "3.1.0"}}),
        ),
        (
            "page",
            "/v1/p",
            json!({"name": "Home", "category": "Docs", "anonymousId": "a", "userId": null,
                   "properties": {"path": "/", "name": "other"}}),
            json!({"event": "$pageview", "distinct_id": "a",
                   "properties": {"name": "Home", "category": "Docs", "path": "/"}}),
        ),
        (
            "page without a name",
            "/v1/page",
            json!({"anonymousId": "a", "name": null, "properties": {"name": "of the page"}}),
            json!({"event": "$pageview", "distinct_id": "a", "properties": {"name": "of the page"}}),
        ),
        (
            "screen",
            "/v1/screen",
            json!({"name": "Cart", "userId": "u", "properties": null}),
            json!({"event": "$screen", "distinct_id": "u", "properties": {"name": "Cart"}}),
        ),
        (
            "identify",
            "/v1/i",
            json!({"userId": "u", "anonymousId": "a", "traits": {"email": "e", "address": {"city": "c"}}}),
            json!({"event": "$identify", "distinct_id": "u", "anonymous_id": "a",
                   "properties": {"email": "e", "address.city": "c"}}),
        ),
        (
            "identify before the log-in",
            "/v1/identify",
            json!({"userId": "", "anonymousId": "a", "traits": {"plan": "free"}}),
            json!({"event": "$identify", "distinct_id": "a", "properties": {"plan": "free"}}),
        ),
        (
            "group",
            "/v1/g",
            json!({"userId": "u", "groupId": "acme", "traits": {"name": "Acme", "seats": 5}}),
            json!({"event": "$group", "distinct_id": "u",
                   "properties": {"$group_id": "acme", "name": "Acme", "seats": 5}}),
        ),
        (
            "alias",
            "/v1/alias",
            json!({"previousId": "a", "userId": "u"}),
            json!({"event": "$alias", "distinct_id": "u", "anonymous_id": "a"}),
        ),
        (
            "alias of a browser, which sends its anonymous id too",
            "/v1/a",
            json!({"previousId": "old", "userId": "new", "anonymousId": "a"}),
            json!({"event": "$alias", "distinct_id": "new", "anonymous_id": "old"}),
        ),
        (
            "the path says what it is",
            "/v1/t",
            json!({"type": "page", "event": "e", "userId": "u", "name": "no property of a track"}),
            json!({"event": "e", "distinct_id": "u"}),
        ),
        (
            "the time of an old SDK, a number as an id",
            "/v1/t",
            json!({"event": "e", "userId": 7, "originalTimestamp": "2026-01-31T10:00:00Z"}),
            json!({"event": "e", "distinct_id": "7", "timestamp": "2026-01-31T10:00:00Z"}),
        ),
        (
            "a property goes before the context, wherever that stands",
            "/v1/t",
            json!({"aaa": [1], "event": "e", "userId": "u", "context": {"locale": "de"},
                   "properties": {"$locale": "fr"}}),
            json!({"event": "e", "distinct_id": "u", "properties": {"$locale": "fr"}}),
        ),
    ] {
        assert_eq!(read(path, &message).unwrap(), [expected], "{name}");
    }
}

#[test]
fn the_context_gives_way_when_it_comes_last_too() {
    let text = r#"{"properties":{"$locale":"fr","x":1},"event":"e","context":{"locale":"de","timezone":"UTC"},"userId":"u"}"#;
    let begun = begin("/v1/t", "", None).unwrap();
    let mut seen = Vec::new();
    let body = begun.reading.open(text).unwrap();
    body.read_events(&CollectionConfig::default(), &mut |event| {
        seen.extend(event.properties.iter().map(|property| property.name.to_string()));
        assert_eq!(event.text, text);
    })
    .unwrap();
    assert_eq!(seen, ["$locale", "$timezone", "$locale", "x"]);
}

#[test]
fn a_batch_says_what_each_message_is() {
    let batch = json!({
        "batch": [
            {"type": "track", "event": "a", "userId": "u", "sentAt": 6},
            {"type": "page", "anonymousId": "x"},
            {"type": "identify", "userId": "u"},
            {"type": "t", "event": "b", "userId": "u"},
            {"event": "c", "userId": "u"},
            {"type": 5, "event": "c", "userId": "u"},
            {"type": "track", "event": "d"},
            {"type": "alias", "previousId": "a", "userId": " "},
            {"type": "track", "event": "e", "userId": "u", "properties": []},
            {"type": "track", "event": "f", "userId": "u", "traits": "x"},
            7,
            {"type": "group", "userId": "u", "groupId": "g"},
        ],
        "writeKey": "wk_1",
        "sentAt": 5,
    });
    let expected = json!([
        {"event": "a", "distinct_id": "u", "sent_at": "6"},
        {"event": "$pageview", "distinct_id": "x", "sent_at": "5"},
        {"event": "$identify", "distinct_id": "u", "sent_at": "5"},
        "event_name", "event_name", "event_name", "distinct_id", "distinct_id", "properties", "properties",
        "not_an_object",
        {"event": "$group", "distinct_id": "u", "sent_at": "5", "properties": {"$group_id": "g"}},
    ]);
    for path in ["/v1/batch", "/v1/b", "/v1/import"] {
        assert_eq!(json!(read(path, &batch).unwrap()), expected, "{path}");
    }
    let text = batch.to_string();
    let begun = begin("/v1/b", "", None).unwrap();
    assert_eq!(begun.reading.open(&text).unwrap().key(), Some("wk_1"));
}

#[test]
fn a_body_of_another_shape_is_refused() {
    for (path, body) in [
        ("/v1/batch", json!([{"type": "track"}])),
        ("/v1/batch", json!({"type": "track", "event": "e", "userId": "u"})),
        ("/v1/batch", json!({"batch": {}})),
        ("/v1/t", json!([])),
        ("/v1/t", json!(5)),
    ] {
        assert!(matches!(read(path, &body), Err(CollectError::Shape(_))), "{path} {body}");
    }
    let begun = begin("/v1/b", "", None).unwrap();
    for (text, at) in [("batch=1", 0), (r#"{"batch":[{"type":"a"]}}"#, 21), (r#"{"batch":[{"a":1,}]}"#, 17)] {
        let read = begun.reading.open(text);
        let read = read.and_then(|body| body.read_events(&CollectionConfig::default(), &mut |_| ()));
        assert!(matches!(&read, Err(CollectError::NotJson(error)) if error.at == at), "{text} {read:?}");
    }
    let many = |count: usize| json!({"batch": vec![json!({}); count]});
    assert_eq!(read("/v1/b", &many(2_000)).unwrap().len(), 2_000);
    assert!(matches!(read("/v1/b", &many(2_001)), Err(CollectError::TooManyEvents { limit: 2_000 })));
}

#[test]
fn a_field_twice_and_too_much_depth_cost_one_message() {
    let good = r#"{"type":"track","event":"e","userId":"u"}"#;
    let nested = format!("{}1{}", "[".repeat(15), "]".repeat(15));
    for (bad, code) in [
        (r#"{"type":"track","event":"e","userId":"u","userId":"v"}"#.to_owned(), "duplicate_field"),
        (format!(r#"{{"type":"track","properties":{{"a":{nested}}}}}"#), "too_deep"),
        (format!(r#"{{"type":"track","context":{{"a":{nested}}}}}"#), "too_deep"),
        (format!(r#"{{"type":"track","context":{{"traits":{nested}}}}}"#), "too_deep"),
        (format!(r#"{{"type":"track","integrations":[{nested}]}}"#), "too_deep"),
    ] {
        let text = format!(r#"{{"batch":[{good},{bad},{good}]}}"#);
        let begun = begin("/v1/b", "", None).unwrap();
        let mut seen = Vec::new();
        let body = begun.reading.open(&text).unwrap();
        body.read_events(&CollectionConfig::default(), &mut |event| {
            seen.push(event.problem.map_or("good", |problem| problem.reason.code()));
        })
        .unwrap();
        assert_eq!(seen, ["good", code, "good"], "{bad}");
    }
}

#[test]
fn the_key_is_in_basic_auth_or_the_query() {
    let basic = |plain: &str| format!("Basic {}", STANDARD.encode(plain));
    for (query, authorization, expected) in [
        ("", Some(basic("wk_1:")), Some(Some("wk_1"))),
        ("", Some(basic("wk_1:secret")), Some(Some("wk_1"))),
        ("", Some(basic("wk_1")), Some(Some("wk_1"))),
        ("", Some("basic d2tfMTo=".to_owned()), Some(Some("wk_1"))),
        ("", Some("Bearer wk_1".to_owned()), Some(Some("wk_1"))),
        ("", None, Some(None)),
        // analytics.js sends it when it was given no key.
        ("", Some(basic(":")), Some(None)),
        ("writeKey=wk_1", None, Some(Some("wk_1"))),
        ("a=b&writeKey=wk_1", Some(basic("wk_1:")), Some(Some("wk_1"))),
        ("writeKey=wk_2", Some(basic("wk_1:")), None),
        ("writeKey=wk_1&writeKey=wk_1", None, None),
        ("", Some("Basic %%%".to_owned()), None),
        ("", Some(format!("Basic {}", STANDARD.encode(b"\xff:"))), None),
    ] {
        let key = begin("/v1/t", query, authorization.as_deref()).map(|begun| begun.key).ok();
        let expected = expected.map(|key| key.map(str::to_owned));
        assert_eq!(key, expected, "{query} {authorization:?}");
    }
}

#[test]
fn settings_name_this_server() {
    let headers = HeaderMap::new();
    let head = Head { path: "/v1/projects/wk_1/settings", query: "", headers: &headers };
    for (base_url, protocol, host) in [
        ("https://weir.example.org", "https", "weir.example.org/v1"),
        ("http://127.0.0.1:8080", "http", "127.0.0.1:8080/v1"),
    ] {
        let StartUp { key, answer } = settings(&head, &BaseUrl(base_url.to_owned()));
        assert_eq!(key.as_deref(), Some("wk_1"));
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        let segment = &body["integrations"]["Segment.io"];
        assert_eq!(*segment, json!({"apiKey": "wk_1", "apiHost": host, "protocol": protocol}));
    }
}
