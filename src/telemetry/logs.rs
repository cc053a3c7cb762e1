//! The subscriber, from `[log]`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

use crate::config::{LogConfig, LogFormat};

/// Starts logging to standard error. An unreadable level is said and replaced by `info`, since a
/// program without logs is worse than one with too many.
pub fn start_logging(config: &LogConfig) {
    let (filter, problem) = match EnvFilter::try_new(&config.level) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let writer = std::io::stderr;
    // A second call (in tests) keeps the first subscriber.
    let _ = match config.format {
        LogFormat::Human => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(writer)
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_target(false)
                    .compact(),
            )
            .try_init(),
        LogFormat::Json => registry
            .with(tracing_subscriber::fmt::layer().with_writer(writer).json().flatten_event(true))
            .try_init(),
    };
    if let Some(error) = problem {
        tracing::warn!(log.level = config.level, %error, "the log level cannot be read; using info");
    }
}
