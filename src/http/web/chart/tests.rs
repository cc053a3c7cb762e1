use jiff::{Span, civil::date, tz::TimeZone};
use proptest::prelude::*;

use super::*;

fn days(count: i64) -> TimeAxis {
    let first = date(2025, 11, 1).to_zoned(TimeZone::UTC).unwrap();
    TimeAxis::new((0..count).map(|n| first.checked_add(Span::new().days(n)).unwrap()).collect(), Grain::Day)
}

fn series(label: &str, values: &[f64]) -> Series {
    Series { label: label.into(), values: values.iter().copied().map(Some).collect(), previous: None }
}

fn chart<'a>(axis: &'a TimeAxis, series: &'a [Series]) -> TimeChart<'a> {
    TimeChart { name: "Events per day", axis, series, unfinished: false, whole: true }
}

/// As a browser would: every tag closed in order. Titles and labels must not break it.
fn assert_well_formed(markup: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in markup.split('<').skip(1) {
        let (inside, _) = tag.split_once('>').expect("a tag ends");
        if let Some(name) = inside.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{markup}");
        } else if !inside.ends_with('/') {
            open.push(inside.split(' ').next().unwrap());
        }
    }
    assert!(open.is_empty(), "{open:?} stay open");
    assert!(!markup.contains("NaN") && !markup.contains("inf"), "{markup}");
    assert!(!markup.contains("style="));
}

#[test]
fn one_line_with_its_previous_period() {
    let axis = days(5);
    let mut one = series("Events", &[1_020.0, 1_502.0, 900.0, 1_310.0, 40.0]);
    one.previous = Some(vec![Some(800.0), Some(810.0), None, Some(700.0), Some(750.0)]);
    let markup = line(&TimeChart { unfinished: true, ..chart(&axis, &[one]) });
    assert_well_formed(&markup);
    insta::assert_snapshot!(markup.replace("><", ">\n<"));
}

#[test]
fn columns_of_two_series_with_negative_values() {
    let axis = days(3);
    let two = [series("in", &[10.0, 20.0, 30.0]), series("out", &[-5.0, 0.0, -25.5])];
    let markup = columns(&TimeChart { whole: false, ..chart(&axis, &two) });
    assert_well_formed(&markup);
    insta::assert_snapshot!(markup.replace("><", ">\n<"));
}

#[test]
fn a_funnel_says_what_was_lost() {
    let step = |label: &str, persons| FunnelStep {
        label: label.into(),
        persons,
        reached_href: "/who?step=1".into(),
        dropped_href: "/who?a=<b>&outcome=dropped".into(),
    };
    let markup = funnel(&[
        step("order_placed", 5765),
        step("<b>cancel</b>", 948),
        step("again", 948),
        step("never", 0),
    ]);
    assert_well_formed(&markup);
    insta::assert_snapshot!(markup.replace("><", ">\n<"));
}

#[test]
fn edges_have_a_drawing_too() {
    let nothing = Series { label: "x".into(), values: vec![None, None], previous: None };
    let cases: Vec<(&str, TimeAxis, Vec<Series>, &str)> = vec![
        ("no buckets", days(0), vec![series("x", &[])], "No values in this range"),
        ("no series", days(3), vec![], "No values in this range"),
        ("only gaps", days(2), vec![nothing], "No values in this range"),
        ("one point", days(1), vec![series("x", &[7.0])], "M500 38.2h0"),
        ("all zero", days(3), vec![series("x", &[0.0, 0.0, 0.0])], ">3</text>"),
        ("huge", days(2), vec![series("x", &[1e300, 2e300])], "<path"),
        ("not a number", days(3), vec![series("x", &[1.0, f64::NAN, f64::INFINITY])], "<path"),
        ("fewer values than buckets", days(3), vec![series("x", &[1.0])], "<path"),
        (
            "text that closes tags",
            days(1),
            vec![series("</title><script>'\"&\n", &[1.0])],
            "&lt;/title&gt;&lt;script&gt;",
        ),
    ];
    for (name, axis, series, expected) in cases {
        let chart = chart(&axis, &series);
        for markup in [line(&chart), columns(&chart)] {
            assert_well_formed(&markup);
            assert!(!markup.contains("<script"), "{name}");
        }
        assert!(line(&chart).contains(expected), "{name}: {}", line(&chart));
    }
}

#[test]
fn a_year_of_hours_stays_small() {
    let axis = days(8_784);
    let values: Vec<f64> = (0..8_784).map(|n| f64::from(n % 113)).collect();
    let all: Vec<Series> = (0..8).map(|n| series(&format!("series {n}"), &values)).collect();
    let markup = line(&chart(&axis, &all));
    assert_well_formed(&markup);
    assert_eq!(markup.matches("class=\"hit\"").count(), 400_usize.min(8_784_usize.div_ceil(22)));
    assert!(markup.len() < 200_000, "{} bytes", markup.len());
}

#[test]
fn shares_stay_within_their_bar() {
    for (part, whole, width) in
        [(1.0, 4.0, "25%"), (5.0, 4.0, "100%"), (-1.0, 4.0, "0%"), (1.0, 0.0, "0%"), (f64::NAN, 1.0, "0%")]
    {
        assert!(share_bar(part, whole).contains(&format!("width=\"{width}\"")), "{part} of {whole}");
    }
    assert!(progress_bar(3, 16).contains("18.75 percent done"));
    assert!(progress_bar(0, 0).contains("Working"));
}

proptest! {
    #[test]
    fn any_values_draw_well_formed(
        values in prop::collection::vec(prop::option::of(prop::num::f64::ANY), 0..900),
        unfinished: bool,
    ) {
        let axis = days(values.len() as i64);
        let one = [Series { label: "</rect>\"'".into(), previous: Some(values.clone()), values }];
        let chart = TimeChart { unfinished, whole: false, ..chart(&axis, &one) };
        assert_well_formed(&line(&chart));
        assert_well_formed(&columns(&chart));
    }

    #[test]
    fn escaped_text_closes_nothing(text in "\\PC{0,60}") {
        let safe = escape(&text);
        prop_assert!(!safe.contains(['<', '>', '"', '\'']));
    }
}
