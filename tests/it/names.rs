//! Properties whose names are awkward, from the JSON that was sent to the JSON that is read: out of the
//! journal, out of runs and segments, out of columns and out of the one that rare properties share.

use std::collections::BTreeMap;

use rand::Rng;
use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::facts::facts;
use crate::reference::Fact;
use crate::support::{Installation, MariaDb, Project, Sent, Weir, until};

const EVENTS: usize = 150;
const SEED: u64 = 0x6e61_6d65;

/// Alike to a collation, to a JavaScript object, to a file of columns, to a path of members, to SQL.
const NAMES: [&str; 40] = [
    "a",
    "A",
    "a ",
    " a",
    "ä",
    "a\u{308}",
    "Ä",
    "ß",
    "ss",
    "🍣",
    "🍺",
    "$",
    "$os",
    "$$",
    ".",
    "..",
    ".a",
    "a.",
    "a.b",
    "A.b",
    "a..b",
    "a.B",
    "\u{0}",
    "\n",
    "\t",
    "\"",
    "\\",
    "'",
    "`a`",
    "__proto__",
    "constructor",
    "string:a",
    "integer:a",
    "properties",
    "event",
    "person_no",
    "%",
    "_",
    "\u{202e}a",
    "\u{feff}a",
];

fn any_value(chance: &mut ChaCha8Rng, depth: u32) -> Value {
    match chance.random_range(0..if depth < 3 { 10 } else { 7 }) {
        0 => json!(chance.random_range(-3..3)),
        1 => json!(i64::MIN),
        2 => json!(f64::from(chance.random_range(-9..9_i32)) / 8.0),
        3 => json!(chance.random_bool(0.5)),
        4 => Value::Null,
        5 => json!(any_name(chance)),
        6 => json!([1, {(any_name(chance)): [any_name(chance)]}]),
        _ => {
            let members = chance.random_range(0..3);
            // Below the top a name may be empty.
            let name = |chance: &mut ChaCha8Rng| match chance.random_range(0..6) {
                0 => String::new(),
                _ => any_name(chance),
            };
            (0..members).map(|_| (name(chance), any_value(chance, depth + 1))).collect::<Value>()
        }
    }
}

fn any_name(chance: &mut ChaCha8Rng) -> String {
    match chance.random_range(0..8) {
        // As long as a name may be.
        0 if chance.random_bool(0.1) => "é".repeat(30),
        1 => (0..chance.random_range(1..6)).map(|_| chance.random::<char>()).collect(),
        _ => (*NAMES.choose(chance).expect("there are names")).to_owned(),
    }
}

fn events(chance: &mut ChaCha8Rng) -> Vec<Value> {
    let one = |n: usize| {
        let members = chance.random_range(0..12);
        let properties: Value = (0..members).map(|_| (any_name(chance), any_value(chance, 1))).collect();
        json!({"event": "named", "distinct_id": format!("u{}", n % 7), "id": format!("e{n}"),
               "timestamp": format!("2026-03-01T00:{:02}:{:02}Z", n / 60, n % 60), "properties": properties})
    };
    (0..EVENTS).map(one).collect()
}

struct Named {
    events: Vec<Value>,
    facts: Vec<Fact>,
}

impl Named {
    fn from_seed(seed: u64) -> Self {
        println!("names from seed {seed:#x}");
        let events = events(&mut ChaCha8Rng::seed_from_u64(seed));
        let facts = facts(&events);
        Self { events, facts }
    }

    async fn check(&self, installation: Installation) {
        // A handful of columns for hundreds of names, and facts that list some of them.
        let installation = installation
            .with("WEIR__SEALING__SEGMENT_COLUMNS_MAX", "7")
            .with("WEIR__SEALING__SEGMENT_NAMES_MAX", "20")
            .with("WEIR__SEALING__COMPACT_FAN_IN", "2");
        let project = installation.create_project("names");
        let weir = installation.serve_with(&[("WEIR__SEALING__SEGMENT_ROWS_MIN", "30")]).await;
        for batch in self.events.chunks(40) {
            let Sent::Done(answer) = weir.api.send(&project, &json!(batch)).await else { panic!("refused") };
            assert_eq!(answer["accepted"], json!(batch.len()), "{answer}");
        }
        self.compare(&weir, &project, "as sent").await;
        self.count_each(&weir, &project, "as sealed").await;
        weir.stop();

        let merging = [("WEIR__SEALING__COMPACT_EVERY_MS", "50"), ("WEIR__SEALING__RUN_AGE_SECS_MAX", "1")];
        let weir = installation.serve_with(&merging).await;
        until("the rows to leave the runs", std::time::Duration::from_secs(60), || async {
            crate::support::Catalogue::read(&installation).await.runs.is_empty().then_some(())
        })
        .await;
        self.compare(&weir, &project, "in segments").await;
        self.count_each(&weir, &project, "in segments").await;
        weir.stop();
    }

    /// Every property of every event.
    async fn compare(&self, weir: &Weir, project: &Project, state: &str) {
        let mut compared = 0;
        for person in 0..7 {
            let person = format!("u{person}");
            let path = format!("/api/v1/persons/{person}/events?limit=500");
            let page = weir.api.get(project, &path).await;
            let take = |event: &Value| {
                let mut properties = event["properties"].clone();
                // The id as it was sent is a property of its own, since it is no UUID.
                let id = properties.as_object_mut().expect("an object").remove("$event_id");
                assert!(id.is_some_and(|id| id.is_string()), "{event}");
                (event["occurred_at"].as_str().expect("a time").to_owned(), properties)
            };
            let mut read: Vec<_> = page["events"].as_array().expect("a list").iter().map(take).collect();
            read.sort_by(|(a, _), (b, _)| a.cmp(b));
            let mut sent: Vec<&Fact> = self.facts.iter().filter(|fact| fact.person == person).collect();
            sent.sort_by_key(|fact| fact.at);
            assert_eq!(read.len(), sent.len(), "{state}: events of {person}");
            for ((at, read), fact) in read.iter().zip(sent) {
                let expected: Value = fact.properties.clone().into_iter().collect();
                assert_eq!(read, &expected, "{state}: {person} at {at}");
                compared += 1;
            }
        }
        assert_eq!(compared, EVENTS, "{state}");
    }

    /// Every name can be asked for, and is none of those that look like it.
    async fn count_each(&self, weir: &Weir, project: &Project, state: &str) {
        let mut events_with: BTreeMap<&str, u64> = NAMES.iter().map(|name| (*name, 0)).collect();
        for name in self.facts.iter().flat_map(|fact| fact.properties.keys()) {
            if let Some(count) = events_with.get_mut(name.as_str()) {
                *count += 1;
            }
        }
        let series =
            |name: &&str| json!({"measure": "count", "filters": [{"property": name, "op": "is_set"}]});
        for some in NAMES.chunks(8) {
            let series: Vec<Value> = some.iter().map(series).collect();
            let question =
                json!({"kind": "trends", "from": "2026-03-01", "to": "2026-03-02", "series": series});
            let answer = weir.api.ask(project, &question).await;
            for (name, series) in some.iter().zip(answer["series"].as_array().expect("a list")) {
                assert_eq!(series["total"], json!(events_with[name]), "{state}: events with {name:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn awkward_names_come_back_as_they_were_sent_embedded() {
    Named::from_seed(SEED).check(Installation::embedded(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn awkward_names_come_back_as_they_were_sent_from_mariadb() {
    let mariadb = MariaDb::start().await;
    let installation = Installation::mysql(&[mariadb.create_database().await], 2);
    Named::from_seed(SEED + 1).check(installation).await;
}
