//! Promise 6 with everything in place: several replicas behind HAProxy, on two MariaDB servers and
//! Redis, under load, while replicas are stopped and killed, Redis dies and a server hangs.
//!
//! The load is an average of requests a second over the whole run, with the profile that the tests are
//! built with, everything on one machine.

mod cluster;
mod load;

use std::time::{Duration, Instant};

use cluster::Cluster;
use load::{Answer, Load, What};

use crate::support::until;

const PER_SECOND: u32 = 560;
/// What must have been answered, on average.
const PER_SECOND_MIN: f64 = 500.0;
const LASTS: Duration = Duration::from_secs(60);
/// HAProxy looks every half second and believes the second failure.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);
/// Far below what the limits of one process add up to, and above what was seen (283 MiB, unoptimised).
const RESIDENT_BYTES_MAX: u64 = 512 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_come_and_go_under_load() {
    let mut cluster = Cluster::start(3, &[]).await;
    // Logged in on one; all others know.
    cluster.browser.log_in(&cluster.replicas[0].api.url("")).await;
    cluster.browser.read(&cluster.replicas[2].api.url("/account")).await;
    let mut load = Load::start(cluster.haproxy.url(), &cluster.browser, &cluster.project, PER_SECOND);
    load.answers(1_000).await;
    none_failed(&load, load.began, "at the start");

    for replica in 0..3 {
        let from = Instant::now();
        tokio::task::block_in_place(|| cluster.replicas[replica].stop_now());
        let stopped = from.elapsed();
        cluster.start_again(replica).await;
        load.answers(300).await;
        none_failed(&load, from, &format!("while replica {replica} was stopped"));
        println!("replica {replica} stopped in {stopped:.1?} and is back after {:.1?}", from.elapsed());
    }

    let killed = Instant::now();
    cluster.replicas[1].kill9();
    cluster.haproxy.has_up(2).await;
    let noticed = Instant::now();
    assert!(noticed - killed < NOTICED_WITHIN, "noticed after {:?}", noticed - killed);
    load.answers(500).await;
    cluster.start_again(1).await;
    none_failed(&load, noticed + Duration::from_millis(100), "after the health check noticed a kill");
    let failed = load.failures_since(killed);
    println!(
        "kill -9 was noticed after {:.1?}; {} requests failed until then",
        noticed - killed,
        failed.len()
    );

    let from = Instant::now();
    cluster.redis.kill9();
    load.answers(1_500).await;
    cluster.redis.restart().await;
    cluster.redis.listeners(3).await;
    load.answers(500).await;
    none_failed(&load, from, "while Redis was away and came back");

    load.lasts(LASTS).await;
    load.end().await;
    let answers = load.since(load.began);
    let rate = answers.len() as f64 / load.began.elapsed().as_secs_f64();
    for what in [What::Collect, What::Ask, What::Page] {
        let took = sorted_times(answers.iter().filter(|answer| answer.what == what));
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
        println!("{what:?}: {} requests, p50 {:.1?}, p99 {:.1?}", took.len(), at(0.5), at(0.99));
    }
    let resident = cluster.resident_bytes_max();
    println!("{rate:.0} requests/s; at most {} MiB resident", resident >> 20);
    assert!(rate >= PER_SECOND_MIN, "only {rate:.0} requests were answered a second");
    assert!(resident < RESIDENT_BYTES_MAX, "{resident} bytes are resident");
    println!("{} events, each stored once", load.check_stored().await);
    for weir in cluster.replicas {
        weir.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_costs_neither_memory_nor_patience() {
    let deadline = Duration::from_secs(3);
    let settings = [("WEIR__COLLECTION__COMMIT_SECS_MAX", "3"), ("WEIR__STORAGE__STATEMENT_SECS_MAX", "6")];
    let cluster = Cluster::start(2, &settings).await;
    cluster.browser.log_in(cluster.haproxy.url()).await;
    let mut load = Load::start(cluster.haproxy.url(), &cluster.browser, &cluster.project, 200);
    load.answers(500).await;
    none_failed(&load, load.began, "at the start");
    let before = cluster.resident_bytes_max();

    let frozen = Instant::now();
    cluster.servers[1].freeze();
    // Until it is known that it is away, and for a while after.
    load.answers(500).await;
    let known = frozen + 2 * deadline;
    load.answers(1_500).await;
    let while_frozen = load.since(frozen);
    let resident = cluster.resident_bytes_max();
    cluster.servers[1].wake();

    for answer in &while_frozen {
        assert!(matches!(answer.outcome, Ok(200..=303 | 503)), "served, or told to come again: {answer:?}");
        if answer.what == What::Collect {
            assert!(answer.took < deadline + Duration::from_secs(2), "{answer:?}");
        }
    }
    // One at a time finds out whether it is back; all others are taken elsewhere or refused, at once.
    let collected = while_frozen.iter().filter(|answer| answer.what == What::Collect && answer.began > known);
    let took = sorted_times(collected);
    assert!(took.len() > 100, "{} requests came when it was known", took.len());
    let late = took[took.len() * 95 / 100];
    assert!(late < Duration::from_secs(1), "5 of 100 answers took longer than {late:?}");
    let refused = while_frozen.iter().filter(|answer| answer.is_failure()).count();
    println!(
        "{refused} of {} refused while it hung; then events took p50 {:.1?}, p95 {late:.1?}; resident {} MiB before, {} MiB",
        while_frozen.len(),
        took[took.len() / 2],
        before >> 20,
        resident >> 20
    );
    assert!(resident < RESIDENT_BYTES_MAX && resident < before + (100 << 20), "{before} → {resident}");

    // It answers again, and what others kept for it comes home.
    let back = Instant::now();
    until("events to be taken again", Duration::from_secs(60), || async {
        let lately = load.since(Instant::now() - Duration::from_secs(1));
        let collected: Vec<_> = lately.iter().filter(|answer| answer.what == What::Collect).collect();
        (collected.len() > 50 && collected.iter().all(|answer| !answer.is_failure())).then_some(())
    })
    .await;
    println!("everything is taken again {:.1?} after it went on", back.elapsed());
    load.end().await;
    cluster.nothing_waits_elsewhere().await;
    println!("{} events, each stored once", load.check_stored().await);
    for weir in cluster.replicas {
        weir.stop();
    }
}

fn none_failed(load: &Load, from: Instant, when: &str) {
    let failed = load.failures_since(from);
    assert!(failed.is_empty(), "{} requests failed {when}, the first: {:#?}", failed.len(), failed[0]);
}

fn sorted_times<'a>(answers: impl Iterator<Item = &'a Answer>) -> Vec<Duration> {
    let mut times: Vec<_> = answers.map(|answer| answer.took).collect();
    times.sort_unstable();
    times
}
