//! What the sealer counts.

use super::pass::PassOutcome;
use crate::telemetry::Metrics;

#[derive(Clone)]
pub(super) struct SealMetrics {
    pub events: prometheus::IntCounterVec,
    pub batches: prometheus::IntCounter,
    pub bytes: prometheus::IntCounter,
    pub traits_dropped: prometheus::IntCounter,
    pub resends: prometheus::IntCounterVec,
    pub failures: prometheus::IntCounter,
    pub leases_lost: prometheus::IntCounter,
    pub pass_seconds: prometheus::Histogram,
    pub lag_seconds: prometheus::IntGaugeVec,
    pub waiting_batches: prometheus::IntGaugeVec,
    pub waiting_events: prometheus::IntGaugeVec,
    pub waiting_bytes: prometheus::IntGaugeVec,
    pub foreign_batches: prometheus::IntGaugeVec,
    pub links: prometheus::IntCounterVec,
    pub moved_rows: prometheus::IntCounter,
    pub lapsed_persons: prometheus::IntCounter,
}

impl SealMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            events: metrics.counters(
                "weir_seal_events_total",
                "Events taken from the journal, by what became of them.",
                &["outcome"],
            ),
            bytes: metrics.counter(
                "weir_seal_written_bytes_total",
                "Bytes of the runs and segments that the sealer has written.",
            ),
            batches: metrics.counter("weir_seal_batches_total", "Batches taken from the journal."),
            traits_dropped: metrics.counter(
                "weir_seal_traits_dropped_total",
                "Values of traits left out because the person has as many or as long ones as are kept.",
            ),
            resends: metrics.counters(
                "weir_seal_resends_total",
                "Duplicates that were compared with the event that is stored, by whether they said the same. \
                 Few of a pass are, and those in large segments are not.",
                &["content"],
            ),
            failures: metrics.counter("weir_seal_pass_failures_total", "Passes that failed."),
            leases_lost: metrics.counter(
                "weir_seal_leases_lost_total",
                "Leases of shards that were not renewed in time and that somebody may have taken over.",
            ),
            pass_seconds: metrics.seconds("weir_seal_pass_seconds", "Duration of a pass over one shard."),
            lag_seconds: metrics.gauges(
                "weir_seal_lag_seconds",
                "Age of the oldest batch in the journal of a server.",
                &["server"],
            ),
            waiting_batches: metrics.gauges(
                "weir_seal_waiting_batches",
                "Batches in the journal of a server.",
                &["server"],
            ),
            waiting_events: metrics.gauges(
                "weir_seal_waiting_events",
                "Events in the journal of a server.",
                &["server"],
            ),
            waiting_bytes: metrics.gauges(
                "weir_seal_waiting_bytes",
                "Bytes that the batches in the journal of a server inflate to.",
                &["server"],
            ),
            foreign_batches: metrics.gauges(
                "weir_forward_waiting_batches",
                "Those of them that belong to another server and wait for its return.",
                &["server"],
            ),
            links: metrics.counters(
                "weir_links_total",
                "Links of distinct ids, by what became of them: followed, moved (all rows have gone after \
                 them), or conflict (the id belonged to somebody else already).",
                &["outcome"],
            ),
            moved_rows: metrics
                .counter("weir_link_rows_total", "Stored events that were sent after the id they belong to."),
            lapsed_persons: metrics.counter(
                "weir_retention_persons_total",
                "Persons who were deleted because their project keeps none of their events any more.",
            ),
        }
    }

    pub fn count(&self, outcome: &PassOutcome) {
        self.batches.inc_by(outcome.batches);
        self.bytes.inc_by(outcome.bytes);
        self.traits_dropped.inc_by(outcome.traits_dropped);
        self.resends.with_label_values(&["same"]).inc_by(outcome.compared - outcome.changed);
        self.resends.with_label_values(&["changed"]).inc_by(outcome.changed);
        for (name, events) in [
            ("stored", outcome.rows),
            ("duplicate", outcome.duplicates),
            ("link", outcome.links),
            ("relayed", outcome.relayed),
            ("broken", outcome.broken),
            ("erased", outcome.erased),
            ("expired", outcome.expired),
        ] {
            self.events.with_label_values(&[name]).inc_by(events);
        }
        self.links.with_label_values(&["followed"]).inc_by(outcome.started);
        self.links.with_label_values(&["conflict"]).inc_by(outcome.conflicts);
    }
}
