//! `[log]`: what is logged, and how.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `human` for a terminal, `json` for a collector of logs.
    pub format: LogFormat,
    /// A level or directives as in `info,weir::storage=debug`. The web framework says little that is
    /// new to an operator below a warning.
    pub level: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Human,
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: "info,actix_server=warn".into() }
    }
}
