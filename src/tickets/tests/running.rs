//! How runs end: by themselves, by cancel, by shutdown, by losing their lease.

use super::*;

on_both! {
    async fn a_failure_says_what_was_wrong(db: Db) {
        let stage = Stage::new(db, settings(1));
        let ticket = stage.submit(json!({"do": "fail"})).await;
        let ticket = stage.end(ticket.ticket_id).await;
        assert_eq!((ticket.state, ticket.attempt), (TicketState::Failed, 1));
        assert_eq!(ticket.error.clone().unwrap().code, "no_such_property");
        assert!(matches!(stage.tickets.result(&ticket).await, Err(TicketError::NoResult)));
    }
}

on_both! {
    async fn who_waits_for_a_ticket_that_was_not_told_gets_it_as_it_would_be_found_without_a_look(db: Db) {
        let stage = Stage::new(db, settings(1));
        let submitted = stage.tickets.submit(submission(json!({}))).await.unwrap();
        let ticket = submitted.ticket.ticket_id;
        assert!(stage.tickets.inner.untold.contains(ticket) && !submitted.ticket.state.is_final());
        // The slot is free again when the run is written down.
        drop(stage.tickets.inner.slots.acquire().await.unwrap());
        let found = stage.tickets.get(PROJECT, ticket).await.unwrap();
        // Nobody finds it from now on.
        stage.store.expire(ticket, NOW, 1_000).await.unwrap();
        let waited = stage.tickets.wait_for_end(submitted, Duration::from_secs(20)).await.unwrap();
        assert_eq!(stage.tickets.result(&waited).await.unwrap(), r#"{"answer":1}"#);
        assert_eq!(Ticket { at_hand: None, ..waited }, found);
        assert!(!stage.tickets.inner.untold.contains(ticket), "it is told");
    }
}

on_both! {
    async fn a_run_that_may_go_better_is_tried_again_after_a_pause(db: Db) {
        let stage = Stage::new(db, settings(1));
        stage.puppet.steps.lock().unwrap().extend(["retry", "panic", "answer"]);
        let ticket = stage.submit(json!({})).await.ticket_id;
        for (run, pause) in [(1, 1_250), (2, 5_000)] {
            // The slot is free again when the run is written down.
            drop(stage.tickets.inner.slots.acquire().await.unwrap());
            let now = stage.tickets.get(PROJECT, ticket).await.unwrap();
            assert_eq!((now.state, now.attempt, now.error), (TicketState::Queued, run, None));
            assert!(!stage.tickets.run_next().await.unwrap());
            stage.clock.advance(pause);
            assert!(stage.tickets.run_next().await.unwrap());
        }
        let ticket = stage.tickets.get(PROJECT, ticket).await.unwrap();
        assert_eq!((ticket.state, ticket.attempt), (TicketState::Succeeded, 3));
    }
}

on_both! {
    async fn attempts_end(db: Db) {
        let stage = Stage::new(db, settings(1));
        let ticket = stage.submit(json!({"do": "retry"})).await.ticket_id;
        for _ in 0..2 {
            drop(stage.tickets.inner.slots.acquire().await.unwrap());
            stage.clock.advance(100_000);
            assert!(stage.tickets.run_next().await.unwrap());
        }
        let ticket = stage.tickets.get(PROJECT, ticket).await.unwrap();
        assert_eq!((ticket.state, ticket.attempt), (TicketState::Failed, 3));
        let error = ticket.error.unwrap();
        assert_eq!(error.code, "attempts_exhausted");
        assert!(!error.detail.contains("the server is away"), "causes stay in the log: {}", error.detail);
    }
}

on_both! {
    async fn cancel_reaches_the_run(db: Db) {
        let mut stage = Stage::new(db, settings(1));
        let ticket = stage.submit(json!({"do": "wait"})).await.ticket_id;
        stage.started().await;
        let cancelling = stage.tickets.cancel(PROJECT, ticket).await.unwrap();
        assert!(matches!(cancelling.state, TicketState::Cancelling | TicketState::Cancelled));
        assert_eq!(stage.saw.recv().await.unwrap(), Saw::Stopped(StopReason::Cancelled));
        assert_eq!(stage.end(ticket).await.state, TicketState::Cancelled);
        assert_eq!(stage.tickets.cancel(PROJECT, ticket).await.unwrap().state, TicketState::Cancelled);
    }
}

on_both! {
    async fn cancel_on_another_replica_is_seen_by_the_heartbeat(db: Db) {
        let short = TicketSettings { lease: Duration::from_millis(1_200), ..settings(1) };
        let mut stage = Stage::new(db, short);
        let ticket = stage.submit(json!({"do": "wait"})).await.ticket_id;
        stage.started().await;
        let other = stage.replica(settings(0));
        assert_eq!(other.tickets.cancel(PROJECT, ticket).await.unwrap().state, TicketState::Cancelling);
        assert_eq!(stage.saw.recv().await.unwrap(), Saw::Stopped(StopReason::Cancelled));
        assert_eq!(other.end(ticket).await.state, TicketState::Cancelled);
    }
}

on_both! {
    async fn a_run_that_does_not_listen_is_dropped(db: Db) {
        let limited = TicketSettings { run_max: Duration::from_millis(1), ..settings(1) };
        let stage = Stage::new(db, limited);
        let ticket = stage.submit(json!({"do": "deaf"})).await.ticket_id;
        let ticket = stage.end(ticket).await;
        assert_eq!((ticket.state, ticket.error.unwrap().code.as_str()), (TicketState::Failed, "timed_out"));
        // The slot is free again.
        drop(stage.tickets.inner.slots.acquire().await.unwrap());
        assert!(stage.tickets.inner.running.lock().unwrap().is_empty());
    }
}

on_both! {
    async fn a_ticket_stopped_by_shutdown_keeps_its_attempt_number(db: Db) {
        let mut stage = Stage::new(db, settings(1));
        stage.tickets.start();
        let ticket = stage.submit(json!({"do": "wait"})).await.ticket_id;
        assert_eq!(stage.started().await, (1, 1));
        stage.tickets.stop(WAIT_MAX).await;
        assert_eq!(stage.saw.recv().await.unwrap(), Saw::Stopped(StopReason::Shutdown));
        let back = stage.tickets.get(PROJECT, ticket).await.unwrap();
        assert_eq!(back.state, TicketState::Queued);
        stage.clock.advance(1);
        // A process that stops still takes tickets in, for others to run.
        let later = stage.submit(json!({})).await;
        assert_eq!(later.state, TicketState::Queued);
        let mut other = stage.replica(settings(1));
        other.puppet.gate.add_permits(1);
        assert!(other.tickets.run_next().await.unwrap());
        assert_eq!(other.started().await, (1, 2));
        let done = other.end(ticket).await;
        assert_eq!((done.state, done.attempt), (TicketState::Succeeded, 1));
        assert!(other.tickets.run_next().await.unwrap());
    }
}

on_both! {
    async fn a_runner_stops_when_its_ticket_was_given_to_another(db: Db) {
        let short = TicketSettings { lease: Duration::from_millis(1_200), ..settings(1) };
        let mut stage = Stage::new(db, short);
        let ticket = stage.submit(json!({"do": "wait"})).await.ticket_id;
        stage.started().await;
        // It looked dead: its clock stood still.
        let mut other = stage.replica(settings(1));
        other.clock.advance(2_000);
        other.tickets.maintain().await.unwrap();
        other.clock.advance(2_000);
        other.puppet.gate.add_permits(1);
        let ran = {
            let tickets = other.tickets.clone();
            tokio::spawn(async move { tickets.run_next().await })
        };
        assert_eq!(other.started().await, (2, 2));
        assert_eq!(stage.saw.recv().await.unwrap(), Saw::Stopped(StopReason::LeaseLost));
        assert!(ran.await.unwrap().unwrap());
        let done = other.end(ticket).await;
        assert_eq!((done.state, done.attempt), (TicketState::Succeeded, 2));
    }
}

on_both! {
    async fn a_runner_without_its_database_stops_before_the_lease_ends(db: Db) {
        let short = TicketSettings { lease: Duration::from_millis(1_200), ..settings(1) };
        let mut stage = Stage::new(db, short);
        let submitted_at = std::time::Instant::now();
        stage.submit(json!({"do": "wait"})).await;
        stage.started().await;
        stage.db.close().await;
        assert_eq!(stage.saw.recv().await.unwrap(), Saw::Stopped(StopReason::LeaseLost));
        assert!(submitted_at.elapsed() < Duration::from_millis(1_200), "{:?}", submitted_at.elapsed());
    }
}

on_both! {
    async fn a_heartbeat_keeps_a_long_run_and_shows_its_progress(db: Db) {
        let short = TicketSettings { lease: Duration::from_millis(600), ..settings(1) };
        let mut stage = Stage::new(db, short);
        let ticket = stage.submit(json!({"do": "wait"})).await;
        stage.started().await;
        let changed = loop {
            let seen = WaitFor::Change(ticket.version());
            let now = stage.tickets.wait(PROJECT, ticket.ticket_id, seen, WAIT_MAX).await.unwrap();
            if now.progress.rows_done > 0 {
                break now;
            }
        };
        let shown = TicketProgress { shards_done: 1, shards_total: 4, rows_done: 25, rows_total: 100 };
        assert_eq!(changed.progress, shown);
        // Time passes for everybody, and the lease moves along.
        stage.clock.advance(500);
        while stage.store.find(ticket.ticket_id).await.unwrap().unwrap().lease_until < Some(NOW + 1_100) {
            tokio::task::yield_now().await;
        }
        stage.clock.advance(500);
        stage.tickets.maintain().await.unwrap();
        stage.puppet.gate.add_permits(1);
        assert_eq!(stage.end(ticket.ticket_id).await.attempt, 1);
    }
}

on_both! {
    async fn a_ticket_of_a_killed_process_is_run_by_another(db: Db) {
        let stage = Stage::new(db, settings(0));
        let ticket = stage.submit(json!({})).await.ticket_id;
        let dead = LeaseRequest { by: ReplicaId([9; 16]), now: NOW, until: NOW + 20_000 };
        stage.store.lease_next(dead, &["puppet"]).await.unwrap().unwrap();
        let other = stage.replica(settings(1));
        assert!(!other.tickets.run_next().await.unwrap());
        stage.clock.advance(20_001);
        other.tickets.maintain().await.unwrap();
        stage.clock.advance(1_000);
        assert!(other.tickets.run_next().await.unwrap());
        let done = other.end(ticket).await;
        assert_eq!((done.state, done.attempt), (TicketState::Succeeded, 2));
    }
}
