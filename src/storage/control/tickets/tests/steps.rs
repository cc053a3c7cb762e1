//! Steps of split tickets.

use bytes::Bytes;

use super::*;
use crate::model::ShardNo;

const SHARDS: [ShardNo; 3] = [ShardNo(0), ShardNo(4), ShardNo(9)];
const ATTEMPTS_MAX: u32 = 2;

fn work(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn hand_out(store: &TicketStore, text: &'static str) {
    store.insert_steps((id(1), 0), "question", 1, &work(text), &SHARDS).await.unwrap();
}

async fn next(store: &TicketStore, by: ReplicaId, now: Millis) -> Option<LeasedStep> {
    store.lease_step(lease(by, now), KINDS).await.unwrap()
}

fn done(text: &'static str) -> StepOutcome {
    StepOutcome::Done(work(text))
}

on_both! {
    async fn each_step_is_leased_once_and_settles_once(db: Db) {
        let store = TicketStore::new(db);
        assert_eq!(next(&store, US, NOW).await, None);
        hand_out(&store, "w").await;
        // Handing out the same again changes nothing.
        hand_out(&store, "w").await;
        assert_eq!(store.lease_step(lease(US, NOW), &["export"]).await.unwrap(), None);
        let first = next(&store, US, NOW).await.unwrap();
        assert_eq!((first.shard_no, first.round_no, first.attempt, first.fence), (SHARDS[0], 1, 1, 1));
        assert_eq!((first.work.clone(), first.kind.as_str()), (work("w"), "question"));
        let second = store.lease_step_of(lease(THEM, NOW), id(1), 1).await.unwrap().unwrap();
        assert_eq!(second.shard_no, SHARDS[1]);
        assert_eq!(store.lease_step_of(lease(THEM, NOW), id(2), 1).await.unwrap(), None);
        assert_eq!(store.lease_step_of(lease(THEM, NOW), id(1), 2).await.unwrap(), None);
        assert_eq!(next(&store, US, NOW).await.unwrap().shard_no, SHARDS[2]);
        assert_eq!(next(&store, US, NOW).await, None);

        assert_eq!(store.find_step_outcome(id(1), 1, SHARDS[0]).await.unwrap(), None);
        assert!(store.settle_step(&first, &done("1")).await.unwrap());
        assert!(!store.settle_step(&first, &done("other")).await.unwrap());
        assert_eq!(store.find_step_outcome(id(1), 1, SHARDS[0]).await.unwrap(), Some(done("1")));
        assert_eq!(store.list_settled_steps(id(1), 1).await.unwrap(), [SHARDS[0]]);
        store.delete_steps(id(1)).await.unwrap();
        assert!(!store.settle_step(&second, &done("2")).await.unwrap());
        assert_eq!(store.list_settled_steps(id(1), 1).await.unwrap(), []);
    }
}

on_both! {
    async fn a_later_run_repeats_only_what_is_not_done(db: Db) {
        let store = TicketStore::new(db);
        hand_out(&store, "w").await;
        let failure = Failure::new("c", "two\nlines");
        for outcome in [done("1"), StepOutcome::Incomplete(work("2")), StepOutcome::Failed(failure.clone())] {
            let step = next(&store, US, NOW).await.unwrap();
            assert!(store.settle_step(&step, &outcome).await.unwrap());
            assert_eq!(store.find_step_outcome(id(1), 1, step.shard_no).await.unwrap(), Some(outcome));
        }
        hand_out(&store, "w").await;
        assert_eq!(store.list_settled_steps(id(1), 1).await.unwrap(), [SHARDS[0]]);
        let again = next(&store, US, NOW).await.unwrap();
        assert_eq!((again.shard_no, again.attempt, again.fence), (SHARDS[1], 1, 3));
        // Other work for the same round has no use for what was found.
        hand_out(&store, "x").await;
        assert_eq!(store.list_settled_steps(id(1), 1).await.unwrap(), []);
        assert!(!store.settle_step(&again, &done("late")).await.unwrap());
        assert_eq!(next(&store, US, NOW).await.unwrap().work, work("x"));
    }
}

on_both! {
    async fn a_step_whose_runner_died_is_taken_back_and_given_up_in_the_end(db: Db) {
        let store = TicketStore::new(db);
        store.insert_steps((id(1), 0), "question", 1, &work("w"), &SHARDS[..1]).await.unwrap();
        let of_round = async |round_no| store.find_work(id(1), round_no).await.unwrap();
        assert_eq!((of_round(1).await, of_round(2).await), (Some(work("w")), None));
        let first = next(&store, US, NOW).await.unwrap();
        let rescue = async |now| store.rescue_steps(id(1), now, ATTEMPTS_MAX).await.unwrap();
        assert_eq!(rescue(NOW + 30_000).await, 0);
        assert!(store.renew_step(&first, NOW + 40_000).await.unwrap());
        assert_eq!(rescue(NOW + 30_001).await, 0);
        assert_eq!(rescue(NOW + 40_001).await, 1);
        let second = next(&store, THEM, NOW + 40_001).await.unwrap();
        assert_eq!((second.attempt, second.fence), (2, 2));
        // The one who was slow changes nothing.
        assert!(!store.renew_step(&first, NOW + 99_000).await.unwrap());
        assert!(!store.settle_step(&first, &done("late")).await.unwrap());
        assert!(!store.give_back_step(&first, true).await.unwrap());
        assert_eq!(rescue(NOW + 70_002).await, 1);
        let given_up = store.find_step_outcome(id(1), 1, SHARDS[0]).await.unwrap();
        assert!(matches!(given_up, Some(StepOutcome::Failed(failure)) if failure.code == "runner_died"));
        assert!(!store.settle_step(&second, &done("late")).await.unwrap());
    }
}

on_both! {
    async fn an_interrupted_step_keeps_its_attempt_number_and_a_failed_one_does_not(db: Db) {
        let store = TicketStore::new(db);
        store.insert_steps((id(1), 0), "question", 1, &work("w"), &SHARDS[..1]).await.unwrap();
        let step = next(&store, US, NOW).await.unwrap();
        assert!(store.give_back_step(&step, true).await.unwrap());
        let step = next(&store, US, NOW).await.unwrap();
        assert_eq!((step.attempt, step.fence), (1, 2));
        assert!(store.give_back_step(&step, false).await.unwrap());
        assert_eq!(next(&store, US, NOW).await.unwrap().attempt, 2);
    }
}

on_both! {
    async fn steps_go_with_their_ticket(db: Db) {
        let store = TicketStore::new(db);
        let row = put(&store, &ticket(1), InsertAs::Leased(lease(US, NOW))).await;
        hand_out(&store, "w").await;
        store.fail(&row, &Failure::new("c", "d"), NOW, NOW + 100).await.unwrap();
        assert_eq!(store.sweep(NOW + 100, RULES).await.unwrap().emptied, 1);
        assert_eq!(next(&store, US, NOW).await, None);
    }
}
