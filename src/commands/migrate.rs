//! `weir migrate`: applies both schemas, for those who start replicas with a migration step before.

use super::Context;
use super::output::{self, say};

pub async fn run(context: &Context) -> anyhow::Result<()> {
    let storage = context.open_storage().await?;
    let missing = storage.shards.verify_missing().await;
    for (server, error) in &missing {
        output::remark(format_args!("server {} could not be reached: {error}", server.shown));
    }
    anyhow::ensure!(
        missing.is_empty(),
        "{} of {} servers are not up to date",
        missing.len(),
        storage.shards.servers().len()
    );
    say!(
        "The schemas are up to date: {} servers, {} shards.",
        storage.shards.servers().len(),
        storage.shards.count()
    );
    storage.close().await;
    Ok(())
}
