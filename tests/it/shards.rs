//! Promise 7: the same events give the same bytes, for any number of shards, any split into
//! batches, any resends, before and after compaction.
//!
//! The events are as awkward as senders make them: ids that several persons share, equal times,
//! floats whose sum depends on the order of a naive addition, properties that change their type,
//! events that come days late, and events whose time is the server's.

use std::time::Duration;

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::facts::facts;
use crate::reference;
use crate::support::{Installation, MariaDb, Project, Weir, until};

const EVENTS: usize = 2_400;
const PERSONS: usize = 60;

struct Way {
    name: &'static str,
    installation: Installation,
    /// Events a request.
    batch_max: usize,
    /// Of a hundred requests, how many are sent a second time, later.
    resent: u32,
    seed: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_the_same_bytes_for_any_shards_batches_resends_and_compaction() {
    let (one, two) = tokio::join!(MariaDb::start(), MariaDb::start());
    let servers = [one.create_database().await, two.create_database().await];
    let ways = [
        Way {
            name: "1 shard",
            installation: Installation::embedded(1),
            batch_max: 2_000,
            resent: 0,
            seed: 1,
        },
        Way { name: "4 shards", installation: Installation::embedded(4), batch_max: 7, resent: 30, seed: 2 },
        Way {
            name: "16 shards",
            installation: Installation::embedded(16),
            batch_max: 90,
            resent: 100,
            seed: 3,
        },
        Way {
            name: "16 shards on two servers",
            installation: Installation::mysql(&servers, 16),
            batch_max: 40,
            resent: 20,
            seed: 4,
        },
    ];
    let events = awkward_events();
    let facts = facts(&events);
    let questions = questions();
    let expected: Vec<Value> = questions.iter().map(|question| reference::answer(question, &facts)).collect();
    let mut stamped = None;
    for way in ways {
        let project = way.installation.create_project("same");
        let weir = way.installation.serve_with(&[("WEIR__SEALING__COMPACT_EVERY_MS", "3600000")]).await;
        send_split(&weir, &project, &events, &way).await;
        for _ in 0..2 {
            weir.api.send_all(&project, &stamped_events()).await;
        }
        let before = answers(&weir, &project, &questions).await;
        for ((answer, expected), question) in before.iter().zip(&expected).zip(&questions) {
            assert_eq!(answer, &expected.to_string(), "{}: {question}", way.name);
        }
        let seen = weir.api.ask(&project, &now_question()).await["series"].to_string();
        assert_eq!(stamped.get_or_insert(seen.clone()), &seen, "{}: events of the server's time", way.name);
        weir.stop();

        let weir = way.installation.serve_with(&COMPACTING).await;
        compacted(&weir).await;
        assert_eq!(answers(&weir, &project, &questions).await, before, "{} after compaction", way.name);
        assert_eq!(weir.api.ask(&project, &now_question()).await["series"].to_string(), seen);
        // What was compacted away still counts as seen.
        send_split(&weir, &project, &events, &Way { batch_max: 333, seed: 9, ..way }).await;
        assert_eq!(answers(&weir, &project, &questions).await, before, "sent again after compaction");
        weir.stop();
    }
}

const COMPACTING: [(&str, &str); 3] = [
    ("WEIR__SEALING__COMPACT_EVERY_MS", "50"),
    ("WEIR__SEALING__RUN_AGE_SECS_MAX", "1"),
    ("WEIR__SEALING__RETIRED_GRACE_SECS", "1"),
];

/// Waits until compaction has replaced something and then finds nothing more to do.
async fn compacted(weir: &Weir) {
    until("a merge", Duration::from_secs(60), || async {
        (weir.metric("weir_compact_step_seconds_count").await > 0.0).then_some(())
    })
    .await;
}

/// Sends all events in some order, cut into requests of some sizes, some of them twice.
async fn send_split(weir: &Weir, project: &Project, events: &[Value], way: &Way) {
    let mut chance = ChaCha8Rng::seed_from_u64(way.seed);
    let mut requests = Vec::new();
    let mut rest = events;
    while !rest.is_empty() {
        let size = chance.random_range(1..=way.batch_max).min(rest.len());
        let (batch, after) = rest.split_at(size);
        requests.push(batch);
        rest = after;
    }
    let again: Vec<_> =
        requests.iter().copied().filter(|_| chance.random_range(0..100) < way.resent).collect();
    requests.extend(again);
    requests.shuffle(&mut chance);
    for request in requests {
        weir.api.send_all(project, request).await;
    }
}

/// The answers as text.
async fn answers(weir: &Weir, project: &Project, questions: &[Value]) -> Vec<String> {
    let mut answers = Vec::new();
    for question in questions {
        answers.push(weir.api.ask(project, question).await.to_string());
    }
    answers
}

fn awkward_events() -> Vec<Value> {
    let mut chance = ChaCha8Rng::seed_from_u64(20_260_301);
    let names = ["viewed", "added", "bought", "Bought", "$identify"];
    let floats = [0.1, 0.2, 1e16, -1e16, 1.5e-300, 3.0, -0.25, 1e308, -1e308];
    let mut events = Vec::new();
    for _ in 0..EVENTS {
        let event = *names.choose(&mut chance).unwrap();
        let mut properties = json!({
            "float": floats.choose(&mut chance).unwrap(),
            "integer": chance.random_range(-5_i64..400),
            "big": i64::MAX - chance.random_range(0..3),
        });
        // One name, every type.
        properties["mixed"] = match chance.random_range(0..9) {
            0 => json!(1),
            1 => json!("1"),
            2 => json!(1.5),
            3 => json!(true),
            4 => json!([1, "a"]),
            5 => json!({"deep": chance.random_range(0..3)}),
            6 => json!(1.0),
            7 => json!("ärger 🍣"),
            _ => Value::Null,
        };
        if chance.random_bool(0.3) {
            properties["rare"] = json!(format!("v{}", chance.random_range(0..40)));
        }
        let mut sent = json!({
            // Few ids: persons share them, and a person has one of them on several days.
            "id": uuid::Uuid::from_u128(u128::from(chance.random_range(1..900_u32))).to_string(),
            "event": event,
            "distinct_id": format!("person {}", chance.random_range(0..PERSONS)),
            // Few moments of three days: most events share theirs with others.
            "timestamp": format!(
                "2026-03-{:02}T{:02}:{:02}:00Z",
                7 + chance.random_range(0..3), [0, 7, 23][chance.random_range(0..3)], chance.random_range(0..4) * 15
            ),
            "properties": properties,
        });
        if event == "$identify" {
            sent["anonymous_id"] = json!(format!("anonymous {}", chance.random_range(0..PERSONS)));
        }
        events.push(sent);
    }
    // The first content of an identity counts, and which is first depends on the order of sending:
    // so every event of an identity has the content of its first.
    let mut first = std::collections::HashMap::new();
    for event in &mut events {
        let day = event["timestamp"].as_str().unwrap()[..10].to_owned();
        let identity = (event["distinct_id"].to_string(), event["id"].to_string(), day);
        *event = first.entry(identity).or_insert_with(|| event.clone()).clone();
    }
    events
}

fn questions() -> Vec<Value> {
    let measures = ["sum", "avg", "min", "max", "median", "p90", "p95", "p99"];
    let of = |property: &str| -> Vec<Value> {
        measures.iter().map(|measure| json!({"measure": measure, "property": property})).collect()
    };
    let counts = json!([{"measure": "count"}, {"measure": "persons"}, {"measure": "per_person"}]);
    let mut questions = vec![
        json!({"kind": "trends", "series": counts}),
        json!({"kind": "trends", "series": counts, "granularity": "hour"}),
        json!({"kind": "trends", "series": counts, "granularity": "day", "time_zone": "America/New_York"}),
        json!({"kind": "trends", "series": counts, "granularity": "day", "breakdown": {"event": true}}),
        json!({"kind": "trends", "series": counts, "breakdown": {"property": "mixed", "limit": 3}}),
        json!({"kind": "trends", "series": counts, "breakdown": {"property": "mixed", "limit": 30}}),
        json!({"kind": "trends", "series": counts, "breakdown": {"property": "mixed.deep"}}),
        json!({"kind": "trends", "series": counts, "breakdown": {"property": "rare", "limit": 5}}),
        json!({"kind": "trends", "series": [{"event": "$identify", "measure": "count"}]}),
    ];
    for property in ["float", "integer", "big", "mixed"] {
        questions.push(json!({"kind": "trends", "series": of(property)}));
        questions.push(json!({"kind": "trends", "series": of(property), "granularity": "hour"}));
        questions.push(json!({"kind": "trends", "series": of(property), "breakdown": {"property": "rare"}}));
    }
    for filter in [
        json!({"property": "mixed", "op": "eq", "value": 1}),
        json!({"property": "mixed", "op": "eq", "value": "1"}),
        json!({"property": "mixed", "op": "ne", "value": true}),
        json!({"property": "mixed", "op": "in", "value": [1.5, "ärger 🍣"]}),
        json!({"property": "mixed", "op": "is_set"}),
        json!({"property": "mixed", "op": "is_not_set"}),
        json!({"property": "mixed", "op": "contains", "value": "är"}),
        json!({"property": "float", "op": "gt", "value": 0.1}),
    ] {
        questions.push(json!({"kind": "trends", "series": counts, "filters": [filter]}));
    }
    let steps = json!([
        {"event": "viewed"}, {"events": ["added", "viewed"]}, {"event": "bought"}, {"events": ["bought", "Bought"]},
    ]);
    for window in ["15m", "8h", "1d"] {
        questions.push(json!({"kind": "funnel", "steps": steps, "window": window}));
    }
    questions.push(json!({"kind": "funnel", "steps": steps}));
    questions.push(json!({"kind": "funnel", "steps": [{}, {}, {"event": "added"}, {}], "window": "30m"}));
    for question in &mut questions {
        question["from"] = json!("2026-03-06T12:00:00Z");
        question["to"] = json!("2026-03-10");
    }
    questions
}

fn stamped_events() -> Vec<Value> {
    let event = |n: u32| {
        let id = uuid::Uuid::from_u128(0xffff + u128::from(n % 25)).to_string();
        json!({"id": id, "event": "stamped", "distinct_id": format!("person {}", n % 10)})
    };
    (0..100).map(event).collect()
}

/// Events without a time of their own are on the day they came, whenever that was. A bucket's
/// name would depend on it too: only the series are compared.
fn now_question() -> Value {
    json!({"kind": "trends", "from": "-2d", "to": "tomorrow", "series": [{"measure": "count"}, {"measure": "persons"}]})
}
