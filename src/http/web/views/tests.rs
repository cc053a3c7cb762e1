//! Every page rendered with made-up data in each of its states. With `WEIR_PAGES_DIR` set the pages
//! are also written there, so that they can be looked at in a browser without a server.

mod answers;
mod retention;
mod step_persons;

use std::path::Path;

use super::*;

const NOW: Millis = 1_795_406_671_000;

pub fn frame(title: &str, nav: Nav) -> Frame {
    let shop = ProjectLink { id: ProjectId(1), name: "Shop".into() };
    Frame {
        title: title.into(),
        nav,
        account_email: Some("ada@example.org".into()),
        csrf: "token".into(),
        project: Some(shop.clone()),
        projects: vec![shop, ProjectLink { id: ProjectId(2), name: "Mobile <beta>".into() }],
        time_zone: TimeZone::get("Europe/Berlin").unwrap(),
        as_of: Some(NOW - 4_000),
        now: NOW,
    }
}

/// Renders a page, checks what holds for all of them, and keeps it when asked to.
pub fn check(name: &str, page: &impl Template) -> String {
    let html = page.render().unwrap();
    assert_eq!(html.matches("<h1").count(), 1, "{name}: one h1 a page");
    // The content security policy would drop all of these silently.
    for forbidden in [" style=", "<style", "<script>", " onclick=", "javascript:"] {
        assert!(!html.contains(forbidden), "{name} contains {forbidden}");
    }
    for form in html.split("<form").skip(1).filter(|form| form.contains(r#"method="post""#)) {
        assert!(form.contains(r#"name="csrf""#), "{name}: a form without a token");
    }
    if let Ok(folder) = std::env::var("WEIR_PAGES_DIR") {
        let folder = Path::new(&folder);
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join(format!("{name}.html")), &html).unwrap();
    }
    html
}

#[test]
fn the_log_in_page_keeps_the_address_and_escapes_it() {
    let mut page = LoginPage {
        frame: Frame::signed_out("Log in", "token", NOW),
        email: String::new(),
        next: "/".into(),
        error: None,
    };
    check("login", &page);
    page.email = "\"><img src=x onerror=alert(1)>".into();
    page.error = Some("Email or password is wrong.".into());
    let html = check("login-failed", &page);
    assert!(!html.contains("<img"));
}

#[test]
fn error_pages_offer_a_way_on() {
    let missing = |frame| {
        ErrorPage::of(frame, StatusCode::NOT_FOUND, "Not found", "There is nothing at this address.", "01J9")
    };
    let out = Frame::signed_out("Not found", "token", NOW);
    assert!(check("error-404", &BareErrorPage(missing(out))).contains("/login"));
    let frame = || frame("Error", Nav::None);
    let html = check("error-404-in", &missing(frame()));
    assert!(html.contains("href=\"/p/1/overview\">Go to the overview") && !html.contains("/login"));
    check("error-form", &ErrorPage::expired_form(frame(), "/p/1/keys"));
    check("error-500", &ErrorPage::internal(frame(), "01J9"));
    check("error-503", &ErrorPage::unavailable(frame(), "The control database does not answer.", "01J9"));
}

#[test]
fn projects_are_listed_and_created() {
    let mut page = ProjectsPage {
        frame: frame("Projects", Nav::Projects),
        projects: Vec::new(),
        form: ProjectForm::default(),
        time_zones: time_zone_names(),
    };
    assert!(page.time_zones.iter().any(|zone| zone == "Europe/Berlin"));
    assert!(page.time_zones.iter().any(|zone| zone == "UTC"));
    page.frame.project = None;
    check("projects-empty", &page);
    page.frame = frame("Projects", Nav::Projects);
    for (id, name, zone) in [(1, "Shop", "Europe/Berlin"), (2, "Mobile <beta>", "America/New_York")] {
        let created_at = NOW - 90_000_000 * i64::from(id);
        page.projects.push(ProjectRow {
            id: ProjectId(id),
            name: name.into(),
            time_zone: zone.into(),
            created_at,
        });
    }
    page.form.time_zone = "Mars/Olympus".into();
    page.form.time_zone_error =
        Some("There is no time zone “Mars/Olympus”. Choose one from the list.".into());
    assert!(check("projects", &page).contains("Mobile &#60;beta&#62;"));
    let form =
        ProjectForm { name: "Shop".into(), time_zone: "Europe/Berlin".into(), ..ProjectForm::default() };
    let time_zones = time_zone_names();
    let settings = SettingsPage {
        frame: frame("Settings", Nav::Settings),
        form,
        time_zones,
        created_at: NOW - 1,
        saved: true,
        may_change: true,
        limits: vec![("An event", "256 KiB".into())],
    };
    assert!(check("settings", &settings).contains("Save changes"));
    let viewer = SettingsPage { may_change: false, ..settings };
    assert!(!check("settings-viewer", &viewer).contains("Save changes"));
}

#[test]
fn a_new_secret_key_is_shown_once_and_keys_are_revoked_by_name() {
    let key = |id, kind, label: &str, shown: &str, revoked_at| KeyRow {
        id,
        kind,
        label: label.into(),
        shown: shown.into(),
        created_at: NOW - 500_000_000,
        revoked_at,
    };
    let mut page = KeysPage {
        frame: frame("Keys", Nav::Keys),
        keys: Vec::new(),
        created: None,
        label: String::new(),
        label_error: None,
        may_change: true,
    };
    check("keys-empty", &page);
    page.keys = vec![
        key(1, KeyKind::Write, "Website", "wk_8fJ2kQp0sXv7LmZr4TnB1c", None),
        key(2, KeyKind::Secret, "Reporting server", "sk_Qm7x…", None),
        key(3, KeyKind::Write, "Old app", "wk_2mPq8RtYv5NcXz0LkJhG7f", Some(NOW - 86_400_000)),
    ];
    page.created = Some(CreatedKey { kind: KeyKind::Secret, key: "sk_Qm7xV2bN9cT4zR8kW1pL6yH3".into() });
    let html = check("keys", &page);
    assert!(html.contains("Revoke “Website”"));
    assert!(!html.contains("/keys/3/revoke"), "a revoked key cannot be revoked again");
}

#[test]
fn rejected_events_say_why() {
    let mut page = RejectedPage {
        missing: None,
        frame: frame("Rejected events", Nav::Rejected),
        reasons: Vec::new(),
        reason: None,
        rows: Vec::new(),
        kept_max: 10_000,
        older_href: None,
    };
    check("rejected-empty", &page);
    page.reasons = vec![
        ReasonCount { code: "event_name".into(), count: 1_204 },
        ReasonCount { code: "distinct_id".into(), count: 12 },
    ];
    page.reason = Some("event_name".into());
    page.older_href = Some("/p/1/rejected?before=1".into());
    for n in 0..6 {
        page.rows.push(RejectedRow {
            received_at: NOW - 61_000 * n,
            code: "event_name".into(),
            detail: "event must be a string of 1 to 200 characters".into(),
            event: String::new(),
            distinct_id: format!("user-{n}"),
            body: r#"{"event": "", "distinct_id": "<script>alert(1)</script>"}"#.into(),
        });
    }
    let html = check("rejected", &page);
    assert!(html.contains("1,216"), "all reasons together");
}

#[test]
fn live_events_are_text_whatever_they_contain() {
    let mut page = LivePage {
        frame: frame("Live", Nav::Live),
        filter: LiveFilter::default(),
        event_names: vec!["order_placed".into(), "$pageview".into()],
        rows: Vec::new(),
        rows_max: 100,
        missing: Vec::new(),
    };
    assert!(check("live-empty", &page).contains("Waiting for the first event"));
    page.missing = vec!["Server 2 does not answer, so what arrived there is missing.".into()];
    for n in 0..30 {
        page.rows.push(LiveRow {
            event_id: format!("9b0759dd-7124-57d2-aebb-0c19d56{n:05}"),
            event: ["$pageview", "product_viewed", "order_placed", "<img src=x>"][n % 4].into(),
            distinct_id: format!("anon-{:x}", n * 7_919_777),
            occurred_at: NOW - 1_700 * n as i64,
            received_at: NOW - 1_600 * n as i64,
            properties: vec![
                ("$current_url".into(), "https://shop.example.org/p/walking-boots?utm_source=news".into()),
                ("country".into(), "Germany".into()),
                ("amount_pence".into(), "1999".into()),
            ],
        });
    }
    let html = check("live", &page);
    assert!(!html.contains("<img"));
}

#[test]
fn getting_started_waits_for_the_first_event() {
    let mut page = StartPage {
        frame: frame("Get started", Nav::Start),
        public_url: "http://127.0.0.1:8080".into(),
        write_key: Some("wk_8fJ2kQp0sXv7LmZr4TnB1c".into()),
        last_event_at: None,
        senders: Sender::ALL.map(|sender| SenderState { sender, arrived_at: None }).into(),
    };
    let html = check("start", &page);
    assert!(html.contains("Waiting for the first event"));
    assert_eq!(html.matches("waiting for your first event").count(), 4);
    page.last_event_at = Some(NOW - 3_000);
    page.senders[1].arrived_at = Some(NOW - 3_000);
    page.write_key = None;
    let html = check("start-done", &page);
    assert_eq!(html.matches("waiting for your first event").count(), 3);
    assert!(html.contains("badge good") && html.contains("YOUR_WRITE_KEY"));
}
