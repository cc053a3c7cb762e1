//! Headers, errors, compression, health and the stop.

use crate::http::testing::TestSite;

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
