//! A person over HTTP. What is sealed is read in `eventstore::person`; here it waits in the journal.

use serde_json::{Value, json};

use super::{Answer, Api};
use crate::config::Config;
use crate::http::testing::NOW;
use crate::model::{BatchId, Event, EventId, ProjectId, PropertyValue, TimeSource, shard_of};
use crate::storage::batch::BatchEncoder;
use crate::storage::server::journal::{self, NewBatch};

fn event(project_id: ProjectId, distinct_id: &str, n: u8) -> Event {
    Event {
        project_id,
        distinct_id: distinct_id.into(),
        anonymous_id: None,
        event: if n == 0 { "signed_up" } else { "visited" }.into(),
        event_id: EventId([n; 16]),
        occurred_at: NOW - 60_000 + i64::from(n) * 1_000,
        received_at: NOW,
        time_source: TimeSource::Client,
        properties: vec![
            ("n".to_owned(), PropertyValue::Integer(n.into())),
            ("tags".to_owned(), PropertyValue::Json("[\"a\"]".to_owned())),
        ]
        .into(),
        route: Vec::new(),
    }
}

impl Api {
    /// Commits events of one person.
    pub(super) async fn waits(&self, project_id: ProjectId, distinct_id: &str, events: &[Event]) {
        let shards = &self.site.state.storage.shards;
        let shard_no = shard_of(project_id, distinct_id, shards.count(), shards.count());
        let batch = BatchEncoder::default().encode_events(events);
        let batch_id = BatchId::random(&*self.site.state.random);
        let new = vec![NewBatch { shard_no, batch_id, batch }];
        journal::insert(shards.db_of(shard_no).unwrap(), new).await.unwrap();
    }
}

/// The project that `Api::start` makes has the first number.
const SHOP: ProjectId = ProjectId(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_person_has_a_profile_and_events_in_pages() {
    let api = Api::start(0).await;
    let sent: Vec<Event> = (0..5).map(|n| event(SHOP, "u1", n)).collect();
    api.waits(SHOP, "u1", &sent).await;
    let profile = Answer::to(api.get("/api/v1/persons/u1")).await;
    insta::assert_json_snapshot!(profile.json(), @r#"
    {
      "distinct_id": "u1",
      "distinct_ids": [
        "u1"
      ],
      "events": 5,
      "events_by_name": [
        {
          "count": 4,
          "event": "visited"
        },
        {
          "count": 1,
          "event": "signed_up"
        }
      ],
      "first_day": "2026-11-23",
      "first_seen_at": "2026-11-23T04:03:31Z",
      "last_day": "2026-11-23",
      "last_seen_at": "2026-11-23T04:03:35Z",
      "links": {
        "events": "/api/v1/persons/u1/events",
        "self": "/api/v1/persons/u1"
      },
      "more_events": false,
      "traits": {}
    }
    "#);
    let whole = Answer::to(api.get("/api/v1/persons/u1/events")).await.json();
    insta::assert_json_snapshot!(whole["events"][0], @r#"
    {
      "distinct_id": "u1",
      "event": "visited",
      "event_id": "04040404-0404-0404-0404-040404040404",
      "occurred_at": "2026-11-23T04:03:35Z",
      "properties": {
        "n": 4,
        "tags": [
          "a"
        ]
      },
      "received_at": "2026-11-23T04:04:31Z"
    }
    "#);
    assert_eq!((whole["events"].as_array().unwrap().len(), &whole["next"]), (5, &Value::Null));
    let (mut next, mut seen) = (Some("/api/v1/persons/u1/events?limit=2".to_owned()), Vec::new());
    while let Some(address) = next {
        let page = Answer::to(api.get(&address)).await.json();
        seen.extend(page["events"].as_array().unwrap().clone());
        next = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(json!(seen), whole["events"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_may_hold_anything_that_is_text() {
    let api = Api::start(0).await;
    let long = "x".repeat(255);
    for (id, path) in [
        ("a/b c", "a%2Fb%20c"),
        ("a%2Fb", "a%252Fb"),
        ("a+b", "a+b"),
        ("Zoë🍣", "Zo%C3%AB%F0%9F%8D%A3"),
        ("x/events", "x%2Fevents"),
        ("me@example.org", "me@example.org"),
        (&long, &long),
    ] {
        api.waits(SHOP, id, &[event(SHOP, id, 1)]).await;
        let profile = Answer::to(api.get(&format!("/api/v1/persons/{path}"))).await;
        assert_eq!(profile.status, 200, "{id}: {}", profile.text);
        let profile = profile.json();
        assert_eq!((&profile["distinct_id"], profile["distinct_ids"][0].as_str()), (&json!(id), Some(id)));
        let events = Answer::to(api.get(profile["links"]["events"].as_str().unwrap())).await;
        assert_eq!(events.json()["events"][0]["distinct_id"], id, "{}", events.text);
    }
    for path in ["nobody", "A%2FB%20c", "%FF", "a%2fb%20c%00", &"x".repeat(256)] {
        for rest in ["", "/events"] {
            let unknown = Answer::to(api.get(&format!("/api/v1/persons/{path}{rest}"))).await;
            assert_eq!(unknown.problem(), (404, "not_found".to_owned()), "{path}{rest}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_projects_own_callers_see_a_person() {
    let api = Api::start(0).await;
    api.waits(SHOP, "u1", &[event(SHOP, "u1", 1)]).await;
    let other = api.site.project("Other", None).await;
    let (browser, mine) = api.site.signed_in("ada@example.org").await;
    api.waits(mine, "u1", &[event(mine, "u1", 2)]).await;
    for path in ["/api/v1/persons/u1", "/api/v1/persons/u1/events"] {
        let address = format!("http://{}{path}", api.site.address);
        let stranger = api.client.get(&address).bearer_auth(other.secret_key.as_deref().unwrap());
        assert_eq!(Answer::to(stranger).await.problem(), (404, "not_found".to_owned()), "{path}");
        let nobody = Answer::to(api.client.get(&address)).await;
        assert_eq!(nobody.problem(), (401, "unauthenticated".to_owned()), "{path}");
        let sender = Answer::to(api.client.get(&address).bearer_auth(&other.write_key)).await;
        assert_eq!(sender.problem().0, 401, "{path}");
        assert_eq!(browser.get(&format!("{path}?project={SHOP}")).await.status, 404, "{path}");
    }
    let events = browser.get(&format!("/api/v1/persons/u1/events?project={mine}")).await.json();
    assert_eq!(
        (events["events"].as_array().unwrap().len(), &events["events"][0]["properties"]["n"]),
        (1, &json!(2))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_have_a_largest_size_and_a_cursor_of_ours() {
    let mut config = Config::default();
    config.http.person_events_max = 3;
    let api = Api::start_with(0, config).await;
    let sent: Vec<Event> = (0..5).map(|n| event(SHOP, "u1", n)).collect();
    api.waits(SHOP, "u1", &sent).await;
    let largest = Answer::to(api.get("/api/v1/persons/u1/events?limit=3")).await.json();
    assert_eq!(largest["events"].as_array().unwrap().len(), 3);
    let profile = Answer::to(api.get("/api/v1/persons/u1")).await.json();
    assert_eq!((&profile["events"], &profile["more_events"]), (&json!(3), &json!(true)));
    for query in ["limit=4", "limit=0", "cursor=", "cursor=abc", "cursor=0011"] {
        let refused = Answer::to(api.get(&format!("/api/v1/persons/u1/events?{query}"))).await;
        assert_eq!(refused.problem(), (400, "invalid".to_owned()), "{query}");
        assert_eq!(refused.json()["errors"][0]["pointer"], query.split('=').next().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_long_events_end_before_they_are_too_long() {
    let api = Api::start(0).await;
    // Long in the store, and, of control characters, six times as long in JSON.
    for (who, text, in_a_page) in [("plain", "x", 17), ("escaped", "\u{1}", 5)] {
        let mut sent: Vec<Event> = (0..40).map(|n| event(SHOP, who, n)).collect();
        for event in &mut sent {
            event.properties = vec![("text".to_owned(), PropertyValue::String(text.repeat(250_000)))].into();
        }
        api.waits(SHOP, who, &sent).await;
        let (mut next, mut counts) = (Some(format!("/api/v1/persons/{who}/events")), Vec::new());
        while let Some(address) = next {
            let page = Answer::to(api.get(&address)).await;
            assert!(page.text.len() < 10_000_000, "{}", page.text.len());
            let page = page.json();
            counts.push(page["events"].as_array().unwrap().len());
            next = page["next"].as_str().map(str::to_owned);
        }
        assert_eq!((counts[0], counts.iter().sum::<usize>()), (in_a_page, 40), "{who}: {counts:?}");
    }
}
