//! `[tickets]`: how questions wait and run.

use serde::{Deserialize, Serialize};

use super::{Problem, check_range};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TicketsConfig {
    /// Tickets that this process runs at the same time.
    pub slots: u32,
    /// How long a lease lasts without a heartbeat.
    pub lease_secs: u32,
    /// How often the queue is looked at when nobody wakes the worker.
    pub poll_ms: u32,
    /// How often one ticket is tried.
    pub attempts_max: u32,
    /// How long a finished ticket can be fetched.
    pub kept_secs: u32,
    /// Tickets of one project that may wait; more is answered with 429.
    pub queued_max: u32,
    /// The longest one attempt may run.
    pub run_secs_max: u32,
    /// Questions that will probably take longer are split: each shard is run by any replica, and a
    /// retry repeats only what is missing. 0 splits all that touch several shards.
    pub split_after_ms: u32,
}

impl Default for TicketsConfig {
    fn default() -> Self {
        Self {
            slots: 4,
            lease_secs: 20,
            poll_ms: 1_000,
            attempts_max: 3,
            kept_secs: 86_400,
            queued_max: 1_000,
            run_secs_max: 600,
            split_after_ms: 2_000,
        }
    }
}

impl TicketsConfig {
    pub(super) fn validate(&self, problems: &mut Vec<Problem>) {
        let mut check = |key: &str, value: u32, low: u64, high: u64| {
            check_range(problems, &format!("tickets.{key}"), value.into(), low, high);
        };
        check("slots", self.slots, 1, 256);
        check("lease_secs", self.lease_secs, 2, 300);
        check("poll_ms", self.poll_ms, 10, 60_000);
        check("attempts_max", self.attempts_max, 1, 20);
        check("kept_secs", self.kept_secs, 60, 365 * 86_400);
        check("queued_max", self.queued_max, 1, 1_000_000);
        check("run_secs_max", self.run_secs_max, 1, 86_400);
        check("split_after_ms", self.split_after_ms, 0, 3_600_000);
    }
}
