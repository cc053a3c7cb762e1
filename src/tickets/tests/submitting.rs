//! Into the queue: at once, later, refused, listed, gone.

use super::*;

on_both! {
    async fn a_free_slot_runs_a_ticket_at_once(db: Db) {
        let stage = Stage::new(db, settings(1));
        let ticket = stage.submit(json!({})).await;
        let ticket = stage.end(ticket.ticket_id).await;
        assert_eq!((ticket.state, ticket.attempt), (TicketState::Succeeded, 1));
        assert_eq!((ticket.as_of, ticket.partial, ticket.error.clone()), (Some(NOW - 7), false, None));
        assert_eq!(ticket.expires_at, NOW + 86_400_000);
        assert_eq!(stage.tickets.result(&ticket).await.unwrap(), "{\"answer\":1}");
        assert_eq!(ticket.result_bytes, Some(12));
    }
}

on_both! {
    async fn without_a_slot_it_waits_for_a_worker(db: Db) {
        let stage = Stage::new(db.clone(), settings(0));
        let first = stage.submit(json!({"n": 1})).await;
        // Ids of the same millisecond are in no order.
        stage.clock.advance(1);
        let second = stage.submit(json!({"n": 2})).await;
        assert_eq!((first.state, first.queue_position), (TicketState::Queued, Some(1)));
        assert_eq!(second.queue_position, Some(2));
        let worker = stage.replica(settings(1));
        assert!(worker.tickets.run_next().await.unwrap());
        assert_eq!(stage.end(first.ticket_id).await.state, TicketState::Succeeded);
        let second = stage.tickets.get(PROJECT, second.ticket_id).await.unwrap();
        assert_eq!(second.queue_position, Some(1));
        assert!(worker.tickets.run_next().await.unwrap());
        assert!(!worker.tickets.run_next().await.unwrap());
    }
}

on_both! {
    async fn nobody_overtakes_those_who_queue(db: Db) {
        let stage = Stage::new(db, settings(1));
        let has_backlog = &stage.tickets.inner.has_backlog;
        has_backlog.send_replace(true);
        let patient = stage.submit(json!({"n": 1})).await;
        assert_eq!(patient.state, TicketState::Queued, "although the slot is free");
        let queue_ends = async { has_backlog.send_replace(false) };
        let (lucky, _) = tokio::join!(stage.submit(json!({"n": 2})), queue_ends);
        assert_eq!(stage.end(lucky.ticket_id).await.state, TicketState::Succeeded, "without a worker");
        // Who looks into the queue tells.
        stage.tickets.start();
        assert_eq!(stage.end(patient.ticket_id).await.state, TicketState::Succeeded);
        has_backlog.subscribe().wait_for(|has_backlog| !*has_backlog).await.unwrap();
        stage.tickets.stop(WAIT_MAX).await;
    }
}

on_both! {
    async fn a_worker_that_nobody_wakes_finds_it_by_polling(db: Db) {
        let stage = Stage::new(db, settings(0));
        let worker = stage.replica(settings(2));
        worker.tickets.start();
        let ticket = stage.submit(json!({})).await;
        assert_eq!(stage.end(ticket.ticket_id).await.state, TicketState::Succeeded);
        worker.tickets.stop(WAIT_MAX).await;
    }
}

on_both! {
    async fn equal_submissions_with_one_key_are_one_ticket(db: Db) {
        let stage = Stage::new(db, settings(1));
        let keyed = |body| Submit { idempotency_key: Some("k".to_owned()), ..submission(body) };
        let (one, two) = tokio::join!(
            stage.tickets.submit(keyed(json!({"n": 1, "at": "now"}))),
            stage.tickets.submit(keyed(json!({"at": "now", "n": 1})))
        );
        let (one, two) = (one.unwrap().ticket, two.unwrap().ticket);
        assert_eq!(one.ticket_id, two.ticket_id);
        // The one that lost may have held the only slot while the other was written.
        while stage.tickets.run_next().await.unwrap() {}
        stage.end(one.ticket_id).await;
        let again = stage.tickets.submit(keyed(json!({"n": 1, "at": "now"}))).await.unwrap().ticket;
        assert_eq!((again.ticket_id, again.state), (one.ticket_id, TicketState::Succeeded));
        let other = stage.tickets.submit(keyed(json!({"n": 2}))).await;
        assert!(matches!(other, Err(SubmitError::IdempotencyKeyReused)), "{other:?}");
        assert_eq!(stage.puppet.runs.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn bad_submissions_are_refused_and_not_stored() {
    let database = fresh_sqlite();
    let stage = Stage::new(database.open_with_schemas().await, settings(1));
    let unknown = stage.tickets.submit(Submit { kind: "x".to_owned(), ..submission(json!({})) }).await;
    assert!(matches!(unknown, Err(SubmitError::UnknownKind(kind)) if kind == "x"));
    let invalid = stage.tickets.submit(submission(json!([]))).await;
    assert!(matches!(invalid, Err(SubmitError::Invalid(_))));
    let large = stage.tickets.submit(submission(json!({"x": "x".repeat(BODY_BYTES_MAX)}))).await;
    assert!(matches!(large, Err(SubmitError::Invalid(_))));
    assert_eq!(stage.tickets.list(PROJECT, None, 10).await.unwrap().tickets, vec![]);
}

#[tokio::test]
async fn a_project_can_only_fill_its_own_share_of_the_queue() {
    let database = fresh_sqlite();
    let stage = Stage::new(database.open_with_schemas().await, settings(0));
    for n in 0..3 {
        stage.submit(json!({"n": n})).await;
    }
    let fourth = stage.tickets.submit(submission(json!({}))).await;
    assert!(matches!(fourth, Err(SubmitError::TooManyQueued { queued_max: 3 })));
    let other = Submit { project_id: ProjectId(2), ..submission(json!({})) };
    assert!(stage.tickets.submit(other).await.is_ok());
}

on_both! {
    async fn a_ticket_of_another_project_is_not_found(db: Db) {
        let stage = Stage::new(db, settings(1));
        let ticket = stage.submit(json!({})).await.ticket_id;
        stage.end(ticket).await;
        let other = ProjectId(2);
        assert!(matches!(stage.tickets.get(other, ticket).await, Err(TicketError::NotFound)));
        assert!(matches!(stage.tickets.cancel(other, ticket).await, Err(TicketError::NotFound)));
        let waited = stage.tickets.wait(other, ticket, WaitFor::End, WAIT_MAX).await;
        assert!(matches!(waited, Err(TicketError::NotFound)));
        assert_eq!(stage.tickets.list(other, None, 10).await.unwrap().tickets, vec![]);
    }
}

on_both! {
    async fn a_result_is_gone_after_its_time(db: Db) {
        let stage = Stage::new(db, settings(1));
        let ticket = stage.submit(json!({})).await.ticket_id;
        stage.end(ticket).await;
        stage.clock.advance(86_400_000);
        assert!(matches!(stage.tickets.get(PROJECT, ticket).await, Err(TicketError::Gone)));
        assert!(matches!(stage.tickets.cancel(PROJECT, ticket).await, Err(TicketError::Gone)));
        assert_eq!(stage.tickets.list(PROJECT, None, 10).await.unwrap().tickets, vec![]);
        stage.tickets.maintain().await.unwrap();
        assert!(matches!(stage.tickets.get(PROJECT, ticket).await, Err(TicketError::Gone)));
        stage.clock.advance(7 * 86_400_000);
        stage.tickets.maintain().await.unwrap();
        assert!(matches!(stage.tickets.get(PROJECT, ticket).await, Err(TicketError::NotFound)));
    }
}

on_both! {
    async fn lists_in_pages_until_the_end(db: Db) {
        let stage = Stage::new(db, TicketSettings { queued_max: 10, ..settings(0) });
        let mut ids = Vec::new();
        for n in 0..5 {
            stage.clock.advance(1);
            ids.push(stage.submit(json!({"n": n})).await.ticket_id);
        }
        ids.reverse();
        let mut seen = Vec::new();
        let mut before = None;
        loop {
            let page = stage.tickets.list(PROJECT, before, 2).await.unwrap();
            seen.extend(page.tickets.iter().map(|ticket| ticket.ticket_id));
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(seen, ids);
    }
}

#[tokio::test]
async fn waiting_ends_with_its_time() {
    let database = fresh_sqlite();
    let stage = Stage::new(database.open_with_schemas().await, settings(0));
    let ticket = stage.submit(json!({})).await.ticket_id;
    let waited = stage.tickets.wait(PROJECT, ticket, WaitFor::End, Duration::from_millis(5)).await.unwrap();
    assert_eq!(waited.state, TicketState::Queued);
    let seen = WaitFor::Change(waited.version() + 1);
    let at_once = stage.tickets.wait(PROJECT, ticket, seen, WAIT_MAX).await.unwrap();
    assert_eq!(at_once, waited);
}
