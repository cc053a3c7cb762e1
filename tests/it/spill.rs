//! One of two servers is away under load: not one request fails, what belongs there waits at the other,
//! answers say so, and after its return every event counts once, whoever dies in between.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kill::quick;
use crate::ledger::{Ledger, Senders};
use crate::support::{Installation, MariaDb, Project, Weir, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_a_dead_server_wait_at_another_and_count_once() {
    let (one, mut two) = tokio::join!(MariaDb::start(), MariaDb::start());
    let (installation, project) = two_servers(&one, &two).await;
    let ledger = Arc::<Ledger>::default();
    let mut weir = installation.serve().await;
    let senders = Senders::start(&weir.api, &project, &ledger);
    ledger.acknowledges(300).await;
    two.kill9();
    ledger.acknowledges(600).await;
    assert!(ledger.has_unanswered().is_none(), "a request failed");
    assert!(weir.metric("weir_collect_spilled_events_total").await > 0.0);
    let away = is_partial_and_stands_still(&weir, &project, &ledger).await;
    assert!(away["since"].is_string(), "{away}");
    assert!(ledger.has_unanswered().is_none(), "a request failed");

    // weir dies, and starts again while the server is still away.
    weir.kill9();
    until("a request to fail", Duration::from_secs(60), || async { ledger.has_unanswered() }).await;
    senders.stop().await;
    let armed = [("WEIR_FAILPOINT", "forward.after_insert:2")];
    let mut weir = installation.serve_with(&armed).await;
    ledger.resend(&weir.api, &project).await;
    let senders = Senders::start(&weir.api, &project, &ledger);
    ledger.acknowledges(300).await;
    assert!(ledger.has_unanswered().is_none(), "a request failed");
    let away = is_partial_and_stands_still(&weir, &project, &ledger).await;
    assert!(away["since"].is_null(), "this weir has never heard it: {away}");

    // The server returns, and weir dies between the two halves of a forward, then after both.
    two.restart().await;
    weir.ended(Duration::from_secs(60)).await;
    until("a request to fail", Duration::from_secs(60), || async { ledger.has_unanswered() }).await;
    senders.stop().await;
    let mut weir = installation.serve_with(&[("WEIR_FAILPOINT", "forward.after_delete")]).await;
    weir.ended(Duration::from_secs(60)).await;
    let weir = installation.serve().await;
    ledger.resend(&weir.api, &project).await;
    came_home(&weir).await;
    ledger.check_equal(&weir.api, &project).await;
    weir.stop();
}

/// No connection breaks and nothing answers: only time tells that the server is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_a_frozen_server_wait_at_another_and_count_once() {
    let (one, two) = tokio::join!(MariaDb::start(), MariaDb::start());
    let (installation, project) = two_servers(&one, &two).await;
    let ledger = Arc::<Ledger>::default();
    let weir = installation.serve().await;
    let senders = Senders::start(&weir.api, &project, &ledger);
    ledger.acknowledges(300).await;
    two.freeze();
    ledger.acknowledges(600).await;
    is_partial_and_stands_still(&weir, &project, &ledger).await;
    assert!(ledger.has_unanswered().is_none(), "a request failed");
    // What hung in its statements is committed there now, and here too.
    two.wake();
    ledger.acknowledges(300).await;
    came_home(&weir).await;
    senders.stop().await;
    assert!(ledger.has_unanswered().is_none(), "a request failed");
    ledger.check_equal(&weir.api, &project).await;
    weir.stop();
}

async fn two_servers(one: &MariaDb, two: &MariaDb) -> (Installation, Project) {
    let databases = [one.create_database().await, two.create_database().await];
    let installation = quick(Installation::mysql(&databases, 4))
        .with("WEIR__COLLECTION__SPILL_AFTER_MS", "500")
        .with("WEIR__STORAGE__STATEMENT_SECS_MAX", "3");
    let project = installation.create_project("spill");
    (installation, project)
}

/// Answers are marked, and as old as the oldest event that waits, though others are sealed meanwhile.
/// What they say is away.
async fn is_partial_and_stands_still(weir: &Weir, project: &Project, ledger: &Ledger) -> Value {
    let first = weir.api.ask_ticket(project, &question()).await;
    ledger.acknowledges(100).await;
    let second = weir.api.ask_ticket(project, &question()).await;
    for ticket in [&first, &second] {
        assert_eq!(ticket["state"], "succeeded", "{ticket:#}");
        assert_eq!(ticket["partial"], json!(true), "{ticket:#}");
        assert_eq!(ticket["result"]["fresh"], json!(false), "{ticket:#}");
        // Shards are dealt out in turn, and one of two servers is away.
        let away = &ticket["result"]["away"];
        let total = away["shards_total"].as_u64().expect("a number");
        let others: Vec<u64> = (0..total).filter(|shard_no| shard_no % 2 == 1).collect();
        assert_eq!(away["shards"], json!(others), "{ticket:#}");
    }
    assert!(first["as_of"].is_string(), "{first:#}");
    assert_eq!(first["as_of"], second["as_of"], "an answer without the waiting events is not newer");
    first["result"]["away"].clone()
}

fn question() -> Value {
    json!({
        "kind": "trends", "from": "2020-01-01", "to": "2020-02-01", "time_zone": "UTC",
        "series": [{"measure": "count"}],
    })
}

/// Waits until nothing waits where it does not belong.
async fn came_home(weir: &Weir) {
    until("the journals to hold only what is theirs", Duration::from_secs(60), || async {
        let forwarded = weir.metric("weir_forward_batches_total").await;
        let waiting = weir.metric("weir_forward_waiting_batches").await;
        (forwarded > 0.0 && waiting == 0.0).then_some(())
    })
    .await;
}
