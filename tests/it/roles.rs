//! `roles`: a replica that only collects, one that only serves pages and the API, and one that only
//! works are together what one with all roles is, and each is nothing more than it says.

use serde_json::json;

use crate::support::{Browser, Installation, MariaDb, Sent, Weir};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_with_a_role_each_are_one_whole() {
    let server = MariaDb::start().await;
    let installation = Installation::mysql(&[server.create_database().await], 4);
    let project = installation.create_project("roles");
    let collecting = installation.serve_with(&[("WEIR__ROLES", "collect")]).await;
    let serving = installation.serve_with(&[("WEIR__ROLES", "web")]).await;

    let event = json!({"event": "shared", "distinct_id": "u", "timestamp": "2026-01-05T10:00:00Z"});
    collecting.api.send_all(&project, std::slice::from_ref(&event)).await;
    let browser = Browser::new(&installation, "a@example.com");
    browser.log_in(&serving.api.url("")).await;
    browser.read(&serving.api.url(&format!("/p/{}/tickets", project.project_id))).await;

    // Nobody works yet: what was asked waits, and is told so.
    let question = json!({"kind": "trends", "from": "2026-01-01", "to": "2026-02-01",
        "series": [{"measure": "count"}]});
    let request = serving.api.client().post(serving.api.url("/api/v1/tickets"));
    let request = request.bearer_auth(&project.secret_key).json(&json!({"question": question}));
    let ticket: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!((&ticket["state"], &ticket["queue_position"]), (&json!("queued"), &json!(1)), "{ticket:#}");
    assert_eq!(collecting.metric("weir_seal_batches_total").await, 0.0);
    assert_eq!(serving.metric("weir_seal_batches_total").await, 0.0);

    let working = installation.serve_with(&[("WEIR__ROLES", "work")]).await;
    assert_eq!(serving.api.ask(&project, &question).await["series"][0]["total"], json!(1));
    assert_eq!(working.metric("weir_seal_batches_total").await, 1.0);
    assert!(working.metric("weir_ticket_run_seconds_count").await >= 1.0);
    assert_eq!(serving.metric("weir_ticket_run_seconds_count").await, 0.0);

    // What is not a replica's role is not there.
    for (weir, path, is_there) in [
        (&collecting, "/login", false),
        (&collecting, "/api/v1/tickets", false),
        (&serving, "/login", true),
        (&working, "/login", false),
        (&working, "/api/v1/tickets", false),
        (&collecting, "/healthz/ready", true),
        (&serving, "/healthz/ready", true),
        (&working, "/healthz/ready", true),
    ] {
        let answer = weir.api.client().get(weir.api.url(path)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), if is_there { 200 } else { 404 }, "{path}");
    }
    for weir in [&serving, &working] {
        let sent = weir.api.send(&project, &event).await;
        assert!(matches!(sent, Sent::Refused(404, _)), "{sent:?}");
    }
    for weir in [collecting, serving, working] {
        Weir::stop(weir);
    }
}
