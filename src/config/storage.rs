//! `[storage]`: where the data is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Problem, Secret, check_range};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    /// The folder of the embedded store; used when `control` is empty.
    pub data_dir: PathBuf,
    /// The control database: `mysql://user:password@host:port/database`. Empty: embedded.
    pub control: Secret,
    /// The servers that carry shards. Empty: the control database itself.
    pub servers: Vec<Secret>,
    /// Fixed when the installation is created. Left out: 16, or 4 embedded.
    pub shards: Option<u16>,
    /// Connections to each server from this process.
    pub pool_connections_max: u32,
    /// How long a request waits for a connection; shorter than any client waits for an answer.
    pub acquire_timeout_ms: u32,
    /// How long one statement may take on MySQL; then its server counts as away. With the wait for a
    /// connection it is the longest that a page waits for a server that is frozen.
    pub statement_secs_max: u32,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            data_dir: "data".into(),
            control: Secret::default(),
            servers: Vec::new(),
            shards: None,
            pool_connections_max: 10,
            acquire_timeout_ms: 2_000,
            statement_secs_max: 15,
        }
    }
}

impl StorageConfig {
    pub fn is_embedded(&self) -> bool {
        self.control.is_empty()
    }

    pub(super) fn validate(&self, problems: &mut Vec<Problem>) {
        if let Some(shards) = self.shards {
            check_range(problems, "storage.shards", shards.into(), 1, 1024);
        }
        check_range(problems, "storage.pool_connections_max", self.pool_connections_max.into(), 2, 1000);
        check_range(problems, "storage.acquire_timeout_ms", self.acquire_timeout_ms.into(), 100, 20_000);
        check_range(problems, "storage.statement_secs_max", self.statement_secs_max.into(), 1, 3_600);
        if self.is_embedded() && !self.servers.is_empty() {
            problems.push(Problem::new(
                "storage.control",
                "",
                "storage.servers is set, so name the control database too (it may be one of them)",
            ));
        }
    }
}
