//! Lines into the store: through the very validation and commit that requests go through, a few
//! chunks at once.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::source::Chunk;
use crate::collection::keys::WriteGrant;
use crate::collection::{CollectError, Collected, Collector};

/// Chunks on their way: enough to fill the group that gathers while one commit is in flight.
const IN_FLIGHT: usize = 8;
/// How long a store that cannot commit is waited for before the command gives up.
const UNAVAILABLE_MAX: Duration = Duration::from_secs(60);
const RETRY_REST: Duration = Duration::from_millis(500);
/// Rejections that are shown in full; the rest is counted.
const SHOWN_MAX: usize = 10;

/// What became of the lines so far.
#[derive(Default, Debug)]
pub struct Tally {
    pub accepted: u64,
    /// By the code of the reason.
    pub rejected: BTreeMap<&'static str, u64>,
    pub shown: Vec<ShownRejection>,
}

#[derive(PartialEq, Eq, Debug)]
pub struct ShownRejection {
    pub file: usize,
    pub line_number: u64,
    pub code: &'static str,
    pub detail: String,
}

impl Tally {
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }

    fn reject(&mut self, file: usize, line_number: u64, code: &'static str, detail: String) {
        *self.rejected.entry(code).or_default() += 1;
        self.shown.push(ShownRejection { file, line_number, code, detail });
        // Chunks come back in any order; the first lines are what a reader looks for.
        self.shown.sort_by_key(|shown| (shown.file, shown.line_number));
        self.shown.truncate(SHOWN_MAX);
    }
}

/// Collects all chunks; `progress` sees the tally after each.
pub async fn fill(
    collector: &Collector,
    grant: WriteGrant,
    mut chunks: mpsc::Receiver<Chunk>,
    mut progress: impl FnMut(&Tally),
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let mut under_way = FuturesUnordered::new();
    let mut is_open = true;
    while is_open || !under_way.is_empty() {
        tokio::select! {
            chunk = chunks.recv(), if is_open && under_way.len() < IN_FLIGHT => match chunk {
                Some(chunk) => under_way.push(collect(collector, grant, chunk)),
                None => is_open = false,
            },
            Some(done) = under_way.next() => {
                let (chunk, collected) = done?;
                count(&mut tally, chunk, collected);
                progress(&tally);
            }
        }
    }
    Ok(tally)
}

fn count(tally: &mut Tally, chunk: Chunk, collected: Collected) {
    tally.accepted += collected.accepted as u64;
    for rejected in collected.rejected {
        let line_number = chunk.line_numbers.get(rejected.index).copied().unwrap_or_default();
        tally.reject(chunk.file, line_number, rejected.code.code(), rejected.detail);
    }
    for line in chunk.unreadable {
        tally.reject(chunk.file, line.line_number, line.code, line.detail);
    }
}

/// Commits one chunk, again while the store is away: every line has an id, so nothing counts twice.
async fn collect(
    collector: &Collector,
    grant: WriteGrant,
    chunk: Chunk,
) -> anyhow::Result<(Chunk, Collected)> {
    let start = Instant::now();
    loop {
        match collector.collect_lines(grant, chunk.text.clone()).await {
            Ok(collected) => return Ok((chunk, collected)),
            Err(CollectError::Unavailable(_)) if start.elapsed() < UNAVAILABLE_MAX => {
                tokio::time::sleep(RETRY_REST).await;
            }
            Err(error) => {
                let (first, last) = (chunk.line_numbers.first(), chunk.line_numbers.last());
                return Err(error).with_context(|| {
                    format!("lines {} to {} could not be collected", shown(first), shown(last))
                });
            }
        }
    }
}

fn shown(line_number: Option<&u64>) -> String {
    line_number.map_or("?".to_owned(), u64::to_string)
}
