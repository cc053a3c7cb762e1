//! Real events against figures that independent engines computed (see the data's own README):
//! every figure that `trends` and `funnel` can ask must come out exactly, floats to 1e-9.
//!
//! The data stay outside the repository; where they are absent these tests say so and the
//! comparison of generated data with the reference implementation remains.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Api, Installation, MariaDb, Project, real_data};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_figures_come_out_exactly_embedded() {
    let Some(data) = real_data() else { return say_absent() };
    compare_all(&data, Installation::embedded(4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_figures_come_out_exactly_on_two_servers() {
    let Some(data) = real_data() else { return say_absent() };
    let (one, two) = tokio::join!(MariaDb::start(), MariaDb::start());
    let servers = [one.create_database().await, two.create_database().await];
    compare_all(&data, Installation::mysql(&servers, 16)).await;
}

fn say_absent() {
    println!("there is no folder of real data (WEIR_TEST_DATA): nothing was compared");
}

/// Imports before the first start and beside a running `weir serve`, twice, and in shuffled order.
async fn compare_all(data: &Path, installation: Installation) {
    let retail = oracle(data, "online_retail");
    let cdnow = oracle(data, "cdnow");
    let shop = installation.create_project("online retail");
    import(&installation, &shop, &files(data, &retail), retail.events());
    let weir = installation.serve().await;
    let records = installation.create_project("cdnow");
    import(&installation, &records, &files(data, &cdnow), cdnow.events());
    let mut compared = 0;
    compared += retail.compare(&weir.api, &shop, "once").await;
    compared += cdnow.compare(&weir.api, &records, "once").await;

    import(&installation, &shop, &files(data, &retail), retail.events());
    import(&installation, &records, &files(data, &cdnow), cdnow.events());
    compared += retail.compare(&weir.api, &shop, "imported twice").await;
    compared += cdnow.compare(&weir.api, &records, "imported twice").await;

    for oracle in [&retail, &cdnow] {
        let project = installation.create_project(&format!("{} shuffled", oracle.name));
        let shuffled = shuffle(&files(data, oracle), installation.folder());
        import(&installation, &project, &[shuffled], oracle.events());
        compared += oracle.compare(&weir.api, &project, "shuffled").await;
    }
    weir.stop();
    println!("compared {compared} figures");
    assert!(compared > 20_000, "only {compared} figures were compared");
}

fn import(installation: &Installation, project: &Project, files: &[PathBuf], events: u64) {
    let start = std::time::Instant::now();
    let id = project.project_id.to_string();
    let mut arguments = vec!["import"];
    arguments.extend(files.iter().map(|file| file.to_str().expect("a path is text")));
    arguments.extend(["--project", &id, "--strict"]);
    let printed = installation.run(&arguments);
    println!("{events} events in {:.1} s: {}", start.elapsed().as_secs_f64(), printed.trim_end());
}

/// One file of all lines, in an order that has nothing to do with theirs and is always the same.
fn shuffle(files: &[PathBuf], folder: &Path) -> PathBuf {
    let mut lines = Vec::new();
    for file in files {
        let reader = zstd::Decoder::new(File::open(file).unwrap()).unwrap();
        lines.extend(BufReader::new(reader).lines().map(Result::unwrap));
    }
    lines.sort_by_cached_key(|line| xxhash_rust::xxh3::xxh3_64(line.as_bytes()));
    let path = folder.join("shuffled.ndjson");
    let mut out = BufWriter::new(File::create(&path).unwrap());
    for line in lines {
        writeln!(out, "{line}").unwrap();
    }
    out.flush().unwrap();
    path
}

struct Oracle {
    name: String,
    json: Value,
    from: String,
    to: String,
}

fn oracle(data: &Path, name: &str) -> Oracle {
    let file = File::open(data.join(format!("oracle/{name}.json"))).unwrap();
    let json: Value = serde_json::from_reader(BufReader::new(file)).unwrap();
    let day = |at: &str| json["totals"][at].as_str().unwrap()[..10].parse::<jiff::civil::Date>().unwrap();
    let to = day("last").tomorrow().unwrap().to_string();
    Oracle { name: name.to_owned(), from: day("first").to_string(), to, json }
}

fn files(data: &Path, oracle: &Oracle) -> Vec<PathBuf> {
    let names = oracle.json["files"].as_array().unwrap();
    names.iter().map(|name| data.join(name.as_str().unwrap())).collect()
}

impl Oracle {
    fn events(&self) -> u64 {
        self.json["totals"]["events"].as_u64().unwrap()
    }

    /// Asks everything; how many figures were compared.
    async fn compare(&self, api: &Api, project: &Project, how: &str) -> usize {
        let asked = Asked { oracle: self, api, project, how };
        let mut compared = asked.totals().await;
        for granularity in ["day", "week", "month"] {
            compared += asked.series(granularity).await;
        }
        compared += asked.days_and_events().await;
        for breakdown in self.list("breakdowns") {
            compared += asked.breakdown(breakdown).await;
        }
        for stats in self.list("property_stats") {
            compared += asked.property_stats(stats).await;
        }
        for filter in self.list("filters") {
            compared += asked.filter(filter).await;
        }
        for funnel in self.list("funnels") {
            compared += asked.funnel(funnel).await;
        }
        println!("{} {how}: {compared} figures", self.name);
        compared
    }

    fn list(&self, name: &str) -> &[Value] {
        self.json[name].as_array().unwrap()
    }

    fn rows(&self, name: &str) -> &[Value] {
        self.json[name]["rows"].as_array().unwrap()
    }
}

struct Asked<'a> {
    oracle: &'a Oracle,
    api: &'a Api,
    project: &'a Project,
    how: &'a str,
}

/// An event name, or `None` for every event.
fn series(event: &Value, measure: &str) -> Value {
    let mut series = json!({"measure": measure});
    if !event.is_null() {
        series["event"] = event.clone();
    }
    series
}

fn series_of(event: &Value, measure: &str, property: &Value) -> Value {
    let mut series = series(event, measure);
    series["property"] = property.clone();
    series
}

impl Asked<'_> {
    /// Asks a `trends` question over the whole time; its series.
    async fn trends(&self, mut question: Value) -> (Vec<Value>, Vec<Value>) {
        question["kind"] = json!("trends");
        question["from"] = json!(self.oracle.from);
        question["to"] = json!(self.oracle.to);
        question["time_zone"] = json!("UTC");
        let mut answer = self.api.ask(self.project, &question).await;
        let mut take = |name: &str| match answer[name].take() {
            Value::Array(items) => items,
            other => panic!("{question}: {name} is {other}"),
        };
        (take("buckets"), take("series"))
    }

    fn same(&self, what: &str, answer: &Value, figure: &Value) {
        let same = match (answer.as_i64(), figure.as_i64()) {
            (Some(answer), Some(figure)) => answer == figure,
            _ => match (answer.as_f64(), figure.as_f64()) {
                (Some(answer), Some(figure)) => same_float(answer, figure),
                _ => answer == figure,
            },
        };
        assert!(same, "{} {}: {what} is {answer}, the published figure {figure}", self.oracle.name, self.how);
    }

    async fn totals(&self) -> usize {
        let question = json!({"series": [series(&Value::Null, "count"), series(&Value::Null, "persons")]});
        let (_, answer) = self.trends(question).await;
        let totals = &self.oracle.json["totals"];
        self.same("all events", &answer[0]["total"], &totals["events"]);
        self.same("all persons", &answer[1]["total"], &totals["users"]);

        let question = json!({
            "series": [series(&Value::Null, "count"), series(&Value::Null, "persons")],
            "breakdown": {"event": true, "limit": 50},
        });
        let found = by_value(&self.trends(question).await.1);
        let rows = self.oracle.rows("by_event");
        assert_eq!(found.len(), rows.len());
        for row in rows {
            let numbers = &found[&value_key(&row[0])];
            self.same(&format!("events {}", row[0]), &numbers[0], &row[1]);
            self.same(&format!("persons of {}", row[0]), &numbers[1], &row[2]);
        }
        2 + 2 * rows.len()
    }

    async fn series(&self, granularity: &str) -> usize {
        let question = json!({
            "granularity": granularity,
            "series": [series(&Value::Null, "count"), series(&Value::Null, "persons")],
        });
        let (buckets, answer) = self.trends(question).await;
        let rows = self.oracle.rows(&format!("by_{granularity}"));
        let mut figures: BTreeMap<&str, &Value> =
            rows.iter().map(|row| (row[0].as_str().unwrap(), row)).collect();
        for (n, bucket) in buckets.iter().enumerate() {
            let day = self.bucket_day(granularity, bucket.as_str().unwrap());
            let row = figures.remove(day.as_str());
            for (column, word) in [(1, "events"), (2, "persons")] {
                // Empty buckets are absent from the figures and zero in an answer.
                let figure = row.map_or(json!(0), |row| row[column].clone());
                self.same(
                    &format!("{word} in {granularity} {day}"),
                    &answer[column - 1]["values"][n],
                    &figure,
                );
            }
        }
        assert!(figures.is_empty(), "no bucket for {figures:?}");
        2 * buckets.len()
    }

    /// The name that the figures give a bucket: the first day of the whole week or month, also
    /// where the range cuts the first bucket short.
    fn bucket_day(&self, granularity: &str, bucket: &str) -> String {
        let day: jiff::civil::Date = bucket[..10].parse().unwrap();
        let first = match granularity {
            "week" => {
                let monday = i64::from(day.weekday().to_monday_zero_offset());
                day.checked_sub(jiff::Span::new().days(monday)).unwrap()
            }
            "month" => day.first_of_month(),
            _ => day,
        };
        first.to_string()
    }

    async fn days_and_events(&self) -> usize {
        let question = json!({
            "granularity": "day",
            "series": [series(&Value::Null, "count"), series(&Value::Null, "persons")],
            "breakdown": {"event": true, "limit": 50},
        });
        let (buckets, answer) = self.trends(question).await;
        let mut found: BTreeMap<(String, String), Vec<Value>> = BTreeMap::new();
        for series in &answer {
            let event = series["breakdown"].as_str().unwrap();
            for (bucket, value) in buckets.iter().zip(series["values"].as_array().unwrap()) {
                let day = bucket.as_str().unwrap()[..10].to_owned();
                found.entry((day, event.to_owned())).or_default().push(value.clone());
            }
        }
        found.retain(|_, numbers| numbers.iter().any(|number| number != &json!(0)));
        let rows = self.oracle.rows("by_day_and_event");
        for row in rows {
            let (day, event) = (row[0].as_str().unwrap(), row[1].as_str().unwrap());
            let numbers = found.remove(&(day.to_owned(), event.to_owned()));
            let numbers = numbers.unwrap_or_else(|| panic!("{event} on {day} is missing"));
            self.same(&format!("{event} on {day}"), &numbers[0], &row[2]);
            self.same(&format!("persons of {event} on {day}"), &numbers[1], &row[3]);
        }
        assert!(found.is_empty(), "the answer has more: {found:?}");
        2 * rows.len()
    }

    async fn breakdown(&self, figures: &Value) -> usize {
        let (event, property, sum_of) = (&figures["event"], &figures["property"], &figures["sum_of"]);
        let mut list = vec![series(event, "count"), series(event, "persons")];
        if !sum_of.is_null() {
            list.push(series_of(event, "sum", sum_of));
        }
        let question = json!({"series": list, "breakdown": {"property": property, "limit": 50}});
        let (_, answer) = self.trends(question).await;
        let mut found = by_value(&answer);
        let rows = figures["rows"].as_array().unwrap();
        let distinct = figures["distinct_values"].as_u64().unwrap() as usize;
        let other = found.remove(&Some("$other".to_owned()));
        assert_eq!(other.is_some(), distinct > 50, "$other is there exactly when values are left over");
        assert_eq!(found.len(), rows.len(), "values of {property}");
        // The first series' rows have the figures' order: by events, then by value.
        let order: Vec<_> =
            answer.iter().take(rows.len()).map(|series| value_key(&series["breakdown"])).collect();
        let figure_order: Vec<_> = rows.iter().map(|row| value_key(&row[0])).collect();
        assert_eq!(order, figure_order, "the order of {property}");
        for row in rows {
            let numbers = &found[&value_key(&row[0])];
            for column in 1..row.as_array().unwrap().len() {
                let what = format!("column {column} of {event} by {property} = {}", row[0]);
                self.same(&what, &numbers[column - 1], &row[column]);
            }
        }
        rows.len() * list.len()
    }

    async fn property_stats(&self, figures: &Value) -> usize {
        let (event, property) = (&figures["event"], &figures["property"]);
        let measures = [
            ("sum", "sum"),
            ("min", "min"),
            ("max", "max"),
            ("avg", "avg"),
            ("median", "p50"),
            ("p90", "p90"),
            ("p99", "p99"),
        ];
        let mut list: Vec<_> =
            measures.iter().map(|(measure, _)| series_of(event, measure, property)).collect();
        let mut count = series(event, "count");
        count["filters"] = json!([{"property": property, "op": "is_set"}]);
        list.push(count);
        let (_, answer) = self.trends(json!({"series": list})).await;
        for (n, (measure, figure)) in measures.iter().enumerate() {
            self.same(&format!("{measure} of {event} {property}"), &answer[n]["total"], &figures[figure]);
        }
        self.same(&format!("rows of {event} with {property}"), &answer[7]["total"], &figures["count"]);
        measures.len() + 1
    }

    async fn filter(&self, figures: &Value) -> usize {
        let event = &figures["event"];
        let filters: Vec<_> = figures["where"].as_array().unwrap().iter().map(filter).collect();
        let question = json!({
            "filters": filters,
            "series": [
                series(event, "count"), series(event, "persons"), series_of(event, "sum", &figures["sum_of"]),
            ],
        });
        let (_, answer) = self.trends(question).await;
        for (n, name) in ["events", "users", "sum"].iter().enumerate() {
            self.same(&format!("{name} where {}", figures["where"]), &answer[n]["total"], &figures[name]);
        }
        3
    }

    async fn funnel(&self, figures: &Value) -> usize {
        let steps: Vec<_> = figures["steps"].as_array().unwrap().iter().map(step).collect();
        let mut compared = 0;
        for (window, reached) in figures["users_reaching_step"].as_object().unwrap() {
            let mut question = json!({
                "kind": "funnel", "from": self.oracle.from, "to": self.oracle.to, "time_zone": "UTC",
                "steps": steps,
            });
            if window != "unbounded" {
                question["window"] = json!(window);
            }
            let answer = self.api.ask(self.project, &question).await;
            let reached = reached["distinct"].as_array().unwrap();
            assert_eq!(answer["steps"].as_array().unwrap().len(), reached.len());
            for (n, figure) in reached.iter().enumerate() {
                let what = format!("step {} of {} within {window}", n + 1, figures["name"]);
                self.same(&what, &answer["steps"][n]["persons"], figure);
            }
            compared += reached.len() + self.persons_of_last_step(&question, reached).await;
        }
        compared
    }
}

impl Asked<'_> {
    /// Who reached the last step of a funnel and who did not are as many as the figures say.
    async fn persons_of_last_step(&self, funnel: &Value, reached: &[Value]) -> usize {
        let count = |n: usize| reached[n].as_u64().unwrap();
        let last = reached.len() - 1;
        let expected = [("converted", count(last)), ("dropped", count(last - 1) - count(last))];
        for (outcome, expected) in expected {
            let question = json!({"kind": "persons", "funnel": funnel, "step": last + 1, "outcome": outcome});
            let answer = self.api.ask(self.project, &question).await;
            self.same(&format!("the number of those who {outcome}"), &answer["total"], &json!(expected));
            let persons = answer["persons"].as_array().unwrap();
            assert_eq!(persons.len() as u64, expected.min(100), "{question}");
            let latest_first = |pair: &[Value]| {
                let at = |person: &Value| {
                    person["reached_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
                };
                at(&pair[0]) >= at(&pair[1])
            };
            assert!(persons.windows(2).all(latest_first), "{question}");
        }
        2
    }
}

/// The figures were rounded to six decimals when they were written down.
fn same_float(answer: f64, figure: f64) -> bool {
    (answer - figure).abs() <= 1e-9 * figure.abs() || (answer * 1e6).round() / 1e6 == figure
}

/// The totals of all series of each value of a breakdown, in the question's order of series.
fn by_value(series: &[Value]) -> BTreeMap<Option<String>, Vec<Value>> {
    let mut found: BTreeMap<_, Vec<Value>> = BTreeMap::new();
    for series in series {
        found.entry(value_key(&series["breakdown"])).or_default().push(series["total"].clone());
    }
    found
}

/// The figures write all values as text; `None` is the absent one.
fn value_key(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn filter(condition: &Value) -> Value {
    let op = match condition[1].as_str().unwrap() {
        "=" => "eq",
        "!=" => "ne",
        "<" => "lt",
        "<=" => "lte",
        ">" => "gt",
        ">=" => "gte",
        word => word,
    };
    json!({"property": condition[0], "op": op, "value": condition[2]})
}

fn step(figures: &Value) -> Value {
    let filters: Vec<_> = figures["where"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(property, value)| json!({"property": property, "op": "eq", "value": value}))
        .collect();
    json!({"events": figures["events"], "filters": filters})
}
