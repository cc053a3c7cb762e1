//! Promise 1 and 2 under `kill -9`: what was acknowledged is there after every restart, and when
//! everything that was not answered is sent again, every event is stored exactly once.
//!
//! Senders keep requests in flight while weir dies, at random moments and at the named points of
//! collection, sealing and compaction, and while MariaDB dies under it. What is stored is read
//! back over the public interface: a breakdown by a number that every event has for itself.

use std::sync::Arc;
use std::time::Duration;

use crate::ledger::{Ledger, Senders};
use crate::support::{Installation, MariaDb, Project, Weir, until};

/// After the insert and before the answer; after the parts and before the closing transaction;
/// after it and before the journal is seen empty; during compaction.
const FAILPOINTS: [&str; 4] =
    ["collect.after_insert", "seal.after_parts", "seal.after_commit", "compact.after_parts"];

/// Acknowledged events before the next blow falls.
const EVENTS_A_ROUND: usize = 400;
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_when_weir_is_killed_embedded() {
    let installation = quick(Installation::embedded(2));
    let (ledger, project) = begin(&installation);
    kill_weir(&installation, &ledger, &project, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_when_weir_is_killed_on_mariadb() {
    let server = MariaDb::start().await;
    let installation = quick(Installation::mysql(&[server.create_database().await], 4));
    let (ledger, project) = begin(&installation);
    kill_weir(&installation, &ledger, &project, 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_when_mariadb_is_killed() {
    let mut server = MariaDb::start().await;
    let installation = quick(Installation::mysql(&[server.create_database().await], 4));
    let (ledger, project) = begin(&installation);
    let weir = installation.serve().await;
    for round in 0..10 {
        let senders = Senders::start(&weir.api, &project, &ledger);
        ledger.acknowledges(EVENTS_A_ROUND + 50 * round).await;
        server.kill9();
        // Those who were in flight are told to come again, or hear nothing.
        until("a request to fail", Duration::from_secs(60), || async { ledger.has_unanswered() }).await;
        senders.stop().await;
        server.restart().await;
        ledger.resend(&weir.api, &project).await;
        ledger.check(&weir.api, &project).await;
    }
    ledger.check_equal(&weir.api, &project).await;
    weir.stop();
}

async fn kill_weir(installation: &Installation, ledger: &Arc<Ledger>, project: &Project, rounds: usize) {
    for round in 0..rounds {
        let mut weir = installation.serve().await;
        let senders = Senders::start(&weir.api, project, ledger);
        ledger.acknowledges(EVENTS_A_ROUND + 70 * round).await;
        weir.kill9();
        after_death(installation, ledger, project, senders).await;
    }
    for (n, failpoint) in FAILPOINTS.iter().enumerate() {
        let armed = format!("{failpoint}:{}", n + 1);
        let mut weir = installation.serve_with(&[("WEIR_FAILPOINT", &armed)]).await;
        let senders = Senders::start(&weir.api, project, ledger);
        weir.ended(Duration::from_secs(60)).await;
        after_death(installation, ledger, project, senders).await;
    }
    let weir = installation.serve().await;
    ledger.check_equal(&weir.api, project).await;
    weir.stop();
}

async fn after_death(installation: &Installation, ledger: &Arc<Ledger>, project: &Project, senders: Senders) {
    until("a request to fail", Duration::from_secs(60), || async { ledger.has_unanswered() }).await;
    senders.stop().await;
    let weir: Weir = installation.serve().await;
    ledger.check(&weir.api, project).await;
    ledger.resend(&weir.api, project).await;
    ledger.check(&weir.api, project).await;
    weir.stop();
}

/// Sealing and compacting all the time, and leases that a dead process does not keep for long.
pub fn quick(installation: Installation) -> Installation {
    installation
        .with("WEIR__SEALING__LEASE_SECS", "2")
        .with("WEIR__SEALING__IDLE_MS", "50")
        .with("WEIR__SEALING__COMPACT_EVERY_MS", "100")
        .with("WEIR__SEALING__RETIRED_GRACE_SECS", "1")
}

fn begin(installation: &Installation) -> (Arc<Ledger>, Project) {
    (Arc::default(), installation.create_project("kill"))
}
