//! Links against a model: random programs of sending, resending, linking, sealing, forwarding,
//! compacting and starting anew, over shards of two servers, must leave every person with exactly the
//! events that the model gives them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::compaction::Compactor;
use super::fixture::{scan, servers_with_shards};
use super::format::WriteOptions;
use super::forwarder::Forwarder;
use super::person::{PersonRequest, read_person};
use super::scan::{Listing, ScanRequest, Scanner};
use super::sealer::{ChunkLimits, Homes, LINK_EVENT, SealContext, Sealer, TraitLimits};
use crate::config::SealingConfig;
use crate::model::{
    BatchId, DAY_MS, Event, EventId, ManualClock, ProjectId, Properties, Random, ReplicaId, SeededRandom,
    ShardNo, TimeSource, shard_of,
};
use crate::storage::Storage;
use crate::storage::batch::BatchEncoder;
use crate::storage::conformance::{TestDatabase, fresh_mysql, fresh_sqlite};
use crate::storage::control::projects::{InsertProject, create_project};
use crate::storage::server::journal::{self, NewBatch};
use crate::storage::server::links;
use crate::telemetry::Metrics;

const IDS: u64 = 7;
const EVENTS: u64 = 12;
const STEPS: usize = 60;

struct World {
    storage: Storage,
    project_id: ProjectId,
    shards: u16,
    clock: Arc<ManualClock>,
    random: Arc<SeededRandom>,
    sealer: Arc<Sealer>,
    forwarder: Forwarder,
    compactor: Compactor,
}

impl World {
    async fn new(databases: &[TestDatabase; 3], shards: u16, seed: u64) -> Self {
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
        let random = Arc::new(SeededRandom::new(seed));
        let clock = Arc::new(ManualClock::new(1_000_000));
        let sealer = sealer(&storage, &clock, &random);
        let holder = ReplicaId([1; 16]);
        let idle = Duration::from_millis(1);
        let forwarder = Forwarder::new(holder, storage.shards.clone(), 60_000, idle, &Metrics::default());
        // Everything leaves its run at once, and two of a size are merged.
        let config = SealingConfig {
            segment_rows_min: 3,
            run_age_secs_max: 1,
            compact_fan_in: 2,
            ..SealingConfig::default()
        };
        let compactor = Compactor::new(holder, &config, random.clone(), &Metrics::default());
        Self { storage, project_id, shards, clock, random, sealer, forwarder, compactor }
    }

    fn home(&self, id: &str) -> ShardNo {
        shard_of(self.project_id, id, self.shards, self.shards)
    }

    /// Commits an event at its home's server, or at another one when its own is away.
    async fn commit(&self, event: Event, is_home_away: bool) {
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

    fn event(&self, id: &str, n: u64) -> Event {
        Event {
            project_id: self.project_id,
            distinct_id: id.into(),
            anonymous_id: None,
            event: format!("e{n}").into(),
            event_id: EventId([n as u8 + 1; 16]),
            // Two days.
            occurred_at: (n as i64 % 2) * DAY_MS + n as i64,
            received_at: 5_000 + n as i64,
            time_source: TimeSource::Client,
            properties: Properties::default(),
            route: vec![],
        }
    }

    fn link(&self, id: &str, target: &str) -> Event {
        Event { event: LINK_EVENT.into(), anonymous_id: Some(target.into()), ..self.event(id, 0) }
    }

    async fn seal(&self, shard_no: ShardNo) {
        let db = self.storage.shards.db_of(shard_no).unwrap();
        self.sealer.seal_shard(db, shard_no).await.unwrap();
    }

    async fn forward(&self) {
        for server in self.storage.shards.servers() {
            self.forwarder.forward_server(server).await.unwrap();
        }
    }

    async fn compact(&self, shard_no: ShardNo) {
        let db = self.storage.shards.db_of(shard_no).unwrap();
        self.compactor.compact_shard(db, shard_no).await.unwrap();
    }

    /// Another process takes over, with nothing in its memory.
    async fn start_anew(&mut self) {
        let (_stop, stopped) = watch::channel(true);
        self.sealer.clone().run(stopped).await;
        self.sealer = sealer(&self.storage, &self.clock, &self.random);
    }

    /// Until nothing is on its way.
    async fn settle(&self) {
        for _ in 0..200 {
            self.forward().await;
            self.sealer.seal_everything().await.unwrap();
            let mut is_quiet = true;
            for server in self.storage.shards.servers() {
                let db = server.db().unwrap();
                is_quiet &= journal::list_shards(db).await.unwrap().is_empty();
                is_quiet &= links::list_shards(db).await.unwrap().is_empty();
            }
            if is_quiet {
                return;
            }
        }
        panic!("events circulate for ever");
    }

    /// The events of each person, sorted.
    async fn persons(&self) -> Vec<Vec<String>> {
        let mut persons: BTreeMap<(ShardNo, u32), Vec<String>> = BTreeMap::new();
        for shard_no in self.storage.shards.all() {
            let db = self.storage.shards.db_of(shard_no).unwrap();
            let request = ScanRequest::everything(self.project_id);
            let scanned = scan(&Scanner::new(2, 0, &Metrics::default()), db, shard_no, &request).await;
            assert_eq!(Listing::read(db, shard_no, &request).await.unwrap().moving, 0);
            for block in &scanned.blocks {
                for n in block.rows() {
                    let of_person = persons.entry((shard_no, block.person_no[n])).or_default();
                    of_person.push(block.event.get(n).unwrap().to_owned());
                }
            }
        }
        let mut events: Vec<Vec<String>> = persons.into_values().collect();
        events.iter_mut().for_each(|events| events.sort());
        events.sort();
        events
    }

    /// The links that won, as they are stored.
    async fn winning_links(&self, ids: &[String]) -> Vec<(String, String)> {
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

fn sealer(storage: &Storage, clock: &Arc<ManualClock>, random: &Arc<SeededRandom>) -> Arc<Sealer> {
    let context = SealContext {
        clock: clock.clone(),
        random: random.clone(),
        holder: ReplicaId::random(&**random),
        pass_bytes_max: 1 << 20,
        lease_ms: 60_000,
        idle: Duration::from_millis(1),
        segment_rows_min: 3,
        segment_rows_max: 100,
        persons_cache_entries_max: 1_000,
        filters_bytes_max: 64 << 20,
        write: WriteOptions::default(),
        traits: TraitLimits { keys_max: 10, bytes_max: 1_000 },
        retention: Arc::default(),
        homes: Homes::new(storage.control.clone(), storage.shards.clone()),
        move_settle_ms: 0,
        move_chunk: ChunkLimits { rows_max: 2, raw_bytes_max: 1 << 20 },
    };
    Arc::new(Sealer::new(context, storage.shards.clone(), 4, &Metrics::default()))
}

/// What the program sent and linked, and nothing of how it got there.
#[derive(Default)]
struct Model {
    sent: BTreeSet<(String, u64)>,
    said: BTreeSet<(String, String)>,
}

impl Model {
    fn persons(&self, links: &[(String, String)]) -> Vec<Vec<String>> {
        let mut root: BTreeMap<&str, &str> = BTreeMap::new();
        let ids = self.sent.iter().map(|(id, _)| id.as_str());
        let linked = links.iter().flat_map(|(a, b)| [a.as_str(), b.as_str()]);
        ids.chain(linked).for_each(|id| {
            root.insert(id, id);
        });
        for (a, b) in links {
            let (from, to) = (root[a.as_str()], root[b.as_str()]);
            root.values_mut().filter(|of| **of == from).for_each(|of| *of = to);
        }
        let mut persons: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (id, n) in &self.sent {
            persons.entry(root[id.as_str()]).or_default().insert(format!("e{n}"));
        }
        let mut events: Vec<Vec<String>> =
            persons.into_values().map(|events| events.into_iter().collect()).collect();
        events.sort();
        events
    }
}

fn ids() -> Vec<String> {
    (0..IDS).map(|n| format!("id{n}")).collect()
}

/// Runs the program of a seed; the persons as they are and as the model says. `conflicts`: an id may be
/// linked to several others, of which the first that is heard wins.
async fn run(
    databases: &[TestDatabase; 3],
    shards: u16,
    seed: u64,
    conflicts: bool,
) -> [Vec<Vec<String>>; 2] {
    let mut world = World::new(databases, shards, seed).await;
    let mut model = Model::default();
    // Apart from the world's, so that the program is the same however many numbers that takes.
    let dice = SeededRandom::new(seed ^ 0x5eed);
    let roll = |sides: u64| dice.next_u64() % sides;
    let ids = ids();
    let pick = || ids[roll(IDS) as usize].clone();
    let targets: Vec<String> = ids.iter().map(|_| pick()).collect();
    for _ in 0..STEPS {
        match roll(12) {
            0..4 => {
                let (id, n) = (pick(), roll(EVENTS));
                world.commit(world.event(&id, n), roll(5) == 0).await;
                model.sent.insert((id, n));
            }
            4 => {
                let again = model.sent.iter().nth(roll(model.sent.len().max(1) as u64) as usize).cloned();
                if let Some((id, n)) = again {
                    world.commit(world.event(&id, n), roll(5) == 0).await;
                }
            }
            5 | 6 => {
                let n = roll(IDS) as usize;
                let target = if conflicts { pick() } else { targets[n].clone() };
                if target != ids[n] {
                    world.commit(world.link(&ids[n], &target), roll(5) == 0).await;
                    model.said.insert((ids[n].clone(), target));
                }
            }
            7 | 8 => world.seal(ShardNo(roll(16) as u16 % shards)).await,
            9 => world.forward().await,
            10 => world.compact(ShardNo(roll(16) as u16 % shards)).await,
            _ => world.start_anew().await,
        }
    }
    world.settle().await;
    let won = world.winning_links(&ids).await;
    assert!(won.iter().all(|link| model.said.contains(link)), "{won:?}");
    let linked: BTreeSet<&String> = model.said.iter().map(|(id, _)| id).collect();
    assert_eq!(won.len(), linked.len(), "every id that was linked has one link");
    let seen = world.persons().await;
    for shard_no in world.storage.shards.all() {
        world.compact(shard_no).await;
    }
    assert_eq!(world.persons().await, seen, "compaction changes no answer");
    // Whoever is asked for by any id is shown whole.
    let expected = model.persons(&won);
    for (id, n) in &model.sent {
        let project_id = world.project_id;
        let request = PersonRequest {
            project_id,
            span: shards,
            distinct_id: id,
            after: None,
            kept_from: None,
            limit: 100,
            bytes_max: 1 << 20,
        };
        let shown = read_person(&world.storage.shards, &request).await.unwrap();
        let mut events: Vec<String> = shown.events.iter().map(|event| event.event.to_string()).collect();
        events.sort();
        assert!(
            events.contains(&format!("e{n}")) && expected.contains(&events),
            "{id} (e{n}): {events:?} of {expected:?}, {seen:?}; links {won:?}"
        );
        assert!(shown.distinct_ids.contains(id), "{id}: {:?}", shown.distinct_ids);
    }
    [seen, expected]
}

async fn compare(databases: &[TestDatabase; 3], shards: u16, seed: u64, conflicts: bool) -> Vec<Vec<String>> {
    // Shown when an assertion anywhere below fails.
    println!("seed {seed}, {shards} shards, conflicts: {conflicts}");
    let [seen, expected] = run(databases, shards, seed, conflicts).await;
    assert_eq!(seen, expected, "seed {seed}, {shards} shards, conflicts: {conflicts}");
    seen
}

fn first_seed() -> u64 {
    std::env::var("WEIR_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn linked_ids_are_one_person_for_any_program_and_number_of_shards_sqlite() {
    for seed in first_seed()..first_seed() + 4 {
        let mut answers = Vec::new();
        for shards in [1, 4, 16] {
            let databases = [fresh_sqlite(), fresh_sqlite(), fresh_sqlite()];
            answers.push(compare(&databases, shards, seed, false).await);
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_link_of_an_id_wins_sqlite() {
    for seed in first_seed()..first_seed() + 4 {
        compare(&[fresh_sqlite(), fresh_sqlite(), fresh_sqlite()], 4, seed, true).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn linked_ids_are_one_person_for_any_program_mysql() {
    for seed in first_seed()..first_seed() + 2 {
        let databases = [fresh_mysql().await, fresh_mysql().await, fresh_mysql().await];
        compare(&databases, 4, seed, seed % 2 == 0).await;
    }
}
