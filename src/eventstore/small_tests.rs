//! Small projects over a long time: what passes every now and then, and compaction, leave behind and
//! write. Time is the test's own.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::compaction::Compactor;
use super::fixture::seal_context;
use super::format::WriteOptions;
use super::sealer::{Homes, SealContext, Sealer};
use crate::config::SealingConfig;
use crate::model::{
    BatchId, Clock, DAY_MS, Event, EventId, ManualClock, Millis, ProjectId, PropertyValue, ReplicaId,
    SeededRandom, ShardNo, SystemClock, TimeSource,
};
use crate::storage::batch::BatchEncoder;
use crate::storage::conformance::{POOL, TestDatabase, fresh_mysql, fresh_sqlite};
use crate::storage::server::journal::{self, NewBatch};
use crate::storage::server::objects;
use crate::storage::{Db, Storage, StorageSettings};
use crate::telemetry::Metrics;

const SHARD: ShardNo = ShardNo(0);
/// 2026-01-01.
const BEGIN: Millis = 20_454 * DAY_MS;

/// One shard, its sealer and its compaction.
struct World {
    _database: TestDatabase,
    storage: Storage,
    clock: Arc<ManualClock>,
    random: Arc<SeededRandom>,
    sealer: Sealer,
    compactor: Compactor,
    sent: u64,
    written: Written,
}

/// Bytes.
#[derive(Clone, Copy, Default, Debug)]
struct Written {
    journal: u64,
    passes: u64,
    compaction: u64,
}

impl World {
    async fn begin(database: TestDatabase) -> Self {
        let settings = StorageSettings {
            control: database.dsn.clone(),
            servers: vec![database.dsn.clone()],
            shards: Some(1),
            shards_default: 1,
            pool: POOL,
        };
        let (clock, random) = (Arc::new(ManualClock::new(BEGIN)), Arc::new(SeededRandom::new(1)));
        let storage = Storage::open(&settings, &*clock, &*random).await.unwrap();
        let config = SealingConfig::default();
        let context = SealContext {
            clock: clock.clone(),
            random: random.clone(),
            pass_bytes_max: config.pass_bytes_max.into(),
            segment_rows_min: config.segment_rows_min as usize,
            segment_rows_max: config.segment_rows_max as usize,
            write: WriteOptions::from(&config).for_passes(),
            ..seal_context(Homes::one(SHARD))
        };
        let metrics = Metrics::default();
        let sealer = Sealer::new(context, storage.shards.clone(), 1, &metrics);
        let compactor = Compactor::new(ReplicaId([1; 16]), &config, random.clone(), &metrics);
        let written = Written::default();
        Self { _database: database, storage, clock, random, sealer, compactor, sent: 0, written }
    }

    fn db(&self) -> &Db {
        self.storage.shards.db_of(SHARD).unwrap()
    }

    /// What occurs in these projects at a time is sealed, and then compaction has its turn.
    async fn tick(&mut self, at: Millis, projects: impl Iterator<Item = u32>) {
        self.clock.set(at);
        let events: Vec<Event> = projects.map(|project| self.event(project, at)).collect();
        if !events.is_empty() {
            let batch = BatchEncoder::default().encode_events(&events);
            self.written.journal += batch.body.len() as u64;
            let batch_id = BatchId::time_ordered(&*self.clock, &*self.random);
            let batch = NewBatch { shard_no: SHARD, batch_id, batch };
            journal::insert(self.db(), vec![batch]).await.unwrap();
            let outcome = self.sealer.seal_shard(self.db(), SHARD).await.unwrap().unwrap();
            assert_eq!(outcome.rows, events.len() as u64);
            self.written.passes += outcome.bytes;
        }
        self.compactor.ahead_ms.store(at - SystemClock.now_ms(), Ordering::Relaxed);
        let done = self.compactor.compact_shard(self.db(), SHARD).await.unwrap();
        self.written.compaction += done.bytes;
    }

    fn event(&mut self, project: u32, at: Millis) -> Event {
        self.sent += 1;
        let n = self.sent;
        let properties: Vec<(&str, PropertyValue)> = vec![
            ("path", PropertyValue::String(format!("/products/{}", n % 211))),
            ("country", PropertyValue::String(["NL", "DE", "FR"][n as usize % 3].to_owned())),
            ("amount", PropertyValue::Integer((n % 1_000) as i64)),
        ];
        Event {
            project_id: ProjectId(project),
            distinct_id: format!("u{}", n % 97).into(),
            anonymous_id: None,
            event: ["$pageview", "product_viewed", "purchase"][n as usize % 3].into(),
            event_id: EventId(
                (u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(n)).to_be_bytes(),
            ),
            occurred_at: at,
            received_at: at,
            time_source: TimeSource::Client,
            properties: properties.into(),
            route: Vec::new(),
        }
    }

    /// Live runs and segments; and rows of the catalogue in any state.
    async fn objects(&self) -> (usize, usize) {
        let runs = objects::list_runs_bare(self.db(), SHARD).await.unwrap().len();
        let segments = objects::list_all_segments(self.db(), SHARD).await.unwrap().len();
        let all = objects::list_below(self.db(), SHARD, i64::MAX, 1_000_000).await.unwrap().len();
        (runs + segments, all)
    }
}

/// A year of a hundred events a day: questions about it read few objects.
/// Some come together, so that the test takes seconds.
async fn a_year(database: TestDatabase, at_once: u64) {
    const A_DAY: Millis = 100;
    let mut world = World::begin(database).await;
    let mut most = 0;
    for n in 0..365 * A_DAY / at_once as Millis {
        let at = BEGIN + n * at_once as Millis * DAY_MS / A_DAY;
        world.tick(at, (0..at_once).map(|_| 1)).await;
        most = most.max(world.objects().await.0);
    }
    // What the last day has left.
    let end = BEGIN + 366 * DAY_MS;
    world.tick(end, std::iter::empty()).await;
    let (live, _) = world.objects().await;
    println!(
        "36,500 events of a year: {live} objects in the end, at most {most} at any time; {:?}",
        world.written
    );
    assert_eq!(world.sent, 36_500);
    assert!(live <= 20, "{live} objects");
    assert!(most <= 24, "{most} objects at some time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_project_of_a_year_is_few_objects_sqlite() {
    a_year(fresh_sqlite(), 25).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_project_of_a_year_is_few_objects_mysql() {
    a_year(fresh_mysql().await, 100).await;
}

/// What a sixteenth of 2,000 projects with an event a minute each come to in some minutes of passes every
/// second; a day of all of them must stay below 5 GB and 100,000 rows of the catalogue.
async fn many(database: TestDatabase, minutes: u32) -> (Written, usize) {
    const PROJECTS: u32 = 125;
    let mut world = World::begin(database).await;
    let mut most = 0;
    for second in 0..i64::from(minutes) * 60 {
        let second_of_minute = (second % 60) as u32;
        let due = (1..=PROJECTS).filter(|project| project % 60 == second_of_minute);
        world.tick(BEGIN + second * 1_000, due).await;
        if second_of_minute == 0 {
            most = most.max(world.objects().await.1);
        }
    }
    let Written { journal, passes, compaction } = world.written;
    println!(
        "{PROJECTS} projects, {minutes} minutes, {} events: journal {journal} bytes, passes {passes}, \
         compaction {compaction}; at most {most} rows in the catalogue, {:?} objects in the end",
        world.sent,
        world.objects().await,
    );
    (world.written, most)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_projects_write_little_sqlite() {
    let minutes = minutes_or(5);
    let (written, rows) = many(fresh_sqlite(), minutes).await;
    check(written, rows, minutes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_projects_write_little_mysql() {
    let minutes = minutes_or(2);
    let (written, rows) = many(fresh_mysql().await, minutes).await;
    check(written, rows, minutes);
}

/// `WEIR_TEST_MINUTES=1440` makes it the whole day, which takes more than a quarter of an hour.
fn minutes_or(default: u32) -> u32 {
    std::env::var("WEIR_TEST_MINUTES")
        .map_or(default, |minutes| minutes.parse().expect("a number of minutes"))
}

fn check(written: Written, rows: usize, minutes: u32) {
    let all = written.journal + written.passes + written.compaction;
    let a_day = all * 16 * 24 * 60 / u64::from(minutes);
    println!("{} MB a day of 2,000 projects", a_day / 1_000_000);
    assert!(a_day < 5_000_000_000, "{a_day} bytes a day");
    assert!(rows * 16 < 100_000, "{rows} rows in one of 16 shards");
}
