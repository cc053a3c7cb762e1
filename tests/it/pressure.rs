//! No server answers, and clients send three times what they usually do: weir says 503 quickly and keeps
//! its memory small, and takes everything again soon after the servers are back.
//!
//! `WEIR_TEST_CUT_SECS` says how long they are away; the figures that are quoted are of 120.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{Installation, MariaDb, Project, Weir, until};

const EVENTS: usize = 20;
/// Requests a second, three times the usual.
const RATE: u32 = 150;
const MEMORY_MAX: u64 = 300 << 20;
const ANSWER_MAX: Duration = Duration::from_secs(2);
const BACK_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weir_stays_small_and_quick_while_all_servers_are_away() {
    let secs = std::env::var("WEIR_TEST_CUT_SECS").map_or(12, |secs| secs.parse().expect("a number"));
    let (one, two) = tokio::join!(MariaDb::start_as_shipped(), MariaDb::start_as_shipped());
    let databases = [one.create_database().await, two.create_database().await];
    let installation = Installation::mysql(&databases, 4);
    let project = installation.create_project("pressure");
    let weir = installation.serve().await;
    let (sender, answers) = mpsc::unbounded_channel();
    let sending = tokio::spawn(send(
        weir.api.client().clone(),
        weir.api.url("/api/v1/events"),
        project.clone(),
        sender,
    ));
    let mut seen = Seen { answers, all: Vec::new() };

    seen.watch(&weir, Duration::from_secs(4)).await;
    assert!(seen.all.iter().all(|answer| answer.status == 200), "all is well");
    let before = weir.resident_bytes();
    one.freeze();
    two.freeze();
    let cut_at = Instant::now();
    let most = seen.watch(&weir, Duration::from_secs(secs)).await;
    let during = || seen.all.iter().filter(|answer| answer.sent_at > cut_at);
    let slowest = during().map(|answer| answer.took).max().expect("there were answers");
    let refused = during().count();
    assert!(refused as u64 >= secs / 2 * u64::from(RATE), "{refused} answers");
    assert!(during().all(|answer| answer.status == 503), "nobody can commit");
    assert!(slowest <= ANSWER_MAX, "{slowest:?}");
    assert!(most <= MEMORY_MAX, "{} MiB", most >> 20);

    one.wake();
    two.wake();
    let back_at = Instant::now();
    let most_after = seen.watch(&weir, BACK_WITHIN + Duration::from_secs(3)).await;
    let refused_last = seen.all.iter().filter(|answer| answer.sent_at > back_at && answer.status != 200);
    let back_after = refused_last.map(|answer| answer.sent_at - back_at).max().unwrap_or_default();
    assert!(back_after <= BACK_WITHIN, "{back_after:?}");
    sending.abort();
    let _ = sending.await;
    seen.watch(&weir, ANSWER_MAX).await;
    let drained_at = Instant::now();
    until("the journals to be empty", Duration::from_secs(60), || async {
        (weir.metric("weir_seal_waiting_batches").await == 0.0).then_some(())
    })
    .await;
    let taken = seen.all.iter().filter(|answer| answer.status == 200).count() * EVENTS;
    let stored = count(&weir, &project).await;
    // What was refused may have been committed all the same.
    assert!((taken..=seen.all.len() * EVENTS).contains(&stored), "{taken} acknowledged, {stored} stored");
    println!(
        "all servers away for {secs} s at {RATE} requests a second of {EVENTS} events: {} times 503, the \
         slowest after {} ms; {} MiB before, at most {} MiB meanwhile and {} MiB after; the last refusal {} \
         ms after they were back, journals empty {} ms after the last request",
        refused,
        slowest.as_millis(),
        before >> 20,
        most >> 20,
        most_after >> 20,
        back_after.as_millis(),
        drained_at.elapsed().as_millis(),
    );
    weir.stop();
}

struct Answer {
    sent_at: Instant,
    took: Duration,
    status: u16,
}

struct Seen {
    answers: mpsc::UnboundedReceiver<Answer>,
    all: Vec<Answer>,
}

impl Seen {
    /// The most memory that weir has meanwhile.
    async fn watch(&mut self, weir: &Weir, time: Duration) -> u64 {
        let end = Instant::now() + time;
        let mut most = 0;
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(50)).await;
            most = most.max(weir.resident_bytes());
        }
        while let Ok(answer) = self.answers.try_recv() {
            self.all.push(answer);
        }
        most
    }
}

/// Sends at a steady rate, whatever is answered and when.
async fn send(
    client: reqwest::Client,
    url: String,
    project: Project,
    answers: mpsc::UnboundedSender<Answer>,
) {
    let mut due = tokio::time::interval(Duration::from_secs(1) / RATE);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let next = Arc::new(AtomicUsize::default());
    loop {
        due.tick().await;
        let (client, url, key) = (client.clone(), url.clone(), project.write_key.clone());
        let (next, answers) = (next.clone(), answers.clone());
        tokio::spawn(async move {
            let first = next.fetch_add(EVENTS, Ordering::Relaxed);
            let body: Vec<Value> = (first..first + EVENTS).map(event).collect();
            let sent_at = Instant::now();
            let answer = client.post(url).bearer_auth(key).json(&body).send().await;
            let status = answer.map_or(0, |answer| answer.status().as_u16());
            let _ = answers.send(Answer { sent_at, took: sent_at.elapsed(), status });
        });
    }
}

fn event(n: usize) -> Value {
    json!({"id": format!("e{n}"), "event": "visited", "distinct_id": format!("u{}", n % 997),
        "timestamp": "2026-01-05T10:00:00Z", "properties": {"n": n, "path": format!("/products/{}", n % 101)}})
}

async fn count(weir: &Weir, project: &Project) -> usize {
    let question = json!({"kind": "trends", "from": "2026-01-01", "to": "2026-02-01",
        "series": [{"measure": "count"}]});
    let answer = weir.api.ask(project, &question).await;
    answer["series"][0]["total"].as_u64().expect("a number") as usize
}
