//! What the queue tells about itself.

use prometheus::{HistogramVec, IntCounterVec, IntGauge, IntGaugeVec};

use crate::telemetry::Metrics;

pub(super) struct TicketMetrics {
    pub(super) run_seconds: HistogramVec,
    /// From submission to the first run.
    pub(super) wait_seconds: HistogramVec,
    /// At once, queued, behind an equal ticket, or answered by one.
    pub(super) submitted: IntCounterVec,
    /// Into a final state, or retry, given_back, lost, kept_out.
    pub(super) ended: IntCounterVec,
    pub(super) rescued: IntCounterVec,
    /// done, incomplete, failed, retry, given_back, lost.
    pub(super) steps: IntCounterVec,
    pub(super) running: IntGaugeVec,
    pub(super) queue_depth: IntGauge,
    pub(super) queue_age_seconds: IntGauge,
}

impl TicketMetrics {
    pub(super) fn new(metrics: &Metrics, kinds: &[&'static str]) -> Self {
        let kind = &["kind"];
        let made = Self {
            run_seconds: metrics.seconds_by("weir_ticket_run_seconds", "Duration of a run.", kind),
            wait_seconds: metrics.seconds_by("weir_ticket_wait_seconds", "Wait for the first run.", kind),
            submitted: metrics.counters(
                "weir_tickets_submitted_total",
                "Tickets taken in, by the way they went in.",
                &["kind", "way"],
            ),
            ended: metrics.counters(
                "weir_ticket_runs_ended_total",
                "Runs by how they ended.",
                &["kind", "outcome"],
            ),
            rescued: metrics.counters(
                "weir_tickets_rescued_total",
                "Tickets whose runner died, by what became of them.",
                &["outcome"],
            ),
            steps: metrics.counters(
                "weir_ticket_steps_ended_total",
                "Steps of split tickets that this process ran, by how they ended.",
                &["kind", "outcome"],
            ),
            running: metrics.gauges("weir_tickets_running", "Tickets running in this process.", kind),
            queue_depth: metrics.gauge(
                "weir_ticket_queue_depth",
                "Tickets of the installation that could run and have no slot, counted up to 1,000.",
            ),
            queue_age_seconds: metrics
                .gauge("weir_ticket_queue_age_seconds", "Age of the oldest of the tickets that could run."),
        };
        // From the first scrape on, what alerts look at is there: a counter that appears as 1 has never
        // increased for Prometheus.
        for outcome in ["queued", "failed", "cancelled"] {
            made.rescued.with_label_values(&[outcome]);
        }
        for kind in kinds {
            for outcome in ["succeeded", "failed", "retry", "lost"] {
                made.ended.with_label_values(&[kind, outcome]);
            }
            for outcome in ["done", "failed", "retry", "lost"] {
                made.steps.with_label_values(&[kind, outcome]);
            }
        }
        made
    }
}
