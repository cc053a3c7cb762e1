use super::*;

#[test]
fn each_limit_holds_at_its_edge() {
    let limits = QuestionLimits {
        series_max: 3,
        steps_max: 4,
        events_max: 3,
        filters_max: 2,
        filter_values_max: 3,
        filter_text_bytes_max: 8,
        event_name_chars_max: 5,
        property_name_bytes_max: 6,
        buckets_max: 24,
        breakdown_limit_max: 10,
        cells_max: 100,
        window_ms_max: 3_600_000,
        ..QuestionLimits::default()
    };
    let settings = ProjectSettings { limits, ..ProjectSettings::new("UTC", NOW) };
    let steps = |n: usize| funnel(json!({"steps": vec![json!({}); n]}));
    let filters = |n: usize| trends(json!({"filters": vec![json!({"property": "p", "op": "is_set"}); n]}));
    let filter = |op: &str, value: Value| filtered(json!({"property": "p", "op": op, "value": value}));
    let series = |fields: Value| trends(json!({"series": [fields]}));
    let hours = |to: &str| trends(json!({"to": to, "granularity": "hour"}));
    let cells = |limit: usize| {
        trends(
            json!({"to": "2024-01-11", "granularity": "day", "breakdown": {"event": true, "limit": limit}}),
        )
    };
    let cases: Vec<(&str, Value, Value, &str, Code)> = vec![
        (
            "series",
            trends(json!({"series": [{}, {}, {}]})),
            trends(json!({"series": [{}, {}, {}, {}]})),
            "series",
            Code::TooMany,
        ),
        ("steps", steps(4), steps(5), "steps", Code::TooMany),
        (
            "events",
            series(json!({"events": ["a", "b", "c"]})),
            series(json!({"events": ["a", "b", "c", "d"]})),
            "series[0].events",
            Code::TooMany,
        ),
        ("filters", filters(2), filters(3), "filters", Code::TooMany),
        (
            "values",
            filter("in", json!([1, 2, 3])),
            filter("in", json!([1, 2, 3, 4])),
            "series[0].filters[0].value",
            Code::TooMany,
        ),
        (
            "text",
            filter("eq", json!("ääää")),
            filter("eq", json!("äääää")),
            "series[0].filters[0].value",
            Code::TooLong,
        ),
        (
            "event name",
            series(json!({"event": "äääää"})),
            series(json!({"event": "aaaaaa"})),
            "series[0].event",
            Code::TooLong,
        ),
        (
            "property",
            trends(json!({"breakdown": {"property": "äää"}})),
            trends(json!({"breakdown": {"property": "äääa"}})),
            "breakdown.property",
            Code::TooLong,
        ),
        ("buckets", hours("2024-01-02"), hours("2024-01-02T00:00:00.001Z"), "granularity", Code::TooMany),
        ("many buckets", hours("2024-01-02"), hours("2199-01-01"), "granularity", Code::TooMany),
        (
            "breakdown limit",
            trends(json!({"breakdown": {"event": true, "limit": 10}})),
            trends(json!({"breakdown": {"event": true, "limit": 11}})),
            "breakdown.limit",
            Code::OutOfRange,
        ),
        ("cells", cells(9), cells(10), "", Code::TooMany),
        (
            "window",
            funnel(json!({"window": "60m"})),
            funnel(json!({"window": "3601s"})),
            "window",
            Code::OutOfRange,
        ),
    ];
    for (name, within, beyond, field, code) in cases {
        assert!(
            Question::parse(&within, &settings).is_ok(),
            "{name}: {:?}",
            Question::parse(&within, &settings)
        );
        let errors = Question::parse(&beyond, &settings).expect_err(name);
        assert_eq!((errors[0].field.as_str(), errors[0].code), (field, code), "{name}: {errors:?}");
        assert_eq!(errors.len(), 1, "{name}: {errors:?}");
        assert!(
            errors[0].detail.contains(|c: char| c.is_ascii_digit()),
            "{name} names its limit: {errors:?}"
        );
    }
}
