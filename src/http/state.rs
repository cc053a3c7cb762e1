//! What handlers of pages and extractors reach, as `web::Data<HttpState>`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus::{Histogram, HistogramVec};

use crate::access::Access;
use crate::config::Config;
use crate::eventstore::object_cache::ObjectCache;
use crate::http::streams::EventStreams;
use crate::http::web::menu::MenuCache;
use crate::model::{Clock, Random};
use crate::storage::Storage;
use crate::telemetry::Metrics;

pub struct HttpState {
    pub storage: Storage,
    pub access: Access,
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub metrics: Metrics,
    pub http_metrics: HttpMetrics,
    pub readiness: Readiness,
    pub streams: EventStreams,
    /// For looks at persons and at the latest events.
    pub objects: ObjectCache,
    /// What menus offer, kept for seconds.
    pub menus: MenuCache,
}

impl HttpState {
    pub fn new(
        storage: Storage,
        objects: ObjectCache,
        config: Config,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        metrics: Metrics,
    ) -> Self {
        Self {
            access: Access::new(storage.clone(), clock.clone(), random.clone()),
            http_metrics: HttpMetrics::new(&metrics),
            objects,
            menus: MenuCache::new(config.http.catalogue_names_max as usize, &metrics),
            streams: EventStreams::new(&config.http, &metrics),
            storage,
            config,
            clock,
            random,
            metrics,
            readiness: Readiness::default(),
        }
    }
}

#[derive(Clone)]
pub struct HttpMetrics {
    /// By route as it is written in `routes`, never by path: paths are endless.
    pub request_seconds: HistogramVec,
    pub person_read_bytes: Histogram,
}

impl HttpMetrics {
    fn new(metrics: &Metrics) -> Self {
        let labels = ["method", "route", "status"];
        let request_seconds = metrics.seconds_by("weir_http_request_seconds", "Time to answer.", &labels);
        let person_read_bytes =
            metrics.bytes("weir_person_read_bytes", "Read from runs and segments to show a person.");
        Self { request_seconds, person_read_bytes }
    }
}

/// Whether this replica wants more requests. Fails first at a stop, so that the load balancer looks
/// elsewhere before connections are drained.
#[derive(Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub fn stop(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub fn is_stopping(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
