//! weir dies at every point of a move: two ids still become one person, and every event counts once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kill::quick;
use crate::support::{Installation, MariaDb, Project, Weir, until};

/// When the rows are masked; between two chunks of them; at the end of a move, before and after.
const FAILPOINTS: [&str; 4] =
    ["link.after_mask", "link.after_chunk", "link.before_end", "link.after_chunk:3"];
/// Pairs of ids that are linked in each round, and events of each id.
const PAIRS: usize = 4;
const EVENTS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_dies_anywhere_goes_on_embedded() {
    die(Installation::embedded(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_dies_anywhere_goes_on_between_servers() {
    let server = MariaDb::start().await;
    let databases = [server.create_database().await, server.create_database().await];
    die(Installation::mysql(&databases, 4)).await;
}

async fn die(installation: Installation) {
    let installation = quick(installation)
        .with("WEIR__SEALING__MOVE_SETTLE_MS", "0")
        .with("WEIR__SEALING__MOVE_ROWS_MAX", "5");
    let project = installation.create_project("moving");
    for (round, failpoint) in FAILPOINTS.iter().enumerate() {
        let weir = installation.serve().await;
        let ids = |pair: usize| ["user", "phone"].map(|device| format!("{device}-{round}-{pair}"));
        let visits: Vec<Value> =
            (0..PAIRS).flat_map(ids).flat_map(|id| (0..EVENTS).map(move |n| visit(&id, n))).collect();
        weir.api.send_all(&project, &visits).await;
        let (events, persons) = count(&weir, &project).await.expect("nothing moves yet");
        assert_eq!(events, (round + 1) * visits.len());
        assert_eq!(persons, PAIRS * (round + 2), "pairs of earlier rounds are one person each");
        weir.stop();

        let mut weir = installation.serve_with(&[("WEIR_FAILPOINT", failpoint)]).await;
        let links: Vec<Value> = (0..PAIRS).map(ids).map(|[user, phone]| link(&user, &phone)).collect();
        // The answer may come or not.
        let _ = weir.api.send(&project, &json!(links)).await;
        weir.ended(Duration::from_secs(60)).await;
        let weir = installation.serve().await;
        weir.api.send_all(&project, &links).await;
        until("all pairs to be one person each", Duration::from_secs(60), || async {
            let (events, persons) = count(&weir, &project).await?;
            assert!(events <= (round + 1) * visits.len(), "{events} events");
            (events == (round + 1) * visits.len() && persons == (round + 1) * PAIRS).then_some(())
        })
        .await;
        weir.stop();
    }
}

fn visit(id: &str, n: usize) -> Value {
    json!({"id": format!("{id}/{n}"), "event": "visited", "distinct_id": id,
        "timestamp": format!("2026-01-{:02}T10:00:00Z", n + 1)})
}

fn link(user: &str, phone: &str) -> Value {
    json!({"id": format!("{user}/link"), "event": "$identify", "distinct_id": user, "anonymous_id": phone,
        "timestamp": "2026-01-20T10:00:00Z"})
}

/// Events and persons; `None` while some are on their way.
async fn count(weir: &Weir, project: &Project) -> Option<(usize, usize)> {
    let question = json!({"kind": "trends", "from": "2026-01-01", "to": "2026-02-01",
        "series": [{"event": "visited", "measure": "count"}, {"event": "visited", "measure": "persons"}]});
    let answer = weir.api.ask(project, &question).await;
    let total = |n: usize| answer["series"][n]["total"].as_u64().expect("a number") as usize;
    answer.get("moving").is_none().then(|| (total(0), total(1)))
}
