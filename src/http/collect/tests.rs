//! The endpoint as clients see it: a real server over SQLite, bodies of every kind, and what is in the
//! journal afterwards.

mod refused;
mod segment;
mod senders;

use std::io::Write;
use std::sync::Arc;

use actix_web::web;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::collection::{Collector, CollectorParts};
use crate::config::{CollectionConfig, Config};
use crate::http::HttpState;
use crate::http::testing::{NOW, TestSite};
use crate::model::{Event, ProjectId, PropertyValue, TimeSource, shard_of};
use crate::storage::batch::BatchDecoder;
use crate::storage::server::{failed_events, journal};

struct Site {
    site: TestSite,
    write_key: String,
    secret_key: String,
    project_id: ProjectId,
    client: reqwest::Client,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Site {
    async fn start() -> Self {
        Self::start_with(CollectionConfig::default()).await
    }

    async fn start_with(collection: CollectionConfig) -> Self {
        let config = Config { collection, ..Config::default() };
        let site = TestSite::start_with(config, |state: &HttpState| {
            let parts = CollectorParts {
                shards: state.storage.shards.clone(),
                keys: Arc::new(state.storage.control.clone()),
                config: state.config.collection.clone(),
                clock: state.clock.clone(),
                random: state.random.clone(),
            };
            let collector = web::Data::new(Collector::start(parts, &state.metrics));
            Arc::new(move |config: &mut web::ServiceConfig| {
                config.app_data(collector.clone());
            })
        })
        .await;
        let project = site.project("Shop", None).await;
        Self {
            site,
            write_key: project.write_key,
            secret_key: project.secret_key.expect("asked for"),
            project_id: project.project_id,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    fn url(&self) -> String {
        format!("http://{}/api/v1/events", self.site.address)
    }

    fn request(&self) -> reqwest::RequestBuilder {
        self.client.post(self.url())
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.text().await.unwrap();
        Answer { status, headers, body: serde_json::from_str(&body).unwrap_or(Value::String(body)) }
    }

    /// With the project's write key.
    async fn send(&self, body: impl Into<reqwest::Body>) -> Answer {
        self.ask(self.request().bearer_auth(&self.write_key).body(body)).await
    }

    /// All events in the journal, in order of their ids.
    async fn stored(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let shards = &self.site.state.storage.shards;
        for shard_no in shards.all() {
            let db = shards.db_of(shard_no).unwrap();
            for batch in journal::list_latest(db, shard_no, 1_000).await.unwrap() {
                for event in BatchDecoder::default().decode(&batch.body).unwrap().events {
                    let home = shard_of(event.project_id, &event.distinct_id, 4, 4);
                    assert_eq!(home, shard_no, "{} is not at home", event.distinct_id);
                    events.push(event);
                }
            }
        }
        events.sort_by_key(|event| event.event_id);
        events
    }

    async fn stored_names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.stored().await.into_iter().map(|event| event.event.to_string()).collect();
        names.sort();
        names
    }

    fn metric(&self, series: &str) -> u64 {
        let text = self.site.state.metrics.render();
        let line = text.lines().find(|line| line.starts_with(series));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }
}

fn event(name: &str) -> String {
    json!({"event": name, "distinct_id": "u"}).to_string()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_in_the_journal_when_it_is_answered() {
    let site = Site::start().await;
    let body = json!({"batch": [
        {"event": "purchase", "distinct_id": "u1", "id": "9b0759dd-7124-57d2-aebb-0c19d564075f",
         "timestamp": "2026-11-23T04:00:00Z", "anonymous_id": "a1",
         "properties": {"amount": 5, "cart": {"size": 2.5, "gift": false}, "tags": ["x"]}},
    ], "sent_at": "2026-11-23T03:04:31Z"});
    let answer = site.send(body.to_string()).await;
    assert_eq!((answer.status, answer.body), (200, json!({"accepted": 1, "rejected": []})));
    let expected = Event {
        project_id: site.project_id,
        distinct_id: "u1".into(),
        anonymous_id: Some("a1".into()),
        event: "purchase".into(),
        event_id: "9b0759dd-7124-57d2-aebb-0c19d564075f".parse().unwrap(),
        // The client's clock is an hour behind.
        occurred_at: "2026-11-23T05:00:00Z".parse::<jiff::Timestamp>().unwrap().as_millisecond(),
        received_at: NOW,
        time_source: TimeSource::Corrected,
        properties: vec![
            ("amount", PropertyValue::Integer(5)),
            ("cart.gift", PropertyValue::Bool(false)),
            ("cart.size", PropertyValue::Float(2.5)),
            ("tags", PropertyValue::Json(r#"["x"]"#.into())),
        ]
        .into(),
        route: Vec::new(),
    };
    assert_eq!(site.stored().await, [expected]);
    assert_eq!(site.metric("weir_collect_events_total{outcome=\"accepted\",reason=\"\"}"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_event_never_costs_a_good_one() {
    let site = Site::start().await;
    let deep = format!("{}1{}", "{\"a\":".repeat(5_000), "}".repeat(5_000));
    let good = event("good");
    let body = format!(
        r#"[{good}, {{"event":"","distinct_id":"u"}}, {{"event":"e","distinct_id":"u","properties":{deep}}},
            {{"event":"e","distinct_id":"u","properties":{{"n":1e400}}}}, 7, {good}]"#
    );
    let answer = site.send(body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["accepted"], 2);
    let rejected: Vec<(u64, &str)> = answer.body["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| (event["index"].as_u64().unwrap(), event["code"].as_str().unwrap()))
        .collect();
    assert_eq!(rejected, [(1, "event_name"), (2, "too_deep"), (3, "number"), (4, "not_an_object")]);
    assert_eq!(site.stored_names().await, ["good", "good"]);
    for (series, count) in
        [("accepted\",reason=\"\"", 2), ("rejected\",reason=\"number\"", 1), ("retry\",reason=\"\"", 0)]
    {
        assert_eq!(
            site.metric(&format!("weir_collect_events_total{{outcome=\"{series}}}")),
            count,
            "{series}"
        );
    }

    // And they are kept where their sender finds them.
    let db = site.site.state.storage.shards.servers()[0].db().unwrap();
    let kept = loop {
        // They are written behind the answer's back; every look is a read of the store.
        let kept = failed_events::list_latest(db, site.project_id, 10).await.unwrap();
        if kept.len() == 4 {
            break kept;
        }
    };
    let texts: Vec<String> =
        kept.iter().map(|event| String::from_utf8(event.body.to_vec()).unwrap()).collect();
    assert!(kept.iter().any(|event| event.reason == "event_name"));
    assert!(texts.contains(&r#"{"event":"","distinct_id":"u"}"#.to_owned()), "{texts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_and_encoding_is_taken() {
    let site = Site::start().await;
    let lines = format!("{}\n{}\n", event("line"), event("line"));
    let with = |encoding: &'static str, body: Vec<u8>| {
        site.request().bearer_auth(&site.write_key).header("content-encoding", encoding).body(body)
    };
    let beacon = site
        .client
        .post(format!("{}?key={}", site.url(), site.write_key))
        .header("content-type", "text/plain;charset=UTF-8")
        .body(event("beacon"));
    let key_in_body = json!({"key": site.write_key, "batch": [{"event": "in_body", "distinct_id": "u"}]});
    for (name, request, accepted) in [
        ("lines", site.request().bearer_auth(&site.write_key).body(lines), 2),
        ("gzip", with("gzip", gzip(event("gzip").as_bytes())), 1),
        ("zstd", with("zstd", zstd::bulk::compress(event("zstd").as_bytes(), 1).unwrap()), 1),
        (
            "silent gzip",
            site.request().bearer_auth(&site.write_key).body(gzip(event("silent").as_bytes())),
            1,
        ),
        ("beacon", beacon, 1),
        ("key in the body", site.request().body(key_in_body.to_string()), 1),
    ] {
        let answer = site.ask(request).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
        assert_eq!(answer.body["accepted"], accepted, "{name}");
    }
    let names = site.stored_names().await;
    assert_eq!(names, ["beacon", "gzip", "in_body", "line", "line", "silent", "zstd"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_sent_to_the_home_of_the_id_before() {
    let site = Site::start().await;
    for body in [
        json!({"event": "$identify", "distinct_id": "user", "anonymous_id": "anon", "id": "1"}),
        json!({"event": "$alias", "distinct_id": "user", "anonymous_id": "old", "id": "2"}),
        json!({"event": "$identify", "distinct_id": "same", "anonymous_id": "same", "id": "3"}),
        json!({"event": "purchase", "distinct_id": "user", "anonymous_id": "anon", "id": "4"}),
    ] {
        assert_eq!(site.send(body.to_string()).await.body["accepted"], 1);
    }
    let mut links: Vec<(String, Option<String>)> = site
        .stored()
        .await
        .into_iter()
        .filter(|event| event.event == "$link")
        .map(|event| (event.distinct_id.into(), event.anonymous_id.map(Into::into)))
        .collect();
    links.sort();
    assert_eq!(links, [("anon".into(), Some("user".into())), ("old".into(), Some("user".into()))]);
    let forged =
        site.send(json!({"event": "$link", "distinct_id": "a", "anonymous_id": "b"}).to_string()).await;
    assert_eq!(forged.body["rejected"][0]["code"], "event_name");
}
