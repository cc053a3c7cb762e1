//! `weir doctor`: looks at the configuration, every server and Redis, and says what to fix.

use crate::storage::checkup::{self, Finding, Severity};
use crate::storage::{COMMIT_CONNECTIONS, Storage};

use super::Context;
use super::output::say;

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
        findings.extend(checkup::look_at_history(db).await?);
        show(&place, &findings)?;
    }
    show("Redis", &[look_at_redis(context, &storage).await?])?;
    storage.close().await;
    anyhow::ensure!(problems == 0, "{problems} problems");
    Ok(())
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
