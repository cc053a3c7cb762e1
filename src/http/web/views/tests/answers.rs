//! The pages that show answers, in each state.

use jiff::Span;

use super::*;
use crate::http::web::{
    ask::form::AskForm,
    chart::{self, Grain, Series, TimeAxis, TimeChart},
    format::Change,
    range::{Params, Range},
    sort::Sort,
};

fn params(query: &str) -> Params {
    serde_urlencoded::from_str(query).unwrap()
}

fn bar(form: &'static str, query: &str) -> RangeBar {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    RangeBar { form, range: Range::read(&params(query), NOW, &zone, None), with_compare: form == "range" }
}

fn axis(days: i64) -> TimeAxis {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let today = format::zoned(NOW, &zone).start_of_day().unwrap();
    let starts = (0..days).map(|n| today.checked_sub(Span::new().days(days - 1 - n)).unwrap());
    TimeAxis::new(starts.collect(), Grain::Day)
}

/// A believable curve: weekends are lower, and it grows.
fn curve(days: i64, level: f64, seed: i64) -> Vec<Option<f64>> {
    let value = |n: i64| {
        let weekend = if n % 7 >= 5 { 0.62 } else { 1.0 };
        let noise = ((n * 37 + seed * 91) % 23) as f64 / 100.0;
        (level * weekend * (1.0 + n as f64 / 120.0 + noise)).round()
    };
    (0..days).map(|n| Some(if n == days - 1 { value(n) * 0.3 } else { value(n) })).collect()
}

fn drawn(name: &str, series: &[Series]) -> String {
    let axis = axis(30);
    chart::line(&TimeChart { name, axis: &axis, series, unfinished: true, whole: true })
}

fn one(label: &str, level: f64, seed: i64) -> Series {
    let previous = curve(30, level * 0.9, seed + 3);
    Series { label: label.into(), values: curve(30, level, seed), previous: Some(previous) }
}

fn overview() -> OverviewPage {
    let figure = |label: &str, value: &str, change, before: &str| Figure {
        label: label.into(),
        value: Some(value.into()),
        change: Some(change),
        before: Some(before.into()),
    };
    let up = |by: &str| Change::Up(format!("{by}\u{202f}%"));
    let top = |name: &str, count, persons| TopRow {
        name: name.into(),
        href: "/p/1/ask".into(),
        count,
        persons: Some(persons),
    };
    OverviewPage {
        frame: frame("Overview", Nav::Overview),
        range: bar("range", ""),
        notes: Vec::new(),
        figures: vec![
            figure("Events", "214,903", up("12"), "191,877"),
            figure("Persons", "38,214", up("4"), "36,744"),
            figure("Events per person", "5.62", up("7.2"), "5.24"),
            figure("Persons per day", "2,904", Change::Down("2\u{202f}%".into()), "2,963"),
        ],
        events: Panel::Ready(drawn("Events per day", &[one("Events", 6_900.0, 1)])),
        persons: Panel::Ready(drawn("Persons per day", &[one("Persons", 2_100.0, 5)])),
        lists: vec![TopList {
            title: "Top events",
            of: "Event",
            all_href: "/p/1/ask".into(),
            rows: TopRows::Ready(vec![
                top("$pageview", 81_204, 36_002),
                top("product_viewed", 60_110, 21_480),
                top("cart_item_added", 22_918, 9_122),
                top("checkout_started", 11_003, 6_480),
                top("order_placed", 8_412, 5_765),
                top("search_performed_with_a_rather_long_name_that_does_not_fit_here", 6_020, 3_001),
                top("newsletter_subscribed", 1_204, 1_199),
                top("order_cancelled", 948, 902),
            ]),
        }],
        filters: Vec::new(),
        filter_error: None,
        menus: Menus::default(),
        waiting: false,
        refresh_href: "/p/1/overview?ticket=x".into(),
        first_event_awaited: false,
    }
}

fn list(rows: TopRows) -> TopList {
    TopList { title: "Top events", of: "Event", rows, all_href: "/p/1/ask".into() }
}

#[test]
fn the_overview_in_each_state() {
    let html = check("overview", &overview());
    assert!(!html.contains("data-refresh"), "an answered page stays as it is");
    assert!(html.len() < 200_000, "{} bytes", html.len());

    let waiting = OverviewPage {
        figures: vec![
            Figure { label: "Events".into(), value: Some("214,903".into()), change: None, before: None },
            Figure { label: "Persons".into(), value: None, change: None, before: None },
            Figure { label: "Events per person".into(), value: None, change: None, before: None },
            Figure { label: "Persons per day".into(), value: None, change: None, before: None },
        ],
        persons: Panel::Waiting,
        events: Panel::Waiting,
        lists: vec![list(TopRows::Waiting)],
        waiting: true,
        ..overview()
    };
    assert!(check("overview-waiting", &waiting).contains("data-refresh"));

    let detail = "The question ran longer than 10 min and was stopped.".to_owned();
    let partial = OverviewPage {
        range: bar("range", "range=custom&from=2026-10-01&to=2026-10-31&compare=0"),
        notes: vec![
            Note::warning("Partial: 12 of 16 shards answered, server 2 is away."),
            Note { level: NoteLevel::Info, text: "Sealing is 40 s behind.".into() },
        ],
        persons: Panel::Failed { detail, ticket_href: Some("/p/1/tickets/x".into()) },
        lists: vec![list(TopRows::Ready(Vec::new())), list(TopRows::Failed("It was cancelled.".into()))],
        filters: AskForm::read(&params("f0.property=plan&f0.op=gt&f0.value=much"), "day").filters,
        filter_error: Some("use a number".into()),
        ..overview()
    };
    check("overview-partial", &partial);

    check("overview-empty", &OverviewPage { first_event_awaited: true, ..overview() });
}

fn ask(query: &str, asked: Asked) -> AskPage {
    let property = |name: &str, types: &str| PropertyMenu { name: name.into(), types: types.into() };
    let events = ["$pageview", "product_viewed", "cart_item_added", "checkout_started", "order_placed"];
    AskPage {
        frame: frame("Ask", Nav::Ask),
        range: bar("ask", query),
        form: AskForm::read(&params(query), "day"),
        menus: Menus {
            events: events.map(str::to_owned).to_vec(),
            properties: vec![
                property("amount_pence", "number"),
                property("country", "text"),
                property("plan", "text"),
            ],
        },
        json: "{\n  \"kind\": \"trends\"\n}".into(),
        json_open: false,
        json_only: false,
        errors: Vec::new(),
        view: "line",
        sort: Sort::default(),
        public_url: "https://weir.example".into(),
        refresh_href: "/p/1/ask?ticket=x".into(),
        events_href: String::new(),
        asked,
    }
}

fn answer(chart: String, series: Vec<SeriesRow>, table: Option<ValueTable>) -> Asked {
    Asked::Answered(Box::new(AnswerView {
        chart,
        heading: "Count of order_placed per day, by country".into(),
        comparable: true,
        is_funnel: series.is_empty(),
        series,
        table,
        notes: Vec::new(),
        facts: vec!["As of 05:04:27".into(), "Answered in 118 ms".into()],
        ticket_href: "/p/1/tickets/x".into(),
        csv_href: "/api/v1/tickets/x/result?format=csv&project=1".into(),
    }))
}

#[test]
fn a_trend_with_a_breakdown() {
    let countries =
        ["Germany", "France", "United Kingdom", "Spain", "Italy", "Netherlands", "Poland", "Austria"];
    let series: Vec<Series> = (0_i64..)
        .zip(countries)
        .map(|(n, label)| Series {
            label: label.into(),
            values: curve(30, 400.0 / (n + 1) as f64, n),
            previous: None,
        })
        .collect();
    let mut rows: Vec<SeriesRow> = series
        .iter()
        .enumerate()
        .map(|(n, series)| SeriesRow {
            label: "order_placed".into(),
            value: Some(series.label.clone()),
            total: Some(series.values.iter().flatten().sum()),
            drawn: Some(n),
        })
        .collect();
    rows.push(SeriesRow {
        label: "order_placed".into(),
        value: Some("other".into()),
        total: Some(12.5),
        drawn: None,
    });
    let axis = axis(30);
    let table = ValueTable {
        columns: countries.map(str::to_owned).to_vec(),
        rows: (0..30).map(|n| (axis.iso(n), series.iter().map(|s| s.values[n]).collect())).collect(),
        rows_total: 40,
    };
    let query = "s0.event=order_placed&s0.measure=count&s0.f0.property=plan&s0.f0.op=in&s0.f0.value=pro,+team\
        &s1.event=cart_item_added&s1.event=gone&s1.measure=sum&s1.property=amount_pence&f0.property=country&f0.op=is_set&by=country&limit=8";
    let mut page = ask(query, answer(drawn("Count per day", &series), rows, Some(table)));
    let html = check("ask-trends", &page);
    assert!(html.contains("<option selected>gone</option>"), "an event that is gone stays chosen");
    page.errors = vec![
        ("s1.property".into(), "`amount_pence` holds text, and sums are taken of numbers.".into()),
        ("s0.f0.value".into(), "Give at least one value.".into()),
        (
            String::new(),
            "9 series × 11 values × 8,784 buckets are more than the 500,000 numbers allowed.".into(),
        ),
    ];
    page.asked = Asked::Nothing("Complete the question above to see its answer".into());
    let html = check("ask-errors", &page);
    assert!(html.contains("sums are taken of numbers"));
    assert!(html.contains("aria-invalid"));
}

#[test]
fn a_funnel_with_a_step_still_open() {
    let step = |label: &str, persons| chart::FunnelStep {
        label: label.into(),
        persons,
        reached_href: "/who?step=1".into(),
        dropped_href: "/who?a=<b>&outcome=dropped".into(),
    };
    let funnel = chart::funnel(&[
        step("$pageview", 38_214),
        step("product_viewed", 21_480),
        step("cart_item_added", 9_122),
        step("order_placed", 5_765),
    ]);
    let query = "kind=funnel&s0.event=$pageview&s1.event=product_viewed&s2.event=cart_item_added&s3.event=order_placed&window=14d";
    let mut page = ask(query, answer(funnel, Vec::new(), None));
    if let Asked::Answered(answer) = &mut page.asked {
        answer.heading = "4 steps within 14 days".into();
        answer.notes.push(Note::warning("Partial: 15 of 16 shards answered, shard 7 is away."));
    }
    let html = check("ask-funnel", &page);
    assert!(html.contains("did not go on"));
    assert_eq!(html.matches("<option selected>cart_item_added").count(), 1, "each step has its own event");
}

#[test]
fn a_question_that_waits_fails_or_is_only_json() {
    let waiting = Asked::Waiting {
        progress: chart::progress_bar(6, 16),
        text: "6 of 16 shards".into(),
        ticket_href: "/p/1/tickets/x".into(),
    };
    assert!(check("ask-waiting", &ask("", waiting)).contains("data-refresh"));
    let failed = Asked::Failed {
        detail: "The breakdown has more than 100,000 different values. Filter it or choose another property."
            .into(),
        ticket_href: Some("/p/1/tickets/x".into()),
        again_href: "/p/1/ask?again=1".into(),
    };
    let mut page = ask("", failed);
    page.json_open = true;
    page.json_only = true;
    page.json = "{\"kind\": \"trends\", \"oops\": 1}</textarea><script>alert(1)</script>".into();
    page.errors = vec![("q".into(), "oops: there is no such field.".into())];
    let html = check("ask-failed", &page);
    assert!(!html.contains("<script>alert"));
}

#[test]
fn tickets_show_how_far_they_are() {
    let ticket = |n: i64, title: &str, state, progress: Option<String>, text: &str| TicketRow {
        id: format!("0192f0c1-7124-7d52-aebb-0c19d564{n:04}"),
        title: title.into(),
        kind: "question".into(),
        state,
        created_at: NOW - n * 400_000,
        started_at: Some(NOW - n * 400_000 + 12),
        finished_at: (progress.is_none()).then_some(NOW - n * 400_000 + 132 * n),
        progress,
        progress_text: text.into(),
    };
    let rows = || {
        vec![
            ticket(
                1,
                "Count of order_placed by country per day",
                "running",
                Some(chart::progress_bar(6, 16)),
                "6 of 16 shards",
            ),
            ticket(
                2,
                "Funnel $pageview → product_viewed → order_placed",
                "queued",
                Some(chart::progress_bar(0, 0)),
                "2 before it",
            ),
            ticket(3, "Persons with every event per week", "succeeded", None, ""),
            ticket(4, "Sum of amount_pence of order_placed", "failed", None, ""),
            ticket(9, "Count of every event", "cancelled", None, ""),
        ]
    };
    let mut page = TicketsPage {
        frame: frame("Tickets", Nav::Tickets),
        tickets: rows(),
        older_href: Some("?before=1".into()),
        all: false,
        other_href: "?all=1".into(),
    };
    assert!(check("tickets", &page).contains("data-refresh"));
    page.tickets.clear();
    check("tickets-empty", &page);
    let mut ticket = TicketPage {
        frame: frame("Ticket", Nav::Tickets),
        ticket: rows().swap_remove(0),
        notes: Vec::new(),
        attempt: 2,
        queue_position: None,
        as_of: Some(NOW - 4_000),
        expires_at: Some(NOW + 86_400_000),
        question_heading: "Question",
        question: "{\n  \"kind\": \"trends\",\n  \"from\": \"-30d\"\n}".into(),
        answer_href: None,
        can_cancel: true,
        events_href: Some("/api/v1/tickets/x/events?project=1&seen=00".into()),
    };
    let page = check("ticket", &ticket);
    assert!(
        page.contains("/cancel")
            && page.contains("data-events=\"/api/v1/tickets/x/events?project=1&#38;seen=00\"")
    );
    ticket.events_href = None;
    ticket.ticket = rows().swap_remove(3);
    ticket.notes = vec![Note::failure("The breakdown has more than 100,000 different values.")];
    ticket.can_cancel = false;
    ticket.answer_href = Some("/p/1/ask".into());
    check("ticket-failed", &ticket);
}
