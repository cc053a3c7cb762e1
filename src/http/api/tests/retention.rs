//! How long events are kept over the API, and what is refused.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Api};
use crate::eventstore::fixture::{PROJECT, SHARD, rows, store_run, store_segment};
use crate::http::testing::NOW;
use crate::model::{DAY_MS, SeededRandom, utc_day};

const ADDRESS: &str = "/api/v1/retention";

async fn put(api: &Api, body: Value) -> Answer {
    Answer::to(api.request(Method::PUT, ADDRESS).json(&body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_counts_what_occurred_before_and_changes_nothing() {
    let api = Api::start(0).await;
    let db = api.site.state.storage.shards.db_of(SHARD).unwrap();
    let random = SeededRandom::new(1);
    store_run(db, &random, rows(PROJECT, 0..50)).await;
    store_segment(db, &random, rows(PROJECT, 50..120)).await;
    let before = rows(PROJECT, 0..120).iter().filter(|row| utc_day(row.occurred_at) < 9).count();
    let days = i64::from(utc_day(NOW)) - 9;
    let shown = Answer::to(api.get(&format!("{ADDRESS}/preview?days={days}"))).await;
    let expected = json!({"days": days, "kept_from": "1970-01-10", "events": 120, "events_before": before,
        "persons": 0, "persons_before": 0, "partial": false});
    assert_eq!(shown.json(), expected);
    let all = Answer::to(api.get(&format!("{ADDRESS}/preview?days=1"))).await.json();
    assert_eq!((&all["events_before"], &all["events"]), (&json!(120), &json!(120)));
    assert_eq!(Answer::to(api.get(ADDRESS)).await.json(), json!({"days": null, "kept_from": null}));
    for days in ["0", "36501", "-1", "ten", ""] {
        let refused = Answer::to(api.get(&format!("{ADDRESS}/preview?days={days}"))).await;
        assert_eq!(refused.status, 400, "{days}: {}", refused.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_of_days_needs_the_day_that_it_leads_to() {
    let api = Api::start(0).await;
    let day = |days: i64| crate::http::api::retention::day(NOW - days * DAY_MS);
    for (body, pointer) in [
        (json!({"days": 30}), "/kept_from"),
        (json!({"days": 30, "kept_from": day(29)}), "/kept_from"),
        (json!({"days": 0, "kept_from": day(0)}), "/days"),
        (json!({"days": 36_501, "kept_from": day(0)}), "/days"),
        (json!({"days": null, "kept_from": day(0)}), "/kept_from"),
    ] {
        let refused = put(&api, body.clone()).await;
        assert_eq!(refused.problem(), (400, "invalid".to_owned()), "{body}");
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer, "{body}");
    }
    for body in [
        json!({}),
        json!({"kept_from": day(30)}),
        json!({"days": "30"}),
        json!({"days": 30, "kept_from": day(30), "more": 1}),
        json!([]),
    ] {
        assert_eq!(put(&api, body.clone()).await.problem().0, 400, "{body}");
    }
    let set = put(&api, json!({"days": 30, "kept_from": day(30)})).await;
    assert_eq!(set.json(), json!({"days": 30, "kept_from": day(30)}));
    assert_eq!(Answer::to(api.get(ADDRESS)).await.json(), set.json(), "it is known at once");
    let again = put(&api, json!({"days": null})).await;
    assert_eq!(again.json(), json!({"days": null, "kept_from": null}));
}
