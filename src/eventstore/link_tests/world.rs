//! A store of shards on two servers, and a process that works on it step by step. Time is the test's own:
//! it stands still until an event is committed or [`World::pass_time`] moves it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::SealingConfig;
use crate::eventstore::RowBlock;
use crate::eventstore::compaction::Compactor;
use crate::eventstore::fixture::{seal_context, servers_with_shards, settle};
use crate::eventstore::forwarder::Forwarder;
use crate::eventstore::object_cache::ObjectCache;
use crate::eventstore::retention::Retention;
use crate::eventstore::scan::{Listing, ScanRequest, Scanner, ShardRows};
use crate::eventstore::sealer::{Homes, LINK_EVENT, SealContext, Sealer};
use crate::model::{
    BatchId, Clock, DAY_MS, Event, EventId, ManualClock, Millis, ProjectId, Properties, ReplicaId,
    SeededRandom, ShardNo, TimeSource, shard_of, utc_day,
};
use crate::storage::Storage;
use crate::storage::batch::BatchEncoder;
use crate::storage::conformance::TestDatabase;
use crate::storage::control::projects::{self, InsertProject, create_project};
use crate::storage::server::journal::{self, NewBatch};
use crate::storage::server::{links, persons};
use crate::telemetry::Metrics;

const HOLDER: ReplicaId = ReplicaId([1; 16]);
/// On how many days events occur, from the first of 1970 on.
pub const DAYS: u64 = 6;
/// Half past midnight, on the day after those.
const BEGIN: Millis = DAYS as Millis * DAY_MS + 1_800_000;

pub struct World {
    pub storage: Storage,
    pub headers: ObjectCache,
    pub project_id: ProjectId,
    pub shards: u16,
    clock: Arc<ManualClock>,
    random: Arc<SeededRandom>,
    config: SealingConfig,
    forwarder: Forwarder,
    process: Process,
}

/// What is lost when the process dies.
struct Process {
    sealer: Arc<Sealer>,
    compactor: Compactor,
    retention: Arc<Retention>,
    /// For how many days it believes that events are kept.
    days: Option<u32>,
}

/// What is seen of one person.
pub struct SeenPerson {
    pub ids: BTreeSet<String>,
    pub events: BTreeSet<String>,
}

impl World {
    pub async fn new(databases: &[TestDatabase; 3], shards: u16, seed: u64) -> Self {
        let storage = servers_with_shards(databases, shards).await;
        let project = InsertProject {
            name: "p".into(),
            time_zone: "UTC".into(),
            span: shards,
            owner: None,
            keys: vec![],
            created_at: 1,
        };
        let project_id = create_project(&storage.control, project).await.unwrap();
        let (clock, random) = (Arc::new(ManualClock::new(BEGIN)), Arc::new(SeededRandom::new(seed)));
        let idle = Duration::from_millis(1);
        let forwarder = Forwarder::new(HOLDER, storage.shards.clone(), 60_000, idle, &Metrics::default());
        let config = SealingConfig {
            segment_rows_min: 3,
            // Everything leaves its run at once, or only when it has become enough.
            run_age_secs_max: if seed.is_multiple_of(2) { 1 } else { u32::MAX },
            // Two of a size are merged.
            compact_fan_in: 2,
            // Nobody reads what was replaced.
            retired_grace_secs: 0,
            ..SealingConfig::default()
        };
        let process = Process::start(&storage, &clock, &random, &config);
        let headers = ObjectCache::new(1 << 20, 1 << 20, &Metrics::default());
        Self { storage, headers, project_id, shards, clock, random, config, forwarder, process }
    }

    pub fn home(&self, id: &str) -> ShardNo {
        shard_of(self.project_id, id, self.shards, self.shards)
    }

    /// Commits an event at its home's server, or at another one when its own is away.
    pub async fn commit(&self, event: Event, is_home_away: bool) {
        let shard_no = self.home(&event.distinct_id);
        let home = self.storage.shards.server_of(shard_no);
        let other = self.storage.shards.servers().iter().find(|one| one.server_id != home.server_id);
        let server = other.filter(|_| is_home_away).unwrap_or(home);
        // In order of time, so that the journal's order is that of the program.
        self.clock.advance(1);
        let batch_id = BatchId::time_ordered(&*self.clock, &*self.random);
        let batch = BatchEncoder::default().encode_events(&[event]);
        journal::insert(server.db().unwrap(), vec![NewBatch { shard_no, batch_id, batch }]).await.unwrap();
    }

    pub fn event(&self, id: &str, n: u64) -> Event {
        Event {
            project_id: self.project_id,
            distinct_id: id.into(),
            anonymous_id: None,
            event: format!("e{n}").into(),
            event_id: EventId([n as u8 + 1; 16]),
            occurred_at: occurred_at(n),
            received_at: 5_000 + n as i64,
            time_source: TimeSource::Client,
            properties: Properties::default(),
            route: vec![],
        }
    }

    pub fn link(&self, id: &str, target: &str) -> Event {
        Event { event: LINK_EVENT.into(), anonymous_id: Some(target.into()), ..self.event(id, 0) }
    }

    pub async fn seal(&self, shard_no: ShardNo) {
        let db = self.storage.shards.db_of(shard_no).unwrap();
        self.process.sealer.seal_shard(db, shard_no).await.unwrap();
    }

    /// Every shard that has work, as the sealer finds it by itself: persons who lapsed too.
    pub async fn seal_everything(&self) {
        self.process.sealer.seal_everything().await.unwrap();
    }

    pub async fn forward(&self) {
        for server in self.storage.shards.servers() {
            self.forwarder.forward_server(server).await.unwrap();
        }
    }

    pub async fn compact(&self, shard_no: ShardNo) {
        let db = self.storage.shards.db_of(shard_no).unwrap();
        self.process.compactor.compact_shard(db, shard_no).await.unwrap();
    }

    pub async fn compact_all(&self) {
        for shard_no in self.storage.shards.all() {
            self.compact(shard_no).await;
        }
    }

    /// Another process takes over, with nothing in its memory.
    pub async fn start_anew(&mut self) {
        let (_stop, stopped) = watch::channel(true);
        self.process.sealer.clone().run(stopped).await;
        let ahead = self.process.compactor.ahead_ms.load(Ordering::Relaxed);
        self.process = Process::start(&self.storage, &self.clock, &self.random, &self.config);
        self.process.compactor.ahead_ms.store(ahead, Ordering::Relaxed);
    }

    /// For everything but the leases of the servers.
    pub fn pass_time(&self, millis: Millis) {
        self.clock.advance(millis);
        self.process.compactor.ahead_ms.fetch_add(millis, Ordering::Relaxed);
    }

    /// Until it looks after masks again, which it does every ten minutes, and deletes what it replaced.
    pub fn let_compaction_wait(&self) {
        self.process.compactor.ahead_ms.fetch_add(600_000, Ordering::Relaxed);
    }

    /// For how many days the project keeps its events. The process has yet to hear of it.
    pub async fn set_days(&self, days: Option<u32>) {
        projects::set_retention(&self.storage.control, self.project_id, days).await.unwrap();
    }

    pub async fn hear_of_days(&mut self) {
        let Process { retention, days, .. } = &mut self.process;
        retention.refresh(&self.storage.control).await.unwrap();
        let project = projects::find_project(&self.storage.control, self.project_id).await.unwrap();
        *days = project.unwrap().retention_days;
    }

    /// The first instant that questions count.
    pub async fn kept_from(&self) -> Option<Millis> {
        let project = projects::find_project(&self.storage.control, self.project_id).await.unwrap();
        project.unwrap().kept_from(self.clock.now_ms())
    }

    /// The first instant that the process does not delete, which is an hour behind.
    pub fn deleted_before(&self) -> Millis {
        let today = utc_day(self.clock.now_ms() - 3_600_000);
        self.process.days.map_or(Millis::MIN, |days| Millis::from(today - days as i32) * DAY_MS)
    }

    /// Until nothing is on its way.
    pub async fn settle(&self) {
        settle(&self.storage, &self.forwarder, &self.process.sealer, || self.clock.advance(1)).await;
    }

    /// What questions see that begin at an instant, and how many persons are moving.
    pub async fn scan(&self, from: Millis) -> Vec<(Listing, ShardRows)> {
        let mut scanned = Vec::new();
        for shard_no in self.storage.shards.all() {
            let db = self.storage.shards.db_of(shard_no).unwrap();
            let request = ScanRequest { from, ..ScanRequest::everything(self.project_id) };
            let listing = Listing::read(db, &ObjectCache::none(), shard_no, &request).await.unwrap();
            let scanner = Scanner::new(ObjectCache::none(), 2, 0, &Metrics::default());
            let rows = scanner.read(db, &request, listing.clone()).await.unwrap().unwrap();
            let is_kept = |block: &RowBlock| block.rows().all(|row| block.occurred_at.at(row) >= from);
            assert!(rows.blocks.iter().all(is_kept), "a question sees what is not kept");
            let persons_of =
                |block: &RowBlock| block.rows().map(|row| block.person_no[row]).collect::<Vec<_>>();
            let seen: BTreeSet<u32> = rows.blocks.iter().flat_map(persons_of).collect();
            let person_nos: Vec<u32> = seen.into_iter().collect();
            if !person_nos.is_empty() {
                let ids = persons::find_ids_of_persons(db, shard_no, self.project_id, &person_nos);
                let known: BTreeSet<u32> = ids.await.unwrap().iter().map(|known| known.person_no).collect();
                assert!(known.iter().eq(&person_nos), "rows of nobody: {known:?} of {person_nos:?}");
            }
            scanned.push((listing, rows));
        }
        scanned
    }

    /// Every person, when nothing is on its way.
    pub async fn persons(&self, from: Millis) -> Vec<SeenPerson> {
        let mut seen = Vec::new();
        for (Listing { shard_no, moving, .. }, rows) in self.scan(from).await {
            assert_eq!(moving, 0);
            let mut events: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
            for block in &rows.blocks {
                for n in block.rows() {
                    let of_person = events.entry(block.person_no[n]).or_default();
                    let event = block.event.get(n).unwrap();
                    assert!(of_person.insert(event.to_owned()), "{event} is there twice");
                }
            }
            let db = self.storage.shards.db_of(shard_no).unwrap();
            for (person_no, events) in events {
                let person_nos = [person_no];
                let ids = persons::find_ids_of_persons(db, shard_no, self.project_id, &person_nos);
                let ids = ids.await.unwrap().into_iter().map(|known| known.distinct_id).collect();
                seen.push(SeenPerson { ids, events });
            }
        }
        seen
    }

    /// The links that won, as they are stored.
    pub async fn winning_links(&self, ids: &[String]) -> Vec<(String, String)> {
        let mut won = Vec::new();
        for id in ids {
            let shard_no = self.home(id);
            let db = self.storage.shards.db_of(shard_no).unwrap();
            let id = std::slice::from_ref(id);
            let found = links::find_links(db, shard_no, self.project_id, id).await.unwrap();
            won.extend(found.into_iter().map(|link| (link.distinct_id, link.target_id)));
        }
        won
    }
}

impl Process {
    fn start(
        storage: &Storage,
        clock: &Arc<ManualClock>,
        random: &Arc<SeededRandom>,
        config: &SealingConfig,
    ) -> Self {
        let retention = Arc::new(Retention::new(clock.clone()));
        let context = SealContext {
            clock: clock.clone(),
            random: random.clone(),
            holder: ReplicaId::random(&**random),
            retention: retention.clone(),
            // Some steps of a program.
            move_settle_ms: 3,
            ..seal_context(Homes::new(storage.control.clone(), storage.shards.clone()))
        };
        let compactor = Compactor::new(HOLDER, config, random.clone(), &Metrics::default());
        Self {
            sealer: Arc::new(Sealer::new(context, storage.shards.clone(), 4, &Metrics::default())),
            compactor: compactor.with_retention(retention.clone()),
            retention,
            days: None,
        }
    }
}

/// At the first instant of a day or at the last.
pub fn occurred_at(n: u64) -> Millis {
    let (day, is_late) = ((n % DAYS) as Millis, n >= DAYS);
    day * DAY_MS + if is_late { DAY_MS - 1 } else { 0 }
}
