//! Erasures over real stores with everything running, and random programs against a model.

mod slots;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tokio::sync::{Mutex, mpsc, watch};

use super::*;
use crate::config::SealingConfig;
use crate::eventstore::compaction::Compactor;
use crate::eventstore::fixture::{scan, seal_context, servers_with_shards, settle};
use crate::eventstore::format::{Columns, HEADER_PART, ObjectReader, RowRanges, Want};
use crate::eventstore::forwarder::Forwarder;
use crate::eventstore::object_cache::ObjectCache;
use crate::eventstore::scan::{ScanRequest, Scanner};
use crate::eventstore::sealer::{Homes, SealContext, Sealer};
use crate::model::{
    BatchId, Event, EventId, LINK_EVENT, ManualClock, ProjectId, Random, ReplicaId, SeededRandom, ShardNo,
    SystemClock, SystemRandom, TimeSource, shard_of,
};
use crate::storage::Storage;
use crate::storage::batch::BatchEncoder;
use crate::storage::conformance::{TestDatabase, fresh_mysql, fresh_sqlite};
use crate::storage::control::projects::{InsertProject, create_project, find_project};
use crate::storage::server::journal::{self, NewBatch};
use crate::storage::server::{masks, objects};
use crate::tickets::{Submit, TicketSettings, TicketState, Tickets, TicketsParts};

const SHARDS: u16 = 4;
const SLOTS: usize = 4;
const IDS: u64 = 8;
const EVENTS: u64 = 10;
const STEPS: usize = 50;

struct World {
    storage: Storage,
    project_id: ProjectId,
    clock: Arc<ManualClock>,
    random: Arc<SeededRandom>,
    sealer: Arc<Sealer>,
    forwarder: Arc<Forwarder>,
    compactor: Arc<Compactor>,
    tickets: Tickets,
    /// Of the puppet.
    scanned: Mutex<mpsc::UnboundedReceiver<String>>,
    gate: watch::Sender<bool>,
}

/// A question that says which events it sees, once the gate is open.
struct Puppet {
    control: Db,
    shards: Shards,
    scanned: mpsc::UnboundedSender<String>,
    gate: watch::Receiver<bool>,
}

impl TicketKind for Puppet {
    fn name(&self) -> &'static str {
        "question"
    }

    fn prepare<'a>(
        &'a self,
        project: ProjectId,
        body: &'a Value,
    ) -> BoxFuture<'a, Result<Prepared, PrepareError>> {
        let body = body.to_string().into_bytes();
        Box::pin(async move {
            let project = find_project(&self.control, project).await?.expect("there is one");
            let project = Some(Arc::new(project));
            Ok(Prepared { body, data_version: None, estimate: Duration::ZERO, project })
        })
    }

    fn run<'a>(&'a self, run: &'a TicketRun) -> BoxFuture<'a, Result<TicketOutput, RunError>> {
        Box::pin(async move {
            let seen = format!("{:?}", events(&self.shards, run.project_id).await);
            self.scanned.send(seen.clone()).unwrap();
            self.gate.clone().wait_for(|is_open| *is_open).await.unwrap();
            let body = json!({"seen": seen}).to_string().into();
            Ok(TicketOutput { body, as_of: None, partial: false, data_version: None })
        })
    }
}

/// What questions see, by person.
async fn events(shards: &Shards, project_id: ProjectId) -> Vec<Vec<String>> {
    let mut persons: BTreeMap<(ShardNo, u32), Vec<String>> = BTreeMap::new();
    for shard_no in shards.all() {
        let request = ScanRequest::everything(project_id);
        let db = shards.db_of(shard_no).unwrap();
        let scanned =
            scan(&Scanner::new(ObjectCache::none(), 2, 0, &Metrics::default()), db, shard_no, &request).await;
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

impl World {
    async fn new(databases: &[TestDatabase; 3], seed: u64) -> Self {
        let storage = servers_with_shards(databases, SHARDS).await;
        let project = InsertProject {
            name: "p".into(),
            time_zone: "UTC".into(),
            span: SHARDS,
            owner: None,
            keys: vec![],
            created_at: 1,
        };
        let project_id = create_project(&storage.control, project).await.unwrap();
        // Near the databases' own: what is being built for a quarter of an hour would be given up.
        let (clock, random) =
            (Arc::new(ManualClock::new(SystemClock.now_ms())), Arc::new(SeededRandom::new(seed)));
        let (metrics, holder) = (Metrics::default(), ReplicaId([1; 16]));
        let context = SealContext {
            clock: clock.clone(),
            random: random.clone(),
            idle: Duration::from_millis(5),
            ..seal_context(Homes::new(storage.control.clone(), storage.shards.clone()))
        };
        let config = SealingConfig {
            segment_rows_min: 3,
            run_age_secs_max: 1,
            compact_fan_in: 2,
            retired_grace_secs: 0,
            ..SealingConfig::default()
        };
        let (scans, scanned) = mpsc::unbounded_channel();
        let gate = watch::channel(true).0;
        let puppet = Puppet {
            control: storage.control.clone(),
            shards: storage.shards.clone(),
            scanned: scans,
            gate: gate.subscribe(),
        };
        let cache = Cache::off();
        let erasure = ErasureKind::new(
            storage.control.clone(),
            storage.shards.clone(),
            Arc::new(SystemClock),
            cache.clone(),
            SLOTS,
            &metrics,
        );
        let tickets = Tickets::new(TicketsParts {
            control: storage.control.clone(),
            cache,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            settings: TicketSettings {
                slots: SLOTS,
                lease: Duration::from_secs(20),
                poll: Duration::from_millis(20),
                attempts_max: 1,
                kept: Duration::from_secs(1_000),
                queued_max: 100,
                run_max: Duration::from_secs(100),
                written_after: Duration::from_secs(100),
            },
            metrics: metrics.clone(),
            kinds: vec![Arc::new(puppet), Arc::new(erasure)],
        });
        tickets.start();
        Self {
            sealer: Arc::new(Sealer::new(context, storage.shards.clone(), 4, &metrics)),
            forwarder: Arc::new(Forwarder::new(
                holder,
                storage.shards.clone(),
                60_000,
                Duration::from_millis(5),
                &metrics,
            )),
            compactor: Arc::new(Compactor::new(holder, &config, random.clone(), &metrics)),
            storage,
            project_id,
            clock,
            random,
            tickets,
            scanned: Mutex::new(scanned),
            gate,
        }
    }

    fn home(&self, id: &str) -> ShardNo {
        shard_of(self.project_id, id, SHARDS, SHARDS)
    }

    /// Commits an event at its home's server, or at another one when its own is away.
    async fn commit(&self, event: Event, is_home_away: bool) {
        let shard_no = self.home(&event.distinct_id);
        let home = self.storage.shards.server_of(shard_no);
        let other = self.storage.shards.servers().iter().find(|one| one.server_id != home.server_id);
        let server = other.filter(|_| is_home_away).unwrap_or(home);
        self.clock.advance(1);
        let batch_id = BatchId::time_ordered(&*self.clock, &*self.random);
        let batch = BatchEncoder::default().encode_events(&[event]);
        journal::insert(server.db().unwrap(), vec![NewBatch { shard_no, batch_id, batch }]).await.unwrap();
    }

    fn event(&self, id: &str, n: u64) -> Event {
        // Its own, whoever it belongs to.
        let mut event_id = [n as u8 + 1; 16];
        event_id[..3].copy_from_slice(&id.as_bytes()[..3]);
        Event {
            project_id: self.project_id,
            distinct_id: id.into(),
            anonymous_id: None,
            event: format!("{id}-{n}").into(),
            event_id: EventId(event_id),
            occurred_at: n as i64,
            received_at: 5_000 + n as i64,
            time_source: TimeSource::Client,
            properties: crate::model::Properties::default(),
            route: vec![],
        }
    }

    fn link(&self, id: &str, target: &str) -> Event {
        Event { event: LINK_EVENT.into(), anonymous_id: Some(target.into()), ..self.event(id, 0) }
    }

    /// Everything that works in the background does, until `meanwhile` is over.
    async fn live<T>(&self, meanwhile: impl Future<Output = T>) -> T {
        let (stop, stopped) = watch::channel(false);
        let compactor = self.compactor.clone();
        let (shards, compaction_stopped) = (self.storage.shards.clone(), stopped.clone());
        let tasks = [
            tokio::spawn(self.sealer.clone().run(stopped.clone())),
            tokio::spawn(self.forwarder.clone().run(stopped)),
            tokio::spawn(async move {
                compactor.run(&shards, Duration::from_millis(10), compaction_stopped).await;
            }),
        ];
        let done = meanwhile.await;
        stop.send_replace(true);
        for task in tasks {
            task.await.unwrap();
        }
        done
    }

    fn submission(&self, kind: &str, body: Value) -> Submit {
        Submit {
            project_id: self.project_id,
            let_in_with: None,
            kind: kind.to_owned(),
            body,
            idempotency_key: None,
            created_by: "key:1".to_owned(),
        }
    }

    async fn submit(&self, kind: &str, body: Value) -> crate::model::TicketId {
        self.tickets.submit(self.submission(kind, body)).await.unwrap().ticket.ticket_id
    }

    /// The result of a ticket that succeeds.
    async fn result(&self, ticket: crate::model::TicketId) -> Value {
        for _ in 0..2_000 {
            let now = self.tickets.get(self.project_id, ticket).await.unwrap();
            if now.state == TicketState::Succeeded {
                return serde_json::from_slice(&self.tickets.result(&now).await.unwrap()).unwrap();
            }
            assert!(!now.state.is_final(), "{now:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the ticket never ends");
    }

    async fn erase(&self, id: &str) -> Value {
        let ticket = self.submit(ERASURE, json!({"distinct_id": id})).await;
        self.live(self.result(ticket)).await
    }

    async fn settle(&self) {
        settle(&self.storage, &self.forwarder, &self.sealer, || {}).await;
    }

    async fn events(&self) -> Vec<Vec<String>> {
        events(&self.storage.shards, self.project_id).await
    }

    /// Every event in any run or segment, whatever its state, masked or not.
    async fn stored(&self) -> BTreeSet<String> {
        let mut stored = BTreeSet::new();
        for shard_no in self.storage.shards.all() {
            let db = self.storage.shards.db_of(shard_no).unwrap();
            for listed in objects::list_below(db, shard_no, i64::MAX, 1_000).await.unwrap() {
                let object = listed.object;
                let part_nos: Vec<u32> = (0..object.parts).collect();
                let parts = objects::find_parts(db, object.object_id, &part_nos).await.unwrap();
                let parts: crate::eventstore::format::PartSet = parts.unwrap().into_iter().collect();
                let reader = ObjectReader::open(parts.get(HEADER_PART).unwrap()).unwrap();
                let want = Want { columns: Columns::All, rows: RowRanges::All };
                let rows = reader.read_rows(&want, &parts).unwrap().flat_map(Result::unwrap);
                stored.extend(rows.map(|row| row.event.to_string()));
            }
        }
        stored
    }
}

async fn a_question_that_runs_meanwhile_is_run_again(databases: [TestDatabase; 3]) {
    let world = World::new(&databases, 1).await;
    for (n, id) in ["needle", "other"].into_iter().enumerate() {
        world.commit(world.event(id, n as u64), false).await;
    }
    world.settle().await;
    let answered = world.submit("question", json!({"n": 1})).await;
    assert!(world.result(answered).await.to_string().contains("needle-0"));
    world.gate.send_replace(false);
    let (running, naming) = (
        world.submit("question", json!({"n": 2})).await,
        world.submit("question", json!({"id": "needle"})).await,
    );
    let saw = async || {
        let mut scanned = world.scanned.lock().await;
        scanned.recv().await.unwrap()
    };
    for _ in 0..3 {
        assert!(saw().await.contains("needle-0"));
    }
    let (tickets, submit) = (world.tickets.clone(), world.submission("question", json!({"n": 3})));
    let unwritten = tokio::spawn(async move {
        let wait = Duration::from_secs(100);
        tickets.submit_to_wait(submit, wait).await.unwrap()
    });
    assert!(saw().await.contains("needle-0"));

    let receipt = world.erase("needle").await;
    assert_eq!((&receipt["ids"], &receipt["events"]), (&json!(1), &json!(1)), "{receipt:#}");
    assert!(world.tickets.get(world.project_id, answered).await.is_err(), "it has expired");
    assert!(world.tickets.get(world.project_id, naming).await.is_err(), "it names the person");
    world.gate.send_replace(true);
    let answer = world.result(running).await.to_string();
    assert!(answer.contains("other-1") && !answer.contains("needle"), "{answer}");
    assert_eq!(world.tickets.get(world.project_id, running).await.unwrap().attempt, 1);
    // What it found first was seen by nobody, in the table least of all.
    let unwritten = unwritten.await.unwrap().ticket.ticket_id;
    let answer = world.result(unwritten).await.to_string();
    assert!(answer.contains("other-1") && !answer.contains("needle"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_runs_meanwhile_is_run_again_sqlite() {
    a_question_that_runs_meanwhile_is_run_again([fresh_sqlite(), fresh_sqlite(), fresh_sqlite()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_runs_meanwhile_is_run_again_mysql() {
    let databases = [fresh_mysql().await, fresh_mysql().await, fresh_mysql().await];
    a_question_that_runs_meanwhile_is_run_again(databases).await;
}

/// What the program sent and linked, without whoever was erased.
#[derive(Default)]
struct Model {
    sent: BTreeSet<(String, u64)>,
    links: BTreeMap<String, String>,
    erased: BTreeSet<String>,
}

impl Model {
    fn person_of(&self, id: &str) -> BTreeSet<String> {
        let mut person = BTreeSet::from([id.to_owned()]);
        loop {
            let more: BTreeSet<String> = self
                .links
                .iter()
                .filter(|(one, other)| person.contains(*one) != person.contains(*other))
                .flat_map(|(one, other)| [one.clone(), other.clone()])
                .collect();
            if more.is_subset(&person) {
                return person;
            }
            person.extend(more);
        }
    }

    fn erase(&mut self, id: &str) -> usize {
        let person = self.person_of(id);
        self.sent.retain(|(id, _)| !person.contains(id));
        self.links.retain(|one, other| !person.contains(one) && !person.contains(other));
        let ids = person.len();
        self.erased.extend(person);
        ids
    }

    fn persons(&self) -> Vec<Vec<String>> {
        let mut persons: BTreeMap<BTreeSet<String>, Vec<String>> = BTreeMap::new();
        for (id, n) in &self.sent {
            persons.entry(self.person_of(id)).or_default().push(format!("{id}-{n}"));
        }
        let mut events: Vec<Vec<String>> = persons.into_values().collect();
        events.iter_mut().for_each(|events| events.sort());
        events.sort();
        events
    }
}

async fn run(databases: [TestDatabase; 3], seed: u64) {
    // Shown when an assertion anywhere below fails.
    println!("seed {seed}");
    let world = World::new(&databases, seed).await;
    let mut model = Model::default();
    let dice = SeededRandom::new(seed ^ 0x5eed);
    let roll = |sides: u64| dice.next_u64() % sides;
    let ids: Vec<String> = (0..IDS).map(|n| format!("id{n}")).collect();
    let targets: Vec<String> = ids.iter().map(|_| ids[roll(IDS) as usize].clone()).collect();
    for step in 0..STEPS {
        match roll(14) {
            0..6 => {
                let (id, n) = (&ids[roll(IDS) as usize], roll(EVENTS));
                world.commit(world.event(id, n), roll(5) == 0).await;
                // What is sent again, or was recorded before the erasure and comes late, is dropped.
                if !model.erased.contains(id) {
                    model.sent.insert((id.clone(), n));
                }
            }
            6 | 7 => {
                let n = roll(IDS) as usize;
                if targets[n] != ids[n] {
                    world.commit(world.link(&ids[n], &targets[n]), roll(5) == 0).await;
                    if !model.erased.contains(&ids[n]) && !model.erased.contains(&targets[n]) {
                        model.links.insert(ids[n].clone(), targets[n].clone());
                    }
                }
            }
            8 | 9 => {
                let shard_no = ShardNo(roll(SHARDS.into()) as u16);
                let db = world.storage.shards.db_of(shard_no).unwrap();
                world.sealer.seal_shard(db, shard_no).await.unwrap();
            }
            10 => {
                for server in world.storage.shards.servers() {
                    world.forwarder.forward_server(server).await.unwrap();
                }
            }
            11 => {
                let shard_no = ShardNo(roll(SHARDS.into()) as u16);
                let db = world.storage.shards.db_of(shard_no).unwrap();
                world.compactor.compact_shard(db, shard_no).await.unwrap();
            }
            _ if step > 10 && model.erased.len() < 5 => {
                let id = &ids[roll(IDS) as usize];
                let receipt = world.erase(id).await;
                let gone = model.erase(id);
                assert_eq!(receipt["ids"], json!(gone), "seed {seed}, step {step}: {id}");
            }
            _ => {}
        }
    }
    world.settle().await;
    assert_eq!(world.events().await, model.persons(), "seed {seed}");
    let stored = world.stored().await;
    for id in &model.erased {
        assert!(!stored.iter().any(|event| event.starts_with(&format!("{id}-"))), "seed {seed}: {id}");
        for shard_no in world.storage.shards.all() {
            let db = world.storage.shards.db_of(shard_no).unwrap();
            let known = BTreeSet::from([id.clone()]);
            let known = crate::storage::server::erasure::find_known(db, shard_no, world.project_id, &known);
            assert_eq!(known.await.unwrap(), Default::default(), "seed {seed}: {id}");
            let moving = masks::read_shard(db, shard_no, 0).await.unwrap();
            assert!(moving.masks.iter().all(|mask| !mask.is_moving), "seed {seed}");
        }
    }
}

fn first_seed() -> u64 {
    std::env::var("WEIR_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_erased_is_gone_and_nobody_else_for_any_program_sqlite() {
    for seed in first_seed()..first_seed() + 6 {
        run([fresh_sqlite(), fresh_sqlite(), fresh_sqlite()], seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_erased_is_gone_and_nobody_else_for_any_program_mysql() {
    for seed in first_seed()..first_seed() + 2 {
        run([fresh_mysql().await, fresh_mysql().await, fresh_mysql().await], seed).await;
    }
}

#[test]
fn a_request_names_one_id_and_nothing_else() {
    assert_eq!(read_request(&json!({"distinct_id": "u"})).unwrap(), "u");
    for (bad, pointer) in [
        (json!(null), ""),
        (json!({}), "/distinct_id"),
        (json!({"distinct_id": 5}), "/distinct_id"),
        (json!({"distinct_id": ""}), "/distinct_id"),
        (json!({"distinct_id": "x".repeat(256)}), "/distinct_id"),
        (json!({"distinct_id": "u", "ids": []}), "/ids"),
    ] {
        assert_eq!(read_request(&bad).unwrap_err().errors[0].0, pointer, "{bad}");
    }
}

#[test]
fn what_is_done_comes_back_from_the_body_and_only_the_asked_id_is_shown() {
    let mut work = Work::new("u".to_owned());
    work.ids.insert("v".to_owned());
    work.persons.entry(ShardNo(3)).or_default().insert(7);
    work.masked.insert(ShardNo(3));
    work.wait_until = Some(5);
    let bytes = Body::Open(Box::new(work.clone())).write().unwrap();
    assert!(matches!(Body::read(&bytes).unwrap(), Body::Open(read) if *read == work));
    assert_eq!(shown_body(&bytes), Some(json!({"distinct_id": "u"})));
    let project = Project {
        retention_days: None,
        project_id: ProjectId(1),
        name: String::new(),
        time_zone: "UTC".to_owned(),
        span: 4,
        created_at: 0,
        erasure_epoch: 0,
    };
    let receipt = work.receipt(&project, 2, 0, 1_000, 2_000);
    let bytes = Body::Done { receipt: receipt.clone() }.write().unwrap();
    assert!(matches!(Body::read(&bytes).unwrap(), Body::Done { receipt: read } if read == receipt));
    assert_eq!(shown_body(&bytes), None);
}
