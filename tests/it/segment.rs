//! Segment's own SDKs, unmodified, send all six calls to weir; what arrived is asked for.
//!
//! Between them and weir is a gateway that refuses the first request and loses the answer to the
//! second: an SDK must send again, and what was committed already must not count again. Then the same
//! program runs a second time, with the same message ids. `tests/sdk` has the programs.

use serde_json::{Value, json};

use crate::support::{Fault, Gate, Installation, run_script};

struct Sdk {
    script: &'static str,
    /// What its ids begin with.
    prefix: &'static str,
    library: &'static str,
    /// Its context says more, and of every event.
    is_browser: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn analytics_node_3_counts_once() {
    let library = "@segment/analytics-node";
    check(Sdk { script: "analytics_node.cjs", prefix: "node", library, is_browser: false }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn analytics_node_6_counts_once() {
    let library = "analytics-node";
    check(Sdk { script: "analytics_node_6.cjs", prefix: "node6", library, is_browser: false }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn analytics_python_counts_once() {
    let library = "analytics-python";
    check(Sdk { script: "analytics_python.py", prefix: "python", library, is_browser: false }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn analytics_next_in_chromium_counts_once() {
    let library = "analytics.js";
    check(Sdk { script: "analytics_next.cjs", prefix: "next", library, is_browser: true }).await;
}

async fn check(sdk: Sdk) {
    let installation = Installation::embedded(4);
    let project = installation.create_project("Shop");
    let weir = installation.serve().await;
    let gate = Gate::start(&weir.api.url(""));
    let environment = [("WEIR_HOST", gate.url.as_str()), ("WEIR_WRITE_KEY", project.write_key.as_str())];
    let script = format!("tests/sdk/{}", sdk.script);

    gate.fail_next(&[Fault::Refused, Fault::AnswerLost]);
    run_script(&script, &environment).await;
    assert_eq!(gate.faults_left(), 0, "the SDK did not send again");
    let once = weir.metric("weir_collect_events_total").await;
    run_script(&script, &environment).await;
    let twice = weir.metric("weir_collect_events_total").await;
    // Both runs have arrived, so what follows is not the sender's merit.
    assert!(once >= 7.0 && twice >= once + 6.0, "{once} and {twice} events arrived");

    let asked = |series: &Value| json!({"kind": "trends", "from": "2025-05-04", "to": "2025-05-05", "series": series});
    let mut everything = asked(&json!([{"measure": "count"}]));
    everything["breakdown"] = json!({"event": true});
    let answer = weir.api.ask(&project, &everything).await;
    let mut counts: Vec<(String, Value)> = answer["series"]
        .as_array()
        .expect("an answer has series")
        .iter()
        .map(|series| (series["breakdown"].as_str().unwrap_or("").to_owned(), series["total"].clone()))
        .collect();
    counts.sort_by(|a, b| a.0.cmp(&b.0));
    // Identify, group and alias are stored, but are not part of every event.
    let counted = |name: &str| (name.to_owned(), json!(1));
    assert_eq!(counts, [counted("$pageview"), counted("$screen"), counted("Order Placed")], "{answer:#}");

    let mut track = json!({
        "total": 1999, "cart.size": 2, "$app_version": "1.2.3", "$os": "iOS", "$utm_source": "news",
        "$locale": "de-DE", "$library": sdk.library,
    });
    let mut page = json!({"name": "Home", "category": "Docs", "path": "/", "$library": sdk.library});
    if sdk.is_browser {
        track["$path"] = json!("/shop");
        // The SDK believes the call's own properties more than the address.
        page["$path"] = json!("/");
        for (name, value) in [("$title", "A shop"), ("$utm_campaign", "spring")] {
            track[name] = json!(value);
            page[name] = json!(value);
        }
    }
    for (event, properties) in [
        ("Order Placed", track),
        ("$pageview", page),
        ("$screen", json!({"name": "Cart"})),
        ("$identify", json!({"plan": "pro", "logins": 5})),
        ("$group", json!({"$group_id": "acme", "seats": 7})),
        ("$alias", json!({"$library": sdk.library})),
    ] {
        // One series without a filter, and one for each property: all count the same one event.
        let mut series = vec![json!({"event": event, "measure": "count"})];
        for (name, value) in properties.as_object().expect("properties are an object") {
            let filter = json!({"property": name, "op": "eq", "value": value});
            series.push(json!({"event": event, "measure": "count", "filters": [filter]}));
        }
        let answer = weir.api.ask(&project, &asked(&json!(series))).await;
        for (asked, series) in series.iter().zip(answer["series"].as_array().expect("an answer has series")) {
            assert_eq!(series["total"], 1, "{}: {asked}", sdk.prefix);
        }
    }
    gate.stop().await;
}
