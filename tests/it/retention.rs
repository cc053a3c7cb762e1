//! Retention over the public interface: what is older than a project keeps counts in no answer from the
//! moment on in which that is set, is gone from every table soon after, and stays out.

use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::kill::quick;
use crate::support::{Browser, Installation, MariaDb, Project, Weir, traces, until};

/// Persons of whom only old events are known, and persons with old and new ones.
const OLD: usize = 30;
const BOTH: usize = 20;
/// Old events of each.
const TIMES: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_events_go_embedded() {
    follow(Installation::embedded(4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_events_go_on_two_servers() {
    let server = MariaDb::start().await;
    let databases = [server.create_database().await, server.create_database().await];
    follow(Installation::mysql(&databases, 4)).await;
}

async fn follow(installation: Installation) {
    let installation = quick(installation)
        .with("WEIR__SEALING__COMPACT_FAN_IN", "2")
        .with("WEIR__SEALING__RUN_AGE_SECS_MAX", "1")
        .with("WEIR__SEALING__RETENTION_EVERY_MS", "100");
    let project = installation.create_project("keeping");
    let weir = installation.serve().await;
    for n in 0..TIMES {
        let old = (0..OLD).map(|who| event(&format!("needle{who}"), n, 100 + n as i64));
        let both = (0..BOTH).map(|who| event(&format!("stays{who}"), n, 60 + n as i64));
        let new = (0..BOTH).map(|who| event(&format!("stays{who}"), 10 + n, n as i64));
        weir.api.send_all(&project, &old.chain(both).chain(new).collect::<Vec<_>>()).await;
    }
    let all = (OLD + 2 * BOTH) * TIMES;
    assert_eq!(count(&weir, &project, true).await, all);
    assert_eq!(count(&weir, &project, false).await, all);
    assert!(!traces(&installation, None, &["needle"]).await.is_empty());
    assert_eq!(weir.api.get(&project, "/api/v1/retention").await, json!({"days": null, "kept_from": null}));

    let preview = weir.api.get(&project, "/api/v1/retention/preview?days=30").await;
    let kept_from = preview["kept_from"].as_str().expect("a day").to_owned();
    let expected = json!({
        "days": 30, "kept_from": kept_from, "events": all, "events_before": (OLD + BOTH) * TIMES,
        "persons": OLD + BOTH, "persons_before": OLD, "partial": false,
    });
    assert_eq!(preview, expected);
    for body in [json!({"days": 30}), json!({"days": 29, "kept_from": kept_from}), json!({"days": 0})] {
        let (status, problem) = put(&weir, &project, &body).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid")), "{body}: {problem:#}");
    }
    assert_eq!(count(&weir, &project, false).await, all, "nothing happens by looking");

    let (status, set) = put(&weir, &project, &json!({"days": 30, "kept_from": kept_from})).await;
    assert_eq!((status, &set["days"]), (200, &json!(30)), "{set:#}");
    // At once, and not what was answered before over the same data.
    assert_eq!(count(&weir, &project, false).await, BOTH * TIMES);
    until("every trace of old persons to be gone", Duration::from_secs(60), || async {
        traces(&installation, None, &["needle"]).await.is_empty().then_some(())
    })
    .await;
    until("all old rows to be gone", Duration::from_secs(60), || async {
        let rows = weir.metric("weir_retention_rows_total").await;
        (rows == ((OLD + BOTH) * TIMES) as f64).then_some(())
    })
    .await;
    assert_eq!(weir.metric("weir_retention_persons_total").await, OLD as f64);
    assert_eq!(count(&weir, &project, true).await, BOTH * TIMES);
    let left = weir.api.get(&project, "/api/v1/retention/preview?days=30").await;
    assert_eq!((&left["events_before"], &left["persons"]), (&json!(0), &json!(BOTH)), "{left:#}");
    let person = weir.api.get(&project, "/api/v1/persons/stays1").await;
    assert_eq!(person["events"], json!(TIMES), "{person:#}");
    assert_eq!(person["first_day"], json!(day(TIMES as i64 - 1)), "{person:#}");

    // What comes too late is dropped, what is in time is not.
    weir.api.send_all(&project, &[event("needle0", 0, 32), event("stays0", 99, 30)]).await;
    assert_eq!(count(&weir, &project, true).await, BOTH * TIMES + 1);
    assert_eq!(weir.metric_of("weir_seal_events_total", "expired").await, 1.0);
    assert_eq!(traces(&installation, None, &["needle"]).await, Vec::<String>::new());

    on_its_page(&installation, &weir, &project).await;
    // What the page had set for a moment may have deleted more, or not.
    until("what is old to be kept again", Duration::from_secs(30), || async {
        weir.api.send_all(&project, &[event("needle0", 1, 32)]).await;
        (count_of(&weir, &project, "needle0").await > 0).then_some(())
    })
    .await;
    weir.stop();
}

async fn on_its_page(installation: &Installation, weir: &Weir, project: &Project) {
    let browser = Browser::new(installation, "ada@example.org");
    browser.log_in(&weir.api.url("")).await;
    let page = weir.api.url(&format!("/p/{}/retention", project.project_id));
    let shown = browser.read(&format!("{page}?days=2")).await;
    assert!(shown.contains("Events that go") && shown.contains("Type the project"), "{shown}");
    let kept_from = day(2);
    let fields = |typed, kept_from| [("days", "2"), ("kept_from", kept_from), ("typed", typed)];
    for (typed, kept_from) in [("keep", kept_from.as_str()), ("keeping", "2020-01-01")] {
        let (status, refused) = browser.submit(&page, &page, &fields(typed, kept_from)).await;
        assert!(status == 400 && refused.contains("field-error"), "{status} {refused}");
    }
    let (status, to) = browser.submit(&page, &page, &fields("keeping", &kept_from)).await;
    assert!(status == 303 && to.ends_with("?saved=1"), "{status} {to}");
    let shown = browser.read(&page).await;
    assert!(shown.contains("2 days") && !shown.contains("for ever</strong>"), "{shown}");
    let (status, _) = browser.submit(&page, &page, &[("days", "")]).await;
    assert_eq!(status, 303);
    assert!(browser.read(&page).await.contains("<strong>for ever</strong>"));
}

#[expect(clippy::disallowed_methods, reason = "weir's own clock is this machine's too")]
fn day(days_ago: i64) -> String {
    let day = Timestamp::now().in_tz("UTC").expect("UTC is known").date() - days_ago.days();
    day.to_string()
}

fn event(who: &str, n: usize, days_ago: i64) -> Value {
    json!({"id": format!("{who}/{n}/{days_ago}"), "event": "visited", "distinct_id": who,
        "timestamp": format!("{}T00:00:00Z", day(days_ago)), "properties": {"who": who}})
}

async fn put(weir: &Weir, project: &Project, body: &Value) -> (u16, Value) {
    let request = weir.api.client().put(weir.api.url("/api/v1/retention")).bearer_auth(&project.secret_key);
    let answer = request.json(body).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

/// All visits; without `fresh` an answer may be one that was given before.
async fn count(weir: &Weir, project: &Project, fresh: bool) -> usize {
    let question = json!({"kind": "trends", "from": day(400), "to": day(-2), "fresh": fresh,
        "series": [{"measure": "count", "event": "visited"}]});
    let ticket = weir.api.ask_ticket(project, &question).await;
    ticket["result"]["series"][0]["total"].as_u64().unwrap_or_else(|| panic!("{ticket:#}")) as usize
}

async fn count_of(weir: &Weir, project: &Project, who: &str) -> u64 {
    let question = json!({"kind": "trends", "from": day(400), "to": day(-2), "series": [{"measure": "count",
        "filters": [{"property": "who", "op": "eq", "value": who}]}]});
    let answer = weir.api.ask(project, &question).await;
    answer["series"][0]["total"].as_u64().expect("a number")
}
