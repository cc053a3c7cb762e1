//! Headers, errors, compression, health and the stop.

use crate::http::testing::{NOW, TestSite};
use crate::model::{BatchId, Event, EventId, PropertyValue, ShardNo, TimeSource};
use crate::storage::batch::BatchEncoder;
use crate::storage::server::failed_events::{self, FailedEvent, Stage};
use crate::storage::server::journal::{self, NewBatch};

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_its_id_and_the_security_headers() {
    let site = TestSite::start().await;
    for path in ["/login", "/nowhere", "/healthz/live"] {
        let page = site.browser().get(path).await;
        assert_eq!(page.header("x-request-id").len(), 16, "{path}");
        assert!(page.header("content-security-policy").starts_with("default-src 'none'; script-src 'self';"));
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert_eq!(page.header("cache-control"), "no-store");
        assert_eq!(page.header("strict-transport-security"), "", "plain http");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_gets_pages_and_a_program_gets_problems() {
    let site = TestSite::start().await;
    let browser = site.browser();
    let page = browser.get("/nowhere").await;
    assert_eq!((page.status, page.header("content-type")), (404, "text/html; charset=utf-8"));

    let mut program = site.browser();
    program.headers.push(("accept", "*/*".into()));
    for (method, path, status, code) in [
        ("GET", "/nowhere", 404, "not_found"),
        ("DELETE", "/login", 405, "method_not_allowed"),
        ("GET", "/projects", 401, "unauthenticated"),
    ] {
        let page = program.send(method, path, "text/plain", "").await;
        let problem = page.json();
        assert_eq!((page.status, problem["code"].as_str().unwrap()), (status, code), "{path}");
        assert_eq!(page.header("content-type"), "application/problem+json");
        assert_eq!(problem["request_id"], page.header("x-request-id"));
        assert_eq!(problem["status"], status);
    }
    // Under /api/ a browser gets JSON too.
    assert_eq!(browser.get("/api/v1/nowhere").await.json()["code"], "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_gone_is_a_503_that_says_when_to_come_back() {
    let site = TestSite::start().await;
    let (browser, project) = site.signed_in("ada@example.org").await;
    site.state.storage.close().await;
    site.clock.advance(10_000);
    let page = browser.get(&format!("/p/{project}/keys")).await;
    assert_eq!((page.status, page.header("retry-after")), (503, "2"), "{}", page.body);
    assert!(page.body.contains("A database cannot be reached"));
    assert!(!page.body.contains("SELECT") && !page.body.contains("pool"), "{}", page.body);
    let page = browser.get("/healthz/ready").await;
    assert_eq!((page.status, page.json()["servers_up"].as_u64()), (503, Some(0)));
    assert_eq!(browser.get("/healthz/live").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_compressed_for_those_who_ask() {
    let site = TestSite::start().await;
    let mut browser = site.browser();
    let plain = browser.get("/login").await;
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "accept-encoding"));
    browser.headers.push(("accept-encoding", "gzip".into()));
    let css = crate::http::web::assets::url("weir.css");
    let response = reqwest::Client::new()
        .get(format!("http://{}{css}", site.address))
        .header("accept-encoding", "gzip")
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let mut text = String::new();
    let body = response.bytes().await.unwrap();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&body[..]), &mut text).unwrap();
    assert!(text.contains("--accent") && text.len() > body.len() * 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_sees_metrics_and_everybody_health() {
    let site = TestSite::start().await;
    site.browser().get("/login").await;
    let page = site.browser().get("/healthz/ready").await;
    let health = page.json();
    assert_eq!(page.status, 200);
    assert_eq!((health["status"].as_str(), health["servers_total"].as_u64()), (Some("ready"), Some(1)));
    assert_eq!(site.browser().get("/metrics").await.status, 404);
    let metrics = site.ops("/metrics").await.body;
    let line = "weir_http_request_seconds_count{method=\"GET\",route=\"/login\",status=\"200\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    assert_eq!(site.ops("/healthz/live").await.status, 200);
    assert_eq!(site.ops("/login").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_fails_before_the_server_stops() {
    let mut site = TestSite::start().await;
    site.state.readiness.stop();
    let page = site.browser().get("/healthz/ready").await;
    assert_eq!((page.status, page.json()["status"].as_str()), (503, Some("stopping")));
    assert_eq!(site.browser().get("/login").await.status, 200, "requests are still answered");
    site.stop();
    (&mut site.served).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(site.address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_too_large_is_refused() {
    let site = TestSite::start().await;
    let page = site.browser().post("/login", &[("email", &"x".repeat(200_000))]).await;
    assert_eq!(page.status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_just_committed_is_live_on_the_page_and_escaped() {
    let site = TestSite::start().await;
    let (browser, project) = site.signed_in("ada@example.org").await;
    let live = format!("/p/{project}/live");
    assert!(browser.get(&live).await.body.contains("Waiting for the first event"));
    let event = Event {
        project_id: project,
        distinct_id: "u<1>".into(),
        anonymous_id: None,
        event: "<img src=x onerror=alert(1)>".into(),
        event_id: EventId([7; 16]),
        occurred_at: NOW,
        received_at: NOW,
        time_source: TimeSource::Client,
        properties: vec![("plan", PropertyValue::String("pro</b>".into()))].into(),
        route: Vec::new(),
    };
    let batch = BatchEncoder::default().encode_events(std::slice::from_ref(&event));
    let new = NewBatch { shard_no: ShardNo(2), batch_id: BatchId([1; 16]), batch };
    let db = site.state.storage.shards.db_of(ShardNo(2)).unwrap();
    journal::insert(db, vec![new]).await.unwrap();
    let page = browser.get(&live).await;
    assert!(page.body.contains("u&#60;1&#62;") && page.body.contains("pro&#60;/b&#62;"), "{}", page.body);
    assert!(!page.body.contains("<img"), "{}", page.body);
    assert!(browser.get(&format!("{live}?event=other")).await.body.contains("No recent event matches"));
    let (stranger, others) = site.signed_in("eve@example.org").await;
    assert!(!stranger.get(&format!("/p/{others}/live")).await.body.contains("u&#60;1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_events_are_listed_with_their_reason_in_words() {
    let site = TestSite::start().await;
    let (browser, project) = site.signed_in("ada@example.org").await;
    let rejected = format!("/p/{project}/rejected");
    assert!(browser.get(&rejected).await.body.contains("Nothing was refused"));
    let failed: Vec<_> = (0..=200_u8)
        .map(|n| FailedEvent {
            failed_id: BatchId([n; 16]),
            project_id: project,
            stage: Stage::Collect,
            reason: if n % 4 == 0 { "distinct_id" } else { "timestamp" }.into(),
            detail: format!("number {n}"),
            body: br#"{"event": "bu<y>", "distinct_id": null}"#.as_slice().into(),
            failed_at: NOW,
        })
        .collect();
    let db = site.state.storage.shards.db_of(ShardNo(0)).unwrap();
    failed_events::insert(db, &failed).await.unwrap();
    let page = browser.get(&rejected).await.body;
    assert!(page.contains("number 200.") && page.contains("Send ISO 8601"), "{page}");
    assert!(page.contains("bu&#60;y&#62;") && !page.contains("bu<y>"));
    assert!(page.contains("number 101") && !page.contains("number 100."));
    let (_, rest) = page.split_once("?before=").expect("a link to the next page");
    let older = browser.get(&format!("{rejected}?before={}", rest.split('"').next().unwrap())).await.body;
    assert!(older.contains("number 100.") && older.contains("number 1.") && !older.contains("number 101"));
    let only = browser.get(&format!("{rejected}?reason=distinct_id")).await.body;
    assert!(only.contains("number 200.") && !only.contains("number 199."));
}

#[tokio::test(flavor = "multi_thread")]
async fn head_works_where_get_does_and_options_says_what_does() {
    let site = TestSite::start().await;
    let (browser, project) = site.signed_in("ada@example.org").await;
    let tickets = "/api/v1/tickets".to_owned();
    for path in ["/login".to_owned(), format!("/p/{project}/keys"), "/healthz/ready".to_owned(), tickets] {
        let got = browser.get(&path).await;
        let head = browser.send("HEAD", &path, "text/plain", "").await;
        assert_eq!((head.status, head.body.as_str()), (got.status, ""), "{path}");
        assert_eq!(head.header("content-type"), got.header("content-type"), "{path}");
        let length = head.header("content-length").parse::<usize>().unwrap();
        // A page carries the time, whose text may be a few bytes longer.
        assert!(length.abs_diff(got.body.len()) < 100, "{path}: {length} and {}", got.body.len());
    }
    assert_eq!(browser.send("HEAD", "/logout", "text/plain", "").await.status, 405);
    assert_eq!(browser.send("HEAD", "/nowhere", "text/plain", "").await.status, 404);
    for (path, allow) in [
        ("/healthz/live", "GET, HEAD, OPTIONS"),
        ("/login", "GET, POST, HEAD, OPTIONS"),
        ("/logout", "POST, OPTIONS"),
    ] {
        let options = browser.send("OPTIONS", path, "text/plain", "").await;
        assert_eq!((options.status, options.header("allow")), (204, allow), "{path}");
        let refused = browser.send("PUT", path, "text/plain", "").await;
        assert_eq!((refused.status, refused.header("allow")), (405, allow), "{path}");
    }
    let client = reqwest::Client::new();
    for path in ["/healthz/ready", "/metrics"] {
        let ops = client.head(format!("http://{}{path}", site.ops_address)).send().await.unwrap();
        assert_eq!(ops.status(), 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_does_not_exist_is_a_problem_like_any_other() {
    let site = TestSite::start().await;
    let mut program = site.browser();
    program.headers.push(("accept", "*/*".into()));
    let page = program.get("/static/nope.js").await;
    assert_eq!((page.status, page.header("content-type")), (404, "application/problem+json"));
}
