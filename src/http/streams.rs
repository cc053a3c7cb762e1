//! How many event streams one process holds open, for how long, and that they close when it stops.
//!
//! A stream keeps a connection and looks at its ticket about once a second, so their number is
//! bounded. Who is refused asks for the ticket instead, as the pages do.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{ApiError, ErrorCode};
use crate::config::HttpConfig;
use crate::telemetry::Metrics;

const RETRY_AFTER_SECS: u32 = 5;

pub struct EventStreams {
    slots: Arc<Semaphore>,
    open_max: u32,
    lasts: Duration,
    closing: watch::Sender<bool>,
    open: IntGauge,
}

/// One open stream; its slot is free again when it is dropped.
pub struct EventStream {
    closing: watch::Receiver<bool>,
    open: IntGauge,
    _slot: OwnedSemaphorePermit,
}

impl EventStreams {
    pub fn new(config: &HttpConfig, metrics: &Metrics) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(config.event_streams_max as usize)),
            open_max: config.event_streams_max,
            lasts: Duration::from_secs(config.event_stream_secs.into()),
            closing: watch::channel(false).0,
            open: metrics.gauge("weir_http_event_streams", "Event streams that are open."),
        }
    }

    /// How long one stays open at most.
    pub fn lasts(&self) -> Duration {
        self.lasts
    }

    pub fn open(&self) -> Result<EventStream, ApiError> {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            let detail = format!(
                "{} event streams are open here, which is the limit (http.event_streams_max). \
                 Ask for the ticket itself, or try again.",
                self.open_max
            );
            return Err(ApiError::new(ErrorCode::Unavailable, detail).with_retry_after(RETRY_AFTER_SECS));
        };
        self.open.inc();
        Ok(EventStream { closing: self.closing.subscribe(), open: self.open.clone(), _slot: slot })
    }

    /// All that are open end now, and so does at once whatever is opened later. A stop would otherwise
    /// wait for each until its time is over.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }
}

impl EventStream {
    /// Returns when this process wants to stop.
    pub async fn closed(&mut self) {
        // The sender is gone only when everything is.
        let _ = self.closing.wait_for(|closing| *closing).await;
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_stream_makes_room_for_another() {
        let config = HttpConfig { event_streams_max: 2, ..HttpConfig::default() };
        let streams = EventStreams::new(&config, &Metrics::default());
        let (first, _second) = (streams.open().unwrap(), streams.open().unwrap());
        let refused = streams.open().err().expect("two are open");
        assert_eq!((refused.code(), refused.retry_after_secs()), (ErrorCode::Unavailable, Some(5)));
        assert!(refused.detail().contains("2 event streams"), "{}", refused.detail());
        drop(first);
        assert_eq!(streams.open.get(), 1);
        assert!(streams.open().is_ok());
    }
}
