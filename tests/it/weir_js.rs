//! weir.js in Chromium, on pages of another origin: `tests/sdk/weir_js.cjs` visits them, one visit a
//! scenario, and what arrived is asked for. A gateway in between refuses the first request and loses
//! the answer to the second, so whatever counts once was sent again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Api, Fault, Gate, Installation, Project, run_script, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_send_what_happens_on_them_and_nothing_else() {
    let installation = Installation::embedded(4);
    let project = installation.create_project("Shop");
    let weir = installation.serve().await;
    let gate = Gate::start(&weir.api.url(""));
    gate.fail_next(&[Fault::Refused, Fault::AnswerLost]);
    let environment = [("WEIR_HOST", gate.url.as_str()), ("WEIR_WRITE_KEY", project.write_key.as_str())];
    println!("{}", run_script("tests/sdk/weir_js.cjs", &environment).await);
    assert_eq!(gate.faults_left(), 0, "nothing was sent again");

    // Nobody sees a beacon's answer, so this one event may arrive after the browser has ended.
    let counts = until("the beacon of a closed page", Duration::from_secs(30), || async {
        let counts = counts(&weir.api, &project).await;
        counts.contains_key("while_leaving").then_some(counts)
    })
    .await;
    let expected = [
        ("$pageview", 5),
        ("after_log_in", 2),
        ("after_log_out", 1),
        ("before_log_in", 1),
        ("early", 1),
        ("kept_for_another_visit", 1),
        ("nothing_kept", 1),
        ("opted_in", 1),
        ("while_leaving", 1),
        ("while_offline", 1),
    ];
    // No view of a page whose visitor does not want to be seen, and nothing named "not_tracked".
    let expected: BTreeMap<_, _> = expected.map(|(name, count)| (name.to_owned(), count)).into();
    assert_eq!(counts, expected);

    for (what, series, expected) in [
        ("one visitor", json!({"event": "$pageview", "measure": "persons"}), 1),
        ("views by path", with(&json!({"$path": "/cart"})), 2),
        (
            "a page's own address",
            with(&json!({"$path": "/shop", "$title": "A shop", "$library": "weir.js"})),
            1,
        ),
        ("a campaign", with(&json!({"$utm_source": "news"})), 1),
        ("the page before, inside an app", with(&json!({"$path": "/pay", "$referrer": "{site}/cart"})), 1),
        ("properties", event_with("after_log_in", &json!({"amount": 5, "nested.deep": true})), 1),
        ("properties of early calls", event_with("early", &json!({"n": 1})), 1),
        ("traits", event_with("$identify", &json!({"plan": "pro"})), 1),
        ("log-ins", json!({"event": "$identify", "measure": "count"}), 1),
        ("one person after the log-in", json!({"event": "after_log_in", "measure": "persons"}), 1),
    ] {
        let answer = ask(&weir.api, &project, json!({"series": [series]})).await;
        assert_eq!(answer["series"][0]["total"], expected, "{what}: {series}");
    }
    gate.stop().await;
}

fn with(properties: &Value) -> Value {
    event_with("$pageview", properties)
}

/// Counts events of that name that have all the properties. The site's port is not known, so its
/// addresses are told by their end.
fn event_with(event: &str, properties: &Value) -> Value {
    let properties = properties.as_object().expect("properties are an object");
    let filters: Vec<Value> = properties
        .iter()
        .map(|(name, value)| match value.as_str().and_then(|text| text.strip_prefix("{site}")) {
            Some(path) => json!({"property": name, "op": "contains", "value": path}),
            None => json!({"property": name, "op": "eq", "value": value}),
        })
        .collect();
    json!({"event": event, "measure": "count", "filters": filters})
}

async fn ask(api: &Api, project: &Project, mut question: Value) -> Value {
    question["kind"] = json!("trends");
    question["from"] = json!("-1d");
    question["to"] = json!("now");
    api.ask(project, &question).await
}

async fn counts(api: &Api, project: &Project) -> BTreeMap<String, u64> {
    let question = json!({"series": [{"measure": "count"}], "breakdown": {"event": true, "limit": 50}});
    let answer = ask(api, project, question).await;
    let series = answer["series"].as_array().expect("an answer has series").clone();
    let counted =
        |series: &Value| Some((series["breakdown"].as_str()?.to_owned(), series["total"].as_u64()?));
    series.iter().filter_map(counted).collect()
}
