//! `[sealing]`: how the journal becomes runs and segments.

use serde::{Deserialize, Serialize};

use super::{Problem, check_range};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SealingConfig {
    /// How long a shard's worker rests after a pass that found nothing.
    pub idle_ms: u32,
    /// Inflated bytes that one pass takes from the journal.
    pub pass_bytes_max: u32,
    /// How long a lease lasts without renewal.
    pub lease_secs: u32,
    /// Shards of one server that this process seals at the same time; each pass holds a few times
    /// `pass_bytes_max` in memory.
    pub parallel_shards: u32,
    /// Rows of one project in a pass or a merge from which it gets a segment of its own.
    pub segment_rows_min: u32,
    /// Rows that a segment grows towards.
    pub segment_rows_max: u32,
    /// How many properties, one for each type of its values, get a column of their own in a segment; the
    /// rarest others share one and can be asked all the same, which takes longer.
    pub segment_columns_max: u32,
    /// How many event names and property names a run or segment lists of a project, the most frequent
    /// ones. Of more, menus do not show the rarest, and questions for these read where they need not.
    pub segment_names_max: u32,
    /// Rows leave their runs for segments after this long, however few they are.
    pub run_age_secs_max: u32,
    /// So many runs or segments of one size become one; at most twice as many at once. Fewer means
    /// fewer objects to read and more writing.
    pub compact_fan_in: u32,
    /// How often compaction looks for something to merge.
    pub compact_every_ms: u32,
    /// When no segment of a project has come to a shard for so long, even a few of them become one; likewise
    /// runs, which are of all projects.
    pub compact_quiet_secs: u32,
    /// How long a retired run or segment stays for those who are still reading it.
    pub retired_grace_secs: u32,
    /// Memory for the filters that tell whether an event is stored already, about two bytes an event of
    /// the days that are written to. What does not fit is read again with every pass.
    pub filters_bytes_max: u32,
    /// Memory for the numbers of known distinct ids in this process.
    pub persons_cache_entries_max: u32,
    /// Traits that one person may have; who has so many keeps those.
    pub traits_max: u32,
    /// Names and values of one person's traits together.
    pub traits_bytes_max: u32,
    /// When two distinct ids are linked, how long the rows of the one are hidden before they are copied
    /// to the other: longer than a question takes to list all shards, so that it counts none twice.
    pub move_settle_ms: u32,
    /// Rows of linked persons that are copied at a time.
    pub move_rows_max: u32,
    /// How often it is read for how many days projects keep their events.
    pub retention_every_ms: u32,
}

impl Default for SealingConfig {
    fn default() -> Self {
        Self {
            idle_ms: 1_000,
            pass_bytes_max: 16 << 20,
            lease_secs: 15,
            parallel_shards: 6,
            segment_rows_min: 8_192,
            segment_rows_max: 1_000_000,
            segment_columns_max: 500,
            segment_names_max: 2_000,
            run_age_secs_max: 6 * 3_600,
            compact_fan_in: 8,
            compact_every_ms: 5_000,
            compact_quiet_secs: 30,
            retired_grace_secs: 120,
            filters_bytes_max: 256 << 20,
            persons_cache_entries_max: 200_000,
            traits_max: 200,
            traits_bytes_max: 32 << 10,
            move_settle_ms: 2_000,
            move_rows_max: 4_096,
            retention_every_ms: 15_000,
        }
    }
}

impl SealingConfig {
    pub(super) fn validate(&self, problems: &mut Vec<Problem>) {
        let mut check = |key: &str, value: u32, low: u64, high: u64| {
            check_range(problems, &format!("sealing.{key}"), value.into(), low, high);
        };
        check("idle_ms", self.idle_ms, 10, 60_000);
        check("pass_bytes_max", self.pass_bytes_max, 1 << 20, 512 << 20);
        check("lease_secs", self.lease_secs, 2, 300);
        check("parallel_shards", self.parallel_shards, 1, 256);
        check("segment_rows_min", self.segment_rows_min, 1, 1_000_000);
        check("segment_rows_max", self.segment_rows_max, 8_192, 10_000_000);
        check("segment_columns_max", self.segment_columns_max, 1, 2_000);
        check("segment_names_max", self.segment_names_max, 1, 100_000);
        check("run_age_secs_max", self.run_age_secs_max, 1, 30 * 86_400);
        check("compact_fan_in", self.compact_fan_in, 2, 64);
        check("compact_every_ms", self.compact_every_ms, 50, 3_600_000);
        check("compact_quiet_secs", self.compact_quiet_secs, 1, 30 * 86_400);
        check("retired_grace_secs", self.retired_grace_secs, 1, 86_400);
        check("traits_max", self.traits_max, 0, 2_000);
        check("traits_bytes_max", self.traits_bytes_max, 1 << 10, 1 << 20);
        check("filters_bytes_max", self.filters_bytes_max, 1 << 20, 4095 << 20);
        check("persons_cache_entries_max", self.persons_cache_entries_max, 1_000, 100_000_000);
        check("move_settle_ms", self.move_settle_ms, 0, 60_000);
        check("move_rows_max", self.move_rows_max, 1, 65_536);
        // Nobody deletes by what was read ten minutes ago.
        check("retention_every_ms", self.retention_every_ms, 50, 300_000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_names_are_bounded() {
        for (columns, names, is_allowed) in [
            (0, 1, false),
            (1, 0, false),
            (1, 1, true),
            (2_000, 100_000, true),
            (2_001, 1, false),
            (1, 100_001, false),
        ] {
            let config = SealingConfig {
                segment_columns_max: columns,
                segment_names_max: names,
                ..SealingConfig::default()
            };
            let mut problems = Vec::new();
            config.validate(&mut problems);
            assert_eq!(problems.is_empty(), is_allowed, "{columns} columns, {names} names");
        }
    }

    #[test]
    fn filters_have_some_memory() {
        for (bytes, is_allowed) in
            [((1 << 20) - 1, false), (1 << 20, true), (4095 << 20, true), (u32::MAX, false)]
        {
            let config = SealingConfig { filters_bytes_max: bytes, ..SealingConfig::default() };
            let mut problems = Vec::new();
            config.validate(&mut problems);
            assert_eq!(problems.is_empty(), is_allowed, "{bytes} bytes");
        }
    }

    #[test]
    fn quiet_is_between_a_second_and_a_month() {
        for (secs, is_allowed) in [(0, false), (1, true), (30 * 86_400, true), (30 * 86_400 + 1, false)] {
            let config = SealingConfig { compact_quiet_secs: secs, ..SealingConfig::default() };
            let mut problems = Vec::new();
            config.validate(&mut problems);
            assert_eq!(problems.is_empty(), is_allowed, "{secs} s");
        }
    }

    #[test]
    fn retention_is_read_often_enough_to_be_known() {
        for (every, is_allowed) in [(49, false), (50, true), (300_000, true), (300_001, false)] {
            let config = SealingConfig { retention_every_ms: every, ..SealingConfig::default() };
            let mut problems = Vec::new();
            config.validate(&mut problems);
            assert_eq!(problems.is_empty(), is_allowed, "{every} ms");
        }
    }

    #[test]
    fn a_merge_takes_at_least_two_and_at_most_what_memory_allows() {
        for (fan_in, is_allowed) in [(1, false), (2, true), (64, true), (65, false)] {
            let config = SealingConfig { compact_fan_in: fan_in, ..SealingConfig::default() };
            let mut problems = Vec::new();
            config.validate(&mut problems);
            assert_eq!(problems.is_empty(), is_allowed, "{fan_in}");
        }
    }
}
