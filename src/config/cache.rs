//! `[cache]`: Redis, or memory.

use serde::{Deserialize, Serialize};

use super::{Problem, Secret, check_range};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// `redis://host:port`. Empty: each process caches in its own memory.
    pub redis: Secret,
    pub redis_connections_max: u32,
    /// How long one call to Redis may take before it counts as a miss.
    pub redis_timeout_ms: u32,
    /// Memory for cached answers in this process.
    pub memory_bytes_max: u32,
    /// Memory for decoded columns of runs and segments in this process: what was asked about lately is not
    /// read and decoded again. 0 keeps none.
    pub columns_bytes_max: u32,
    /// Memory for headers of runs and segments in this process, which say where their columns lie. 0 keeps none.
    pub headers_bytes_max: u32,
    /// Memory for facts of runs and segments in this process, which say what of a project lies in them. 0
    /// keeps none.
    pub facts_bytes_max: u32,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            redis: Secret::default(),
            redis_connections_max: 8,
            redis_timeout_ms: 250,
            memory_bytes_max: 16 << 20,
            columns_bytes_max: 512 << 20,
            headers_bytes_max: 16 << 20,
            facts_bytes_max: 32 << 20,
        }
    }
}

impl CacheConfig {
    pub(super) fn validate(&self, problems: &mut Vec<Problem>) {
        let url = self.redis.reveal();
        if !url.is_empty() && !["redis://", "rediss://", "unix://"].iter().any(|start| url.starts_with(start))
        {
            problems.push(Problem::new("cache.redis", "", "begin it with redis://, rediss:// or unix://"));
        }
        check_range(problems, "cache.redis_connections_max", self.redis_connections_max.into(), 1, 1000);
        check_range(problems, "cache.redis_timeout_ms", self.redis_timeout_ms.into(), 10, 5_000);
    }
}
