//! One person over the public interface: what is sent about them comes back as their profile, their
//! events and their page, embedded and on MariaDB.

use serde_json::{Value, json};

use crate::support::{Browser, Installation, MariaDb, Project, Weir};

const DAYS: i64 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_what_was_sent_about_them_embedded() {
    follow(Installation::embedded(4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_what_was_sent_about_them_on_mariadb() {
    let server = MariaDb::start().await;
    let servers = [server.create_database().await, server.create_database().await];
    follow(Installation::mysql(&servers, 8)).await;
}

async fn follow(installation: Installation) {
    // Small answers, so that there are pages.
    let installation = installation.with("WEIR__HTTP__PERSON_EVENTS_MAX", "20");
    let (project, other) = (installation.create_project("persons"), installation.create_project("other"));
    let weir = installation.serve().await;
    let visit = |n: i64, who: &str| {
        json!({"id": format!("{who}{n}"), "event": "visited", "distinct_id": who,
            "timestamp": format!("2026-01-{:02}T10:00:00Z", n + 1),
            "properties": {"n": n, "$set": {"visits": n}, "$set_once": {"began": n}}})
    };
    // From the last to the first, so that what counts is not what came last.
    for who in ["u/1", "u/2"] {
        let all: Vec<Value> = (0..DAYS).rev().map(|n| visit(n, who)).collect();
        weir.api.send_all(&project, &all).await;
    }
    identify(&weir, &project).await;
    sealed(&weir, &project).await;

    let person = weir.api.get(&project, "/api/v1/persons/u%2F1").await;
    let traits = json!({"began": 0, "company.name": "Acme", "plan": "pro", "visits": DAYS - 1});
    assert_eq!((&person["traits"], &person["distinct_ids"]), (&traits, &json!(["u/1"])), "{person:#}");
    assert_eq!((&person["first_day"], &person["last_day"]), (&json!("2026-01-01"), &json!("2026-02-01")));
    assert_eq!((&person["events"], &person["more_events"]), (&json!(20), &json!(true)));

    let (mut next, mut days) = (person["links"]["events"].as_str().map(str::to_owned), Vec::new());
    while let Some(address) = next {
        let page = weir.api.get(&project, &address).await;
        days.extend(
            page["events"].as_array().expect("a list").iter().map(|event| event["properties"]["n"].clone()),
        );
        next = page["next"].as_str().map(str::to_owned);
    }
    let expected: Vec<Value> =
        std::iter::once(Value::Null).chain((0..DAYS).rev().map(|n| json!(n))).collect();
    assert_eq!(days, expected);

    let url = weir.api.url("/api/v1/persons/u%2F1");
    let elsewhere =
        weir.api.client().get(url).bearer_auth(&other.secret_key).send().await.expect("an answer");
    assert_eq!(elsewhere.status().as_u16(), 404);

    let browser = Browser::new(&installation, "ada@example.org");
    browser.log_in(&weir.api.url("")).await;
    let page = format!("/p/{}/persons?id=u%2F1", project.project_id);
    let page = browser.read(&weir.api.url(&page)).await;
    assert!(page.contains("<dt>plan</dt><dd>pro</dd>") && page.contains("1 Jan 2026 (UTC)"), "{page}");
    weir.stop();
}

/// As Segment's SDKs do it.
async fn identify(weir: &Weir, project: &Project) {
    let call = json!({"userId": "u/1", "messageId": "i1", "timestamp": "2026-02-01T10:00:00Z",
        "traits": {"plan": "pro", "company": {"name": "Acme"}}, "context": {"locale": "nl-NL"}});
    let request = weir.api.client().post(weir.api.url("/v1/identify"));
    let answer = request.basic_auth(&project.write_key, None::<&str>).json(&call).send().await;
    assert_eq!(answer.expect("an answer").status().as_u16(), 200);
}

/// Everything sent so far has left the journal.
async fn sealed(weir: &Weir, project: &Project) {
    let question = json!({"kind": "trends", "from": "2026-01-01", "to": "2026-03-01",
        "series": [{"measure": "count"}]});
    let answer = weir.api.ask(project, &question).await;
    assert_eq!(answer["series"][0]["total"], json!(2 * DAYS));
}
