//! The catalogue over HTTP: what is sealed is named, what arrived last gives examples.

use serde_json::{Value, json};

use super::{Answer, Api};
use crate::config::Config;
use crate::eventstore::fixture::{PROJECT, SHARD, row, rows, store_run, store_segment};
use crate::http::testing::NOW;
use crate::model::{Event, EventId, ProjectId, PropertyValue, SeededRandom, TimeSource};
use crate::storage::Db;

const NEIGHBOUR: ProjectId = ProjectId(2);

fn db(api: &Api) -> &Db {
    api.site.state.storage.shards.db_of(SHARD).unwrap()
}

fn event(project_id: ProjectId, distinct_id: &str, n: u8, properties: &[(&str, &str)]) -> Event {
    let text = |text: &str| PropertyValue::String(text.to_owned());
    Event {
        project_id,
        distinct_id: distinct_id.into(),
        anonymous_id: None,
        event: "visited".into(),
        event_id: EventId([n; 16]),
        occurred_at: NOW,
        received_at: NOW,
        time_source: TimeSource::Client,
        properties: properties.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect(),
        route: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_has_names_types_counts_and_examples() {
    let api = Api::start(0).await;
    let random = SeededRandom::new(1);
    store_run(db(&api), &random, rows(PROJECT, 0..7)).await;
    store_segment(db(&api), &random, rows(PROJECT, 7..10)).await;
    for (n, id) in (0..).zip(["a", "b", "c"]) {
        let secret = format!("only {id} has this");
        api.waits(PROJECT, id, &[event(PROJECT, id, n, &[("plan", "p0"), ("value", &secret)])]).await;
    }
    let answer = Answer::to(api.get("/api/v1/catalogue")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    insta::assert_json_snapshot!(answer.json(), @r#"
    {
      "events": [
        {
          "count": 5,
          "last_seen_at": "1970-01-18T03:00:00Z",
          "name": "$pageview"
        },
        {
          "count": 5,
          "last_seen_at": "1970-01-18T03:00:00Z",
          "name": "purchase"
        }
      ],
      "more_events": false,
      "more_properties": false,
      "partial": false,
      "properties": [
        {
          "count": 10,
          "examples": [
            "p0"
          ],
          "last_seen_at": "1970-01-18T03:00:00Z",
          "name": "plan",
          "types": {
            "string": 10
          }
        },
        {
          "count": 10,
          "examples": [],
          "last_seen_at": "1970-01-18T03:00:00Z",
          "name": "value",
          "types": {
            "float": 5,
            "integer": 5
          }
        }
      ]
    }
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_shows_nothing_of_another_project() {
    let api = Api::start(0).await;
    let neighbour = api.site.project("Neighbour", None).await;
    assert_eq!(neighbour.project_id, NEIGHBOUR);
    let mut theirs = row(NEIGHBOUR, 1);
    theirs.event = "their event".into();
    theirs.properties = vec![("their property", PropertyValue::Bool(true))].into();
    let mut mixed = rows(PROJECT, 0..10);
    mixed.push(theirs);
    store_run(db(&api), &SeededRandom::new(1), mixed).await;
    for (n, id) in (0..).zip(["a", "b", "c"]) {
        api.waits(NEIGHBOUR, id, &[event(NEIGHBOUR, id, n, &[("plan", "their plan")])]).await;
    }
    let ours = Answer::to(api.get("/api/v1/catalogue")).await;
    assert!(ours.text.contains("purchase") && !ours.text.contains("their"), "{}", ours.text);
    let named = Answer::to(api.get("/api/v1/catalogue?project=2")).await;
    assert_eq!(named.text, ours.text, "the project is the key's");
    let key = neighbour.secret_key.unwrap();
    let request = api.client.get(format!("http://{}/api/v1/catalogue", api.site.address));
    let theirs = Answer::to(request.bearer_auth(&key)).await.json();
    assert_eq!((&theirs["events"][0]["name"], &theirs["events"][1]), (&json!("their event"), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_read_a_project_gets_its_catalogue() {
    let api = Api::start(0).await;
    let url = format!("http://{}/api/v1/catalogue", api.site.address);
    let project = api.site.project("Neighbour", None).await;
    assert_eq!(Answer::to(api.client.get(&url)).await.problem(), (401, "unauthenticated".into()));
    let with_write_key = api.client.get(&url).bearer_auth(&project.write_key);
    assert_eq!(Answer::to(with_write_key).await.problem(), (401, "unauthenticated".into()));

    let (browser, own) = api.site.signed_in("ada@example.org").await;
    let page = browser.get(&format!("/api/v1/catalogue?project={own}")).await;
    assert_eq!(page.status, 200, "{}", page.body);
    let empty = json!({"events": [], "more_events": false, "properties": [], "more_properties": false, "partial": false});
    assert_eq!(page.json(), empty);
    assert_eq!(browser.get("/api/v1/catalogue?project=1").await.status, 404, "of somebody else");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_is_as_long_as_the_setting_says_and_what_is_left_out_is_counted() {
    for (names_max, properties, more, left_out) in [(2, 2, false, 0), (1, 1, true, 1)] {
        let mut config = Config::default();
        config.http.catalogue_names_max = names_max;
        let api = Api::start_with(0, config).await;
        store_run(db(&api), &SeededRandom::new(1), rows(PROJECT, 0..10)).await;
        let found = Answer::to(api.get("/api/v1/catalogue")).await.json();
        assert_eq!(found["properties"].as_array().unwrap().len(), properties);
        assert_eq!((&found["more_events"], &found["more_properties"]), (&json!(more), &json!(more)));
        assert_eq!(found["properties"][0]["name"], "plan");
        let metrics = api.site.ops("/metrics").await.body;
        for names in ["events", "properties"] {
            let line = format!("weir_menu_names_left_out_total{{names=\"{names}\"}} {left_out}\n");
            assert!(metrics.contains(&line), "{line}{metrics}");
        }
    }
}
