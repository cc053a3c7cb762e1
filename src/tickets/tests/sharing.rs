//! Equal tickets share one run.

use super::*;

on_both! {
    async fn equal_questions_over_equal_data_run_once(db: Db) {
        let mut stage = Stage::new(db, settings(4));
        *stage.puppet.version.lock().unwrap() = Some([1; 32]);
        let leader = stage.submit(json!({"do": "wait"})).await.ticket_id;
        stage.started().await;
        let followers = [stage.submit(json!({"do": "wait"})).await, stage.submit(json!({"do": "wait"})).await];
        assert!(followers.iter().all(|ticket| ticket.state == TicketState::Queued));
        stage.puppet.gate.add_permits(1);
        let first = stage.end(leader).await;
        for follower in &followers {
            let follower = stage.end(follower.ticket_id).await;
            assert_eq!((follower.state, follower.as_of), (TicketState::Succeeded, first.as_of));
            assert_eq!(stage.tickets.result(&follower).await.unwrap(), "{\"answer\":1}");
        }
        // Afterwards the answer is there at once.
        let late = stage.submit(json!({"do": "wait"})).await;
        assert_eq!(late.state, TicketState::Succeeded);
        assert_eq!(stage.puppet.runs.load(Ordering::SeqCst), 1);
        // Other data, another run.
        *stage.puppet.version.lock().unwrap() = Some([2; 32]);
        stage.puppet.gate.add_permits(1);
        let newer = stage.submit(json!({"do": "wait"})).await.ticket_id;
        assert_eq!(stage.tickets.result(&stage.end(newer).await).await.unwrap(), "{\"answer\":2}");
    }
}

on_both! {
    async fn one_that_waits_is_not_cancelled_with_the_other(db: Db) {
        let mut stage = Stage::new(db, settings(1));
        stage.tickets.start();
        *stage.puppet.version.lock().unwrap() = Some([1; 32]);
        let leader = stage.submit(json!({"do": "wait"})).await.ticket_id;
        stage.started().await;
        let follower = stage.submit(json!({"do": "wait"})).await.ticket_id;
        stage.tickets.cancel(PROJECT, leader).await.unwrap();
        assert_eq!(stage.end(leader).await.state, TicketState::Cancelled);
        stage.puppet.gate.add_permits(1);
        assert_eq!(stage.end(follower).await.state, TicketState::Succeeded);
        stage.tickets.stop(WAIT_MAX).await;
    }
}

#[test]
fn who_arrives_while_an_equal_one_does_has_met_it() {
    use crate::tickets::sharing::Arrivals;
    let arrivals = Arrivals::default();
    let (one, other) = (arrivals.enter([1; 32]), arrivals.enter([2; 32]));
    assert!(!one.has_met() && !other.has_met());
    let equal = arrivals.enter([1; 32]);
    assert!(one.has_met() && equal.has_met() && !other.has_met());
    drop(equal);
    assert!(one.has_met(), "it may have become a ticket");
    drop(one);
    assert!(!arrivals.enter([1; 32]).has_met());
}

#[test]
fn of_two_equal_runs_only_the_younger_waits() {
    use crate::storage::control::tickets::{ResultRef, TicketRow};
    use crate::tickets::sharing::{Shared, for_leased};
    let clock = ManualClock::new(NOW);
    let id = |n: i64| {
        clock.set(NOW + n);
        TicketId::time_ordered(&clock, &SeededRandom::new(1))
    };
    let running = |n: i64| TicketRow {
        ticket_id: id(n),
        project_id: PROJECT,
        kind: "puppet".to_owned(),
        state: TicketState::Running,
        body: vec![],
        body_hash: [0; 32],
        request_hash: [0; 32],
        data_version: Some([0; 32]),
        idempotency_key: None,
        created_by: String::new(),
        attempt: 1,
        attempts_max: 3,
        runner_deaths: 0,
        fence: 1,
        leased_by: None,
        lease_until: Some(NOW + 20_000),
        run_after: NOW,
        progress: TicketProgress::default(),
        as_of: None,
        partial: false,
        error: None,
        result: None,
        waits_for: None,
        created_at: NOW,
        started_at: None,
        finished_at: None,
        expires_at: NOW + 1_000_000,
        sweep_at: NOW,
    };
    let (older, younger) = ([running(1)], [running(2)]);
    assert!(for_leased(&older[0], &younger, NOW, 1_000).is_none());
    let behind = for_leased(&younger[0], &older, NOW, 1_000);
    assert!(matches!(behind, Some(Shared::Behind(leader)) if leader.ticket_id == older[0].ticket_id));
    // Not behind one whose runner seems dead.
    assert!(for_leased(&younger[0], &older, NOW + 20_000, 1_000).is_none());
    let result = Some(ResultRef { ticket_id: id(1), fence: 1, bytes: 1, parts: 1 });
    let done = TicketRow { state: TicketState::Succeeded, result, ..running(1) };
    let partial = [TicketRow { partial: true, ..done.clone() }];
    assert!(for_leased(&younger[0], &partial, NOW, 1_000).is_none());
    let ageing = [done.clone()];
    assert!(for_leased(&younger[0], &ageing, NOW + 999_900, 1_000).is_none());
    assert!(matches!(for_leased(&younger[0], &[done], NOW, 1_000), Some(Shared::AnswerOf(_))));
}
