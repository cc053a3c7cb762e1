//! What collection counts. Every event received is in exactly one counter of
//! `weir_collect_events_total`: accepted, rejected with its reason, or retry.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::outcome::Reason;
use crate::storage::server::journal::NewBatch;
use crate::telemetry::Metrics;

#[derive(Clone)]
pub struct CollectMetrics {
    /// By `outcome` and `reason`.
    events: IntCounterVec,
    /// Requests refused as a whole, by `reason`.
    pub refused_requests: IntCounterVec,
    /// By `outcome`: committed, failed, stalled.
    pub commits: IntCounterVec,
    pub commit_seconds: Histogram,
    pub spilled_events: IntCounter,
    committed_batches: IntCounter,
    batch_events: IntCounter,
    batch_bytes: IntCounter,
    pub queue_bytes: IntGauge,
    pub body_bytes: IntGauge,
    pub rejected_not_kept: IntCounter,
}

impl CollectMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        let made = Self {
            events: metrics.counters(
                "weir_collect_events_total",
                "Events received, each once: accepted, rejected, or retry when they could not be committed.",
                &["outcome", "reason"],
            ),
            refused_requests: metrics.counters(
                "weir_collect_refused_requests_total",
                "Requests of which no event was looked at.",
                &["reason"],
            ),
            commits: metrics.counters("weir_collect_commits_total", "Commits to the journal.", &["outcome"]),
            commit_seconds: metrics.seconds("weir_collect_commit_seconds", "How long a commit took."),
            spilled_events: metrics.counter(
                "weir_collect_spilled_events_total",
                "Events committed to another server because their own did not take them.",
            ),
            committed_batches: metrics.counter("weir_collect_batches_total", "Batches sent to the journal."),
            batch_events: metrics.counter("weir_collect_batch_events_total", "Events in those batches."),
            batch_bytes: metrics
                .counter("weir_collect_batch_bytes_total", "Bytes of those batches, compressed."),
            queue_bytes: metrics
                .gauge("weir_collect_queue_bytes", "Encoded events that wait for their commit."),
            body_bytes: metrics
                .gauge("weir_collect_body_bytes", "Memory held by bodies that are being read."),
            rejected_not_kept: metrics.counter(
                "weir_collect_rejected_not_kept_total",
                "Rejected events that were counted but not kept for looking at.",
            ),
        };
        // From the first scrape on, every series is there.
        made.accepted(0);
        made.retried(0);
        for outcome in ["committed", "failed", "stalled"] {
            made.commits.with_label_values(&[outcome]);
        }
        for reason in Reason::ALL {
            made.rejected(reason, 0);
        }
        made
    }

    pub fn accepted(&self, events: u64) {
        self.events.with_label_values(&["accepted", ""]).inc_by(events);
    }

    pub fn rejected(&self, reason: Reason, events: u64) {
        self.events.with_label_values(&["rejected", reason.code()]).inc_by(events);
    }

    pub fn retried(&self, events: u64) {
        self.events.with_label_values(&["retry", ""]).inc_by(events);
    }

    pub fn observe_batches(&self, batches: &[NewBatch]) {
        self.committed_batches.inc_by(batches.len() as u64);
        for batch in batches {
            self.batch_events.inc_by(batch.batch.events.into());
            self.batch_bytes.inc_by(batch.batch.body.len() as u64);
        }
    }
}
