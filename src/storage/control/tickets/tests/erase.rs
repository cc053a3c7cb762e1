//! What an erasure does to tickets.

use super::*;

async fn parts_of(store: &TicketStore, row: &TicketRow) -> bool {
    match &row.result {
        Some(result) => store.read_result(result).await.unwrap().is_some(),
        None => false,
    }
}

on_both! {
    async fn a_run_that_was_taken_from_its_runner_publishes_nothing_and_is_run_again(db: Db) {
        let store = TicketStore::new(db);
        let running = put(&store, &ticket(1), InsertAs::Leased(lease(US, NOW))).await;
        store.insert_steps((id(1), running.fence), "question", 1, &"w".into(), &[crate::model::ShardNo(0)]).await.unwrap();
        let step = store.lease_step(lease(THEM, NOW), KINDS).await.unwrap().unwrap();
        assert!(store.run_again(&running, NOW + 5).await.unwrap());
        assert!(!store.run_again(&running, NOW + 5).await.unwrap());
        let late = store.publish(&running, &result(b"{}"), NOW, NOW + 10).await.unwrap();
        assert_eq!(late, Finished::Lost);
        assert!(!store.settle_step(&step, &StepOutcome::Done("seen".into())).await.unwrap());

        let again = store.lease_next(lease(THEM, NOW + 5), KINDS).await.unwrap().unwrap();
        assert_eq!((again.ticket_id, again.attempt), (id(1), 1), "it did not fail");
        // A step of the new run is another one, though its place is the same.
        store.insert_steps((id(1), again.fence), "question", 1, &"w".into(), &[crate::model::ShardNo(0)]).await.unwrap();
        store.lease_step(lease(US, NOW), KINDS).await.unwrap().unwrap();
        assert!(!store.settle_step(&step, &StepOutcome::Done("seen".into())).await.unwrap());
        assert_eq!(store.publish(&again, &result(b"{}"), NOW, NOW + 10).await.unwrap(), ended());
        assert!(parts_of(&store, &get(&store, 1).await).await);
    }
}

on_both! {
    async fn an_answered_ticket_expires_with_all_that_it_asked(db: Db) {
        let store = TicketStore::new(db);
        let mut asked = ticket(1);
        asked.idempotency_key = Some("key".to_owned());
        let running = put(&store, &asked, InsertAs::Leased(lease(US, NOW))).await;
        store.expire(id(1), NOW, 1_000).await.unwrap();
        assert_eq!(get(&store, 1).await.body, running.body, "only final ones");
        store.publish(&running, &result(b"{}"), NOW, NOW + 10_000).await.unwrap();
        let kept = store.list_kept(ProjectId(1), None, 10).await.unwrap();
        assert_eq!(kept.iter().map(|row| row.ticket_id).collect::<Vec<_>>(), [id(1)]);
        assert!(store.list_kept(ProjectId(1), Some(id(1)), 10).await.unwrap().is_empty());
        assert!(store.list_kept(ProjectId(2), None, 10).await.unwrap().is_empty());

        store.expire(id(1), NOW + 1, 1_000).await.unwrap();
        let row = get(&store, 1).await;
        assert_eq!((row.body.len(), row.idempotency_key.clone(), row.expires_at), (0, None, NOW + 1));
        assert!(row.result.is_some() && !parts_of(&store, &row).await);
        assert_eq!(store.list_kept(ProjectId(1), None, 10).await.unwrap().len(), 1, "caches may have it");
        store.forget_result(id(1), NOW + 1).await.unwrap();
        assert_eq!(get(&store, 1).await.result, None);
        assert!(store.list_kept(ProjectId(1), None, 10).await.unwrap().is_empty());
    }
}

on_both! {
    async fn an_open_ticket_may_be_ended_whoever_runs_it(db: Db) {
        let store = TicketStore::new(db);
        let failure = Failure::new("erased", "gone");
        put(&store, &ticket(1), InsertAs::Leased(lease(US, NOW))).await;
        put(&store, &ticket(2), InsertAs::Queued).await;
        put(&store, &ticket(3), InsertAs::Leased(lease(US, NOW))).await;
        store.cancel(ProjectId(1), id(3), NOW, NOW + 10).await.unwrap();
        for (n, state) in [(1, TicketState::Failed), (2, TicketState::Failed), (3, TicketState::Cancelled)] {
            let row = get(&store, n).await;
            assert_eq!(store.end_with(&row, &failure, NOW).await.unwrap(), Some(vec![]));
            assert_eq!(store.end_with(&row, &failure, NOW).await.unwrap(), None);
            assert_eq!(get(&store, n).await.state, state);
        }
    }
}

on_both! {
    async fn only_its_runner_replaces_a_tickets_body(db: Db) {
        let store = TicketStore::new(db);
        let mut owed = ticket(1);
        owed.idempotency_key = Some("key".to_owned());
        let running = put(&store, &owed, InsertAs::Leased(lease(US, NOW))).await;
        assert!(store.replace_body(&running, b"{\"n\":1}", [9; 32], false).await.unwrap());
        let row = get(&store, 1).await;
        assert_eq!((row.body.as_slice(), row.body_hash), (&b"{\"n\":1}"[..], [9; 32]));
        assert_eq!(row.idempotency_key.as_deref(), Some("key"));
        let other = TicketRow { leased_by: Some(THEM), ..running.clone() };
        assert!(!store.replace_body(&other, b"x", [1; 32], false).await.unwrap());
        assert!(store.replace_body(&running, b"{}", [8; 32], true).await.unwrap());
        assert_eq!(get(&store, 1).await.idempotency_key, None);
        store.give_back(&running, NOW, None).await.unwrap();
        assert!(!store.replace_body(&running, b"x", [1; 32], false).await.unwrap());
    }
}

on_both! {
    async fn what_is_owed_outlives_its_runners(db: Db) {
        let store = TicketStore::new(db);
        let owed = NewTicket { attempts_max: ATTEMPTS_UNLIMITED, ..ticket(1) };
        put(&store, &owed, InsertAs::Queued).await;
        assert!(get(&store, 1).await.is_owed());
        for death in 0..100 {
            let now = NOW + death * 1_000_000;
            let leased = store.lease_next(lease(US, now), KINDS).await.unwrap();
            assert!(leased.is_some(), "{death}");
            let rescued = store.rescue(KINDS, now + 60_000, RULES).await.unwrap();
            assert_eq!(rescued.queued, [id(1)], "{death}");
            assert!(get(&store, 1).await.run_after <= now + 60_000 + 60 * RULES.rescue_delay_ms);
        }
    }
}
