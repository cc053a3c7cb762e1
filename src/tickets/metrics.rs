//! What the queue tells about itself.

use std::sync::LazyLock;

use prometheus::{
    HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, exponential_buckets, register_histogram_vec,
    register_int_counter_vec, register_int_gauge, register_int_gauge_vec,
};

/// For the documentation of `/metrics`.
pub const METRIC_NAMES: [&str; 8] = [
    "weir_ticket_run_seconds",
    "weir_ticket_wait_seconds",
    "weir_tickets_ended_total",
    "weir_tickets_submitted_total",
    "weir_tickets_rescued_total",
    "weir_tickets_running",
    "weir_ticket_queue_depth",
    "weir_ticket_queue_age_seconds",
];

const REGISTERED: &str = "each metric has a name of its own and is registered once";

/// From 1 ms to about nine minutes.
fn buckets() -> Vec<f64> {
    exponential_buckets(0.001, 3.0, 13).expect("the start, factor and count are positive")
}

pub(super) static RUN_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    register_histogram_vec!("weir_ticket_run_seconds", "How long a run took", &["kind"], buckets())
        .expect(REGISTERED)
});
pub(super) static WAIT_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "How long a ticket waited until its first run";
    register_histogram_vec!("weir_ticket_wait_seconds", help, &["kind"], buckets()).expect(REGISTERED)
});
pub(super) static ENDED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "Runs by how they ended: a final state, or retry, given_back, lost";
    register_int_counter_vec!("weir_tickets_ended_total", help, &["kind", "outcome"]).expect(REGISTERED)
});
pub(super) static SUBMITTED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "Submissions by how they went in: run at once, queued, behind an equal one, answered";
    register_int_counter_vec!("weir_tickets_submitted_total", help, &["kind", "way"]).expect(REGISTERED)
});
pub(super) static RESCUED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "Tickets whose runner died, by what became of them";
    register_int_counter_vec!("weir_tickets_rescued_total", help, &["outcome"]).expect(REGISTERED)
});
pub(super) static QUEUE_DEPTH: LazyLock<IntGauge> = LazyLock::new(|| {
    let help = "Tickets that could run and have no slot, counted up to 1,000";
    register_int_gauge!("weir_ticket_queue_depth", help).expect(REGISTERED)
});
pub(super) static QUEUE_AGE_SECONDS: LazyLock<IntGauge> = LazyLock::new(|| {
    register_int_gauge!("weir_ticket_queue_age_seconds", "Age of the oldest waiting ticket")
        .expect(REGISTERED)
});
pub(super) static RUNNING: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!("weir_tickets_running", "Tickets running in this process", &["kind"])
        .expect(REGISTERED)
});
