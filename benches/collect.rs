//! Durable collection, measured by `scripts/bench collect`: events a second over HTTP into MariaDB, with
//! sealing and compaction on, against plain multi-row INSERTs of the same events into the same server in
//! the same run; and requests of one event a second.
//!
//! The client speaks HTTP by hand over plain sockets: it shares two cores with everything it measures.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BATCH: u64 = 100;
const CONNECTIONS: usize = 32;
const SINGLE_CONNECTIONS: usize = 64;
/// Times the plain INSERT, and requests a second.
const RATIO_GOAL: f64 = 2.0;
const SINGLE_GOAL: f64 = 10_000.0;

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
    /// How long batches are sent in each run; the other two take a fifth of it.
    #[arg(long, default_value_t = 300)]
    secs: u64,
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Write the figures there, too.
    #[arg(long)]
    json: Option<std::path::PathBuf>,
}

/// What one run found, in events or requests a second.
struct Figures {
    plain: f64,
    collected: f64,
    sealed: f64,
    single: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arc::new(Arguments::parse());
    anyhow::ensure!(arguments.runs > 0 && arguments.secs >= 5, "at least one run of 5 seconds");
    let events = Arc::new(AtomicU64::default());
    let mut figures = Vec::new();
    for run in 1..=arguments.runs {
        let found = measure(&arguments, &events).await?;
        println!(
            "run {run}: plain INSERT {:.0} events/s, collected {:.0}, sealed {:.0}, single {:.0} requests/s",
            found.plain, found.collected, found.sealed, found.single
        );
        figures.push(found);
    }
    let rows = rows(&figures);
    println!("\n{:<48} {:>12}  {:<12} {:>7} {:>8}  holds", "", "median", "", "ratio", "goal");
    for row in &rows {
        let ratio = row["ratio"].as_f64().map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        println!(
            "{:<48} {:>12.0}  {:<12} {ratio:>7} {:>8}  {}",
            row["name"].as_str().unwrap_or_default(),
            row["value"].as_f64().unwrap_or_default(),
            row["unit"].as_str().unwrap_or_default(),
            row["goal"],
            if row["holds"] == json!(true) { "yes" } else { "NO" },
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
    vec![
        json!({
            "name": "durable collection, batches of 100", "value": batches, "unit": "events/s",
            "ratio": ratio, "goal": RATIO_GOAL, "holds": ratio >= RATIO_GOAL,
        }),
        json!({
            "name": "durable collection, one event a request", "value": single, "unit": "requests/s",
            "ratio": null, "goal": SINGLE_GOAL, "holds": single >= SINGLE_GOAL,
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
    let sent = send(arguments, events, BATCH, CONNECTIONS, Duration::from_secs(arguments.secs)).await?;
    let sealed_events = sealed(&arguments.ops).await? - sealed_before;
    let took = began.elapsed().as_secs_f64();
    let single = send(arguments, events, 1, SINGLE_CONNECTIONS, short).await?;
    Ok(Figures {
        plain,
        collected: sent as f64 / took,
        sealed: sealed_events / took,
        single: single as f64 / short.as_secs_f64(),
    })
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

/// Sends requests of `batch` events for a while; how many events were accepted.
async fn send(
    arguments: &Arc<Arguments>,
    events: &Arc<AtomicU64>,
    batch: u64,
    connections: usize,
    time: Duration,
) -> anyhow::Result<u64> {
    let (stop, accepted) = (Arc::new(AtomicBool::default()), Arc::new(AtomicU64::default()));
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let mut client = Client::connect(&arguments.weir).await?;
        let (arguments, events) = (arguments.clone(), events.clone());
        let (stop, accepted) = (stop.clone(), accepted.clone());
        tasks.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let first = events.fetch_add(batch, Ordering::Relaxed);
                let body = body(first..first + batch);
                let (status, answer) = client.post(&arguments, &body).await?;
                anyhow::ensure!(status == 200, "weir answered {status}: {answer}");
                accepted.fetch_add(batch, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }));
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    Ok(accepted.load(Ordering::Relaxed))
}

/// Events that have left the journal, whatever became of them.
async fn sealed(ops: &str) -> anyhow::Result<f64> {
    let mut client = Client::connect(ops).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {ops}\r\n\r\n");
    let (status, text) = client.ask(request.as_bytes()).await?;
    anyhow::ensure!(status == 200, "metrics answered {status}");
    let lines = text.lines().filter(|line| line.starts_with("weir_seal_events_total{"));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
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

    async fn post(&mut self, arguments: &Arguments, body: &str) -> anyhow::Result<(u16, String)> {
        let request = format!(
            "POST /api/v1/events HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            arguments.weir,
            arguments.write_key,
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

const EVENTS: [&str; 5] = ["$pageview", "product_viewed", "cart_added", "checkout_started", "purchase"];

fn id(n: u64) -> uuid::Uuid {
    // Spread, as random ids are: a plain unique index pays for that.
    let high = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    uuid::Uuid::from_u64_pair(high, n)
}

/// The same in both: what a web shop sends with an event.
fn properties(n: u64) -> String {
    let mut text = String::with_capacity(160);
    put_properties(&mut text, n);
    text
}

fn put_properties(text: &mut String, n: u64) {
    let put = write!(
        text,
        r#"{{"country":"{}","plan":"{}","amount":{}.{:02},"path":"/products/{}","referrer":"https://example.com/{}","mobile":{}}}"#,
        ["NL", "DE", "FR", "GB", "US"][n as usize % 5],
        ["free", "pro", "team"][n as usize % 3],
        n % 1_000,
        n % 100,
        n % 5_003,
        n % 211,
        n.is_multiple_of(2),
    );
    put.expect("a string takes any text");
}

fn body(numbers: std::ops::Range<u64>) -> String {
    let mut body = String::with_capacity(320 * (numbers.end - numbers.start) as usize);
    body.push('[');
    for n in numbers {
        if body.len() > 1 {
            body.push(',');
        }
        let put = write!(
            body,
            r#"{{"id":"{}","event":"{}","distinct_id":"user-{}","timestamp":"2026-01-05T10:{:02}:{:02}Z","properties":"#,
            id(n).as_hyphenated().encode_lower(&mut [0; 36]),
            EVENTS[n as usize % EVENTS.len()],
            n % 50_021,
            n / 60 % 60,
            n % 60,
        );
        put.expect("a string takes any text");
        put_properties(&mut body, n);
        body.push('}');
    }
    body.push(']');
    body
}
