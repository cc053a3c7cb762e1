//! The subscriber, from `[log]`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

use crate::config::{LogConfig, LogFormat};

/// What actix says of requests that it cannot parse: an error each, which any stranger can cause.
const STRANGERS: &str = "actix_http::h1";

/// Starts logging to standard error.
pub fn start_logging(config: &LogConfig) {
    let mut filter = EnvFilter::try_new(&config.level).expect("the configuration has read the level");
    if !config.level.contains("actix_http") {
        filter = filter.add_directive(format!("{STRANGERS}=off").parse().expect("a directive"));
    }
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
}
