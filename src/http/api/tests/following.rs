//! A ticket's stream of events.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Api};
use crate::config::Config;
use crate::tickets::Submit;

/// The ids and tickets of a stream's events.
fn events(stream: &str) -> Vec<(String, Value)> {
    let field = |event: &str, name: &str| {
        event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned()
    };
    let told = stream.split("\n\n").filter(|event| event.contains("event: ticket"));
    told.map(|event| (field(event, "id: "), serde_json::from_str(&field(event, "data: ")).unwrap())).collect()
}

fn of_streams(config: impl FnOnce(&mut Config)) -> Config {
    let mut changed = Config::default();
    config(&mut changed);
    changed
}

impl Api {
    /// The address of a new ticket's stream.
    async fn followed(&self, question: Value) -> String {
        let answer = Answer::to(self.post(question)).await;
        answer.json()["links"]["events"].as_str().expect("it has not ended").to_owned()
    }

    async fn cancel(&self, events: &str) {
        let cancel = events.replace("/events", "/cancel");
        assert_eq!(Answer::to(self.request(Method::POST, &cancel)).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_the_end_and_then_not_to_come_back() {
    let api = Api::start(1).await;
    let address = api.followed(json!({"wait": true})).await;
    let mut stream = api.get(&address).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    assert!(!stream.headers().contains_key("content-encoding"), "nothing may hold events back");
    let first = String::from_utf8(stream.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(first.starts_with("retry: 1000\n\n"), "{first}");
    api.kind.gate.add_permits(1);
    let rest = stream.text().await.unwrap();
    let told = events(&format!("{first}{rest}"));
    assert_eq!(told[0].1["state"], "running");
    let (id, ticket) = told.last().unwrap();
    assert_eq!((&ticket["state"], &ticket["result"]["kind"]), (&json!("succeeded"), &json!("funnel")));
    assert_eq!(Answer::to(api.get(&address).header("last-event-id", id)).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_after_its_time_and_goes_on_where_it_was() {
    let api = Api::start_with(0, of_streams(|config| config.http.event_stream_secs = 1)).await;
    let address = api.followed(json!({})).await;
    let told = events(&Answer::to(api.get(&address)).await.text);
    let [(id, ticket)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(ticket["state"], "queued");
    for again in [api.get(&address).header("last-event-id", id), api.get(&format!("{address}?seen={id}"))] {
        let nothing = Answer::to(again).await;
        assert_eq!((nothing.status.as_u16(), events(&nothing.text)), (200, vec![]));
    }
    api.cancel(&address).await;
    let told = events(&Answer::to(api.get(&format!("{address}?seen={id}"))).await.text);
    assert_eq!((told.len(), &told[0].1["state"]), (1, &json!("cancelled")));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_streams_than_the_limit_are_refused_until_one_ends() {
    let api = Api::start_with(0, of_streams(|config| config.http.event_streams_max = 1)).await;
    let (address, other) = (api.followed(json!({})).await, api.followed(json!({"rows": 2})).await);
    let open = api.get(&address).send().await.unwrap();
    let refused = Answer::to(api.get(&other)).await;
    assert_eq!((refused.problem(), refused.header("retry-after")), ((503, "unavailable".to_owned()), "5"));
    assert!(refused.text.contains("http.event_streams_max"), "{}", refused.text);
    api.cancel(&address).await;
    assert_eq!(events(&open.text().await.unwrap()).last().unwrap().1["state"], "cancelled");
    // The slot goes with the stream, which may take a moment longer than its last byte.
    while api.get(&other).send().await.unwrap().status() == 503 {}
}

#[tokio::test(flavor = "multi_thread")]
async fn open_streams_end_when_the_server_stops() {
    let mut api = Api::start(0).await;
    let address = api.followed(json!({})).await;
    let mut stream = api.get(&address).send().await.unwrap();
    let first = String::from_utf8(stream.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert_eq!(events(&first)[0].1["state"], "queued");
    api.site.stop();
    // To its proper end: a connection that was cut would be an error here.
    assert_eq!(stream.text().await.unwrap(), "");
    (&mut api.site.served).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_follows_with_its_session_and_may_do_without_the_result() {
    let api = Api::start(1).await;
    let (browser, project_id) = api.site.signed_in("ada@example.org").await;
    let submit = Submit {
        project_id,
        let_in_with: None,
        kind: "question".to_owned(),
        body: json!({"wait": true}),
        idempotency_key: None,
        created_by: "account:1".to_owned(),
    };
    let ticket = api.tickets.submit(submit).await.unwrap().ticket;
    let address = format!("/api/v1/tickets/{}/events", ticket.ticket_id);
    let stranger = api.site.project("Other", None).await.project_id;
    api.kind.gate.add_permits(1);
    let stream = browser.get(&format!("{address}?project={project_id}&result=false")).await;
    let told = events(&stream.body);
    let (_, last) = told.last().unwrap();
    assert_eq!((&last["state"], &last["result"]), (&json!("succeeded"), &Value::Null));
    for elsewhere in [format!("?project={stranger}"), String::new()] {
        let refused = browser.get(&format!("{address}{elsewhere}")).await;
        assert!(matches!(refused.status, 400 | 404), "{elsewhere}: {}", refused.status);
    }
}
