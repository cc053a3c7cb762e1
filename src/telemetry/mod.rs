//! Logs and metrics. Logs go to standard error, as lines for a person or as JSON; metrics are
//! gathered in one [`Metrics`] registry and read at `/metrics`.

pub mod failpoint;
mod logs;
mod metrics;
pub mod queries;

pub use logs::start_logging;
pub use metrics::Metrics;
