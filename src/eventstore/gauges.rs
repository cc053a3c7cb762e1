//! What every server holds, as metrics: how many objects in which state, how many events and bytes, and
//! how far its own purging is behind. Counted from the catalogue now and then; what waits in journals is
//! the sealer's to tell, and what is to be merged compaction's.

use crate::storage::server::overview::{self, StateCount};
use crate::storage::{Db, Shards, StorageError};
use crate::telemetry::Metrics;

pub struct StoreGauges {
    objects: prometheus::IntGaugeVec,
    events: prometheus::IntGaugeVec,
    bytes: prometheus::IntGaugeVec,
    history: prometheus::IntGaugeVec,
}

/// A state that nothing is in any more has to fall to zero.
const STATES: [&str; 3] = ["building", "live", "retired"];

impl StoreGauges {
    pub fn new(metrics: &Metrics) -> Self {
        let labels = &["server", "kind", "state"];
        Self {
            objects: metrics.gauges("weir_store_objects", "Runs and segments on a server, by state.", labels),
            events: metrics.gauges(
                "weir_store_events",
                "Events in the runs and segments of a server.",
                labels,
            ),
            bytes: metrics.gauges("weir_store_bytes", "Bytes of the runs and segments of a server.", labels),
            history: metrics.gauges(
                "weir_store_history_length",
                "Changes that a MySQL or MariaDB server has not purged yet.",
                &["server"],
            ),
        }
    }

    /// One look at every server that answers; the others keep what was seen last.
    pub async fn look(&self, shards: &Shards) {
        for server in shards.servers() {
            let Ok(db) = server.db() else { continue };
            if let Err(error) = self.look_at(db, &server.server_id.to_string()).await {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(server.id = %server.server_id, error, "what a server holds cannot be counted");
            }
        }
    }

    async fn look_at(&self, db: &Db, server: &str) -> Result<(), StorageError> {
        self.show(server, "run", &overview::count_run_states(db).await?);
        self.show(server, "segment", &overview::count_segment_states(db).await?);
        if let Some(length) = overview::find_history_length(db).await? {
            self.history.with_label_values(&[server]).set(length as i64);
        }
        Ok(())
    }

    fn show(&self, server: &str, kind: &str, counted: &[StateCount]) {
        for state in STATES {
            let found = counted.iter().find(|counted| counted.state == state);
            let count = found.map(|counted| counted.count).unwrap_or_default();
            let labels = &[server, kind, state];
            self.objects.with_label_values(labels).set(count.objects as i64);
            self.events.with_label_values(labels).set(count.events as i64);
            self.bytes.with_label_values(labels).set(count.bytes as i64);
        }
    }
}
