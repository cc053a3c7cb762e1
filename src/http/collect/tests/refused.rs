//! What is refused, with which answer, and that nothing of it is stored.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::oneshot;

use super::{Site, event, gzip};
use crate::config::CollectionConfig;
use crate::storage::StorageError;
use crate::storage::server::failed_events;

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_cannot_be_read_is_a_problem_and_stores_nothing() {
    let site = Site::start().await;
    let key = &site.write_key;
    let with = |encoding: &'static str, body: Vec<u8>| {
        site.request().bearer_auth(key).header("content-encoding", encoding).body(body)
    };
    let plain = |body: &[u8]| site.request().bearer_auth(key).body(body.to_vec());
    let utf16: Vec<u8> = "\u{feff}{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let bomb = gzip(&vec![b' '; 11 << 20]);
    for (name, request, status, code) in [
        ("empty", plain(b""), 400, "malformed"),
        ("not JSON", plain(b"event=x"), 400, "malformed"),
        ("trailing comma", plain(b"[{},]"), 400, "malformed"),
        ("NaN", plain(b"{\"event\":NaN}"), 400, "malformed"),
        ("bytes after the end", plain(b"{} {"), 400, "malformed"),
        ("UTF-16", plain(&utf16), 400, "malformed"),
        ("not UTF-8", plain(b"{\"event\":\"\xff\"}"), 400, "malformed"),
        ("a number", plain(b"5"), 400, "malformed"),
        ("a cut gzip", with("gzip", gzip(event("x").as_bytes())[..20].to_vec()), 400, "malformed"),
        ("a false gzip", with("gzip", event("x").into_bytes()), 400, "malformed"),
        ("brotli", with("br", event("x").into_bytes()), 415, "unsupported_media_type"),
        ("gzip twice", with("gzip", gzip(&gzip(event("x").as_bytes()))), 415, "unsupported_media_type"),
        ("gzip twice, said so", with("gzip, gzip", vec![]), 415, "unsupported_media_type"),
        ("a bomb", with("gzip", bomb), 413, "payload_too_large"),
        (
            "2,001 events",
            plain(format!("[{}]", vec!["{}"; 2_001].join(",")).as_bytes()),
            413,
            "payload_too_large",
        ),
        ("large and plain", plain(&vec![b' '; (10 << 20) + 1]), 413, "payload_too_large"),
        ("large and compressed", with("gzip", vec![0; (1 << 20) + 1]), 413, "payload_too_large"),
    ] {
        let answer = site.ask(request).await;
        assert_eq!(
            (answer.status, answer.body["code"].as_str()),
            (status, Some(code)),
            "{name}: {}",
            answer.body
        );
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{name}");
        assert!(!answer.body["detail"].as_str().unwrap().is_empty());
    }
    assert!(site.stored().await.is_empty());
    let answer = site.send("[1,{\"a\":}]").await;
    assert_eq!(answer.body["detail"], "The body is not JSON: a value was expected at byte 8.");
}

/// It is sent again, its rejected events too, and each sending would push older ones out.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_request_that_is_refused_nothing_is_kept_to_look_at() {
    let site = Site::start().await;
    assert_eq!(site.send(r#"[{"event":5,"distinct_id":"refused"},{bad"#).await.status, 400);
    let many = format!(r#"[{{"event":5,"distinct_id":"refused"}}{}]"#, ",{}".repeat(2_000));
    assert_eq!(site.send(many).await.status, 413);
    assert_eq!(site.send(r#"{"event":5,"distinct_id":"taken"}"#).await.status, 200);
    let db = site.site.state.storage.shards.servers()[0].db().unwrap();
    // They are written in the order in which they were sent, behind the answer's back.
    let kept = loop {
        let kept = failed_events::list_latest(db, site.project_id, 10).await.unwrap();
        if !kept.is_empty() {
            break kept;
        }
    };
    let texts: Vec<_> = kept.iter().map(|event| String::from_utf8_lossy(&event.body)).collect();
    assert_eq!(texts, [r#"{"event":5,"distinct_id":"taken"}"#]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_always_the_same_answer() {
    let site = Site::start().await;
    let other = site.site.project("Other", None).await;
    let body = event("x");
    let in_query = |key: &str| site.client.post(format!("{}?key={key}", site.url()));
    let long = "wk_".to_owned() + &"x".repeat(3_000);
    let mut texts = Vec::new();
    for (name, request) in [
        ("none", site.request()),
        ("unknown", site.request().bearer_auth("wk_unknown")),
        ("secret", site.request().bearer_auth(&site.secret_key)),
        ("basic", site.request().basic_auth(&site.write_key, Some(""))),
        ("long", site.request().bearer_auth(&long)),
        ("NUL", in_query("wk_%00")),
        ("two that differ", in_query(&other.write_key).bearer_auth(&site.write_key)),
        ("twice in the query", in_query(&format!("{0}&key={0}", site.write_key))),
    ] {
        let answer = site.ask(request.body(body.clone())).await;
        assert_eq!(answer.status, 401, "{name}");
        assert_eq!(answer.body["code"], "unauthenticated", "{name}");
        texts.push(answer.body["detail"].clone());
    }
    // A key of A and B's in the body.
    let body = json!({"key": other.write_key, "batch": [{"event": "x", "distinct_id": "u"}]}).to_string();
    let answer = site.send(body).await;
    assert_eq!(answer.status, 401);
    texts.push(answer.body["detail"].clone());
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(site.stored().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_ends_within_five_seconds() {
    let site =
        Site::start_with(CollectionConfig { key_refresh_secs: 1, ..CollectionConfig::default() }).await;
    assert_eq!(site.send(event("x")).await.status, 200);
    let keys = site.site.state.access.list_keys(site.project_id).await.unwrap();
    for key in keys {
        site.site.state.access.revoke_key(site.project_id, key.key_id).await.unwrap();
    }
    let revoked = Instant::now();
    while site.send(event("x")).await.status != 401 {
        assert!(revoked.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_committed_is_asked_for_again_and_works_later() {
    let config = CollectionConfig { commit_secs_max: 1, ..CollectionConfig::default() };
    let site = Site::start_with(config).await;
    assert_eq!(site.send(event("before")).await.status, 200);

    // The only writer of the store is held.
    let db = site.site.state.storage.shards.servers()[0].db().unwrap().clone();
    let (held, is_held) = oneshot::channel();
    let (release, released) = oneshot::channel::<()>();
    let channels = std::sync::Mutex::new(Some((held, released)));
    let holding = tokio::spawn(async move {
        db.transaction(move |_| {
            let channels = channels.lock().unwrap().take();
            Box::pin(async move {
                if let Some((held, released)) = channels {
                    held.send(()).unwrap();
                    let _ = released.await;
                }
                Ok::<_, StorageError>(())
            })
        })
        .await
    });
    is_held.await.unwrap();
    let answer = site.send(event("during")).await;
    assert_eq!((answer.status, answer.body["code"].as_str()), (503, Some("unavailable")));
    assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1);
    // From now on refused at once.
    let asked = Instant::now();
    assert_eq!(site.send(event("during")).await.status, 503);
    assert!(asked.elapsed() < Duration::from_millis(500));
    assert_eq!(site.metric("weir_collect_events_total{outcome=\"retry\",reason=\"\"}"), 2);

    release.send(()).unwrap();
    holding.await.unwrap().unwrap();
    let released = Instant::now();
    while site.send(event("after")).await.status != 200 {
        assert!(released.elapsed() < Duration::from_secs(10));
    }
    let names = site.stored_names().await;
    assert!(names.contains(&"before".to_owned()) && names.contains(&"after".to_owned()), "{names:?}");
}
