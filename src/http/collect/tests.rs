//! The endpoint as clients see it: a real server over SQLite, bodies of every kind, and what is in the
//! journal afterwards.

mod segment;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::web;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::access::CreateProject;
use crate::collection::{Collector, CollectorParts};
use crate::config::{CollectionConfig, Config};
use crate::http::{HttpServer, HttpState, ListenSettings};
use crate::model::{Event, ManualClock, ProjectId, PropertyValue, SeededRandom, TimeSource, shard_of};
use crate::storage::batch::BatchDecoder;
use crate::storage::conformance::{POOL, TestDatabase, fresh_sqlite};
use crate::storage::server::{failed_events, journal};
use crate::storage::{Storage, StorageError, StorageSettings};
use crate::telemetry::Metrics;

/// 2026-11-23T04:44:31Z.
const NOW: i64 = 1_795_409_071_000;

struct Site {
    storage: Storage,
    state: web::Data<HttpState>,
    address: SocketAddr,
    write_key: String,
    secret_key: Option<String>,
    project_id: ProjectId,
    client: reqwest::Client,
    _stop: oneshot::Sender<()>,
    _databases: [TestDatabase; 2],
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
        let databases = [fresh_sqlite(), fresh_sqlite()];
        let settings = StorageSettings {
            control: databases[0].dsn.clone(),
            servers: vec![databases[1].dsn.clone()],
            shards: None,
            shards_default: 4,
            pool: POOL,
        };
        let clock = Arc::new(ManualClock::new(NOW));
        let random = Arc::new(SeededRandom::new(1));
        let storage = Storage::open(&settings, &*clock, &*random).await.unwrap();
        let metrics = Metrics::default();
        let config = Config { collection: collection.clone(), ..Config::default() };
        let state = HttpState::new(storage.clone(), config, clock.clone(), random.clone(), metrics.clone());
        let state = web::Data::new(state);
        let parts = CollectorParts {
            shards: storage.shards.clone(),
            keys: Arc::new(storage.control.clone()),
            config: collection,
            clock,
            random,
        };
        let collector = web::Data::new(Collector::start(parts, &metrics));
        let listen = ListenSettings {
            bind: "127.0.0.1:0".parse().unwrap(),
            ops_bind: "127.0.0.1:0".parse().unwrap(),
            workers: 1,
            keep_alive: Duration::from_secs(75),
            drain_wait: Duration::ZERO,
            drain_max: Duration::from_secs(5),
        };
        let register = Arc::new(move |config: &mut web::ServiceConfig| {
            config.app_data(collector.clone());
        });
        let server = HttpServer::bind(state.clone(), register, &listen).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let address = server.address();
        tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        let create = CreateProject {
            name: "Shop".into(),
            time_zone: "UTC".into(),
            span: None,
            owner: None,
            with_secret_key: true,
        };
        let project = state.access.create_project(create).await.unwrap();
        Self {
            storage,
            state,
            address,
            write_key: project.write_key,
            secret_key: project.secret_key,
            project_id: project.project_id,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            _stop: stop,
            _databases: databases,
        }
    }

    fn request(&self) -> reqwest::RequestBuilder {
        self.client.post(format!("http://{}/api/v1/events", self.address))
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
        for shard_no in self.storage.shards.all() {
            let db = self.storage.shards.db_of(shard_no).unwrap();
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
        let mut names: Vec<String> = self.stored().await.into_iter().map(|event| event.event).collect();
        names.sort();
        names
    }

    fn metric(&self, series: &str) -> u64 {
        let text = self.state.metrics.render();
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
    ], "sent_at": "2026-11-23T03:44:31Z"});
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
            ("amount".into(), PropertyValue::Integer(5)),
            ("cart.gift".into(), PropertyValue::Bool(false)),
            ("cart.size".into(), PropertyValue::Float(2.5)),
            ("tags".into(), PropertyValue::Json(r#"["x"]"#.into())),
        ],
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
    let db = site.storage.shards.servers()[0].db().unwrap();
    let kept = loop {
        let kept = failed_events::list_latest(db, site.project_id, 10).await.unwrap();
        if kept.len() == 4 {
            break kept;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
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
        .post(format!("http://{}/api/v1/events?key={}", site.address, site.write_key))
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

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_always_the_same_answer() {
    let site = Site::start().await;
    let other = CreateProject {
        name: "Other".into(),
        time_zone: "UTC".into(),
        span: None,
        owner: None,
        with_secret_key: false,
    };
    let other = site.state.access.create_project(other).await.unwrap();
    let body = event("x");
    let in_query = |key: &str| site.client.post(format!("http://{}/api/v1/events?key={key}", site.address));
    let long = "wk_".to_owned() + &"x".repeat(3_000);
    let mut texts = Vec::new();
    for (name, request) in [
        ("none", site.request()),
        ("unknown", site.request().bearer_auth("wk_unknown")),
        ("secret", site.request().bearer_auth(site.secret_key.as_deref().unwrap())),
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
    let keys = site.state.access.list_keys(site.project_id).await.unwrap();
    for key in keys {
        site.state.access.revoke_key(site.project_id, key.key_id).await.unwrap();
    }
    let revoked = Instant::now();
    while site.send(event("x")).await.status != 401 {
        assert!(revoked.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_of_any_origin_may_send_and_read_every_answer() {
    let site = Site::start().await;
    let url = format!("http://{}/api/v1/events", site.address);
    let preflight = site
        .client
        .request(reqwest::Method::OPTIONS, &url)
        .header("origin", "https://shop.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,x-retry-count,rsa-retry-attempt");
    let answer = site.ask(preflight).await;
    assert_eq!(answer.status, 204);
    assert_eq!(
        answer.headers["access-control-allow-headers"],
        "authorization,x-retry-count,rsa-retry-attempt"
    );
    assert_eq!(answer.headers["access-control-max-age"], "7200");
    for (name, request, status) in [
        ("accepted", site.request().bearer_auth(&site.write_key).body(event("x")), 200),
        ("refused", site.request().body(event("x")), 401),
        ("broken", site.request().bearer_auth(&site.write_key).body("{"), 400),
    ] {
        let answer = site.ask(request.header("origin", "https://shop.example")).await;
        assert_eq!(answer.status, status, "{name}");
        assert_eq!(answer.headers["access-control-allow-origin"], "https://shop.example", "{name}");
        assert_eq!(answer.headers["access-control-allow-credentials"], "true", "{name}");
        assert_eq!(answer.headers["access-control-expose-headers"], "Retry-After", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_committed_is_asked_for_again_and_works_later() {
    let config = CollectionConfig { commit_secs_max: 1, ..CollectionConfig::default() };
    let site = Site::start_with(config).await;
    assert_eq!(site.send(event("before")).await.status, 200);

    // The only writer of the store is held.
    let db = site.storage.shards.servers()[0].db().unwrap().clone();
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
    while site.send(event("after")).await.status != 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let names = site.stored_names().await;
    assert!(names.contains(&"before".to_owned()) && names.contains(&"after".to_owned()), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_equal_batches_at_once_are_all_answered() {
    let site = Arc::new(Site::start().await);
    let batch: Vec<Value> = (0..100)
        .map(|n| json!({"event": "e", "distinct_id": format!("u{n}"), "id": format!("i{n}")}))
        .collect();
    let batch = Value::from(batch).to_string();
    let sends: Vec<_> = (0..50)
        .map(|_| {
            let (site, batch) = (site.clone(), batch.clone());
            tokio::spawn(async move { site.send(batch).await.status })
        })
        .collect();
    for send in sends {
        assert_eq!(send.await.unwrap(), 200);
    }
    // Each is in the journal as often as it was sent; the sealer counts it once.
    let mut stored = site.stored().await;
    assert_eq!(stored.len(), 5_000);
    stored.dedup_by_key(|event| event.event_id);
    assert_eq!(stored.len(), 100);
    let batches = site.metric("weir_collect_batches_total");
    assert!(batches < 200, "{batches} batches for 50 requests to 4 shards: nothing was grouped");
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
        .map(|event| (event.distinct_id, event.anonymous_id))
        .collect();
    links.sort();
    assert_eq!(links, [("anon".into(), Some("user".into())), ("old".into(), Some("user".into()))]);
    let forged =
        site.send(json!({"event": "$link", "distinct_id": "a", "anonymous_id": "b"}).to_string()).await;
    assert_eq!(forged.body["rejected"][0]["code"], "event_name");
}

/// Writes a request's head and pieces of its body, and reads until the server is done with it.
async fn by_hand(site: &Site, head: &str, pieces: &[&[u8]], pause: Duration) -> String {
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    let head = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{head}\r\n\r\n",
        site.write_key
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
    let writer = tokio::spawn(async move {
        for piece in pieces {
            if writing.write_all(&piece).await.is_err() {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        writing
    });
    let mut answer = vec![0; 16 * 1024];
    let size =
        tokio::time::timeout(Duration::from_secs(8), reading.read(&mut answer)).await.unwrap().unwrap();
    writer.abort();
    String::from_utf8_lossy(&answer[..size]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announced_length_is_refused_before_the_body_comes() {
    let site = Site::start().await;
    let answer = by_hand(&site, "Content-Length: 99999999", &[], Duration::ZERO).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_body_ends_at_the_limit() {
    let site =
        Site::start_with(CollectionConfig { body_bytes_max: 100_000, ..CollectionConfig::default() }).await;
    let chunk = [b"4000\r\n".as_slice(), &[b' '; 0x4000], b"\r\n"].concat();
    let pieces = vec![chunk.as_slice(); 50];
    let answer = by_hand(&site, "Transfer-Encoding: chunked", &pieces, Duration::from_millis(5)).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_and_a_slow_sender_end_at_the_deadline_and_harm_nobody() {
    let site = Site::start_with(CollectionConfig { body_secs_max: 1, ..CollectionConfig::default() }).await;
    let silent = by_hand(&site, "Content-Length: 100", &[b"{"], Duration::ZERO);
    let drops: Vec<&[u8]> = vec![b" "; 50];
    let slow = by_hand(&site, "Content-Length: 100", &drops, Duration::from_millis(200));
    let others = async {
        for _ in 0..20 {
            assert_eq!(site.send(event("x")).await.status, 200);
        }
    };
    let (silent, slow, ()) = tokio::join!(silent, slow, others);
    assert!(silent.starts_with("HTTP/1.1 408"), "{silent}");
    assert!(slow.starts_with("HTTP/1.1 408"), "{slow}");
}
