//! Split runs: several replicas, deaths, retries, cancels.

use super::*;
use crate::storage::control::tickets::StepOutcome;

impl Stage {
    async fn submit_split(&self, shards: u16, moves: &[&'static str]) -> TicketId {
        self.puppet.step_moves.lock().unwrap().extend(moves);
        self.submit(json!({"do": "split", "shards": shards})).await.ticket_id
    }

    async fn step(&mut self) -> u16 {
        loop {
            if let Saw::Step(shard_no) = self.saw.recv().await.unwrap() {
                return shard_no;
            }
        }
    }

    /// As a worker does, for a ticket that had no free slot when it came.
    async fn run_until_final(&self, ticket: TicketId) {
        while !self.store.find(ticket).await.unwrap().unwrap().state.is_final() {
            self.tickets.run_next().await.unwrap();
        }
    }

    fn steps_run(&self) -> u32 {
        self.puppet.steps_run.load(Ordering::SeqCst)
    }
}

on_both! {
    async fn steps_run_on_several_replicas_and_make_one_answer(db: Db) {
        let mut stage = Stage::new(db, settings(1));
        let ticket = stage.submit_split(6, &["wait"; 6]).await;
        for _ in 0..4 {
            stage.step().await;
        }
        // The run itself has its hands full; another replica takes the rest.
        let mut other = stage.replica(settings(2));
        other.tickets.start();
        let mut elsewhere = [other.step().await, other.step().await];
        elsewhere.sort_unstable();
        assert_eq!(elsewhere, [4, 5]);
        stage.puppet.gate.add_permits(4);
        assert_eq!(stage.end(ticket).await.state, TicketState::Succeeded);
        assert_eq!((stage.steps_run(), other.steps_run()), (4, 2));
        while !stage.store.list_settled_steps(ticket, 1).await.unwrap().is_empty() {
            // They go right after the answer has come.
            tokio::task::yield_now().await;
        }
        other.tickets.stop(WAIT_MAX).await;
    }
}

on_both! {
    async fn a_retry_repeats_only_what_is_missing(db: Db) {
        let stage = Stage::new(db, settings(1));
        stage.puppet.steps.lock().unwrap().push_back("retry");
        let ticket = stage.submit_split(3, &["done", "incomplete", "done"]).await;
        // Its first run ends with all steps settled and goes back to the queue.
        while stage.store.find(ticket).await.unwrap().unwrap().state != TicketState::Queued {
            tokio::task::yield_now().await;
        }
        assert_eq!(stage.steps_run(), 3);
        stage.clock.advance(60_000);
        assert!(stage.tickets.run_next().await.unwrap());
        let done = stage.end(ticket).await;
        assert_eq!((done.state, done.attempt), (TicketState::Succeeded, 2));
        assert_eq!(stage.steps_run(), 4, "only the incomplete one ran again");
    }
}

on_both! {
    async fn a_step_that_fails_is_tried_again_on_its_own(db: Db) {
        let stage = Stage::new(db, settings(1));
        let ticket = stage.submit_split(2, &["retry", "panic"]).await;
        let done = stage.end(ticket).await;
        assert_eq!((done.state, done.attempt), (TicketState::Succeeded, 1));
        assert_eq!(stage.steps_run(), 4);
    }
}

on_both! {
    async fn what_a_step_refuses_fails_the_ticket(db: Db) {
        let stage = Stage::new(db, settings(1));
        for (word, code) in [("fail", "no_such_property"), ("large", "partial_too_large")] {
            let ticket = stage.submit_split(1, &[word]).await;
            stage.run_until_final(ticket).await;
            let done = stage.end(ticket).await;
            assert_eq!((done.state, done.error.unwrap().code.as_str()), (TicketState::Failed, code));
        }
        assert_eq!(stage.steps_run(), 2);
    }
}

on_both! {
    async fn steps_of_a_killed_replica_are_taken_back(db: Db) {
        let mut stage = Stage::new(db, settings(1));
        let ticket = stage.submit_split(5, &["wait"; 4]).await;
        for _ in 0..4 {
            stage.step().await;
        }
        let dead = LeaseRequest { by: ReplicaId([9; 16]), now: NOW, until: NOW + 20_000 };
        assert_eq!(stage.store.lease_step(dead, &["puppet"]).await.unwrap().unwrap().shard_no, ShardNo(4));
        let mut wakeups = stage.tickets.inner.cache.wakeups().listen();
        stage.puppet.gate.add_permits(4);
        // With the clock advanced while they are open, the leases of these steps would be over too.
        while stage.store.list_settled_steps(ticket, 1).await.unwrap().len() < 4 {
            let settled = super::super::service::changed(&mut wakeups, ticket);
            tokio::time::timeout(Duration::from_secs(20), settled).await.expect("a step settles");
        }
        stage.clock.advance(20_001);
        assert_eq!(stage.step().await, 4);
        assert_eq!(stage.end(ticket).await.state, TicketState::Succeeded);
        assert_eq!(stage.steps_run(), 5);
    }
}

on_both! {
    async fn a_ticket_of_a_killed_replica_keeps_the_steps_that_are_done(db: Db) {
        let stage = Stage::new(db, settings(0));
        let ticket = stage.submit_split(6, &[]).await;
        let dead = LeaseRequest { by: ReplicaId([9; 16]), now: NOW, until: NOW + 20_000 };
        stage.store.lease_next(dead, &["puppet"]).await.unwrap().unwrap();
        let shards: Vec<_> = (0..6).map(ShardNo).collect();
        stage.store.insert_steps((ticket, 0), "puppet", 1, &"work".into(), &shards).await.unwrap();
        for n in 0..5 {
            let step = stage.store.lease_step(dead, &["puppet"]).await.unwrap().unwrap();
            if n < 3 {
                let part = format!("part {}", step.shard_no).into();
                assert!(stage.store.settle_step(&step, &StepOutcome::Done(part)).await.unwrap());
            }
        }
        // It died with two steps in its hands, one that nobody had begun, and the ticket itself.
        let other = stage.replica(settings(1));
        stage.clock.advance(20_001);
        other.tickets.maintain().await.unwrap();
        stage.clock.advance(1_000);
        other.run_until_final(ticket).await;
        let done = other.end(ticket).await;
        assert_eq!((done.state, done.attempt), (TicketState::Succeeded, 2));
        assert_eq!(other.steps_run(), 3);
    }
}

on_both! {
    async fn cancel_ends_the_steps_everywhere(db: Db) {
        let quick = TicketSettings { lease: Duration::from_millis(1_200), ..settings(1) };
        let mut stage = Stage::new(db, quick.clone());
        let ticket = stage.submit_split(5, &["wait"; 5]).await;
        for _ in 0..4 {
            stage.step().await;
        }
        let mut other = stage.replica(quick);
        other.puppet.step_moves.lock().unwrap().push_back("wait");
        other.tickets.start();
        assert_eq!(other.step().await, 4);
        stage.tickets.cancel(PROJECT, ticket).await.unwrap();
        assert_eq!(stage.end(ticket).await.state, TicketState::Cancelled);
        // Its slot is free again once it has noticed.
        let slot = tokio::time::timeout(WAIT_MAX, other.tickets.inner.slots.acquire()).await;
        drop(slot.expect("the step ends").unwrap());
        other.tickets.stop(WAIT_MAX).await;
    }
}

on_both! {
    async fn a_shutdown_gives_steps_back_with_their_attempt_number(db: Db) {
        let mut stage = Stage::new(db, settings(1));
        // More than two, should one be taken again while it is told to stop.
        let ticket = stage.submit_split(2, &["wait"; 8]).await;
        stage.step().await;
        stage.step().await;
        stage.tickets.stop(WAIT_MAX).await;
        let brief = LeaseRequest { by: ReplicaId([8; 16]), now: NOW, until: NOW + 1 };
        let step = stage.store.lease_step(brief, &["puppet"]).await.unwrap().unwrap();
        assert_eq!(step.attempt, 1);
        let other = stage.replica(settings(1));
        stage.clock.advance(2);
        other.run_until_final(ticket).await;
        let done = other.end(ticket).await;
        assert_eq!((done.state, done.attempt), (TicketState::Succeeded, 1));
    }
}
