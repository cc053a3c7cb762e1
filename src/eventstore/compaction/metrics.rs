//! What compaction counts.

use crate::telemetry::Metrics;

#[derive(Clone)]
pub(super) struct CompactionMetrics {
    pub objects: prometheus::IntCounterVec,
    pub rows: prometheus::IntCounter,
    pub bytes: prometheus::IntCounter,
    pub dropped: prometheus::IntCounter,
    pub expired: prometheus::IntCounter,
    pub merges: prometheus::IntCounterVec,
    pub rounds: prometheus::IntCounterVec,
    pub failures: prometheus::IntCounter,
    pub step_seconds: prometheus::Histogram,
    pub debt_objects: prometheus::IntGaugeVec,
    pub debt_bytes: prometheus::IntGaugeVec,
}

impl CompactionMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            objects: metrics.counters(
                "weir_compact_objects_total",
                "Runs and segments, by what compaction did with them.",
                &["outcome"],
            ),
            rows: metrics.counter("weir_compact_rows_total", "Rows written again by compaction."),
            bytes: metrics.counter(
                "weir_compact_written_bytes_total",
                "Bytes of the runs and segments that compaction has written.",
            ),
            dropped: metrics.counter(
                "weir_compact_dropped_rows_total",
                "Rows of linked persons that were copied, and of erased ones, that compaction left out.",
            ),
            expired: metrics.counter(
                "weir_retention_rows_total",
                "Stored events that were deleted because their project keeps them no longer.",
            ),
            merges: metrics.counters("weir_compact_merges_total", "Merges, by what was merged.", &["inputs"]),
            rounds: metrics.counters(
                "weir_compact_rounds_total",
                "Rounds over all shards, by whether anything was merged (idle: nothing was left to).",
                &["outcome"],
            ),
            failures: metrics.counter("weir_compact_failures_total", "Turns of a shard that failed."),
            debt_objects: metrics.gauges(
                "weir_compact_debt_objects",
                "Runs and segments of a server that are due to be merged.",
                &["server"],
            ),
            debt_bytes: metrics.gauges(
                "weir_compact_debt_bytes",
                "Bytes of the runs and segments of a server that are due to be merged.",
                &["server"],
            ),
            step_seconds: metrics.seconds("weir_compact_step_seconds", "Duration of one merge."),
        }
    }
}
