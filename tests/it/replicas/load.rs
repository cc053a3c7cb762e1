//! What clients and people do at the same time: events, questions and pages, at a steady rate.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Api, Browser, Project, Sent, until};

/// Who does what, and its share of a thousand requests. Those who ask wait for their answers, so they do
/// not hold up those who send. A question is two requests: its submission and a look at the ticket.
const WORKERS: [(What, u32, u32); 3] = [(What::Collect, 32, 880), (What::Ask, 8, 25), (What::Page, 8, 70)];
/// Events of one request.
const BATCH: u64 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    Collect,
    Ask,
    Page,
}

/// One request and how it went.
#[derive(Clone, Debug)]
pub struct Answer {
    pub what: What,
    pub began: Instant,
    pub took: Duration,
    /// The status, or why there is none.
    pub outcome: Result<u16, String>,
}

impl Answer {
    pub fn is_failure(&self) -> bool {
        !matches!(self.outcome, Ok(200..=399))
    }

    pub fn ended(&self) -> Instant {
        self.began + self.took
    }
}

/// What was sent, what was answered.
pub struct Load {
    pub began: Instant,
    workers: Vec<tokio::task::JoinHandle<()>>,
    shared: Arc<Shared>,
}

struct Shared {
    api: Api,
    browser: Browser,
    project: Project,
    stop: AtomicBool,
    next_request: AtomicU64,
    next_batch: AtomicU64,
    answers: Mutex<Vec<Answer>>,
    unacknowledged: Mutex<BTreeSet<u64>>,
}

impl Load {
    /// `url` is the load balancer's; `browser` is logged in.
    pub fn start(url: &str, browser: &Browser, project: &Project, per_second: u32) -> Self {
        let shared = Arc::new(Shared {
            api: Api::new(url),
            browser: browser.clone(),
            project: project.clone(),
            stop: AtomicBool::default(),
            next_request: AtomicU64::default(),
            next_batch: AtomicU64::default(),
            answers: Mutex::default(),
            unacknowledged: Mutex::default(),
        });
        let mut tasks = Vec::new();
        for (what, workers, share) in WORKERS {
            let every = Duration::from_secs(1_000) * workers / (per_second * share);
            for n in 0..workers {
                let shared = shared.clone();
                // One that was held up makes good for it: the rate is an average.
                let first = tokio::time::Instant::now() + every * n / workers;
                let mut tick = tokio::time::interval_at(first, every);
                tasks.push(tokio::spawn(async move {
                    while !shared.stop.load(Ordering::SeqCst) {
                        tick.tick().await;
                        shared.work(what).await;
                    }
                }));
            }
        }
        Self { began: Instant::now(), workers: tasks, shared }
    }

    /// Waits until so many more requests were answered, well or not.
    pub async fn answers(&self, more: usize) {
        let enough = self.shared.answers.lock().unwrap().len() + more;
        until(&format!("{more} answers"), Duration::from_secs(120), || async {
            (self.shared.answers.lock().unwrap().len() >= enough).then_some(())
        })
        .await;
    }

    pub async fn lasts(&self, duration: Duration) {
        tokio::time::sleep_until((self.began + duration).into()).await;
    }

    pub fn since(&self, from: Instant) -> Vec<Answer> {
        let answers = self.shared.answers.lock().unwrap();
        answers.iter().filter(|answer| answer.ended() >= from).cloned().collect()
    }

    pub fn failures_since(&self, from: Instant) -> Vec<Answer> {
        self.since(from).into_iter().filter(Answer::is_failure).collect()
    }

    /// Ends, and sends again what was not acknowledged until it is.
    pub async fn end(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.await.expect("a worker does not panic");
        }
        let open = std::mem::take(&mut *self.shared.unacknowledged.lock().unwrap());
        for batch in open {
            until("a batch to be taken", Duration::from_secs(60), || async {
                self.shared.collect(batch).await.is_ok_and(|(status, ())| status == 200).then_some(())
            })
            .await;
        }
    }

    /// Every event that was ever sent is stored, each once.
    pub async fn check_stored(&self) -> u64 {
        let events = self.shared.next_batch.load(Ordering::SeqCst) * BATCH;
        let series = json!([
            {"measure": "count"},
            {"measure": "sum", "property": "n"},
            {"measure": "sum", "property": "square"},
        ]);
        let question = json!({"kind": "trends", "from": "2026-01-01", "to": "2026-02-01", "series": series});
        let answer = self.shared.api.ask(&self.shared.project, &question).await;
        let total = |n: usize| answer["series"][n]["total"].as_u64();
        // One event lost and another counted twice would show in one of the sums.
        let expected = [events, (0..events).sum(), (0..events).map(square).sum()];
        assert_eq!([0, 1, 2].map(total), expected.map(Some), "{answer}");
        events
    }
}

impl Shared {
    async fn work(&self, what: What) {
        let n = self.next_request.fetch_add(1, Ordering::SeqCst);
        match what {
            What::Collect => {
                let batch = self.next_batch.fetch_add(1, Ordering::SeqCst);
                self.record(what, self.collect(batch)).await.ok();
            }
            What::Page => {
                self.record(what, self.page(n)).await.ok();
            }
            What::Ask => {
                if let Ok(ticket) = self.record(what, self.ask(n)).await {
                    self.record(what, self.look(&ticket)).await.ok();
                }
            }
        }
    }

    async fn record<T>(
        &self,
        what: What,
        request: impl Future<Output = Result<(u16, T), String>>,
    ) -> Result<T, ()> {
        let began = Instant::now();
        let outcome = request.await;
        let took = began.elapsed();
        let (outcome, answer) = match outcome {
            Ok((status, answer)) => (Ok(status), Ok(answer)),
            Err(why) => (Err(why), Err(())),
        };
        let answer = if matches!(outcome, Ok(200..=299)) { answer } else { Err(()) };
        self.answers.lock().unwrap().push(Answer { what, began, took, outcome });
        answer
    }

    async fn collect(&self, batch: u64) -> Result<(u16, ()), String> {
        let events: Vec<Value> = (batch * BATCH..(batch + 1) * BATCH).map(event).collect();
        let outcome = match self.api.send(&self.project, &json!(events)).await {
            Sent::Done(answer) => {
                assert_eq!(answer["accepted"], json!(BATCH), "{answer}");
                return Ok((200, ()));
            }
            Sent::Refused(status, _) => Ok((status, ())),
            Sent::Unanswered => Err("no answer".to_owned()),
        };
        self.unacknowledged.lock().unwrap().insert(batch);
        outcome
    }

    /// The ticket's id.
    async fn ask(&self, n: u64) -> Result<(u16, String), String> {
        let measure = ["count", "persons"][(n % 2) as usize];
        let question = json!({
            "kind": "trends", "from": "2026-01-05", "to": "2026-01-06", "granularity": "hour",
            "series": [{"measure": measure}],
            "filters": [{"property": "group", "op": "eq", "value": n % 3}],
        });
        let request = self.api.client().post(self.api.url("/api/v1/tickets"));
        let request = request.bearer_auth(&self.project.secret_key).header("Prefer", "wait=5");
        let answer = request.json(&json!({"question": question})).send().await.map_err(why)?;
        let status = answer.status().as_u16();
        let ticket: Value = answer.json().await.map_err(why)?;
        match ticket["state"].as_str() {
            Some("failed") => Err(ticket.to_string()),
            _ => Ok((status, ticket["id"].as_str().unwrap_or_default().to_owned())),
        }
    }

    async fn look(&self, ticket: &str) -> Result<(u16, ()), String> {
        let request = self.api.client().get(self.api.url(&format!("/api/v1/tickets/{ticket}")));
        let answer = request.bearer_auth(&self.project.secret_key).send().await.map_err(why)?;
        let status = answer.status().as_u16();
        let ticket: Value = answer.json().await.map_err(why)?;
        if ticket["state"] == "failed" { Err(ticket.to_string()) } else { Ok((status, ())) }
    }

    async fn page(&self, n: u64) -> Result<(u16, ()), String> {
        let project = self.project.project_id;
        let page = ["tickets", "start", "keys", "tickets", "live"][(n % 5) as usize];
        let answer = self.browser.open(&self.api.url(&format!("/p/{project}/{page}"))).await.map_err(why)?;
        let status = answer.status().as_u16();
        answer.text().await.map_err(why)?;
        // A redirect would lead to the log-in page.
        if status == 303 { Err("logged out".to_owned()) } else { Ok((status, ())) }
    }
}

fn why(error: reqwest::Error) -> String {
    format!("{error:?}")
}

fn square(n: u64) -> u64 {
    n % 1_009 * (n % 1_009)
}

fn event(n: u64) -> Value {
    json!({
        "id": uuid::Uuid::from_u128(0x10ad_0000_0000_4000_8000_0000_0000_0000 + u128::from(n)).to_string(),
        "event": "loaded",
        "distinct_id": format!("u{}", n % 997),
        "timestamp": format!("2026-01-05T{:02}:30:00Z", n % 24),
        "properties": {"n": n, "square": square(n), "group": n % 3},
    })
}
