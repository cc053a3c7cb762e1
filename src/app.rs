//! The whole program, put together: the only place that picks concrete types.
//!
//! [`App::start`] opens what every role needs and starts the work of its roles; [`App::bind`] adds
//! the listeners and [`App::serve`] runs until it is told to stop. Stopping goes the way of the data: readiness
//! fails, connections drain, commits end, tickets and leases are given back, pools close.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use actix_web::web;
use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::analysis::{QuestionKind, QuestionLimits, QuestionParts};
use crate::cache::{Cache, CacheSettings};
use crate::collection::{Collector, CollectorParts};
use crate::config::{CacheConfig, Config, TicketsConfig};
use crate::erasure::ErasureKind;
use crate::eventstore::compaction::Compactor;
use crate::eventstore::format::WriteOptions;
use crate::eventstore::forwarder::Forwarder;
use crate::eventstore::gauges::StoreGauges;
use crate::eventstore::object_cache::ObjectCache;
use crate::eventstore::retention::Retention;
use crate::eventstore::scan::Scanner;
use crate::eventstore::sealer::{ChunkLimits, Homes, SealContext, Sealer, TraitLimits};
use crate::http::{HttpServer, HttpState, ListenSettings, Stop};
use crate::model::{Clock, Interned, Random, ReplicaId};
use crate::storage::control::projects;
use crate::storage::{DatabaseClock, Storage, checkup};
use crate::telemetry::Metrics;
use crate::tickets::{TicketSettings, Tickets, TicketsParts, WRITTEN_AFTER};

/// How often a server that is away is asked whether it is back.
const SERVERS_LOOK: Duration = Duration::from_secs(2);
/// How often the control database's clock is looked at.
const CLOCK_LOOK: Duration = Duration::from_secs(15);
/// Counting reads the catalogue.
const STORE_LOOK: Duration = Duration::from_secs(60);
/// How often it is looked whether somebody was erased, and so what is in memory to be forgotten.
const ERASURES_LOOK: Duration = Duration::from_secs(5);
/// How long texts that nothing needs any more stay in memory at most.
const TEXTS_LOOK: Duration = Duration::from_secs(60);
/// How long running tickets may take to be given back at a stop.
const TICKETS_STOP_MAX: Duration = Duration::from_secs(10);

pub struct AppParts {
    pub config: Config,
    pub storage: Storage,
    pub random: Arc<dyn Random>,
}

pub struct App {
    pub config: Config,
    pub storage: Storage,
    /// The control database's, for everything.
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub metrics: Metrics,
    pub collector: Collector,
    pub tickets: Tickets,
    objects: ObjectCache,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl App {
    pub async fn start(parts: AppParts) -> anyhow::Result<Self> {
        let AppParts { config, storage, random } = parts;
        let clock = DatabaseClock::start(storage.control.clone()).await;
        let database_clock = Arc::new(clock.context("the control database does not tell its time")?);
        let clock: Arc<dyn Clock> = database_clock.clone();
        let metrics = Metrics::default();
        let holder = ReplicaId::random(&*random);
        let cores = std::thread::available_parallelism().map_or(2, usize::from);

        let collector = Collector::start(
            CollectorParts {
                shards: storage.shards.clone(),
                keys: Arc::new(storage.control.clone()),
                config: config.collection.clone(),
                clock: clock.clone(),
                random: random.clone(),
            },
            &metrics,
        );

        let CacheConfig { headers_bytes_max, facts_bytes_max, columns_bytes_max, .. } = config.cache;
        let objects = ObjectCache::new(headers_bytes_max as usize, facts_bytes_max as usize, &metrics);
        let scanner = Scanner::new(objects.clone(), cores, columns_bytes_max as usize, &metrics);
        let persons_max = config.questions.persons_max as usize;
        let question = QuestionKind::new(QuestionParts {
            control: storage.control.clone(),
            shards: storage.shards.clone(),
            scanner: scanner.clone(),
            clock: clock.clone(),
            limits: QuestionLimits { persons_max, ..QuestionLimits::default() },
            split_after: Duration::from_millis(config.tickets.split_after_ms.into()),
            move_settle: Duration::from_millis(config.sealing.move_settle_ms.into()),
        });
        let cache = open_cache(&config.cache, &storage, clock.clone())?;
        let erasure = ErasureKind::new(
            storage.control.clone(),
            storage.shards.clone(),
            clock.clone(),
            cache.clone(),
            config.tickets.slots as usize,
            &metrics,
        );
        let tickets = Tickets::new(TicketsParts {
            control: storage.control.clone(),
            cache: cache.clone(),
            clock: clock.clone(),
            random: random.clone(),
            settings: ticket_settings(&config.tickets, config.roles.work()),
            kinds: vec![Arc::new(question), Arc::new(erasure)],
            metrics: metrics.clone(),
        });

        let (stop, stopped) = watch::channel(false);
        let shards_to_look_at = storage.shards.clone();
        let mut tasks = vec![
            tokio::spawn(async move { checkup::warn_of_problems(&shards_to_look_at).await }),
            tokio::spawn(every(SERVERS_LOOK, stopped.clone(), {
                let shards = storage.shards.clone();
                move || {
                    let shards = shards.clone();
                    async move {
                        shards.verify_missing().await;
                    }
                }
            })),
            tokio::spawn(every(CLOCK_LOOK, stopped.clone(), move || {
                let clock = database_clock.clone();
                async move {
                    // It goes on from the last time until the database answers again.
                    let _ = clock.sync().await;
                }
            })),
        ];
        tasks.push(tokio::spawn(every(TEXTS_LOOK, stopped.clone(), || async {
            // What columns that are no longer kept had for themselves.
            let _ = tokio::task::spawn_blocking(Interned::sweep).await;
        })));
        tasks.push(tokio::spawn(forget_erased(storage.clone(), cache, scanner, stopped.clone())));
        if config.roles.work() {
            let retention = Arc::new(Retention::new(clock.clone()));
            let retention_look = Duration::from_millis(config.sealing.retention_every_ms.into());
            tasks.push(tokio::spawn(every(retention_look, stopped.clone(), {
                let (retention, control) = (retention.clone(), storage.control.clone());
                move || {
                    let (retention, control) = (retention.clone(), control.clone());
                    async move {
                        // What was read before holds for a while.
                        let _ = retention.refresh(&control).await;
                    }
                }
            })));
            let mut context = seal_context(&config, &storage, holder, clock.clone(), random.clone());
            context.retention = retention.clone();
            let parallel = config.sealing.parallel_shards as usize;
            let sealer = Arc::new(Sealer::new(context, storage.shards.clone(), parallel, &metrics));
            tasks.push(tokio::spawn(sealer.run(stopped.clone())));
            let forwarder = Arc::new(forwarder(&config, holder, &storage, &metrics));
            tasks.push(tokio::spawn(forwarder.run(stopped.clone())));
            let compactor = Compactor::new(holder, &config.sealing, random.clone(), &metrics);
            let compactor = compactor.with_retention(retention);
            let (gauges, shards) = (Arc::new(StoreGauges::new(&metrics)), storage.shards.clone());
            tasks.push(tokio::spawn(every(STORE_LOOK, stopped.clone(), move || {
                let (gauges, shards) = (gauges.clone(), shards.clone());
                async move { gauges.look(&shards).await }
            })));
            let (shards, pause) = (storage.shards.clone(), config.sealing.compact_every_ms);
            tasks.push(tokio::spawn(async move {
                compactor.run(&shards, Duration::from_millis(pause.into()), stopped).await;
            }));
            tickets.start();
        }
        Ok(Self { config, storage, clock, random, metrics, collector, tickets, objects, stop, tasks })
    }

    /// The listeners of this process, which answer once it [serves](Self::serve).
    pub fn bind(&self) -> anyhow::Result<HttpServer> {
        let state = HttpState::new(
            self.storage.clone(),
            self.objects.clone(),
            self.config.clone(),
            self.clock.clone(),
            self.random.clone(),
            self.metrics.clone(),
        );
        let listen = ListenSettings::from_config(&self.config.http)?;
        let (collector, tickets) = (self.collector.clone(), self.tickets.clone());
        let register = Arc::new(move |services: &mut web::ServiceConfig| {
            services.app_data(web::Data::new(collector.clone()));
            services.app_data(web::Data::new(tickets.clone()));
        });
        Ok(HttpServer::bind(web::Data::new(state), register, &listen)?)
    }

    /// Serves until `stop` is done, then ends everything in order.
    pub async fn serve(self, server: HttpServer, stop: impl Future<Output = Stop>) -> anyhow::Result<()> {
        let served = server.run(stop).await;
        self.stop().await;
        Ok(served?)
    }

    /// Ends what was started: commits first, then tickets, then sealing.
    pub async fn stop(self) {
        self.collector.drain().await;
        if self.config.roles.work() {
            self.tickets.stop(TICKETS_STOP_MAX).await;
        }
        self.stop.send_replace(true);
        for task in self.tasks {
            // A task that panicked has been logged; the others still end.
            let _ = task.await;
        }
        self.storage.close().await;
    }
}

/// Redis when it is configured, else memory; nobody is asked yet.
pub fn open_cache(config: &CacheConfig, storage: &Storage, clock: Arc<dyn Clock>) -> anyhow::Result<Cache> {
    let settings = CacheSettings {
        redis: (!config.redis.is_empty()).then(|| config.redis.reveal().to_owned()),
        namespace: storage.shards.installation_id().to_string(),
        redis_connections_max: config.redis_connections_max as usize,
        redis_timeout: Duration::from_millis(config.redis_timeout_ms.into()),
        memory_bytes_max: config.memory_bytes_max as usize,
    };
    Ok(Cache::open(&settings, clock)?)
}

/// What brings batches to their own server.
pub fn forwarder(config: &Config, holder: ReplicaId, storage: &Storage, metrics: &Metrics) -> Forwarder {
    let sealing = &config.sealing;
    let idle = Duration::from_millis(sealing.idle_ms.into());
    let lease_ms = u64::from(sealing.lease_secs) * 1_000;
    Forwarder::new(holder, storage.shards.clone(), lease_ms, idle, metrics)
}

/// What a sealer of this process works with.
pub fn seal_context(
    config: &Config,
    storage: &Storage,
    holder: ReplicaId,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> SealContext {
    let sealing = &config.sealing;
    SealContext {
        clock,
        random,
        holder,
        pass_bytes_max: sealing.pass_bytes_max.into(),
        lease_ms: u64::from(sealing.lease_secs) * 1_000,
        idle: Duration::from_millis(sealing.idle_ms.into()),
        segment_rows_min: sealing.segment_rows_min as usize,
        segment_rows_max: sealing.segment_rows_max as usize,
        write: WriteOptions::from(sealing).for_passes(),
        persons_cache_entries_max: sealing.persons_cache_entries_max as usize,
        filters_bytes_max: sealing.filters_bytes_max as usize,
        traits: TraitLimits {
            keys_max: sealing.traits_max as usize,
            bytes_max: sealing.traits_bytes_max as usize,
        },
        homes: Homes::new(storage.control.clone(), storage.shards.clone()),
        retention: Arc::default(),
        move_settle_ms: sealing.move_settle_ms.into(),
        move_chunk: ChunkLimits {
            rows_max: sealing.move_rows_max as usize,
            raw_bytes_max: u64::from(sealing.pass_bytes_max) / 4,
        },
    }
}

fn ticket_settings(config: &TicketsConfig, works: bool) -> TicketSettings {
    TicketSettings {
        slots: if works { config.slots as usize } else { 0 },
        lease: Duration::from_secs(config.lease_secs.into()),
        poll: Duration::from_millis(config.poll_ms.into()),
        attempts_max: config.attempts_max,
        kept: Duration::from_secs(config.kept_secs.into()),
        queued_max: config.queued_max,
        run_max: Duration::from_secs(config.run_secs_max.into()),
        written_after: WRITTEN_AFTER,
    }
}

/// Clears what this process keeps in memory whenever somebody was erased, whoever did it.
async fn forget_erased(storage: Storage, cache: Cache, scanner: Scanner, stop: watch::Receiver<bool>) {
    let seen = Arc::new(AtomicI64::new(-1));
    every(ERASURES_LOOK, stop, move || {
        let (storage, cache, scanner, seen) = (storage.clone(), cache.clone(), scanner.clone(), seen.clone());
        async move {
            // While the control database is away nobody is erased, or it is noticed later.
            let Ok(erasures) = projects::sum_erasure_epochs(&storage.control).await else { return };
            if seen.swap(erasures, Ordering::Relaxed) != erasures {
                cache.forget_memory();
                scanner.forget_rows();
            }
        }
    })
    .await;
}

async fn every<F, Work>(pause: Duration, mut stop: watch::Receiver<bool>, work: F)
where
    F: Fn() -> Work,
    Work: Future<Output = ()>,
{
    while !*stop.borrow() {
        tokio::select! {
            () = tokio::time::sleep(pause) => work().await,
            _ = stop.changed() => {}
        }
    }
}
