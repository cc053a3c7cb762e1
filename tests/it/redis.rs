//! Redis makes replicas faster and nothing else: it wakes whoever has a ticket to run or waits for
//! one, and without it everything goes on.

use std::time::Duration;

use serde_json::json;

use crate::support::{Browser, Installation, MariaDb, Project, Redis, Weir, until};

/// Nobody looks at the queue by itself within any time that these tests wait.
const NEVER_POLLING: (&str, &str) = ("WEIR__TICKETS__POLL_MS", "60000");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_of_one_replica_is_run_by_another_that_redis_woke() {
    let (server, mut redis) = tokio::join!(MariaDb::start(), Redis::start());
    let installation =
        Installation::mysql(&[server.create_database().await], 4).with("WEIR__CACHE__REDIS", &redis.url());
    let project = installation.create_project("woken");
    let taking = installation.serve_with(&[("WEIR__ROLES", "collect,web")]).await;
    let working = installation.serve_with(&[("WEIR__ROLES", "work"), NEVER_POLLING]).await;
    redis.listeners(2).await;
    let mut overheard = redis.overhear();

    let ticket = ask_and_wait(&taking, &project, 1).await;
    assert_eq!(ran(&working).await, 1.0, "by the one that works");
    // The one that took it learned from the other, through Redis, that it had ended.
    overheard.hears("queued");
    overheard.hears(&format!("changed {ticket}"));

    // It comes back with nothing in it, and both find it again.
    redis.kill9();
    redis.restart().await;
    redis.listeners(2).await;
    let mut overheard = redis.overhear();
    // Messages are sent again once a probe has found it well, so the first one may still be lost.
    let asked = until("a wake-up through the Redis that came back", Duration::from_secs(60), || async {
        let before = ran(&working).await;
        submit(&taking, &project, 2).await;
        let woken = async {
            while ran(&working).await == before {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(2), woken).await.ok()
    });
    asked.await;
    overheard.hears("queued");
    taking.stop();
    working.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_on_while_redis_is_away() {
    let (server, mut redis) = tokio::join!(MariaDb::start(), Redis::start());
    let installation =
        Installation::mysql(&[server.create_database().await], 4).with("WEIR__CACHE__REDIS", &redis.url());
    let project = installation.create_project("without");
    let one = installation.serve().await;
    let two = installation.serve().await;
    let browser = Browser::new(&installation, "a@example.com");
    browser.log_in(&one.api.url("")).await;
    let overview = two.api.url(&format!("/p/{}/overview", project.project_id));
    browser.read(&overview).await;
    send_and_ask(&one, &two, &project, 1).await;

    redis.kill9();
    for n in 2..5 {
        send_and_ask(&one, &two, &project, n).await;
        browser.read(&overview).await;
    }
    // One that starts meanwhile is no worse.
    let three = installation.serve().await;
    browser.read(&three.api.url("/account")).await;
    let late = Browser::new(&installation, "b@example.com");
    late.log_in(&two.api.url("")).await;
    late.read(&three.api.url("/account")).await;

    redis.restart().await;
    redis.listeners(3).await;
    browser.read(&overview).await;
    send_and_ask(&two, &three, &project, 5).await;
    for weir in [one, two, three] {
        weir.stop();
    }
}

/// Events sent to one replica are counted by another.
async fn send_and_ask(taking: &Weir, asked: &Weir, project: &Project, n: u64) {
    let event = |id: u64| {
        json!({"id": format!("e{id}"), "event": "sent", "distinct_id": format!("u{id}"),
            "timestamp": "2026-01-05T10:00:00Z"})
    };
    let events: Vec<_> = (10 * (n - 1)..10 * n).map(event).collect();
    taking.api.send_all(project, &events).await;
    let answer = asked.api.ask(project, &question(0)).await;
    assert_eq!(answer["series"][0]["total"], json!(10 * n), "{answer}");
}

/// Submits with a long poll; the ticket's id once it has succeeded.
async fn ask_and_wait(weir: &Weir, project: &Project, n: u64) -> String {
    let request = weir.api.client().post(weir.api.url("/api/v1/tickets")).bearer_auth(&project.secret_key);
    let request = request.header("Prefer", "wait=20").json(&json!({"question": question(n)}));
    let answer = request.send().await.expect("a question is answered");
    let ticket: serde_json::Value = answer.json().await.expect("a ticket is JSON");
    assert_eq!(ticket["state"], "succeeded", "{ticket:#}");
    ticket["id"].as_str().expect("a ticket has an id").to_owned()
}

async fn submit(weir: &Weir, project: &Project, n: u64) {
    let request = weir.api.client().post(weir.api.url("/api/v1/tickets")).bearer_auth(&project.secret_key);
    let mut question = question(n);
    // Each is run, none shares the result of an earlier one.
    question["fresh"] = json!(true);
    let answer = request.json(&json!({"question": question})).send().await;
    assert!(answer.expect("a ticket is taken").status().is_success());
}

async fn ran(weir: &Weir) -> f64 {
    weir.metric("weir_ticket_run_seconds_count").await
}

fn question(n: u64) -> serde_json::Value {
    json!({
        "kind": "trends", "from": "2026-01-01", "to": "2026-02-01", "series": [{"measure": "count"}],
        "filters": if n == 0 { json!([]) } else { json!([{"property": "n", "op": "ne", "value": n}]) },
    })
}
