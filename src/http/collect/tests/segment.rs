//! Segment's paths, as its SDKs call them.

use serde_json::json;

use super::{Site, gzip};
use crate::config::CollectionConfig;

impl Site {
    fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.post(format!("http://{}{path}", self.site.address))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_stores_its_event_and_answers_success() {
    let site = Site::start().await;
    let message = |name: &str| json!({"userId": "u", "event": name, "type": "track"});
    for (path, body, event) in [
        ("/v1/track", message("by_track"), "by_track"),
        ("/v1/t", message("by_t"), "by_t"),
        ("/v1/identify", message(""), "$identify"),
        ("/v1/i", message(""), "$identify"),
        ("/v1/page", message(""), "$pageview"),
        ("/v1/p", message(""), "$pageview"),
        ("/v1/screen", message(""), "$screen"),
        ("/v1/s", message(""), "$screen"),
        ("/v1/group", message(""), "$group"),
        ("/v1/g", message(""), "$group"),
        ("/v1/alias", message(""), "$alias"),
        ("/v1/a", message(""), "$alias"),
        ("/v1/batch", json!({"batch": [message("by_batch")]}), "by_batch"),
        ("/v1/b", json!({"batch": [message("by_b")]}), "by_b"),
        ("/v1/import", json!({"batch": [message("by_import")]}), "by_import"),
    ] {
        let before = site.stored_names().await;
        let request = site.post(path).basic_auth(&site.write_key, Some("")).body(body.to_string());
        let answer = site.ask(request).await;
        assert_eq!((answer.status, answer.body), (200, json!({"success": true})), "{path}");
        let mut after = site.stored_names().await;
        for name in before {
            let at = after.iter().position(|other| *other == name).unwrap();
            after.remove(at);
        }
        assert_eq!(after, [event], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_may_be_in_the_header_the_body_or_both_but_never_two() {
    let site = Site::start().await;
    let other = site.site.project("Other", None).await;
    let body = |key: Option<&str>| {
        let mut body = json!({"batch": [{"type": "track", "event": "e", "userId": "u"}]});
        if let Some(key) = key {
            body["writeKey"] = json!(key);
        }
        body.to_string()
    };
    let key = site.write_key.as_str();
    for (name, header, in_query, in_body, status) in [
        ("header", Some(key), None, None, 200),
        ("body", None, None, Some(key), 200),
        ("query", None, Some(key), None, 200),
        ("all", Some(key), Some(key), Some(key), 200),
        ("none", None, None, None, 401),
        ("unknown", Some("wk_unknown"), None, None, 401),
        ("secret", Some(site.secret_key.as_str()), None, None, 401),
        ("header and another in the body", Some(key), None, Some(other.write_key.as_str()), 401),
        ("header and another in the query", Some(key), Some(other.write_key.as_str()), None, 401),
        ("body and another in the query", None, Some(key), Some(other.write_key.as_str()), 401),
    ] {
        let query = in_query.map_or(String::new(), |key| format!("?writeKey={key}"));
        let mut request = site.post(&format!("/v1/batch{query}")).body(body(in_body));
        if let Some(key) = header {
            request = request.basic_auth(key, Some(""));
        }
        let answer = site.ask(request).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.body);
        if status == 401 {
            assert_eq!(
                answer.body,
                json!({"success": false, "code": "unauthenticated",
                       "message": "Give the SDK a valid write key of weir (wk_…)."}),
                "{name}"
            );
        }
    }
    let stored = site.stored().await;
    assert_eq!(stored.len(), 4);
    assert!(stored.iter().all(|event| event.project_id == site.project_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_message_costs_no_other_and_is_counted_with_its_reason() {
    let site = Site::start().await;
    let body = json!({"batch": [
        {"type": "track", "event": "good", "userId": "u"},
        {"type": "track", "event": "", "userId": "u"},
        {"type": "track", "event": "nobody"},
    ]});
    let request = site.post("/v1/batch").basic_auth(&site.write_key, Some(""));
    let answer = site.ask(request.body(gzip(body.to_string().as_bytes()))).await;
    assert_eq!((answer.status, answer.body), (200, json!({"success": true})));
    assert_eq!(site.stored_names().await, ["good"]);
    for (series, count) in [
        ("accepted\",reason=\"\"", 1),
        ("rejected\",reason=\"event_name\"", 1),
        ("rejected\",reason=\"distinct_id\"", 1),
    ] {
        let series = format!("weir_collect_events_total{{outcome=\"{series}}}");
        assert_eq!(site.metric(&series), count, "{series}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_cannot_be_read_says_so_in_segments_words() {
    let limits = CollectionConfig { body_bytes_max: 20_000, ..CollectionConfig::default() };
    let site = Site::start_with(limits).await;
    for (path, body, status, code) in [
        ("/v1/batch", "batch=1".to_owned(), 400, "malformed"),
        ("/v1/batch", "{}".to_owned(), 400, "malformed"),
        ("/v1/t", "[]".to_owned(), 400, "malformed"),
        ("/v1/t", " ".repeat(20_001), 413, "payload_too_large"),
        ("/v1/m", " ".repeat(20_001), 413, "payload_too_large"),
    ] {
        let request = site.post(path).basic_auth(&site.write_key, Some("")).body(body);
        let answer = site.ask(request).await;
        assert_eq!((answer.status, answer.body["code"].as_str()), (status, Some(code)), "{path}");
        assert_eq!(answer.body["success"], false, "{path}");
        assert!(!answer.body["message"].as_str().unwrap().is_empty(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_load_settings_and_read_every_answer() {
    let site = Site::start().await;
    let settings = |key: &str| format!("http://{}/v1/projects/{key}/settings", site.site.address);
    let answer = site.ask(site.client.get(settings(&site.write_key)).header("origin", "https://shop")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.body,
        json!({
            "integrations": {"Segment.io": {
                "apiKey": site.write_key, "apiHost": format!("{}/v1", site.site.address), "protocol": "http",
            }},
            "plan": {}, "remotePlugins": [], "metrics": {"sampleRate": 0},
        })
    );
    assert_eq!(answer.headers["cache-control"], "public, max-age=300");
    assert_eq!(answer.headers["access-control-allow-origin"], "https://shop");

    let basic = || site.post("/v1/t").basic_auth(&site.write_key, Some(""));
    for (name, request, status) in [
        ("an unknown key", site.client.get(settings("wk_unknown")), 401),
        ("accepted", basic().body(json!({"event": "e", "anonymousId": "a"}).to_string()), 200),
        ("broken", basic().body("{"), 400),
        ("no key", site.post("/v1/t").body("{}"), 401),
        ("its own metrics", site.post("/v1/m").body(r#"{"series":[]}"#), 200),
    ] {
        let answer = site.ask(request.header("origin", "https://shop")).await;
        assert_eq!(answer.status, status, "{name}");
        assert_eq!(answer.headers["access-control-allow-origin"], "https://shop", "{name}");
        assert_eq!(answer.headers["access-control-expose-headers"], "Retry-After", "{name}");
    }
    for (path, methods) in [
        ("/v1/t", "POST, OPTIONS"),
        ("/v1/m", "POST, OPTIONS"),
        ("/v1/projects/wk_1/settings", "GET, OPTIONS"),
    ] {
        let preflight = site
            .client
            .request(reqwest::Method::OPTIONS, format!("http://{}{path}", site.site.address))
            .header("origin", "https://shop")
            .header("access-control-request-headers", "authorization,x-retry-count");
        let answer = site.ask(preflight).await;
        assert_eq!(answer.status, 204, "{path}");
        assert_eq!(answer.headers["access-control-allow-headers"], "authorization,x-retry-count", "{path}");
        assert_eq!(answer.headers["access-control-allow-methods"], methods, "{path}");
        assert_eq!(answer.headers["access-control-max-age"], "7200", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_and_an_identify_link_their_ids() {
    let site = Site::start().await;
    let body = json!({"batch": [
        {"type": "identify", "userId": "user", "anonymousId": "anon"},
        {"type": "alias", "userId": "user", "previousId": "old"},
        {"type": "track", "event": "e", "userId": "user", "anonymousId": "another"},
    ], "writeKey": site.write_key});
    assert_eq!(site.ask(site.post("/v1/b").body(body.to_string())).await.status, 200);
    let links: std::collections::BTreeSet<_> = site
        .stored()
        .await
        .into_iter()
        .filter(|event| event.event == "$link")
        .map(|event| (String::from(event.distinct_id), event.anonymous_id.map(String::from)))
        .collect();
    let link = |id: &str| (id.to_owned(), Some("user".to_owned()));
    assert_eq!(links, [link("anon"), link("old")].into());
}
