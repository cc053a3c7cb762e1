//! A ticket that takes its time, followed by its events: over HTTP through HAProxy, and by the pages in
//! Chromium. What makes it slow is a gate before the parts of some servers, which the test opens.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection, Executor, MySqlConnection};

use crate::pages;
use crate::support::{HaProxy, Installation, MariaDb, Project, Weir, until};

const SHARDS: u64 = 9;
const EVENTS: u64 = 300;
const EMAIL: &str = "ada@example.org";

struct Slow {
    _server: MariaDb,
    installation: Installation,
    project: Project,
    weir: Weir,
}

/// Whoever reads parts waits as long as somebody holds a lock of this server's name. A lock of the table
/// would not do: weir waits for one only seconds.
const GATE: [&str; 3] = [
    "CREATE FUNCTION gate_is_open() RETURNS INT NOT DETERMINISTIC READS SQL DATA BEGIN \
     WHILE NOT IS_FREE_LOCK(DATABASE()) DO DO SLEEP(0.02); END WHILE; RETURN 1; END",
    "RENAME TABLE parts TO parts_behind",
    "CREATE VIEW parts AS SELECT * FROM parts_behind WHERE gate_is_open() = 1",
];

/// Nothing can be read from the shards of this server.
struct Held(MySqlConnection);

impl Held {
    async fn let_go(mut self) {
        self.0.execute("DO RELEASE_LOCK(DATABASE())").await.expect("the lock goes");
    }
}

impl Slow {
    /// Three databases of three shards each, with sealed events in all of them.
    async fn open() -> Self {
        let server = MariaDb::start().await;
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(server.create_database().await);
        }
        // Nothing is remembered of the parts, so that every question has to come through the gate.
        let installation = Installation::mysql(&servers, SHARDS as u16)
            .with("WEIR__STORAGE__STATEMENT_SECS_MAX", "300")
            .with("WEIR__CACHE__COLUMNS_BYTES_MAX", "0");
        let project = installation.create_project("slow");
        let weir = installation.serve().await;
        let event = |n: u64| {
            json!({"id": format!("e{n}"), "event": "visited", "distinct_id": format!("u{n}"),
                "timestamp": "2026-01-05T10:00:00Z"})
        };
        weir.api.send_all(&project, &(0..EVENTS).map(event).collect::<Vec<_>>()).await;
        let answer = weir.api.ask(&project, &question("2026-01-01")).await;
        assert_eq!(answer["series"][0]["total"], json!(EVENTS));
        for url in &servers {
            let mut connection = MySqlConnection::connect(url).await.expect("the server answers");
            for statement in GATE {
                connection.execute(statement).await.expect("a gate can be built");
            }
        }
        Self { _server: server, installation, project, weir }
    }

    async fn hold(&self, server: usize) -> Held {
        let url = &self.installation.servers()[server];
        let mut connection = MySqlConnection::connect(url).await.expect("the server answers");
        connection.execute("DO GET_LOCK(DATABASE(), 0)").await.expect("nobody else holds it");
        Held(connection)
    }

    async fn submit(&self, from: &str) -> Value {
        let request = self.weir.api.client().post(self.weir.api.url("/api/v1/tickets"));
        let request = request.bearer_auth(&self.project.secret_key);
        let answer = request.json(&json!({"question": question(from)})).send().await;
        answer.expect("a ticket is taken").json().await.expect("a ticket is JSON")
    }
}

/// Another day is another question over the same events.
fn question(from: &str) -> Value {
    json!({"kind": "trends", "from": from, "to": "2026-02-01", "series": [{"measure": "persons"}]})
}

/// One open stream, read event by event.
struct Stream {
    response: reqwest::Response,
    read: String,
}

impl Stream {
    async fn open(slow: &Slow, url: &str, last_event_id: Option<&str>) -> Self {
        let mut request = slow.weir.api.client().get(url).bearer_auth(&slow.project.secret_key);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.expect("a stream is answered");
        assert_eq!(response.status().as_u16(), 200);
        Self { response, read: String::new() }
    }

    /// The id of the next event and the ticket in it; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some((event, rest)) = self.read.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                let told = field("data: ").map(|data| {
                    let ticket = serde_json::from_str(data).expect("an event's data is JSON");
                    (field("id: ").expect("an event has an id").to_owned(), ticket)
                });
                self.read = rest.to_owned();
                if told.is_some() {
                    return told;
                }
            }
            let chunk = self.response.chunk().await.expect("a stream ends, it does not break")?;
            self.read.push_str(std::str::from_utf8(&chunk).expect("events are text, whole characters"));
        }
    }

    /// Reads on until at least so many shards are done.
    async fn until_shards(&mut self, shards: u64) -> (String, Value) {
        loop {
            let (id, ticket) = self.next().await.expect("the stream goes on");
            if ticket["progress"]["shards_done"].as_u64().is_some_and(|done| done >= shards) {
                return (id, ticket);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_and_the_answer_are_pushed_through_haproxy() {
    let slow = Slow::open().await;
    let (second, third) = (slow.hold(1).await, slow.hold(2).await);
    let mut proxy = HaProxy::start(&[slow.weir.api.url("").trim_start_matches("http://").to_owned()]);
    proxy.has_up(1).await;
    let ticket = slow.submit("2026-01-02").await;
    let address = format!("{}{}", proxy.url(), ticket["links"]["events"].as_str().expect("it has not ended"));

    let mut stream = Stream::open(&slow, &address, None).await;
    // Some of the first server's shards: those of the others that wait hold places.
    let (id, shown) = stream.until_shards(1).await;
    assert_eq!((&shown["state"], &shown["progress"]["shards_total"]), (&json!("running"), &json!(SHARDS)));
    drop(stream);

    // Whoever comes back is told only what is new.
    second.let_go().await;
    let mut stream = Stream::open(&slow, &address, Some(&id)).await;
    let (later, shown) = stream.until_shards(6).await;
    assert_ne!(later, id);
    assert_eq!((&shown["progress"]["shards_done"], &shown["result"]), (&json!(6), &Value::Null));

    third.let_go().await;
    let mut last = None;
    while let Some((_, ticket)) = stream.next().await {
        last = Some(ticket);
    }
    let last = last.expect("the end is told");
    assert_eq!(last["state"], "succeeded", "{last:#}");
    assert_eq!(last["result"]["series"][0]["total"], json!(EVENTS), "{last:#}");
    slow.weir.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_streams_and_leaves_the_ticket_to_the_next_process() {
    let mut slow = Slow::open().await;
    let held = slow.hold(2).await;
    let ticket = slow.submit("2026-01-03").await;
    let this = ticket["links"]["self"].as_str().expect("a ticket has an address").to_owned();
    let mut stream = Stream::open(&slow, &slow.weir.api.url(&format!("{this}/events")), None).await;
    stream.until_shards(1).await;
    // A stop waits for statements that are under way, so what holds them up goes when the stream has
    // ended.
    let ended = tokio::spawn(async move {
        while stream.next().await.is_some() {}
        held.let_go().await;
    });
    slow.weir.stop_now();
    ended.await.expect("the stream ends properly");
    slow.weir = slow.installation.serve().await;
    let mut stream = Stream::open(&slow, &slow.weir.api.url(&format!("{this}/events")), None).await;
    let mut last = Value::Null;
    while let Some((_, ticket)) = stream.next().await {
        last = ticket;
    }
    assert_eq!(last["result"]["series"][0]["total"], json!(EVENTS), "{last:#}");
    slow.weir.stop();
}

/// The page of a ticket and the page of a question: each is opened once, sees a part and two thirds of
/// the work done, and has the answer; the last one though it is refused a stream. What moves on is said by the script and done here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_move_their_progress_and_show_the_answer_without_reloading() {
    let slow = Slow::open().await;
    let printed = slow.installation.run(&["account", "create", EMAIL, "--admin"]);
    let project = format!("/p/{}", slow.project.project_id);
    let ask = |from: &str| {
        let question = serde_urlencoded::to_string([("q", question(from).to_string())]).expect("a question");
        format!("{project}/ask?{question}")
    };
    let pages = [("asked", ask("2026-01-02")), ("ticket", String::new()), ("alone", ask("2026-01-04"))];
    for (name, path) in pages {
        let (second, third) = (slow.hold(1).await, slow.hold(2).await);
        let path = match name {
            "ticket" => {
                let ticket = slow.submit("2026-01-03").await;
                format!("{project}/tickets/{}", ticket["id"].as_str().expect("a ticket has an id"))
            }
            _ => path,
        };
        let plan = json!({
            "url": slow.weir.api.url(""), "email": EMAIL, "password": pages::password_in(&printed),
            "path": path, "signals": slow.installation.folder().join(name),
        });
        let signal = |step: u32| slow.installation.folder().join(format!("{name}.{step}"));
        let browser =
            tokio::task::spawn_blocking(move || pages::run_plan(&plan, &[&format!("follows_{name}")]));
        for (step, held) in [(1, second), (2, third)] {
            until(&format!("the {name} page to show step {step}"), Duration::from_secs(60), || async {
                (signal(step).exists() || browser.is_finished()).then_some(())
            })
            .await;
            held.let_go().await;
        }
        browser.await.expect("the browser found nothing wrong");
    }
    slow.weir.stop();
}
