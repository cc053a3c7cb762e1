//! `weir import`: files of events straight into the store, through the same validation and the
//! same commit as events over HTTP.
//!
//! A row is `{"id"?, "user_id" | "distinct_id", "event", "timestamp", "properties"}`, one a line;
//! files may be gzip or zstd, `-` is standard input. Importing again is safe: an event with an id
//! counts once, and a row without one gets an id from its text (so equal rows without ids are one
//! event). Rejected rows do not stop the others; they are counted and the first are shown, and
//! only `--strict` makes them a failure.
//!
//! ```text
//! thread: open, inflate, cut ──chunks──▶ fill: collect, commit ──▶ journal ──▶ sealers ──▶ done
//! ```
//! The command brings sealers of its own and works beside a running `weir serve`: leases decide
//! who seals which shard.

pub mod fill;
mod progress;
mod source;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Context;
use super::filling::Filling;
use crate::collection::keys::WriteGrant;
use crate::storage::Db;
use crate::storage::control::projects::{Project, find_project, list_projects};

use fill::{Tally, fill};
pub use progress::{Progress, Unit};
use source::read_files;
pub use source::{Chunk, ChunkLimits};

/// Chunks that wait to be collected.
const CHUNKS_WAITING: usize = 4;
const CHUNK_LINES: usize = 1_000;
const CHUNK_BYTES: usize = 1 << 20;
/// Names that are looked through when a project is named, not numbered.
const PROJECTS_MAX: u32 = 10_000;

#[derive(clap::Args, Clone, Debug)]
pub struct ImportArgs {
    /// Files of events, one a line; plain, gzip or zstd; - is standard input
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// The project's number or its name
    #[arg(long)]
    pub project: String,
    /// Fail when any row was rejected (the others are imported all the same)
    #[arg(long)]
    pub strict: bool,
}

pub async fn run(args: &ImportArgs, context: &Context) -> anyhow::Result<()> {
    let total_bytes = total_bytes(&args.files)?;
    let store = Filling::open(context).await?;
    let project = get_project(&store.storage.control, &args.project).await?;
    let start = Instant::now();
    let bytes_read = Arc::new(AtomicU64::new(0));
    let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
    let limits = ChunkLimits {
        lines_max: CHUNK_LINES.min(context.config.collection.batch_events_max as usize),
        bytes_max: CHUNK_BYTES,
        line_bytes_max: context.config.collection.event_bytes_max as usize,
    };
    let reader = {
        let (files, bytes_read) = (args.files.clone(), bytes_read.clone());
        tokio::task::spawn_blocking(move || read_files(&files, limits, &bytes_read, &sender))
    };
    let grant = WriteGrant { project_id: project.project_id, span: project.span };
    let mut progress = Progress::start("importing", Unit::Bytes, total_bytes);
    let tally = fill(&store.collector, grant, chunks, |tally| {
        progress.at(bytes_read.load(Ordering::Relaxed), &format!("{} events", tally.accepted));
    })
    .await?;
    progress.done();
    let read = reader.await.context("the reading thread failed")?;
    let seconds = start.elapsed().as_secs_f64();
    report(&tally, &args.files, seconds);
    // A file that ends in the middle fails the command, but what was read of it is in the store.
    read?;

    let mut progress = Progress::start("sealing", Unit::Events, Some(tally.accepted));
    store.wait_until_sealed(|waiting| progress.at(tally.accepted.saturating_sub(waiting), "sealed")).await?;
    progress.done();
    println!("sealed after {:.1} s in all", start.elapsed().as_secs_f64());
    store.close().await;
    anyhow::ensure!(
        !args.strict || tally.rejected_total() == 0,
        "{} rows were rejected (--strict)",
        tally.rejected_total()
    );
    Ok(())
}

fn total_bytes(files: &[PathBuf]) -> anyhow::Result<Option<u64>> {
    let mut total = Some(0);
    for file in files {
        if file.as_os_str() == "-" {
            total = None;
            continue;
        }
        let found = std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?;
        total = total.map(|bytes| bytes + found.len());
    }
    Ok(total)
}

/// A project by its number, else by its name when exactly one has it.
pub async fn get_project(control: &Db, wanted: &str) -> anyhow::Result<Project> {
    if let Ok(number) = wanted.parse::<u32>()
        && let Some(project) = find_project(control, crate::model::ProjectId(number)).await?
    {
        return Ok(project);
    }
    let projects = list_projects(control, PROJECTS_MAX).await?;
    let mut named = projects.into_iter().filter(|project| project.name == wanted);
    match (named.next(), named.next()) {
        (Some(project), None) => Ok(project),
        (Some(_), Some(_)) => anyhow::bail!("several projects are named {wanted:?}: give the number of one"),
        (None, _) => anyhow::bail!("there is no project {wanted:?}; weir project list shows them"),
    }
}

fn report(tally: &Tally, files: &[PathBuf], seconds: f64) {
    let rate = tally.accepted as f64 / seconds.max(0.001);
    println!(
        "{} accepted, {} rejected in {seconds:.1} s ({rate:.0} events/s)",
        tally.accepted,
        tally.rejected_total()
    );
    for (code, count) in &tally.rejected {
        println!("  {count} {code}");
    }
    for shown in &tally.shown {
        let file = files[shown.file].display();
        println!("  {file}:{}: {}: {}", shown.line_number, shown.code, shown.detail);
    }
    let more = tally.rejected_total() - tally.shown.len() as u64;
    if more > 0 {
        println!("  … and {more} more");
    }
}
