//! A process that freezes in the middle of sealing, as a suspended machine does: another takes over
//! within the lease and five seconds, and the frozen one does no harm when it wakes up.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Installation, MariaDb, Project, Weir, until};

const LEASE_SECS: u64 = 4;
const BATCH: u64 = 10;

/// The row of the lease is locked, and the transaction stays open as long as the connection lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealer_frozen_inside_its_closing_transaction_is_overtaken_on_mariadb() {
    let server = MariaDb::start().await;
    let installation = Installation::mysql(&[server.create_database().await], 1);
    overtake(installation, "seal.in_closing:2:stop").await;
}

/// SQLite's one write lock belongs to the process, which nobody but the operator can end: here it
/// freezes one step earlier, with its lease and its parts but outside the transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealer_frozen_before_its_closing_transaction_is_overtaken_embedded() {
    overtake(Installation::embedded(1), "seal.after_parts:2:stop").await;
}

async fn overtake(installation: Installation, failpoint: &str) {
    let installation = installation
        .with("WEIR__SEALING__LEASE_SECS", &LEASE_SECS.to_string())
        .with("WEIR__SEALING__IDLE_MS", "50")
        // Nothing else shall be caught in the middle of a write.
        .with("WEIR__SEALING__COMPACT_EVERY_MS", "3600000")
        .with("WEIR__TICKETS__POLL_MS", "60000");
    let project = installation.create_project("frozen");
    let first = installation.serve_with(&[("WEIR_FAILPOINT", failpoint)]).await;
    // Its only round of compaction writes too, and would freeze with the lock of the whole file.
    until("the first round of compaction", Duration::from_secs(60), || async {
        (first.metric("weir_compact_rounds_total").await > 0.0).then_some(())
    })
    .await;
    first.api.send_all(&project, &batch(0)).await;
    sealed(&first, BATCH).await;
    first.api.send_all(&project, &batch(1)).await;
    first.frozen(Duration::from_secs(60)).await;

    let frozen_at = Instant::now();
    let second = installation.serve().await;
    sealed(&second, BATCH).await;
    let took = frozen_at.elapsed();
    assert!(took <= Duration::from_secs(LEASE_SECS + 5), "taken over after {took:?}");
    println!("taken over after {took:?}, the lease is {LEASE_SECS} s");
    second.api.send_all(&project, &batch(2)).await;
    assert_eq!(count(&second, &project).await, 3 * BATCH);

    first.wake();
    until("the woken one to notice", Duration::from_secs(60), || async {
        (first.metric("weir_seal_pass_failures_total").await > 0.0).then_some(())
    })
    .await;
    // It goes on as if nothing had been, and what it had in hand counts once.
    for (weir, number) in [(&first, 3), (&second, 4), (&first, 1), (&second, 1)] {
        weir.api.send_all(&project, &batch(number)).await;
    }
    for weir in [&first, &second] {
        assert_eq!(count(weir, &project).await, 5 * BATCH);
    }
    first.stop();
    second.stop();
}

async fn sealed(weir: &Weir, events: u64) {
    until("events to be sealed", Duration::from_secs(60), || async {
        (weir.metric("weir_seal_events_total").await >= events as f64).then_some(())
    })
    .await;
}

async fn count(weir: &Weir, project: &Project) -> u64 {
    let question = json!({
        "kind": "trends", "from": "2020-01-01", "to": "2020-01-02", "series": [{"measure": "count"}],
    });
    weir.api.ask(project, &question).await["series"][0]["total"].as_u64().expect("a count is a number")
}

fn batch(number: u64) -> Vec<Value> {
    let event = |n: u64| {
        json!({
            "id": uuid::Uuid::from_u128(0xf0_0000 + u128::from(n)).to_string(), "event": "seen",
            "distinct_id": format!("u{}", n % 7), "timestamp": "2020-01-01T12:00:00Z",
        })
    };
    (number * BATCH..(number + 1) * BATCH).map(event).collect()
}
