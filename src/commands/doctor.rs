//! `weir doctor`: looks at the configuration, every server and Redis, and says what to fix.

use std::sync::Arc;

use crate::eventstore::compaction::{Compactor, Debt};
use crate::model::{ReplicaId, ShardNo, SystemRandom};
use crate::storage::checkup::{self, Finding, Severity};
use crate::storage::{COMMIT_CONNECTIONS, Db, Storage};
use crate::telemetry::Metrics;

use super::Context;
use super::output::say;

/// More objects of one shard than several rounds of compaction leave.
const DEBT_OBJECTS_MANY: u64 = 500;

pub async fn run(context: &Context) -> anyhow::Result<()> {
    let mut problems = 0;
    let mut show = |place: &str, findings: &[Finding]| -> anyhow::Result<()> {
        say!("{place}");
        for Finding { severity, what, fix } in findings {
            match severity {
                Severity::Good => say!("  ok       {what}"),
                Severity::Advice => say!("  advice   {what}\n           → {fix}"),
                Severity::Problem => {
                    problems += 1;
                    say!("  PROBLEM  {what}\n           → {fix}");
                }
            }
        }
        Ok(())
    };

    let storage = context.open_storage().await?;
    let connections = context.config.storage.pool_connections_max;
    show("Control database", &checkup::look(&storage.control, connections).await?)?;
    let missing = storage.shards.verify_missing().await;
    let (holder, random) = (ReplicaId::random(&SystemRandom), Arc::new(SystemRandom));
    let compactor = Compactor::new(holder, &context.config.sealing, random, &Metrics::default());
    for server in storage.shards.servers() {
        let shards = storage.shards.shards_of(server.server_id);
        let place = format!("Server {} at {}, {} shards", server.server_id, server.shown, shards.len());
        let away = missing.iter().find(|(missing, _)| missing.server_id == server.server_id);
        if let Some((_, error)) = away {
            let fix = "start it; until then its events are refused with 503 and answers are partial";
            show(&place, &[Finding::problem(format!("it cannot be used: {error}"), fix)])?;
            continue;
        }
        let db = server.db()?;
        let mut findings = checkup::look(db, connections + COMMIT_CONNECTIONS).await?;
        findings.push(checkup::look_at_journal(db).await?);
        findings.push(checkup::look_at_objects(db).await?);
        findings.push(look_at_debt(&compactor, db, &shards).await?);
        findings.extend(checkup::look_at_history(db).await?);
        show(&place, &findings)?;
    }
    show("Redis", &[look_at_redis(context, &storage).await?])?;
    storage.close().await;
    anyhow::ensure!(problems == 0, "{problems} problems");
    Ok(())
}

/// What is due for compaction: it is always something on a busy server, and should not grow.
async fn look_at_debt(compactor: &Compactor, db: &Db, shards: &[ShardNo]) -> anyhow::Result<Finding> {
    let mut debt = Debt::default();
    for &shard_no in shards {
        debt.add(compactor.debt(db, shard_no).await?);
    }
    let Debt { objects, bytes } = debt;
    let what = format!("compaction is to merge {objects} runs and segments, {} MiB", bytes >> 20);
    let many = DEBT_OBJECTS_MANY * shards.len() as u64;
    Ok(if objects < many {
        Finding::good(what)
    } else {
        let fix = "see that a process with the role work runs, and weir_compact_failures_total; while this \
                   grows, questions get slower";
        Finding::advice(what, fix)
    })
}

async fn look_at_redis(context: &Context, storage: &Storage) -> anyhow::Result<Finding> {
    let cache = context.open_cache(storage)?;
    Ok(match cache.probe().await {
        None => Finding::good("not configured: each process caches in its own memory"),
        Some(true) => Finding::good("it answers"),
        Some(false) => Finding::advice(
            "it does not answer",
            "everything works without it, only slower; start it or empty cache.redis",
        ),
    })
}
