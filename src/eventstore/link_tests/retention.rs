//! Programs in which time passes as well, and the project keeps its events for another number of days now
//! and then, of which the process hears later. What is kept in the end is there, as links say, and nothing
//! from before is left in any table.
//!
//! The model does not know whether an event is there that was too old at some time since it was sent last
//! and is kept again because the days became more: that depends on whether it was deleted meanwhile. It
//! knows so after everything was sent again. In every other pair of programs the days only become fewer,
//! and there are no such events.

use std::collections::BTreeSet;

use super::world::{World, occurred_at};
use super::{Model, Names, Persons, Program, assert_shown_whole, first_seed, read};
use crate::model::{DAY_MS, Millis, utc_day};
use crate::storage::conformance::{TestDatabase, fresh_mysql, fresh_sqlite};
use crate::storage::{Statement, Value};

const STEPS: usize = 70;
/// So many days and more, of which the first events occurred later.
const FOR_EVER: u32 = 8;
/// In which everything old must be gone.
const ROUNDS: usize = 8;

async fn run(databases: &[TestDatabase; 3], seed: u64) {
    let shards = if seed.is_multiple_of(3) { 1 } else { 4 };
    let only_fewer = seed / 2 % 2 == 1;
    // Shown when an assertion anywhere below fails.
    println!("seed {seed}, {shards} shards, days become fewer only: {only_fewer}");
    let mut world = World::new(databases, shards, seed).await;
    let (program, mut model) = (Program::new(seed, true), Model::default());
    let mut days = FOR_EVER;
    let other_days = |days: u32, more: u64| {
        let other = 3 + program.roll(more) as u32;
        if only_fewer { other.min(days) } else { other }
    };
    // What may have been deleted since it was sent last.
    let mut doubtful = BTreeSet::new();
    for _ in 0..STEPS {
        match program.roll(20) {
            0 | 1 => world.pass_time(DAY_MS / 3),
            2 | 3 => {
                days = other_days(days, 6);
                world.set_days((days < FOR_EVER).then_some(days)).await;
            }
            4 | 5 => world.hear_of_days().await,
            6 => {
                world.compact_all().await;
                world.seal_everything().await;
            }
            7 => world.seal_everything().await,
            8 => ask(&world, &program.pick()).await,
            _ => {
                if let Some(sent) = program.step(&mut world, &mut model).await {
                    doubtful.remove(&sent);
                }
            }
        }
        let deleted_before = world.deleted_before();
        doubtful.extend(model.sent.iter().filter(|(_, n)| occurred_at(*n) < deleted_before).cloned());
    }
    days = other_days(days, 3);
    world.set_days(Some(days)).await;
    world.hear_of_days().await;
    clean_up(&mut world).await;
    let won = program.winning_links(&world, &model).await;
    let names = Names::new(&program.ids, &won);
    // In the first hour of a day, questions are ahead of what is deleted.
    let cuts = [world.deleted_before(), world.kept_from().await.unwrap()];
    let is_kept = |cut| move |(_, n): &(String, u64)| occurred_at(*n) >= cut;
    let seen_from = async |from| names.name(world.persons(from).await);
    for (cut, from) in cuts.into_iter().zip([Millis::MIN, cuts[1]]) {
        let least = model.persons(&names, |sent| is_kept(cut)(sent) && !doubtful.contains(sent));
        let most = model.persons(&names, is_kept(cut));
        assert!(!only_fewer || least == most);
        assert_between(&least, &seen_from(from).await, &most);
    }
    assert_shown_whole(&world, &model, &names, &seen_from(Millis::MIN).await).await;

    for (id, n) in &model.sent {
        world.commit(world.event(id, *n), program.roll(5) == 0).await;
    }
    world.settle().await;
    assert_eq!(left(&world, cuts[0]).await, [], "nothing old comes in again");
    for (cut, from) in cuts.into_iter().zip([Millis::MIN, cuts[1]]) {
        let sent = model.persons(&names, is_kept(cut));
        assert_eq!(seen_from(from).await, sent, "everything was sent again, links {won:?}");
    }

    world.pass_time(2 * Millis::from(FOR_EVER) * DAY_MS);
    work_in_background(&mut world).await;
    assert_eq!(left(&world, Millis::MAX).await, [], "all has grown old");
    assert_eq!(program.winning_links(&world, &model).await, won, "links stay");
}

/// Whatever is still to be deleted, nobody sees it.
async fn ask(world: &World, id: &str) {
    let kept_from = world.kept_from().await;
    for from in [kept_from.unwrap_or(Millis::MIN), Millis::MIN] {
        world.scan(from).await;
    }
    let shown = read(world, id, kept_from).await;
    if let Some(kept_from) = kept_from {
        assert!(shown.events.iter().all(|event| event.occurred_at >= kept_from), "{:?}", shown.events);
        assert!(shown.days.is_none_or(|(first, _)| first >= utc_day(kept_from)), "{:?}", shown.days);
    }
}

fn assert_between(least: &Persons, seen: &Persons, most: &Persons) {
    let none = BTreeSet::new();
    for name in least.keys().chain(seen.keys()) {
        let of = |persons: &Persons| persons.get(name).unwrap_or(&none).clone();
        let (least, seen, most) = (of(least), of(seen), of(most));
        assert!(least.is_subset(&seen), "{name}: {:?} missing of {least:?}", &least - &seen);
        assert!(seen.is_subset(&most), "{name}: {:?} beside {most:?}", &seen - &most);
    }
}

/// Everything that the process does by itself, once.
async fn work_in_background(world: &mut World) {
    world.hear_of_days().await;
    world.compact_all().await;
    world.let_compaction_wait();
    world.compact_all().await;
    world.settle().await;
    // With leases that are held by now.
    world.seal_everything().await;
}

/// Until nothing is left that is to be deleted. Each round is another process's, since one that finds
/// something in its way rests for a while.
async fn clean_up(world: &mut World) {
    for _ in 0..ROUNDS {
        work_in_background(world).await;
        if left(world, world.deleted_before()).await.is_empty() {
            return;
        }
        world.start_anew().await;
    }
    let cut = world.deleted_before();
    panic!("before {cut} is left: {:?}", left(world, cut).await);
}

const fn statement(name: &'static str, text: &'static str) -> Statement {
    Statement { name, mysql: text, sqlite: text }
}

static OLD: [Statement; 3] = [
    statement("test.old_runs", "SELECT COUNT(*) FROM runs WHERE min_at < ?"),
    statement("test.old_segments", "SELECT COUNT(*) FROM segments WHERE min_at < ?"),
    statement(
        "test.old_persons",
        "SELECT COUNT(*) FROM persons WHERE last_day IS NULL OR last_day * 86400000 < ?",
    ),
];
static STRAY: [Statement; 3] = [
    statement(
        "test.stray_parts",
        "SELECT COUNT(*) FROM parts WHERE object_id NOT IN (SELECT run_id FROM runs) \
         AND object_id NOT IN (SELECT segment_id FROM segments)",
    ),
    statement(
        "test.stray_ids",
        "SELECT COUNT(*) FROM distinct_ids WHERE NOT EXISTS (SELECT 1 FROM persons \
         WHERE persons.shard_no = distinct_ids.shard_no AND persons.project_id = distinct_ids.project_id \
         AND persons.person_no = distinct_ids.person_no)",
    ),
    statement("test.masks", "SELECT COUNT(*) FROM masks"),
];

/// What tables have from before an instant or for nobody, and how many rows of it.
async fn left(world: &World, cut: Millis) -> Vec<(&'static str, u64)> {
    let mut left = Vec::new();
    let old = OLD.iter().map(|statement| (statement, vec![Value::from(cut)]));
    for (statement, binds) in old.chain(STRAY.iter().map(|statement| (statement, vec![]))) {
        for server in world.storage.shards.servers() {
            let row = server.db().unwrap().fetch_optional(statement, binds.clone()).await.unwrap();
            match row.unwrap().u64(0).unwrap() {
                0 => {}
                rows => left.push((statement.name, rows)),
            }
        }
    }
    left
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_there_and_nothing_older_for_any_program_sqlite() {
    for seed in first_seed()..first_seed() + 6 {
        run(&[fresh_sqlite(), fresh_sqlite(), fresh_sqlite()], seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_there_and_nothing_older_for_any_program_mysql() {
    for seed in first_seed()..first_seed() + 2 {
        run(&[fresh_mysql().await, fresh_mysql().await, fresh_mysql().await], seed).await;
    }
}
