//! Links against a model: random programs of sending, resending, linking, sealing, forwarding,
//! compacting and starting anew, over shards of two servers, must leave every person with exactly the
//! events that the model gives them. [`retention`] has programs that also let events grow old.

mod retention;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use super::person::{PersonEvents, PersonRequest, read_person};
use crate::model::{Millis, Random, SeededRandom, ShardNo};
use crate::storage::conformance::{TestDatabase, fresh_mysql, fresh_sqlite};
use world::{SeenPerson, World};

const IDS: u64 = 7;
const EVENTS: u64 = 12;
const STEPS: usize = 60;

/// The events of each person, by the smallest id that belongs to them.
type Persons = BTreeMap<String, BTreeSet<String>>;

/// What the program sent and linked, and nothing of how it got there.
#[derive(Default)]
struct Model {
    sent: BTreeSet<(String, u64)>,
    said: BTreeSet<(String, String)>,
}

impl Model {
    /// With those of the sent events that are meant.
    fn persons(&self, names: &Names, is_meant: impl Fn(&(String, u64)) -> bool) -> Persons {
        let mut persons = Persons::new();
        for (id, n) in self.sent.iter().filter(|sent| is_meant(sent)) {
            persons.entry(names.of(id).to_owned()).or_default().insert(format!("e{n}"));
        }
        persons
    }
}

/// What persons are called here: the smallest of all ids that links connect.
struct Names(BTreeMap<String, String>);

impl Names {
    fn new(ids: &[String], links: &[(String, String)]) -> Self {
        let mut names: BTreeMap<String, String> = ids.iter().map(|id| (id.clone(), id.clone())).collect();
        for (a, b) in links {
            let (one, other) = (names[a].clone(), names[b].clone());
            let (least, most) = (one.clone().min(other.clone()), one.max(other));
            names.values_mut().filter(|name| **name == most).for_each(|name| name.clone_from(&least));
        }
        Self(names)
    }

    fn of(&self, id: &str) -> &str {
        &self.0[id]
    }

    /// Whatever was seen of a person is in one place.
    fn name(&self, seen: Vec<SeenPerson>) -> Persons {
        let mut persons = Persons::new();
        for SeenPerson { ids, events } in seen {
            let names: BTreeSet<&str> = ids.iter().map(|id| self.of(id)).collect();
            let [name] = *names.iter().collect::<Vec<_>>() else { panic!("{ids:?} are one person") };
            let before = persons.insert((*name).to_owned(), events);
            assert!(before.is_none(), "{name} is two persons, one of them with {before:?}");
        }
        persons
    }
}

/// Decides what happens, with dice of its own, so that it is the same however many numbers the world takes.
struct Program {
    dice: SeededRandom,
    ids: Vec<String>,
    targets: Vec<String>,
    /// Whether an id may be linked to several others, of which the first that is heard wins.
    conflicts: bool,
}

impl Program {
    fn new(seed: u64, conflicts: bool) -> Self {
        let dice = SeededRandom::new(seed ^ 0x5eed);
        let ids: Vec<String> = (0..IDS).map(|n| format!("id{n}")).collect();
        let mut program = Self { dice, ids, targets: Vec::new(), conflicts };
        program.targets = program.ids.iter().map(|_| program.pick()).collect();
        program
    }

    fn roll(&self, sides: u64) -> u64 {
        self.dice.next_u64() % sides
    }

    fn pick(&self) -> String {
        self.ids[self.roll(IDS) as usize].clone()
    }

    fn pick_shard(&self, world: &World) -> ShardNo {
        ShardNo(self.roll(16) as u16 % world.shards)
    }

    /// What was sent, if anything was.
    async fn step(&self, world: &mut World, model: &mut Model) -> Option<(String, u64)> {
        match self.roll(12) {
            0..4 => {
                let sent = (self.pick(), self.roll(EVENTS));
                model.sent.insert(sent.clone());
                return Some(self.send(world, sent).await);
            }
            4 => {
                let again = self.roll(model.sent.len().max(1) as u64) as usize;
                let again = model.sent.iter().nth(again)?.clone();
                return Some(self.send(world, again).await);
            }
            5 | 6 => {
                let n = self.roll(IDS) as usize;
                let target = if self.conflicts { self.pick() } else { self.targets[n].clone() };
                if target != self.ids[n] {
                    world.commit(world.link(&self.ids[n], &target), self.roll(5) == 0).await;
                    model.said.insert((self.ids[n].clone(), target));
                }
            }
            7 | 8 => world.seal(self.pick_shard(world)).await,
            9 => world.forward().await,
            10 => world.compact(self.pick_shard(world)).await,
            _ => world.start_anew().await,
        }
        None
    }

    async fn send(&self, world: &World, (id, n): (String, u64)) -> (String, u64) {
        world.commit(world.event(&id, n), self.roll(5) == 0).await;
        (id, n)
    }

    /// The links that won, when nothing is on its way.
    async fn winning_links(&self, world: &World, model: &Model) -> Vec<(String, String)> {
        let won = world.winning_links(&self.ids).await;
        assert!(won.iter().all(|link| model.said.contains(link)), "{won:?}");
        let linked: BTreeSet<&String> = model.said.iter().map(|(id, _)| id).collect();
        assert_eq!(won.len(), linked.len(), "every id that was linked has one link");
        won
    }
}

async fn read(world: &World, distinct_id: &str, kept_from: Option<Millis>) -> PersonEvents {
    let request = PersonRequest {
        project_id: world.project_id,
        span: world.shards,
        distinct_id,
        after: None,
        kept_from,
        limit: 100,
        with_properties: true,
        bytes_max: 1 << 20,
    };
    read_person(&world.storage.shards, &world.headers, &request).await.unwrap()
}

/// Whoever is asked for by any id is shown whole.
async fn assert_shown_whole(world: &World, model: &Model, names: &Names, persons: &Persons) {
    for id in model.sent.iter().map(|(id, _)| id).collect::<BTreeSet<_>>() {
        let shown = read(world, id, None).await;
        let events: Vec<String> = shown.events.iter().map(|event| event.event.to_string()).collect();
        let as_set: BTreeSet<String> = events.iter().cloned().collect();
        assert_eq!(as_set.len(), events.len(), "{id}: {events:?}");
        assert_eq!(as_set, persons.get(names.of(id)).cloned().unwrap_or_default(), "{id}");
        assert!(events.is_empty() || shown.distinct_ids.contains(id), "{id}: {:?}", shown.distinct_ids);
    }
}

/// Runs the program of a seed; the persons that it leaves, which are as the model says.
async fn run(databases: &[TestDatabase; 3], shards: u16, seed: u64, conflicts: bool) -> Persons {
    // Shown when an assertion anywhere below fails.
    println!("seed {seed}, {shards} shards, conflicts: {conflicts}");
    let mut world = World::new(databases, shards, seed).await;
    let (program, mut model) = (Program::new(seed, conflicts), Model::default());
    for _ in 0..STEPS {
        program.step(&mut world, &mut model).await;
    }
    world.settle().await;
    let won = program.winning_links(&world, &model).await;
    let names = Names::new(&program.ids, &won);
    let expected = model.persons(&names, |_| true);
    assert_eq!(names.name(world.persons(Millis::MIN).await), expected, "links {won:?}");
    world.compact_all().await;
    assert_eq!(names.name(world.persons(Millis::MIN).await), expected, "compaction changes no answer");
    assert_shown_whole(&world, &model, &names, &expected).await;
    expected
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
            answers.push(run(&databases, shards, seed, false).await);
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_link_of_an_id_wins_sqlite() {
    for seed in first_seed()..first_seed() + 4 {
        run(&[fresh_sqlite(), fresh_sqlite(), fresh_sqlite()], 4, seed, true).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn linked_ids_are_one_person_for_any_program_mysql() {
    for seed in first_seed()..first_seed() + 2 {
        let databases = [fresh_mysql().await, fresh_mysql().await, fresh_mysql().await];
        run(&databases, 4, seed, seed % 2 == 0).await;
    }
}
