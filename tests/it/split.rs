//! A question that is split into steps outlives the replica that was asked: whoever takes it over does
//! only what is missing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Installation, MariaDb, Project, Weir, until};

const SHARDS: u16 = 8;
const EVENTS: u64 = 400;
/// Steps that the replica settles before it dies.
const DONE_BEFORE: u16 = 3;

/// Everything is split, and a dead process's leases do not last.
fn splitting(installation: Installation) -> Installation {
    installation.with("WEIR__TICKETS__SPLIT_AFTER_MS", "0").with("WEIR__TICKETS__LEASE_SECS", "2")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica_leaves_its_finished_shards_to_another() {
    let server = MariaDb::start().await;
    let installation = splitting(Installation::mysql(&[server.create_database().await], SHARDS));
    let project = prepare(&installation).await;
    let survivor = installation.serve().await;
    let mut dying = installation.serve_with(&[("WEIR_FAILPOINT", &failpoint())]).await;
    let ticket = submit(&dying, &project).await;
    dying.ended(Duration::from_secs(60)).await;
    check(&survivor, &project, &ticket).await;
    survivor.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_process_goes_on_where_it_was_killed_embedded() {
    let installation = splitting(Installation::embedded(SHARDS));
    let project = prepare(&installation).await;
    let mut dying = installation.serve_with(&[("WEIR_FAILPOINT", &failpoint())]).await;
    let ticket = submit(&dying, &project).await;
    dying.ended(Duration::from_secs(60)).await;
    let weir = installation.serve().await;
    check(&weir, &project, &ticket).await;
    weir.stop();
}

fn failpoint() -> String {
    format!("tickets.after_step:{DONE_BEFORE}")
}

/// Events in every shard, sealed.
async fn prepare(installation: &Installation) -> Project {
    let project = installation.create_project("split");
    let weir = installation.serve().await;
    let event = |n: u64| {
        json!({"id": format!("e{n}"), "event": "split", "distinct_id": format!("u{n}"),
            "timestamp": "2026-01-05T10:00:00Z", "properties": {"n": n % 7}})
    };
    weir.api.send_all(&project, &(0..EVENTS).map(event).collect::<Vec<_>>()).await;
    // Two rounds, both split.
    let mut question = question();
    question["breakdown"] = json!({"property": "n", "limit": 3});
    let answer = weir.api.ask(&project, &question).await;
    let totals: Vec<_> =
        answer["series"].as_array().unwrap().iter().map(|series| series["total"].as_u64().unwrap()).collect();
    assert_eq!((totals.len(), totals.iter().sum::<u64>()), (4, EVENTS), "{answer}");
    assert_eq!(steps(&weir).await, f64::from(2 * SHARDS));
    weir.stop();
    project
}

fn question() -> Value {
    json!({"kind": "trends", "from": "2026-01-01", "to": "2026-02-01", "series": [{"measure": "persons"}]})
}

async fn submit(weir: &Weir, project: &Project) -> String {
    let request = weir.api.client().post(weir.api.url("/api/v1/tickets")).bearer_auth(&project.secret_key);
    let answer = request.json(&json!({"question": question()})).send().await.expect("a ticket is taken");
    let ticket: Value = answer.json().await.expect("a ticket is JSON");
    ticket["id"].as_str().expect("a ticket has an id").to_owned()
}

async fn check(weir: &Weir, project: &Project, ticket: &str) {
    let ended = until("the ticket to end", Duration::from_secs(60), || async {
        let ticket = weir.api.get(project, &format!("/api/v1/tickets/{ticket}?wait=5")).await;
        matches!(ticket["state"].as_str(), Some("succeeded" | "failed" | "cancelled")).then_some(ticket)
    })
    .await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&json!("succeeded"), &json!(2)), "{ended:#}");
    assert_eq!(ended["result"]["series"][0]["total"], json!(EVENTS), "{ended:#}");
    assert_eq!(ended["progress"]["shards_done"], json!(SHARDS), "{ended:#}");
    // It counts its own steps at once with others, so some more may have settled before it died.
    let repeated = steps(weir).await;
    assert!((1.0..=f64::from(SHARDS - DONE_BEFORE)).contains(&repeated), "{repeated} steps were run again");
}

async fn steps(weir: &Weir) -> f64 {
    weir.metric("weir_ticket_steps_ended_total").await
}
