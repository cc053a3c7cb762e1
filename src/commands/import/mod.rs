//! `weir import`: files of events straight into the store, through the same validation and the
//! same commit as events over HTTP.
//!
//! A row is `{"id"?, "user_id" | "distinct_id", "event", "timestamp", "properties"}`, one a line;
//! files may be gzip or zstd, `-` is standard input. Importing again is safe: an event with an id
//! counts once, and a row without one gets an id from its text (so equal rows without ids are one
//! event). Rejected rows do not stop the others; they are counted and the first are shown, and
//! only `--strict` makes them a failure, or when there is no other row.
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
use super::output::say;
use super::project::get_project;
use crate::collection::keys::WriteGrant;

use fill::{Tally, fill};
pub use progress::{Progress, Unit};
use source::read_files;
pub use source::{Chunk, ChunkLimits};

/// Chunks that wait to be collected.
const CHUNKS_WAITING: usize = 4;
const CHUNK_LINES: usize = 1_000;
const CHUNK_BYTES: usize = 1 << 20;

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
    // A file that ends in the middle fails the command, but what was read of it is in the store.
    // One of which nothing could be read has no result to report.
    if read.is_err() && tally.accepted + tally.rejected_total() == 0 {
        return read;
    }
    let reported = report(&tally, &args.files, seconds);
    read?;
    if tally.accepted == 0
        && let Some(first) = tally.shown.first()
    {
        store.close().await;
        anyhow::bail!(
            "all {} rows were rejected, the first because of {}: {}; a file has one event a line, as in \
             {{\"event\": \"purchase\", \"distinct_id\": \"u1\"}}",
            tally.rejected_total(),
            first.code,
            first.detail
        );
    }

    let mut progress = Progress::start("sealing", Unit::Events, Some(tally.accepted));
    store.wait_until_sealed(|waiting| progress.at(tally.accepted.saturating_sub(waiting), "sealed")).await?;
    progress.done();
    store.close().await;
    reported?;
    say!("sealed after {:.1} s in all", start.elapsed().as_secs_f64());
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
        // Before anything is imported: all of them, or none.
        let cannot = || format!("cannot read {}", file.display());
        let found = std::fs::File::open(file).and_then(|file| file.metadata()).with_context(cannot)?;
        anyhow::ensure!(!found.is_dir(), "{} is a folder", file.display());
        total = total.map(|bytes| bytes + found.len());
    }
    Ok(total)
}

fn report(tally: &Tally, files: &[PathBuf], seconds: f64) -> anyhow::Result<()> {
    let rate = tally.accepted as f64 / seconds.max(0.001);
    say!(
        "{} accepted, {} rejected in {seconds:.1} s ({rate:.0} events/s)",
        tally.accepted,
        tally.rejected_total()
    );
    for (code, count) in &tally.rejected {
        say!("  {count} {code}");
    }
    for shown in &tally.shown {
        let file = files[shown.file].display();
        say!("  {file}:{}: {}: {}", shown.line_number, shown.code, shown.detail);
    }
    let more = tally.rejected_total() - tally.shown.len() as u64;
    if more > 0 {
        say!("  … and {more} more");
    }
    Ok(())
}
