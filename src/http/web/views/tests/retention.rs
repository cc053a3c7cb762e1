//! The page that says how long events are kept, in each of its states.

use super::*;

fn page() -> RetentionPage {
    RetentionPage {
        frame: frame("Retention", Nav::Retention),
        current: None,
        kept_from_words: None,
        typed: String::new(),
        days_error: None,
        notes: Vec::new(),
        preview: None,
        wants_all: false,
        confirm_error: None,
        saved: false,
        may_change: true,
    }
}

#[test]
fn what_goes_is_shown_before_it_goes() {
    let for_ever = check("retention", &page());
    assert!(for_ever.contains("<strong>for ever</strong>") && !for_ever.contains("Delete what is older"));
    let wrong = RetentionPage { typed: "<x>".into(), days_error: Some("Type a number.".into()), ..page() };
    let wrong = check("retention-wrong", &wrong);
    assert!(wrong.contains("aria-invalid") && !wrong.contains("<x>"), "{wrong}");
    let preview = RetentionPreview {
        days: 30,
        kept_from: "2026-10-23".into(),
        kept_from_words: "23 Oct 2026".into(),
        events: 200_000,
        events_before: 12_345,
        persons: 3_000,
        persons_before: 0,
    };
    let shown = RetentionPage {
        preview: Some(preview),
        notes: vec![Note::warning("Partial: a server did not answer.")],
        confirm_error: Some("This is not the project's name."),
        ..page()
    };
    let shown = check("retention-preview", &shown);
    assert!(shown.contains("12,345 of 200,000 events (6.2\u{202f}%)"), "{shown}");
    assert!(shown.contains("0 of 3,000 persons (0\u{202f}%)") && shown.contains("Partial"), "{shown}");
    assert!(shown.contains(r#"name="kept_from" value="2026-10-23""#), "{shown}");
}

#[test]
fn who_is_no_owner_sees_it_only() {
    let limited = RetentionPage {
        current: Some(1),
        kept_from_words: Some("21 Nov 2026".into()),
        saved: true,
        may_change: false,
        ..page()
    };
    let shown = check("retention-viewer", &limited);
    assert!(shown.contains("1 day</strong>") && shown.contains("Only owners"), "{shown}");
    assert!(!shown.contains("<input type=\"text\""), "{shown}");
    let back = RetentionPage { current: Some(30), wants_all: true, ..page() };
    assert!(check("retention-back", &back).contains("Keep events for ever"));
}
