//! The list of persons behind a step in every state that a store brings about seldom.

use super::*;

fn page(state: StepPersonsState) -> StepPersonsPage {
    StepPersonsPage {
        frame: frame("Persons of a funnel step", Nav::Ask),
        funnel_words: "viewed → bought within 7 days".into(),
        range_words: "25 Oct 2026 – 23 Nov 2026".into(),
        step: 2,
        is_dropped: true,
        step_label: "bought".into(),
        reached_label: "viewed".into(),
        funnel_href: "/p/1/ask?kind=funnel".into(),
        reached_href: "/p/1/ask/persons?step=2&outcome=converted".into(),
        dropped_href: Some("/p/1/ask/persons?step=2&outcome=dropped".into()),
        refresh_href: "/p/1/ask/persons?ticket=x".into(),
        events_href: "/api/v1/tickets/x/events".into(),
        notes: vec![Note::warning("Partial: 15 of 16 shards answered, shard 7 is away.")],
        commands: Commands {
            public_url: "https://weir.example.org".into(),
            json: "{\"kind\": \"persons\"}".into(),
        },
        state,
    }
}

#[test]
fn a_list_of_persons_waits_fails_or_is_partial() {
    let waiting = StepPersonsState::Waiting {
        progress: String::new(),
        text: "6 of 16 shards".into(),
        ticket_href: "/p/1/tickets/x".into(),
    };
    let html = check("step-persons-waiting", &page(waiting));
    assert!(html.contains("data-refresh-href=\"/p/1/ask/persons?ticket=x\"") && html.contains("data-events"));
    assert!(html.contains("http-equiv=\"refresh\""), "without scripts too");
    let failed = StepPersonsState::Failed {
        detail: "No server <can> be reached.".into(),
        ticket_href: Some("/p/1/tickets/x".into()),
        again_href: "/p/1/ask/persons?step=2".into(),
    };
    let html = check("step-persons-failed", &page(failed));
    assert!(html.contains("&#60;can&#62;") && html.contains("Try again") && !html.contains("data-refresh"));
    let listed = StepPersonsState::Listed {
        total: 4_817,
        listed: 1_000,
        rows: vec![StepPersonRow { distinct_id: "<u>".into(), reached_at: Some(NOW) }],
        first: 101,
        newer_href: Some("/newer".into()),
        older_href: Some("/older".into()),
        facts: vec!["As of 12:04:31, 15 of 16 shards".into()],
        ticket_href: "/p/1/tickets/x".into(),
        csv_href: "/csv".into(),
    };
    let html = check("step-persons", &page(listed));
    assert!(html.contains("<h2>4,817 persons</h2>") && html.contains("101 to 101 of 4,817; the first 1,000"));
    assert!(html.contains("shard 7 is away") && html.contains("&#60;u&#62;") && html.contains("?id=%3Cu%3E"));
}
