//! What a test's senders sent, what was answered, and whether what is stored is the same.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Api, Project, Sent, until};

const SENDERS: usize = 6;
const BATCH: u64 = 10;
/// Values of one breakdown.
const READ_AT_ONCE: u64 = 1_000;

/// What was sent and what was answered.
#[derive(Default)]
pub struct Ledger {
    next_batch: AtomicU64,
    acknowledged_events: AtomicUsize,
    acknowledged: Mutex<BTreeSet<u64>>,
    unanswered: Mutex<BTreeSet<u64>>,
}

impl Ledger {
    /// Waits until so many more batches' worth of events were acknowledged.
    pub async fn acknowledges(&self, events: usize) {
        let before = self.acknowledged_events.load(Ordering::SeqCst);
        let enough =
            || async { (self.acknowledged_events.load(Ordering::SeqCst) >= before + events).then_some(()) };
        until("events to be acknowledged", Duration::from_secs(60), enough).await;
    }

    pub fn has_unanswered(&self) -> Option<()> {
        (!self.unanswered.lock().unwrap().is_empty()).then_some(())
    }

    async fn send(&self, api: &Api, project: &Project, batch: u64) -> bool {
        let events: Vec<Value> = (batch * BATCH..(batch + 1) * BATCH).map(event).collect();
        let is_done = match api.send(project, &json!(events)).await {
            Sent::Done(answer) => {
                assert_eq!(answer["accepted"], json!(BATCH), "{answer}");
                true
            }
            // 503, and what a dying server may say: anything but 200 means send again.
            Sent::Refused(status, body) => {
                assert!(status >= 500 || status == 429, "{status} {body}");
                false
            }
            Sent::Unanswered => false,
        };
        if is_done {
            self.acknowledged.lock().unwrap().insert(batch);
            self.acknowledged_events.fetch_add(BATCH as usize, Ordering::SeqCst);
        } else {
            self.unanswered.lock().unwrap().insert(batch);
        }
        is_done
    }

    /// Sends all that was not answered, again and again until it is.
    pub async fn resend(&self, api: &Api, project: &Project) {
        let batches = std::mem::take(&mut *self.unanswered.lock().unwrap());
        assert!(!batches.is_empty(), "a blow that hit no request proves nothing");
        for batch in batches {
            until("a batch to be taken", Duration::from_secs(60), || async {
                self.send(api, project, batch).await.then_some(())
            })
            .await;
            self.unanswered.lock().unwrap().remove(&batch);
        }
    }

    /// Everything acknowledged is there, and nothing is there twice or was never sent.
    pub async fn check(&self, api: &Api, project: &Project) {
        let stored = self.stored(api, project).await;
        let acknowledged = events_of(&self.acknowledged.lock().unwrap());
        let missing: Vec<_> = acknowledged.difference(&stored).collect();
        assert!(missing.is_empty(), "{} acknowledged events are missing: {missing:?}", missing.len());
        let mut sent = acknowledged;
        sent.extend(events_of(&self.unanswered.lock().unwrap()));
        let foreign: Vec<_> = stored.difference(&sent).collect();
        assert!(foreign.is_empty(), "events that nobody sent: {foreign:?}");
    }

    pub async fn check_equal(&self, api: &Api, project: &Project) {
        self.check(api, project).await;
        assert!(self.has_unanswered().is_none());
        let sent = events_of(&self.acknowledged.lock().unwrap());
        assert_eq!(self.stored(api, project).await, sent);
        println!("{} events, each stored once", sent.len());
    }

    /// The numbers of all stored events; fails the test when one is there twice.
    async fn stored(&self, api: &Api, project: &Project) -> BTreeSet<u64> {
        let mut stored = BTreeSet::new();
        let end = self.next_batch.load(Ordering::SeqCst) * BATCH;
        for from in (0..end).step_by(READ_AT_ONCE as usize) {
            let question = json!({
                "kind": "trends", "from": "2020-01-01", "to": "2020-02-01", "time_zone": "UTC",
                "series": [{"measure": "count"}],
                "filters": [
                    {"property": "n", "op": "gte", "value": from},
                    {"property": "n", "op": "lt", "value": from + READ_AT_ONCE},
                ],
                "breakdown": {"property": "n", "limit": READ_AT_ONCE},
            });
            let answer = api.ask(project, &question).await;
            for series in answer["series"].as_array().unwrap() {
                assert_eq!(series["total"], json!(1), "event {} is there twice", series["breakdown"]);
                stored.insert(series["breakdown"].as_u64().expect("n is a number"));
            }
        }
        stored
    }
}

fn events_of(batches: &BTreeSet<u64>) -> BTreeSet<u64> {
    batches.iter().flat_map(|batch| batch * BATCH..(batch + 1) * BATCH).collect()
}

fn event(n: u64) -> Value {
    // Some days, so that compaction has spans to merge.
    let second = n % 60;
    let day = 1 + n % 5;
    json!({
        "id": uuid::Uuid::from_u128(0x6b11_0000_0000_4000_8000_0000_0000_0000 + u128::from(n)).to_string(),
        "event": "blow",
        "distinct_id": format!("u{}", n % 37),
        "timestamp": format!("2020-01-{day:02}T12:00:{second:02}Z"),
        "properties": {"n": n},
    })
}

/// Requests that never pause, until they are told to stop.
pub struct Senders {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Senders {
    pub fn start(api: &Api, project: &Project, ledger: &Arc<Ledger>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = |_| {
            let (api, project) = (api.clone(), project.clone());
            let (ledger, stop) = (ledger.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let batch = ledger.next_batch.fetch_add(1, Ordering::SeqCst);
                    // One refusal in flight is what the test is about; a thousand more prove nothing.
                    if !ledger.send(&api, &project, batch).await {
                        return;
                    }
                }
            })
        };
        Self { tasks: (0..SENDERS).map(task).collect(), stop }
    }

    pub async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.expect("a sender does not panic");
        }
    }
}
