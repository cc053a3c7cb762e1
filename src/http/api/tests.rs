//! The API over HTTP, with a question kind that does what it is asked.

mod catalogue;
mod erasure;
mod following;
mod persons;
mod retention;

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use futures_util::future::BoxFuture;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::cache::Cache;
use crate::config::Config;
use crate::http::testing::{NOW, TestSite};
use crate::model::{ManualClock, ProjectId, SystemRandom};
use crate::storage::conformance::{TestDatabase, fresh_sqlite};
use crate::telemetry::Metrics;
use crate::tickets::{
    InvalidBody, PrepareError, Prepared, RunError, StopSignal, TicketKind, TicketOutput, TicketRun,
    TicketSettings, Tickets, TicketsParts, WRITTEN_AFTER, fail,
};

/// `{"rows": n}` answers with n rows, `{"wait": true}` when it is let, `{"fail": true}` never.
struct Rows {
    gate: Semaphore,
}

impl TicketKind for Rows {
    fn name(&self) -> &'static str {
        "question"
    }

    fn prepare<'a>(
        &'a self,
        _project: ProjectId,
        body: &'a Value,
    ) -> BoxFuture<'a, Result<Prepared, PrepareError>> {
        Box::pin(async move {
            if body["rows"].is_string() {
                let errors = vec![("/rows".to_owned(), "It is a text; use a number.".to_owned())];
                return Err(InvalidBody { detail: "The question has 1 problem.".to_owned(), errors }.into());
            }
            Ok(Prepared {
                body: body.to_string().into_bytes(),
                data_version: None,
                estimate: Duration::from_secs(3),
                project: None,
            })
        })
    }

    fn run<'a>(&'a self, run: &'a TicketRun) -> BoxFuture<'a, Result<TicketOutput, RunError>> {
        Box::pin(async move {
            let body: Value = serde_json::from_slice(&run.body).unwrap();
            if body["fail"] == true {
                return Err(fail("too_many_values", "The breakdown has more than 10 values."));
            }
            if body["wait"] == true {
                let mut stop: StopSignal = run.stop.clone();
                tokio::select! {
                    permit = self.gate.acquire() => permit.unwrap().forget(),
                    _ = stop.stopped() => return Err(RunError::Stopped),
                }
            }
            let rows: Vec<_> = (0..body["rows"].as_u64().unwrap_or(1))
                .map(|n| json!({"label": format!("{n:0>100}"), "persons": n}))
                .collect();
            Ok(TicketOutput {
                body: json!({"kind": "funnel", "steps": rows}).to_string().into(),
                as_of: Some(NOW - 1_000),
                partial: false,
                data_version: None,
            })
        })
    }
}

struct Api {
    site: TestSite,
    client: Client,
    key: String,
    kind: Arc<Rows>,
    tickets: Tickets,
    clock: Arc<ManualClock>,
    _database: TestDatabase,
}

impl Api {
    async fn start(slots: usize) -> Self {
        Self::start_with(slots, Config::default()).await
    }

    async fn start_with(slots: usize, config: Config) -> Self {
        let database = fresh_sqlite();
        let clock = Arc::new(ManualClock::new(NOW));
        let kind = Arc::new(Rows { gate: Semaphore::new(0) });
        let tickets = Tickets::new(TicketsParts {
            control: database.open_with_schemas().await,
            cache: Cache::off(),
            clock: clock.clone(),
            random: Arc::new(SystemRandom),
            settings: TicketSettings {
                slots,
                lease: Duration::from_secs(20),
                poll: Duration::from_secs(1),
                attempts_max: 3,
                kept: Duration::from_secs(86_400),
                queued_max: 2,
                run_max: Duration::from_secs(60),
                written_after: WRITTEN_AFTER,
            },
            metrics: Metrics::default(),
            kinds: vec![kind.clone(), Arc::new(erasure::Waits)],
        });
        let data = web::Data::new(tickets.clone());
        let register = Arc::new(move |config: &mut web::ServiceConfig| {
            config.app_data(data.clone());
        });
        let site = TestSite::start_with(config, |_| register).await;
        let project = site.project("Shop", None).await;
        let client = Client::builder().no_proxy().build().unwrap();
        let key = project.secret_key.unwrap();
        Self { site, client, key, kind, tickets, clock, _database: database }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = if path.starts_with("/api") { path.to_owned() } else { format!("/api/v1/tickets{path}") };
        self.client.request(method, format!("http://{}{url}", self.site.address)).bearer_auth(&self.key)
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.request(Method::GET, path)
    }

    fn post(&self, question: Value) -> reqwest::RequestBuilder {
        self.request(Method::POST, "").json(&json!({ "question": question }))
    }
}

struct Answer {
    status: StatusCode,
    headers: reqwest::header::HeaderMap,
    text: String,
}

impl Answer {
    async fn to(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        (self.status.as_u16(), self.json()["code"].as_str().unwrap().to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_in_one_request() {
    let api = Api::start(1).await;
    let answer = Answer::to(api.post(json!({"kind": "funnel"})).header("prefer", "wait=20")).await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("location").is_empty() && answer.header("retry-after").is_empty());
    let ticket = answer.json();
    let mut shown = ticket.clone();
    shown["id"] = json!("[id]");
    shown["links"] = json!("[links]");
    insta::assert_json_snapshot!(shown, @r#"
    {
      "as_of": "2026-11-23T04:04:30Z",
      "attempt": 1,
      "created_at": "2026-11-23T04:04:31Z",
      "error": null,
      "expires_at": "2026-11-24T04:04:31Z",
      "finished_at": "2026-11-23T04:04:31Z",
      "id": "[id]",
      "kind": "question",
      "links": "[links]",
      "partial": false,
      "progress": {
        "rows_done": 0,
        "rows_total": 0,
        "shards_done": 0,
        "shards_total": 0
      },
      "question": {
        "kind": "funnel"
      },
      "queue_position": null,
      "result": {
        "kind": "funnel",
        "steps": [
          {
            "label": "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
            "persons": 0
          }
        ]
      },
      "started_at": "2026-11-23T04:04:31Z",
      "state": "succeeded"
    }
    "#);
    let this = ticket["links"]["self"].as_str().unwrap();
    assert_eq!(this, format!("/api/v1/tickets/{}", ticket["id"].as_str().unwrap()));
    assert_eq!(ticket["links"]["cancel"], Value::Null);
    let result = Answer::to(api.get(ticket["links"]["result"].as_str().unwrap())).await;
    assert_eq!((result.status.as_u16(), result.json()), (200, ticket["result"].clone()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_time_the_answer_says_where_to_look() {
    let api = Api::start(1).await;
    let answer = Answer::to(api.post(json!({"wait": true}))).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("retry-after"), "3");
    let location = answer.header("location").to_owned();
    assert_eq!(answer.json()["links"]["self"], location.as_str());
    let result = Answer::to(api.get(&format!("{location}/result"))).await;
    assert_eq!((result.problem(), result.header("retry-after")), ((409, "conflict".to_owned()), "1"));
    api.kind.gate.add_permits(1);
    let done = Answer::to(api.get(&format!("{location}?wait=25"))).await;
    assert_eq!((done.status.as_u16(), done.json()["state"].clone()), (200, json!("succeeded")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_ticket_is_not_sent_again() {
    let api = Api::start(0).await;
    let answer = Answer::to(api.post(json!({}))).await;
    assert_eq!(
        (answer.json()["state"].clone(), answer.json()["queue_position"].clone()),
        (json!("queued"), json!(1))
    );
    let (location, etag) = (answer.header("location").to_owned(), answer.header("etag").to_owned());
    let same = Answer::to(api.get(&location).header("if-none-match", &etag)).await;
    assert_eq!((same.status.as_u16(), same.text.as_str(), same.header("etag")), (304, "", etag.as_str()));
    // The long poll ends with the first change.
    for tags in [format!("\"x\", {etag}"), "*".to_owned()] {
        let same = Answer::to(api.get(&location).header("if-none-match", &tags)).await;
        assert_eq!(same.status.as_u16(), 304, "{tags}");
    }
    let poll = api.get(&format!("{location}?wait=25")).header("if-none-match", &etag);
    let poll = tokio::spawn(Answer::to(poll));
    let cancelled = Answer::to(api.request(Method::POST, &format!("{location}/cancel"))).await;
    assert_eq!((cancelled.status.as_u16(), cancelled.json()["state"].clone()), (200, json!("cancelled")));
    let changed = poll.await.unwrap();
    assert_eq!((changed.status.as_u16(), changed.json()["state"].clone()), (200, json!("cancelled")));
    assert_ne!(changed.header("etag"), etag);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_told_what_is_wrong() {
    let api = Api::start(0).await;
    let invalid = Answer::to(api.post(json!({"rows": "x"}))).await;
    assert_eq!(invalid.problem(), (400, "invalid".to_owned()));
    assert_eq!(invalid.json()["errors"][0]["pointer"], "/question/rows");
    for (body, code) in
        [("{", "malformed"), ("{}", "malformed"), ("{\"question\": {}, \"x\": 1}", "malformed")]
    {
        let request = api.request(Method::POST, "").header("content-type", "application/json").body(body);
        assert_eq!(Answer::to(request).await.problem(), (400, code.to_owned()), "{body}");
    }
    for path in ["?limit=0", "?limit=201", "?before=x"] {
        assert_eq!(Answer::to(api.get(path)).await.problem(), (400, "invalid".to_owned()), "{path}");
    }
    let id = "/01890000-0000-7000-8000-000000000000";
    for (path, name) in [
        (format!("{id}?wait=abc"), "wait"),
        (format!("{id}/result?offset=-1"), "offset"),
        ("?limit=x".to_owned(), "limit"),
    ] {
        let answer = Answer::to(api.get(&path)).await;
        assert_eq!(answer.problem(), (400, "malformed".to_owned()), "{path}");
        assert_eq!(answer.json()["errors"][0]["pointer"], name, "{path}");
    }
    let list = api.request(Method::POST, "").header("content-type", "application/json").body("[]");
    assert_eq!(Answer::to(list).await.json()["detail"], "The body is a list; send an object.");
    let key = api.post(json!({})).header("idempotency-key", "x".repeat(256));
    assert_eq!(Answer::to(key).await.problem(), (400, "invalid".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_is_one_ticket() {
    let api = Api::start(0).await;
    let keyed = |question: Value| api.post(question).header("idempotency-key", "one");
    let first = Answer::to(keyed(json!({"rows": 1}))).await.json();
    let second = Answer::to(keyed(json!({"rows": 1}))).await;
    assert_eq!((second.status.as_u16(), second.json()["id"].clone()), (202, first["id"].clone()));
    assert_eq!(Answer::to(keyed(json!({"rows": 2}))).await.problem(), (409, "conflict".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_waiting_tickets_are_refused_for_now() {
    let api = Api::start(0).await;
    for _ in 0..2 {
        assert_eq!(Answer::to(api.post(json!({}))).await.status, 202);
    }
    let third = Answer::to(api.post(json!({}))).await;
    assert_eq!((third.problem(), third.header("retry-after")), ((429, "too_many_requests".to_owned()), "5"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_projects_own_callers_see_a_ticket() {
    let api = Api::start(1).await;
    let ticket = Answer::to(api.post(json!({})).header("prefer", "wait=20")).await.json();
    let this = ticket["links"]["self"].as_str().unwrap();
    let other = api.site.project("Other", None).await;
    let other_key = other.secret_key.unwrap();
    for (method, path) in [
        (Method::GET, String::new()),
        (Method::GET, "?wait=25".to_owned()),
        (Method::GET, "/result".to_owned()),
        (Method::GET, "/events".to_owned()),
        (Method::POST, "/cancel".to_owned()),
    ] {
        let url = format!("http://{}{this}{path}", api.site.address);
        let request = api.client.request(method.clone(), &url);
        let answer = Answer::to(request.try_clone().unwrap().bearer_auth(&other_key)).await;
        assert_eq!(answer.problem(), (404, "not_found".to_owned()), "{method} {path}");
        assert_eq!(
            Answer::to(request).await.problem(),
            (401, "unauthenticated".to_owned()),
            "{method} {path}"
        );
    }
    let list = format!("http://{}/api/v1/tickets", api.site.address);
    let write_key = api.client.get(list).bearer_auth(&other.write_key);
    assert_eq!(Answer::to(write_key).await.problem().0, 401);
    let unknown = Answer::to(api.get("/00000000-0000-0000-0000-000000000000")).await;
    assert_eq!(unknown.problem(), (404, "not_found".to_owned()));
    assert_eq!(Answer::to(api.get("/what")).await.problem(), (404, "not_found".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_asks_with_its_session() {
    let api = Api::start(1).await;
    let (browser, project) = api.site.signed_in("ada@example.org").await;
    let mine = browser.get(&format!("/api/v1/tickets?project={project}")).await;
    assert_eq!((mine.status, mine.json()["tickets"].clone()), (200, json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_ticket_says_why() {
    let api = Api::start(1).await;
    let answer = Answer::to(api.post(json!({"fail": true})).header("prefer", "wait=20")).await;
    assert_eq!((answer.status.as_u16(), answer.json()["state"].clone()), (200, json!("failed")));
    assert_eq!(answer.json()["error"]["code"], "too_many_values");
    let this = answer.json()["links"]["self"].as_str().unwrap().to_owned();
    let result = Answer::to(api.get(&format!("{this}/result"))).await;
    assert_eq!((result.problem(), result.header("retry-after")), ((409, "conflict".to_owned()), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_ticket_is_gone() {
    let api = Api::start(1).await;
    let answer = Answer::to(api.post(json!({})).header("prefer", "wait=20")).await;
    let this = answer.json()["links"]["self"].as_str().unwrap().to_owned();
    api.clock.advance(86_400_000);
    for path in ["", "/result", "/events"] {
        let gone = Answer::to(api.get(&format!("{this}{path}"))).await;
        assert_eq!(gone.problem(), (410, "gone".to_owned()), "{path}");
    }
    api.tickets.maintain().await.unwrap();
    assert_eq!(Answer::to(api.get(&this)).await.problem().0, 410);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_result_is_fetched_in_pages() {
    let api = Api::start(1).await;
    let answer = Answer::to(api.post(json!({"rows": 10_000})).header("prefer", "wait=25")).await;
    let ticket = answer.json();
    assert_eq!((ticket["state"].clone(), ticket["result"].clone()), (json!("succeeded"), Value::Null));
    let mut next = format!("{}?limit=4000", ticket["links"]["result"].as_str().unwrap());
    let mut seen = Vec::new();
    loop {
        let page = Answer::to(api.get(&next)).await;
        assert!(page.text.len() < 10_000_000);
        seen.extend(
            page.json()["steps"].as_array().unwrap().iter().map(|row| row["persons"].as_u64().unwrap()),
        );
        match page.header("link").strip_prefix('<').and_then(|link| link.split_once(">; rel=\"next\"")) {
            Some((link, _)) => next = link.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, (0..10_000).collect::<Vec<_>>());
    let this = ticket["links"]["result"].as_str().unwrap();
    let whole = Answer::to(api.get(this)).await;
    assert_eq!(whole.json()["steps"].as_array().unwrap().len(), 10_000);
    let csv = Answer::to(api.get(&format!("{this}?format=csv&limit=2"))).await;
    assert_eq!((csv.header("content-type"), csv.text.lines().count()), ("text/csv; charset=utf-8", 3));
    // Long enough to be written while it is sent.
    let long = Answer::to(api.get(&format!("{this}?format=csv&limit=10000"))).await;
    assert_eq!((long.text.len() > 1 << 20, long.text.lines().count()), (true, 10_001));
    assert_eq!(long.header("content-length"), long.text.len().to_string());
    let inside = Answer::to(api.get(&format!("{this}?format=json&bucket=1"))).await;
    assert_eq!(inside.problem(), (400, "invalid".to_owned()));
    let unknown = Answer::to(api.get(&format!("{this}?format=xml"))).await;
    assert_eq!(unknown.problem(), (400, "invalid".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_are_listed_in_pages() {
    // A slot for each: the answer comes before its slot is free again, and nobody here takes what was
    // queued meanwhile.
    let api = Api::start(3).await;
    for _ in 0..3 {
        api.clock.advance(1);
        assert_eq!(Answer::to(api.post(json!({})).header("prefer", "wait=20")).await.status, 200);
    }
    let first = Answer::to(api.get("?limit=2")).await.json();
    assert_eq!(first["tickets"].as_array().unwrap().len(), 2);
    assert_eq!(first["tickets"][0]["result"], Value::Null);
    let second = Answer::to(api.get(first["next"].as_str().unwrap())).await.json();
    assert_eq!((second["tickets"].as_array().unwrap().len(), second["next"].clone()), (1, Value::Null));
}
