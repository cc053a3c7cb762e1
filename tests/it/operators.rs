//! What operators look at: `weir shards` and `weir healthcheck`, beside a running server.

use serde_json::{Value, json};

use crate::support::{Installation, MariaDb, Project, Weir};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_are_listed_beside_a_running_server_embedded() {
    let installation = Installation::embedded(2);
    let project = installation.create_project("listed");
    let weir = installation.serve().await;
    send_and_seal(&weir, &project).await;
    let shown = shards(&installation);
    let [server] = shown["servers"].as_array().unwrap().as_slice() else { panic!("{shown:#}") };
    assert_eq!((&server["reachable"], &server["shards"]), (&json!(true), &json!(2)), "{shown:#}");
    assert!(server["version"].as_str().unwrap().starts_with("SQLite 3."), "{shown:#}");
    check_shards(&shown, 2);
    weir.stop();
    // Leases were given back, what is stored stays.
    let stopped = shards(&installation);
    assert!(stopped["shards"].as_array().unwrap().iter().all(|shard| shard["leases"] == json!([])));
    check_stored(&stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_are_listed_while_a_server_is_away() {
    let (here, mut away) = tokio::join!(MariaDb::start(), MariaDb::start());
    let servers = [here.create_database().await, away.create_database().await];
    let installation = Installation::mysql(&servers, 4);
    let project = installation.create_project("listed");
    let weir = installation.serve().await;
    send_and_seal(&weir, &project).await;
    check_shards(&shards(&installation), 4);

    away.kill9();
    let shown = shards(&installation);
    let reachable = |server: &&Value| server["reachable"] == json!(true);
    let listed = shown["servers"].as_array().unwrap();
    assert_eq!((listed.len(), listed.iter().filter(reachable).count()), (2, 1), "{shown:#}");
    let gone = listed.iter().find(|server| !reachable(server)).unwrap();
    assert!(gone["error"].is_string() && gone["version"].is_null(), "{gone:#}");
    for shard in shown["shards"].as_array().unwrap() {
        assert_eq!(shard["journal"].is_null(), shard["server_id"] == gone["server_id"], "{shard:#}");
    }
    assert!(!shown.to_string().contains("weir:weir@"), "no password is shown");
    let table = installation.run(&["shards"]);
    assert!(table.contains("NOT REACHABLE") && !table.contains("weir:weir@"), "{table}");
    assert_eq!(
        table.lines().filter(|line| line.contains("its server is not reachable")).count(),
        2,
        "{table}"
    );
    weir.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn healthcheck_succeeds_while_the_server_wants_requests_and_fails_else() {
    let installation = Installation::embedded(1);
    let weir = installation.serve().await;
    let ops = weir.ops_address().to_owned();
    let installation = installation.with("WEIR__HTTP__OPS_BIND", &ops);
    let printed = installation.run(&["healthcheck"]);
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap()["status"], "ready");
    assert_eq!(installation.run(&["healthcheck", "--live"]), "live\n");
    weir.stop();
    let output = installation.output(&["healthcheck"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains(&ops), "{output:?}");
}

fn shards(installation: &Installation) -> Value {
    serde_json::from_str(&installation.run(&["shards", "--json"])).expect("shards --json prints JSON")
}

async fn send_and_seal(weir: &Weir, project: &Project) {
    let event = |n: u32| {
        json!({"id": format!("e{n}"), "event": "listed", "distinct_id": format!("u{n}"),
            "timestamp": "2026-01-05T10:00:00Z"})
    };
    weir.api.send_all(project, &(0..200).map(event).collect::<Vec<_>>()).await;
    let question = json!({"kind": "trends", "from": "2026-01-01", "to": "2026-02-01",
        "series": [{"measure": "count"}]});
    assert_eq!(weir.api.ask(project, &question).await["series"][0]["total"], json!(200));
}

fn check_shards(shown: &Value, count: usize) {
    let shards = shown["shards"].as_array().unwrap();
    let numbers: Vec<_> = shards.iter().map(|shard| shard["shard_no"].as_u64().unwrap() as usize).collect();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    for shard in shards {
        assert_eq!(shard["journal"]["batches"], json!(0), "{shard:#}");
        let leases = shard["leases"].as_array().unwrap();
        let seal = leases.iter().find(|lease| lease["task"] == "seal");
        let seal = seal.unwrap_or_else(|| panic!("the sealer keeps its lease: {shard:#}"));
        assert!(seal["expires_in_secs"].as_u64().unwrap() <= 15 && seal["fence"] == json!(1), "{shard:#}");
        assert!(shard["runs"]["bytes"].as_u64().unwrap() > 0, "{shard:#}");
    }
    check_stored(shown);
}

/// Every event lies in exactly one shard.
fn check_stored(shown: &Value) {
    let shards = shown["shards"].as_array().unwrap().iter();
    let events = |shard: &Value| ["runs", "segments"].map(|kind| shard[kind]["events"].as_u64().unwrap());
    assert_eq!(shards.flat_map(events).sum::<u64>(), 200, "{shown:#}");
}
