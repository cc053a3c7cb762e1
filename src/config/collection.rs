//! `[collection]`: the limits of what may be sent.

use serde::{Deserialize, Serialize};

use super::{Problem, check_range};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectionConfig {
    /// A body as it arrives, compressed.
    pub compressed_bytes_max: u32,
    /// A body after inflation, or a plain one.
    pub body_bytes_max: u32,
    /// Memory for all bodies that are being read in this process; more is answered with 503.
    pub bodies_bytes_max: u32,
    /// The same for bodies whose key is not in a header or the query, apart from all others: anybody
    /// can send those and then fall silent.
    pub keyless_bodies_bytes_max: u32,
    /// How long a body may take to arrive.
    pub body_secs_max: u32,
    pub batch_events_max: u32,
    pub event_bytes_max: u32,
    pub properties_max: u32,
    pub depth_max: u32,
    pub key_bytes_max: u32,
    pub string_bytes_max: u32,
    pub event_name_chars_max: u32,
    pub distinct_id_bytes_max: u32,
    /// How far in the future an event's time may lie.
    pub future_secs_max: u32,
    /// Distinct event names of a project, and distinct property names.
    pub event_names_max: u32,
    pub property_names_max: u32,
    /// Bytes of encoded events that wait for a commit in this process; more is answered with 503.
    pub queue_bytes_max: u32,
    /// How long a request waits for its commit.
    pub commit_secs_max: u32,
    /// How long the server that an event belongs to may take to commit it before another does.
    pub spill_after_ms: u32,
    /// Commits in flight to one server.
    pub commits_in_flight_max: u32,
    /// Rejected events kept for a project.
    pub rejected_kept_max: u32,
    /// How long a key is believed before it is read again: revoking takes at most this long.
    pub key_refresh_secs: u32,
    /// What becomes of IP addresses that events carry.
    pub ip_addresses: IpAddresses,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IpAddresses {
    #[default]
    Drop,
    /// To a network: 203.0.113.0, 2001:db8:1234::.
    Shorten,
    Keep,
}

impl Default for CollectionConfig {
    fn default() -> Self {
        Self {
            compressed_bytes_max: 1024 * 1024,
            body_bytes_max: 10 * 1024 * 1024,
            bodies_bytes_max: 128 << 20,
            keyless_bodies_bytes_max: 32 << 20,
            body_secs_max: 20,
            batch_events_max: 2_000,
            event_bytes_max: 256 * 1024,
            properties_max: 256,
            depth_max: 16,
            key_bytes_max: 255,
            string_bytes_max: 16 * 1024,
            event_name_chars_max: 200,
            distinct_id_bytes_max: 255,
            future_secs_max: 3_600,
            event_names_max: 10_000,
            property_names_max: 10_000,
            queue_bytes_max: 64 << 20,
            commit_secs_max: 10,
            spill_after_ms: 3_000,
            commits_in_flight_max: 1,
            rejected_kept_max: 1_000,
            key_refresh_secs: 4,
            ip_addresses: IpAddresses::Drop,
        }
    }
}

impl CollectionConfig {
    pub(super) fn validate(&self, problems: &mut Vec<Problem>) {
        let mut check = |key: &str, value: u32, low: u64, high: u64| {
            check_range(problems, &format!("collection.{key}"), value.into(), low, high);
        };
        check("compressed_bytes_max", self.compressed_bytes_max, 1024, 64 << 20);
        check("body_bytes_max", self.body_bytes_max, 1024, 256 << 20);
        check("bodies_bytes_max", self.bodies_bytes_max, 1 << 20, 4095 << 20);
        check("keyless_bodies_bytes_max", self.keyless_bodies_bytes_max, 1 << 20, 4095 << 20);
        check("body_secs_max", self.body_secs_max, 1, 300);
        check("batch_events_max", self.batch_events_max, 1, 100_000);
        // A batch of one event must fit into a statement of 4 MiB.
        check("event_bytes_max", self.event_bytes_max, 256, 2 << 20);
        check("properties_max", self.properties_max, 1, 10_000);
        check("depth_max", self.depth_max, 1, 64);
        check("key_bytes_max", self.key_bytes_max, 1, 1024);
        check("string_bytes_max", self.string_bytes_max, 1, 1 << 20);
        check("event_name_chars_max", self.event_name_chars_max, 1, 1024);
        // The column holds 255 bytes.
        check("distinct_id_bytes_max", self.distinct_id_bytes_max, 1, 255);
        check("future_secs_max", self.future_secs_max, 0, 366 * 86_400);
        check("event_names_max", self.event_names_max, 1, 1_000_000);
        check("property_names_max", self.property_names_max, 1, 1_000_000);
        check("queue_bytes_max", self.queue_bytes_max, 1 << 20, 1 << 30);
        check("commit_secs_max", self.commit_secs_max, 1, 25);
        check("spill_after_ms", self.spill_after_ms, 50, 25_000);
        check("commits_in_flight_max", self.commits_in_flight_max, 1, 16);
        check("rejected_kept_max", self.rejected_kept_max, 0, 1_000_000);
        check("key_refresh_secs", self.key_refresh_secs, 1, 60);
    }
}
