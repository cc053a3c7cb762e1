//! Durable collection, measured by `scripts/bench collect`: events a second over HTTP into MariaDB, with
//! sealing and compaction on, against plain multi-row INSERTs of the same events into the same server in
//! the same run; requests of one event a second and how long they take; how old the journal becomes
//! meanwhile, and how much memory weir needs. At last Segment's batches against native ones.
//!
//! The client speaks HTTP by hand over plain sockets: it shares two cores with everything it measures.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

mod events;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use events::{EVENTS, id, native_body, properties, segment_body};

const BATCH: u64 = 100;
const CONNECTIONS: usize = 32;
const SINGLE_CONNECTIONS: usize = 64;
/// Times the plain INSERT, and requests a second.
const RATIO_GOAL: f64 = 3.0;
const SINGLE_GOAL: f64 = 10_000.0;
const SINGLE_P99_GOAL: f64 = 50.0;
const JOURNAL_AGE_GOAL: f64 = 5.0;
/// Times native batches.
const SEGMENT_GOAL: f64 = 0.8;
/// Between two looks at the age of the journal.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Parser)]
struct Arguments {
    /// host:port of collection.
    #[arg(long)]
    weir: String,
    /// host:port of the operations address.
    #[arg(long)]
    ops: String,
    #[arg(long)]
    write_key: String,
    /// mysql://user:password@host:port/database, for the plain INSERTs.
    #[arg(long)]
    mysql: String,
    /// The process id of weir, whose memory is looked at.
    #[arg(long)]
    pid: u32,
    /// How long batches are sent in each run; plain INSERTs and single events take a fifth of it, Segment's
    /// batches and native ones beside them a tenth each.
    #[arg(long, default_value_t = 300)]
    secs: u64,
    /// What earlier runs found; this one's is added.
    #[arg(long)]
    figures: std::path::PathBuf,
    /// Write the table there, too.
    #[arg(long)]
    json: Option<std::path::PathBuf>,
}

/// What one run found: events or requests a second, milliseconds, seconds, MiB.
#[derive(Serialize, Deserialize)]
struct Figures {
    plain: f64,
    collected: f64,
    sealed: f64,
    single: f64,
    single_p99: f64,
    /// The oldest that the journal became while batches were sent.
    journal_age: f64,
    memory: f64,
    /// Both one right after the other, once the rest is done.
    native: f64,
    segment: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arc::new(Arguments::parse());
    anyhow::ensure!(arguments.secs >= 5, "at least 5 seconds");
    let mut figures: Vec<Figures> = match std::fs::read(&arguments.figures) {
        Ok(earlier) => serde_json::from_slice(&earlier).context("unreadable figures")?,
        Err(_) => Vec::new(),
    };
    let found = measure(&arguments, &Arc::default()).await?;
    println!(
        "plain INSERT {:.0} events/s, collected {:.0}, sealed {:.0}, journal at most {:.1} s old; single \
         {:.0} requests/s, p99 {:.1} ms; weir's memory at most {:.0} MiB; \
         Segment's batches {:.0} events/s, native ones right before {:.0}",
        found.plain,
        found.collected,
        found.sealed,
        found.journal_age,
        found.single,
        found.single_p99,
        found.memory,
        found.segment,
        found.native,
    );
    figures.push(found);
    std::fs::write(&arguments.figures, serde_json::to_vec(&figures)?)?;
    let rows = rows(&figures);
    let title = format!("median of {}", figures.len());
    println!("\n{:<48} {title:>12}  {:<12} {:>7} {:>8}  holds", "", "", "ratio", "goal");
    for row in &rows {
        let ratio = row["ratio"].as_f64().map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        println!(
            "{:<48} {:>12.1}  {:<12} {ratio:>7} {:>8}  {}",
            row["name"].as_str().unwrap_or_default(),
            row["value"].as_f64().unwrap_or_default(),
            row["unit"].as_str().unwrap_or_default(),
            row["goal"].as_f64().map_or("-".to_owned(), |goal| goal.to_string()),
            match row["holds"].as_bool() {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "-",
            },
        );
    }
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&rows)? + "\n")
            .with_context(|| format!("{} cannot be written", file.display()))?;
    }
    Ok(())
}

fn rows(figures: &[Figures]) -> Vec<Value> {
    let lesser = |found: &Figures| found.collected.min(found.sealed);
    let batches = median(figures.iter().map(lesser));
    // Within one run, since the machine may be slower in another.
    let ratio = median(figures.iter().map(|found| lesser(found) / found.plain));
    let single = median(figures.iter().map(|found| found.single));
    let p99 = median(figures.iter().map(|found| found.single_p99));
    let age = figures.iter().map(|found| found.journal_age).fold(0.0, f64::max);
    let memory = figures.iter().map(|found| found.memory).fold(0.0, f64::max);
    let segment = median(figures.iter().map(|found| found.segment));
    let of_native = median(figures.iter().map(|found| found.segment / found.native));
    vec![
        json!({
            "name": "durable collection, batches of 100", "value": batches, "unit": "events/s",
            "ratio": ratio, "goal": RATIO_GOAL, "holds": ratio >= RATIO_GOAL,
        }),
        json!({
            "name": "durable collection, one event a request", "value": single, "unit": "requests/s",
            "ratio": null, "goal": SINGLE_GOAL, "holds": single >= SINGLE_GOAL,
        }),
        json!({
            "name": "one event a request, p99", "value": p99, "unit": "ms",
            "ratio": null, "goal": SINGLE_P99_GOAL, "holds": p99 <= SINGLE_P99_GOAL,
        }),
        json!({
            "name": "age of the journal in all runs, at most", "value": age, "unit": "s",
            "ratio": null, "goal": JOURNAL_AGE_GOAL, "holds": age <= JOURNAL_AGE_GOAL,
        }),
        json!({
            "name": "resident memory of weir, at most", "value": memory, "unit": "MiB",
            "ratio": null, "goal": null, "holds": null,
        }),
        json!({
            "name": "Segment's batches of 100, of native ones", "value": segment, "unit": "events/s",
            "ratio": of_native, "goal": SEGMENT_GOAL, "holds": of_native >= SEGMENT_GOAL,
        }),
    ]
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

async fn measure(arguments: &Arc<Arguments>, events: &Arc<AtomicU64>) -> anyhow::Result<Figures> {
    let short = Duration::from_secs(arguments.secs / 5);
    let plain = plain_inserts(&arguments.mysql, events, short).await?;

    let sealed_before = sealed(&arguments.ops).await?;
    let began = Instant::now();
    let looking = tokio::spawn(oldest_journal(arguments.ops.clone(), Duration::from_secs(arguments.secs)));
    let native = Arc::new(Endpoint::native(arguments));
    let sent = send(&native, events, BATCH, CONNECTIONS, Duration::from_secs(arguments.secs)).await?;
    let sealed_events = sealed(&arguments.ops).await? - sealed_before;
    let took = began.elapsed().as_secs_f64();
    let journal_age = looking.await??;
    let single = send(&native, events, 1, SINGLE_CONNECTIONS, short).await?;
    let memory = peak_memory(arguments.pid)?;

    let tenth = Duration::from_secs(arguments.secs) / 10;
    let native = batches_a_second(arguments, &native, events, tenth).await?;
    let segment = Arc::new(Endpoint::segment(arguments));
    let segment = batches_a_second(arguments, &segment, events, tenth).await?;
    Ok(Figures {
        plain,
        collected: sent.accepted as f64 / took,
        sealed: sealed_events / took,
        single: single.accepted as f64 / short.as_secs_f64(),
        single_p99: single.percentile(0.99).as_secs_f64() * 1e3,
        journal_age,
        memory,
        native,
        segment,
    })
}

/// Events a second that are accepted in batches.
async fn batches_a_second(
    arguments: &Arguments,
    endpoint: &Arc<Endpoint>,
    events: &Arc<AtomicU64>,
    time: Duration,
) -> anyhow::Result<f64> {
    let before = accepted(&arguments.ops).await?;
    let began = Instant::now();
    let sent = send(endpoint, events, BATCH, CONNECTIONS, time).await?;
    let took = began.elapsed().as_secs_f64();
    let accepted = accepted(&arguments.ops).await? - before;
    // An SDK of Segment's is told success even when every event was rejected.
    let sent = sent.accepted as f64;
    anyhow::ensure!(accepted == sent, "of {sent} events on {} {accepted} were accepted", endpoint.path);
    Ok(accepted / took)
}

/// The most that the age of the oldest batch in the journal, which weir itself tells, is within a time.
async fn oldest_journal(ops: String, time: Duration) -> anyhow::Result<f64> {
    let end = Instant::now() + time;
    let mut oldest = 0.0_f64;
    while Instant::now() + LOOK < end {
        tokio::time::sleep(LOOK).await;
        let ages = samples(&ops, "weir_seal_lag_seconds{").await?;
        anyhow::ensure!(!ages.is_empty(), "weir does not say how old its journal is");
        oldest = ages.into_iter().fold(oldest, f64::max);
    }
    Ok(oldest)
}

/// The most memory that a process has ever had, in MiB.
fn peak_memory(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("weir has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// Events a second that go into a plain table: prepared, 100 rows a statement, autocommit, a unique id.
async fn plain_inserts(url: &str, events: &Arc<AtomicU64>, time: Duration) -> anyhow::Result<f64> {
    let mut control = MySqlConnection::connect(url).await.context("MariaDB does not answer")?;
    control.execute("DROP TABLE IF EXISTS bench_plain").await?;
    control
        .execute(
            "CREATE TABLE bench_plain (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, event_id BINARY(16) \
             NOT NULL, project_id INT NOT NULL, event VARCHAR(200) NOT NULL, distinct_id VARCHAR(255) NOT \
             NULL, occurred_at DATETIME(3) NOT NULL, properties JSON NOT NULL, UNIQUE KEY (event_id)) \
             ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
        )
        .await?;
    let rows = vec!["(?, 1, ?, ?, ?, ?)"; BATCH as usize].join(", ");
    let insert: Arc<str> = format!(
        "INSERT INTO bench_plain (event_id, project_id, event, distinct_id, occurred_at, properties) VALUES {rows}"
    )
    .into();
    let (stop, inserted) = (Arc::new(AtomicBool::default()), Arc::new(AtomicU64::default()));
    let mut tasks = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = MySqlConnection::connect(url).await?;
        let (insert, events) = (insert.clone(), events.clone());
        let (stop, inserted) = (stop.clone(), inserted.clone());
        tasks.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let first = events.fetch_add(BATCH, Ordering::Relaxed);
                let mut query = sqlx::query(AssertSqlSafe(insert.to_string()));
                for n in first..first + BATCH {
                    query = query
                        .bind(id(n).into_bytes().to_vec())
                        .bind(EVENTS[n as usize % EVENTS.len()])
                        .bind(format!("user-{}", n % 50_021))
                        .bind("2026-01-05 10:00:00.000")
                        .bind(properties(n));
                }
                query.execute(&mut connection).await?;
                inserted.fetch_add(BATCH, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }));
    }
    let began = Instant::now();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    let rate = inserted.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    control.execute("DROP TABLE bench_plain").await?;
    Ok(rate)
}

/// What clients saw.
struct Sent {
    accepted: u64,
    /// How long each request took, ascending.
    took: Vec<Duration>,
}

impl Sent {
    fn percentile(&self, part: f64) -> Duration {
        let last = self.took.len().saturating_sub(1);
        self.took.get((last as f64 * part) as usize).copied().unwrap_or_default()
    }
}

/// Where events go, and in which form.
struct Endpoint {
    address: String,
    path: &'static str,
    authorization: String,
    body: fn(Range<u64>) -> String,
}

impl Endpoint {
    fn native(arguments: &Arguments) -> Self {
        let authorization = format!("Bearer {}", arguments.write_key);
        Self { address: arguments.weir.clone(), path: "/api/v1/events", authorization, body: native_body }
    }

    fn segment(arguments: &Arguments) -> Self {
        let authorization = format!("Basic {}", STANDARD.encode(format!("{}:", arguments.write_key)));
        Self { address: arguments.weir.clone(), path: "/v1/batch", authorization, body: segment_body }
    }
}

/// Sends requests of `batch` events for a while.
async fn send(
    endpoint: &Arc<Endpoint>,
    events: &Arc<AtomicU64>,
    batch: u64,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Sent> {
    let stop = Arc::new(AtomicBool::default());
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let mut client = Client::connect(&endpoint.address).await?;
        let (endpoint, events, stop) = (endpoint.clone(), events.clone(), stop.clone());
        tasks.push(tokio::spawn(async move {
            let mut took = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let first = events.fetch_add(batch, Ordering::Relaxed);
                let body = (endpoint.body)(first..first + batch);
                let began = Instant::now();
                let (status, answer) = client.post(&endpoint, &body).await?;
                anyhow::ensure!(status == 200, "weir answered {status}: {answer}");
                took.push(began.elapsed());
            }
            anyhow::Ok(took)
        }));
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await??);
    }
    took.sort_unstable();
    Ok(Sent { accepted: batch * took.len() as u64, took })
}

/// Events that have left the journal, whatever became of them.
async fn sealed(ops: &str) -> anyhow::Result<f64> {
    Ok(samples(ops, "weir_seal_events_total{").await?.into_iter().sum())
}

/// Events that were accepted, over whatever endpoint.
async fn accepted(ops: &str) -> anyhow::Result<f64> {
    Ok(samples(ops, r#"weir_collect_events_total{outcome="accepted""#).await?.into_iter().sum())
}

/// The values of one metric.
async fn samples(ops: &str, metric: &str) -> anyhow::Result<Vec<f64>> {
    let mut client = Client::connect(ops).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {ops}\r\n\r\n");
    let (status, text) = client.ask(request.as_bytes()).await?;
    anyhow::ensure!(status == 200, "metrics answered {status}");
    let lines = text.lines().filter(|line| line.starts_with(metric));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).collect())
}

/// One connection, one request at a time.
struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    async fn connect(address: &str) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("{address} does not answer"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    async fn post(&mut self, endpoint: &Endpoint, body: &str) -> anyhow::Result<(u16, String)> {
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            endpoint.path,
            endpoint.address,
            endpoint.authorization,
            body.len()
        );
        self.ask(request.as_bytes()).await
    }

    async fn ask(&mut self, request: &[u8]) -> anyhow::Result<(u16, String)> {
        self.stream.write_all(request).await?;
        self.received.clear();
        let head = loop {
            self.read_more().await?;
            if let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
        };
        let text = std::str::from_utf8(&self.received[..head])?.to_ascii_lowercase();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.context("an answer without a length")?.trim().parse()?;
        while self.received.len() < head + 4 + length {
            self.read_more().await?;
        }
        Ok((status, String::from_utf8_lossy(&self.received[head + 4..]).into_owned()))
    }

    async fn read_more(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.stream.read_buf(&mut self.received).await? > 0, "the connection was closed");
        Ok(())
    }
}
