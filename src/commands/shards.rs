//! `weir shards`: which server holds which shard, and how each is doing. Only reads, so it works
//! beside a running `weir serve` and while servers are away.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::Context;
use super::output::say;
use crate::model::{Millis, ShardNo};
use crate::storage::server::journal::{self, JournalBacklog};
use crate::storage::server::overview::{self, HeldLease, ObjectCount};
use crate::storage::{Db, Server, StorageError};

#[derive(Args, Debug)]
pub struct ShardsArgs {
    /// Print one JSON object: servers, shards.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown {
    servers: Vec<ShownServer>,
    shards: Vec<ShownShard>,
}

#[derive(Serialize)]
struct ShownServer {
    server_id: String,
    /// Without user and password.
    address: String,
    reachable: bool,
    version: Option<String>,
    /// Why it is not reachable.
    error: Option<String>,
    shards: usize,
}

/// What cannot be read, because the server is away, is left out.
#[derive(Serialize)]
struct ShownShard {
    shard_no: ShardNo,
    server_id: String,
    #[serde(flatten)]
    holds: Option<Holds>,
}

#[derive(Clone, Serialize, Default)]
struct Holds {
    journal: ShownJournal,
    /// Of each task that somebody does now.
    leases: Vec<ShownLease>,
    runs: ShownObjects,
    segments: ShownObjects,
}

#[derive(Clone, Serialize, Default)]
struct ShownJournal {
    batches: u64,
    events: u64,
    /// Since when the oldest batch waits.
    age_secs: u64,
}

#[derive(Clone, Serialize)]
struct ShownLease {
    task: String,
    holder: String,
    fence: i64,
    expires_in_secs: u64,
}

#[derive(Clone, Copy, Serialize, Default)]
struct ShownObjects {
    objects: u64,
    events: u64,
    bytes: u64,
}

pub async fn run(context: &Context, args: ShardsArgs) -> anyhow::Result<()> {
    let storage = context.open_storage().await?;
    let missing = storage.shards.verify_missing().await;
    let mut shown = Shown { servers: Vec::new(), shards: Vec::new() };
    for server in storage.shards.servers() {
        let shards = storage.shards.shards_of(server.server_id);
        let away = missing.iter().find(|(missing, _)| missing.server_id == server.server_id);
        let looked = match away {
            Some((_, error)) => Err(error.to_string()),
            None => look(server).await.map_err(|error| error.to_string()),
        };
        let server_id = server.server_id.to_string();
        let (version, holds, error) = match looked {
            Ok((version, holds)) => (Some(version), Some(holds), None),
            Err(error) => (None, None, Some(error)),
        };
        shown.servers.push(ShownServer {
            server_id: server_id.clone(),
            address: server.shown.clone(),
            reachable: error.is_none(),
            version,
            error,
            shards: shards.len(),
        });
        shown.shards.extend(shards.into_iter().map(|shard_no| ShownShard {
            shard_no,
            server_id: server_id.clone(),
            holds: holds.as_ref().map(|holds| holds.get(&shard_no).cloned().unwrap_or_default()),
        }));
    }
    shown.shards.sort_by_key(|shard| shard.shard_no);
    storage.close().await;
    if args.json {
        say!("{}", serde_json::to_string(&shown)?);
    } else {
        say!("{}", table(&shown).trim_end());
    }
    Ok(())
}

/// The version of a server, and what it holds by shard. Shards without anything are not in it.
async fn look(server: &Server) -> Result<(String, BTreeMap<ShardNo, Holds>), StorageError> {
    let db: &Db = server.db()?;
    let version = overview::version(db).await?;
    let now = journal::database_now(db).await?;
    let mut holds: BTreeMap<ShardNo, Holds> = BTreeMap::new();
    for waiting in journal::backlog(db).await? {
        holds.entry(waiting.shard_no).or_default().journal = ShownJournal::new(&waiting, now);
    }
    for lease in overview::list_held_leases(db).await? {
        holds.entry(lease.shard_no).or_default().leases.push(lease.into());
    }
    for (shard_no, count) in overview::count_runs(db).await? {
        holds.entry(shard_no).or_default().runs = count.into();
    }
    for (shard_no, count) in overview::count_segments(db).await? {
        holds.entry(shard_no).or_default().segments = count.into();
    }
    Ok((version, holds))
}

impl ShownJournal {
    fn new(waiting: &JournalBacklog, now: Millis) -> Self {
        let age_secs = (now - waiting.oldest_inserted_at).max(0) as u64 / 1_000;
        Self { batches: waiting.batches, events: waiting.events, age_secs }
    }
}

impl From<HeldLease> for ShownLease {
    fn from(lease: HeldLease) -> Self {
        Self {
            task: lease.task,
            holder: lease.holder.to_string(),
            fence: lease.fence,
            expires_in_secs: lease.expires_in_ms.max(0) as u64 / 1_000,
        }
    }
}

impl From<ObjectCount> for ShownObjects {
    fn from(count: ObjectCount) -> Self {
        Self { objects: count.objects, events: count.events, bytes: count.bytes }
    }
}

fn table(shown: &Shown) -> String {
    let mut text = String::new();
    for server in &shown.servers {
        let state = match (&server.version, &server.error) {
            (Some(version), _) => version.clone(),
            (None, error) => format!("NOT REACHABLE: {}", error.as_deref().unwrap_or("no answer")),
        };
        text +=
            &format!("server {}  {}  {} shards  {state}\n", server.server_id, server.address, server.shards);
    }
    text += "\nshard  server    journal batches    events  oldest  sealed by  compacted by    runs  segments      \
             events       bytes\n";
    for shard in &shown.shards {
        // The first eight digits are enough to find the server above.
        let server = &shard.server_id[..8];
        let Some(holds) = &shard.holds else {
            text += &format!("{:>5}  {server}  (its server is not reachable)\n", shard.shard_no.0);
            continue;
        };
        let holder = |task: &str| {
            let lease = holds.leases.iter().find(|lease| lease.task == task);
            lease.map_or("-", |lease| &lease.holder[..8])
        };
        text += &format!(
            "{:>5}  {server}  {:>15}  {:>8}  {:>4} s  {:>9}  {:>12}  {:>6}  {:>8}  {:>10}  {:>10}\n",
            shard.shard_no.0,
            holds.journal.batches,
            holds.journal.events,
            holds.journal.age_secs,
            holder("seal"),
            holder("compact"),
            holds.runs.objects,
            holds.segments.objects,
            holds.runs.events + holds.segments.events,
            holds.runs.bytes + holds.segments.bytes,
        );
    }
    text
}
