//! What a project keeps no longer.

use super::super::expired::{Sweep, sweep};
use super::*;
use crate::config::SealingConfig;
use crate::eventstore::compaction::Compactor;
use crate::eventstore::retention::{Cuts, Retention};
use crate::model::{DAY_MS, LINK_EVENT};
use crate::storage::Statement;
use crate::storage::server::links::{self as stored_links, Link, LinkState};
use crate::storage::server::{masks, persons as stored_persons};

const KEPT_FROM: i64 = 10 * DAY_MS;

async fn keeping(db: &Db) -> SealContext {
    let retention = Retention::from_day(db, PROJECT, 10).await;
    SealContext { retention: Arc::new(retention), ..context(1_000) }
}

/// Rows go before persons.
async fn compact(db: &Db) {
    let (random, metrics) = (Arc::new(SeededRandom::new(3)), Metrics::default());
    let compactor = Compactor::new(ReplicaId([3; 16]), &SealingConfig::default(), random, &metrics);
    let compactor = compactor.with_retention(Arc::new(Retention::from_day(db, PROJECT, 10).await));
    assert!(compactor.compact_shard(db, SHARD).await.unwrap().expired > 0);
}

on_both! {
    async fn what_is_older_than_the_first_day_is_dropped(db: Db) {
        let context = keeping(&db).await;
        let link = Event { event: LINK_EVENT.into(), anonymous_id: Some("b".into()), ..event("a", 4, 5) };
        let other = Event { project_id: ProjectId(PROJECT.0 + 1), ..event("a", 3, 5) };
        send(&db, 1, &[event("a", 1, KEPT_FROM - 1), event("a", 2, KEPT_FROM), other, link]).await;
        let outcome = pass(&db, &context, &mut memory()).await;
        assert_eq!((outcome.expired, outcome.rows, outcome.links), (1, 2, 1), "{outcome:?}");
        // Sent again it is dropped again.
        send(&db, 2, &[event("a", 1, KEPT_FROM - 1)]).await;
        let outcome = pass(&db, &context, &mut memory()).await;
        assert_eq!((outcome.expired, outcome.rows), (1, 0));
        assert!(journal::backlog(&db).await.unwrap().is_empty());
    }
}

fn link() -> Link {
    Link {
        distinct_id: "masked".to_owned(),
        target_id: "both".to_owned(),
        target_shard: Some(SHARD),
        state: LinkState::Linked,
    }
}

static IDS: Statement = Statement {
    name: "test.ids",
    mysql: "SELECT distinct_id FROM distinct_ids ORDER BY distinct_id",
    sqlite: "SELECT distinct_id FROM distinct_ids ORDER BY distinct_id",
};
static PERSONS: Statement = Statement {
    name: "test.persons",
    mysql: "SELECT person_no FROM persons ORDER BY person_no",
    sqlite: "SELECT person_no FROM persons ORDER BY person_no",
};

async fn ids(db: &Db) -> Vec<String> {
    db.fetch_all(&IDS, vec![]).await.unwrap().iter().map(|row| row.text(0).unwrap()).collect()
}

async fn person_nos(db: &Db) -> Vec<u32> {
    db.fetch_all(&PERSONS, vec![]).await.unwrap().iter().map(|row| row.u32(0).unwrap()).collect()
}

/// Steps until there is nothing left to look at; how many persons were deleted.
async fn sweep_all(db: &Db, context: &SealContext, memory: &mut ShardMemory) -> u64 {
    let cuts = Cuts::from([(PROJECT, KEPT_FROM)]);
    let mut state = Sweep::default();
    assert!(state.is_due(&cuts));
    let taken = leases::find_lease(db, SHARD, LeaseTask::Seal, context.holder, 60_000).await.unwrap();
    let lease = taken.expect("nobody holds it");
    let mut deleted = 0;
    while state.is_under_way() {
        deleted += sweep(context, db, &lease, memory, &mut state, true).await.unwrap();
    }
    assert!(!state.is_due(&cuts), "until another day begins, or it has rested");
    assert!(state.is_due(&Cuts::from([(PROJECT, KEPT_FROM + DAY_MS)])));
    leases::release(db, &lease).await.unwrap();
    deleted
}

on_both! {
    async fn persons_without_a_later_event_go_and_their_numbers_stay_unused(db: Db) {
        let context = context(1_000);
        let mut memory = memory();
        let events = [
            event("gone", 1, KEPT_FROM - 1),
            event("here", 2, KEPT_FROM),
            event("both", 3, 5),
            event("both", 4, KEPT_FROM + 5),
            event("masked", 5, 5),
        ];
        send(&db, 1, &events).await;
        pass(&db, &context, &mut memory).await;
        let known = persons_of(&db, &["gone", "masked"]).await;
        let masked = known[1];
        let done: Result<(), StorageError> = db
            .transaction(move |tx| Box::pin(masks::insert(tx, SHARD, PROJECT, masked, "moved", 1)))
            .await;
        done.unwrap();
        assert_eq!(sweep_all(&db, &context, &mut memory).await, 0, "whose rows are still there");
        compact(&db).await;
        let moving: Result<(), StorageError> = db
            .transaction(move |tx| Box::pin(async move {
                stored_links::start(tx, SHARD, PROJECT, &link(), SHARD, masked).await
            }))
            .await;
        moving.unwrap();
        assert_eq!(sweep_all(&db, &context, &mut memory).await, 0, "while a move is open");
        let ended: Result<(), StorageError> = db
            .transaction(move |tx| {
                Box::pin(async move { stored_links::end(tx, SHARD, PROJECT, &["masked".to_owned()]).await })
            })
            .await;
        ended.unwrap();
        assert_eq!(sweep_all(&db, &context, &mut memory).await, 1);
        assert_eq!(ids(&db).await, ["both", "here", "masked"]);
        assert!(!person_nos(&db).await.contains(&known[0]));
        // The cache has forgotten them too.
        send(&db, 2, &[event("gone", 6, KEPT_FROM + 1)]).await;
        pass(&db, &context, &mut memory).await;
        let again = persons_of(&db, &["gone"]).await[0];
        assert_eq!(again, 4, "the next free number");
        assert_eq!(person_nos(&db).await.len(), 4);
        assert_eq!(sweep_all(&db, &context, &mut memory).await, 0);
    }
}

/// Each of another person, before the cut.
fn old_events(count: u128) -> Vec<Event> {
    (0..count)
        .map(|n| Event { event_id: EventId(n.to_be_bytes()), ..event(&format!("p{n}"), 0, 5) })
        .collect()
}

async fn persons_of(db: &Db, ids: &[&str]) -> Vec<u32> {
    let asked: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    let known = stored_persons::find_ids(db, SHARD, PROJECT, &asked).await.unwrap();
    ids.iter().map(|id| known.iter().find(|known| known.distinct_id == *id).unwrap().person_no).collect()
}

on_both! {
    async fn many_persons_go_in_steps(db: Db) {
        let context = context(10_000);
        let mut memory = memory();
        send(&db, 1, &old_events(1_201)).await;
        pass(&db, &context, &mut memory).await;
        compact(&db).await;
        assert_eq!(sweep_all(&db, &context, &mut memory).await, 1_201);
        assert_eq!(ids(&db).await, [] as [String; 0]);
    }
}

on_both! {
    async fn whoever_gets_an_old_row_while_others_go_stays(db: Db) {
        let context = context(10_000);
        let mut memory = memory();
        send(&db, 1, &old_events(401)).await;
        pass(&db, &context, &mut memory).await;
        compact(&db).await;
        let mut state = Sweep::default();
        assert!(state.is_due(&Cuts::from([(PROJECT, KEPT_FROM)])));
        let step = async |memory: &mut ShardMemory, state: &mut Sweep| {
            let taken = leases::find_lease(&db, SHARD, LeaseTask::Seal, context.holder, 60_000).await.unwrap();
            let lease = taken.expect("nobody else holds it");
            let deleted = sweep(&context, &db, &lease, memory, state, true).await.unwrap();
            leases::release(&db, &lease).await.unwrap();
            deleted
        };
        assert_eq!(step(&mut memory, &mut state).await, 200);
        // The project keeps more by now, which this sweep does not know.
        let last = ids(&db).await.pop().unwrap();
        send(&db, 2, &[event(&last, 200, KEPT_FROM - 1)]).await;
        assert_eq!(pass(&db, &context, &mut memory).await.rows, 1);
        while state.is_under_way() {
            assert_eq!(step(&mut memory, &mut state).await, 0);
        }
        assert!(ids(&db).await.contains(&last));
    }
}
