use super::*;

/// Each event as `name@distinct_id`, or its problem.
fn read(text: &str, content_type: Option<&str>) -> Result<Vec<String>, CollectError> {
    let mut shown = Vec::new();
    let document = NativeBody::open(text, content_type)?;
    document.read_events(&CollectionConfig::default(), &mut |event| {
        shown.push(match event.problem {
            Some(problem) => problem.reason.code().to_owned(),
            None => {
                let field = |field: &Field<'_>| match field {
                    Field::Text { value, .. } => value.to_string(),
                    other => other.shown(),
                };
                format!("{}@{}", field(&event.event), field(&event.distinct_id))
            }
        });
    })?;
    Ok(shown)
}

#[test]
fn every_form_gives_its_events_in_order() {
    let a = r#"{"event":"a","distinct_id":"u"}"#;
    let b = r#"{"distinct_id":"v","event":"b"}"#;
    let indented = "{\n  \"event\": \"a\",\n  \"distinct_id\": \"u\"\n}\n";
    for (name, text, content_type, expected) in [
        ("one", a.to_owned(), None, vec!["a@u"]),
        ("one, indented", indented.to_owned(), None, vec!["a@u"]),
        ("list", format!("[{a}, {b}]"), None, vec!["a@u", "b@v"]),
        ("empty list", "[]".to_owned(), None, vec![]),
        ("batch", format!(r#"{{"batch":[{a},{b}]}}"#), None, vec!["a@u", "b@v"]),
        ("batch last", format!(r#"{{"sent_at":1,"x":[{{}}],"batch":[{a}]}}"#), None, vec!["a@u"]),
        ("lines", format!("{a}\n{b}\n"), None, vec!["a@u", "b@v"]),
        ("lines of Windows", format!("{a}\r\n\r\n{b}"), None, vec!["a@u", "b@v"]),
        ("one line, called NDJSON", a.to_owned(), Some("application/x-ndjson; charset=utf-8"), vec!["a@u"]),
        ("a broken line", format!("{a}\n{{oops\n{b}"), None, vec!["a@u", "not_json", "b@v"]),
        (
            "a broken first line, called so",
            format!("{{\n{b}"),
            Some("application/x-ndjson"),
            vec!["not_json", "b@v"],
        ),
        ("two on one line", format!("{a}\n{a}{b}"), None, vec!["a@u", "not_json"]),
        ("a line that is a list", format!("{a}\n[{b}]"), None, vec!["a@u", "not_an_object"]),
        (
            "no object in a list",
            format!("[1, {a}, null, \"x\", []]"),
            None,
            vec!["not_an_object", "a@u", "not_an_object", "not_an_object", "not_an_object"],
        ),
        ("user_id", r#"{"user_id":"w","event":"a"}"#.to_owned(), None, vec!["a@w"]),
        ("both ids", r#"{"user_id":"w","distinct_id":"u","event":"a"}"#.to_owned(), None, vec!["a@u"]),
        (
            "both ids, other order",
            r#"{"distinct_id":"u","user_id":"w","event":"a"}"#.to_owned(),
            None,
            vec!["a@u"],
        ),
        ("a field twice", r#"{"event":"a","event":"b"}"#.to_owned(), None, vec!["duplicate_field"]),
        ("properties of a kind", r#"{"properties":[1]}"#.to_owned(), None, vec!["properties"]),
        ("null properties", r#"{"event":"a","properties":null}"#.to_owned(), None, vec!["a@nothing"]),
        (
            "an event with a batch of its own",
            r#"{"event":"a","distinct_id":"u","batch":[]}"#.to_owned(),
            None,
            vec!["a@u"],
        ),
        (
            "an event with a key of its own",
            r#"{"key":"hello","event":"a","distinct_id":"u"}"#.to_owned(),
            None,
            vec!["a@u"],
        ),
        ("commas first", format!("{{\"batch\":[{a}\n,{b}]}}"), None, vec!["a@u", "b@v"]),
        (
            "a brace at the end of the first line",
            "{\"event\":\"a\",\"distinct_id\":\"u\",\"properties\":{\"a\":1}\n}".to_owned(),
            None,
            vec!["a@u"],
        ),
        ("batch is no list", r#"{"batch":1,"event":"a"}"#.to_owned(), None, vec!["a@nothing"]),
    ] {
        assert_eq!(read(&text, content_type).unwrap(), expected, "{name}");
    }
}

#[test]
fn broken_json_is_refused_as_a_whole_with_its_offset() {
    let a = r#"{"event":"a","distinct_id":"u"}"#;
    for (name, text, at) in [
        ("not JSON", "event=a".to_owned(), 0),
        ("trailing comma", format!("[{a},]"), a.len() + 2),
        ("NaN", r#"{"event":"a","properties":{"x":NaN}}"#.to_owned(), 31),
        ("bytes after the end", format!("{a} x"), a.len() + 1),
        ("bytes after a list", format!("[{a}] x"), a.len() + 3),
        ("cut", a[..20].to_owned(), 20),
        ("cut in a batch", format!(r#"{{"batch":[{a},"#), a.len() + 11),
        ("wrong brackets in a batch", r#"{"batch":[{"event":"a"]}}"#.to_owned(), 22),
        ("broken after a batch", format!(r#"{{"batch":[{a}] "x"}}"#), a.len() + 12),
        ("broken beside a batch", format!(r#"{{"x":{{nope}},"batch":[{a}]}}"#), 6),
        ("broken beside a batch, after it", format!(r#"{{"batch":[{a}],"x":[1,]}}"#), a.len() + 19),
        ("single quotes", "{'event':'a'}".to_owned(), 1),
    ] {
        match read(&text, None) {
            Err(CollectError::NotJson(error)) => assert_eq!(error.at, at, "{name}: {error}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(matches!(read("5", None), Err(CollectError::Shape(_))));
    assert!(matches!(read("null", None), Err(CollectError::Shape(_))));
}

#[test]
fn depth_costs_only_the_event_that_has_it() {
    let good = r#"{"event":"a","distinct_id":"u"}"#;
    for depth in [17, 128, 5_000] {
        let nested =
            |open: &str, close: &str| format!("{}1{}", open.repeat(depth - 1), close.repeat(depth - 1));
        for bad in [
            format!(r#"{{"properties":{}}}"#, nested("{\"a\":", "}")),
            format!(r#"{{"properties":{{"a":{}}}}}"#, nested("[", "]")),
            format!(r#"{{"unknown":{}}}"#, nested("[", "]")),
        ] {
            let list = format!("[{good},{bad},{good}]");
            assert_eq!(read(&list, None).unwrap(), ["a@u", "too_deep", "a@u"], "{depth}");
            let lines = format!("{good}\n{bad}\n{good}");
            assert_eq!(read(&lines, None).unwrap(), ["a@u", "too_deep", "a@u"], "{depth}");
        }
    }
}

#[test]
fn sixteen_levels_are_not_too_deep() {
    // The event is one level, its properties another.
    let text = format!(
        r#"{{"event":"a","distinct_id":"u","properties":{{"a":{}1{}}}}}"#,
        "[".repeat(14),
        "]".repeat(14)
    );
    assert_eq!(read(&text, None).unwrap(), ["a@u"]);
}

#[test]
fn more_events_than_allowed_are_refused() {
    let list = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
    assert_eq!(read(&list(2_000), None).unwrap().len(), 2_000);
    assert!(matches!(read(&list(2_001), None), Err(CollectError::TooManyEvents { limit: 2_000 })));
}

#[test]
fn the_key_may_come_with_the_body() {
    for text in [
        r#"{"key":"wk_1","batch":[]}"#,
        r#"{"batch":[{"key":"other"}],"key":"wk_1"}"#,
        r#"{"event":"a","key":"wk_1"}"#,
    ] {
        assert_eq!(NativeBody::open(text, None).unwrap().key(), Some("wk_1"), "{text}");
    }
    assert_eq!(NativeBody::open(r#"[{"key":"wk_1"}]"#, None).unwrap().key(), None);
}

#[test]
fn what_an_envelope_has_twice_is_refused() {
    let a = r#"{"event":"a","distinct_id":"u"}"#;
    for text in [
        format!(r#"{{"batch":[{a}],"batch":[{a}]}}"#),
        format!(r#"{{"batch":[nonsense],"batch":[{a}]}}"#),
        format!(r#"{{"sent_at":1,"batch":[{a}],"sent_at":2}}"#),
    ] {
        assert!(matches!(NativeBody::open(&text, None), Err(CollectError::Shape(_))), "{text}");
    }
    for text in [
        format!(r#"{{"key":"wk_1","key":"wk_2","batch":[{a}]}}"#),
        format!(r#"{{"key":"wk_1","key":"wk_1","batch":[{a}]}}"#),
        r#"{"key":"wk_1","event":"a","key":"wk_2"}"#.to_owned(),
    ] {
        assert!(matches!(NativeBody::open(&text, None), Err(CollectError::Unauthorized)), "{text}");
    }
}

#[test]
fn an_event_keeps_its_own_text_and_time_of_sending() {
    let text = r#"{"sent_at":5, "batch":[ {"event":"a"} ,{"sent_at":6}]}"#;
    let mut seen = Vec::new();
    NativeBody::open(text, None)
        .unwrap()
        .read_events(&CollectionConfig::default(), &mut |event| {
            seen.push((event.text.to_owned(), event.sent_at.shown()));
        })
        .unwrap();
    assert_eq!(seen, [(r#"{"event":"a"}"#.into(), "5".into()), (r#"{"sent_at":6}"#.into(), "6".into())]);
}
