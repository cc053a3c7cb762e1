//! `[log]`: what is logged, and how.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::Problem;

/// A bare word that is none of these would be taken for a module, and everything else be silent.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

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

impl LogConfig {
    pub(super) fn validate(&self, problems: &mut Vec<Problem>) {
        let names_a_level = |directive: &str| {
            directive.contains(['=', '[']) || LEVELS.iter().any(|level| directive.eq_ignore_ascii_case(level))
        };
        let level = &self.level;
        if !level.split(',').map(str::trim).all(names_a_level) || EnvFilter::try_new(level).is_err() {
            let fix = "use error, warn, info, debug or trace, or directives as in info,weir::storage=debug";
            problems.push(Problem::new("log.level", level, fix));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_would_silence_the_log_by_mistake_is_refused() {
        for (level, fits) in [
            ("info", true),
            ("WARN", true),
            ("off", true),
            ("info,actix_server=warn", true),
            ("info,weir::storage=debug", true),
            ("warn,[request]=info", true),
            ("shout", false),
            ("", false),
            ("info,weir", false),
            ("info,,warn", false),
            ("weir=shout", false),
        ] {
            let mut problems = Vec::new();
            LogConfig { level: level.to_owned(), ..LogConfig::default() }.validate(&mut problems);
            assert_eq!(problems.is_empty(), fits, "{level:?}: {problems:?}");
        }
    }
}
