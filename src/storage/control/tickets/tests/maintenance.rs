//! What nobody else does: rescue and sweep.

use super::*;

on_both! {
    async fn rescue_does_not_touch_a_finished_ticket(db: Db) {
        let store = TicketStore::new(db);
        let row = put(&store, &ticket(1), InsertAs::Leased(lease(US, NOW))).await;
        store.publish(&row, &result(b"1"), NOW, NOW + RULES.result_ttl_ms).await.unwrap();
        let before = get(&store, 1).await;
        assert_eq!(store.rescue(KINDS, NOW + 99_000, RULES).await.unwrap(), Rescued::default());
        // Not even a rescuer that read the row while it still ran.
        let mut rescued = Rescued::default();
        store.rescue_one(&row, NOW + 99_000, RULES, &mut rescued).await.unwrap();
        let dying = TicketRow { runner_deaths: 2, ..row };
        store.rescue_one(&dying, NOW + 99_000, RULES, &mut rescued).await.unwrap();
        assert_eq!(rescued, Rescued::default());
        assert_eq!(get(&store, 1).await, before);
    }
}

on_both! {
    async fn expired_lease_is_rescued_once(db: Db) {
        let store = TicketStore::new(db);
        let row = put(&store, &ticket(1), InsertAs::Leased(lease(US, NOW))).await;
        assert_eq!(store.rescue(KINDS, NOW + 30_000, RULES).await.unwrap(), Rescued::default());
        let (first, second) = tokio::join!(
            store.rescue(KINDS, NOW + 30_001, RULES),
            store.rescue(KINDS, NOW + 30_001, RULES)
        );
        assert_eq!(first.unwrap().queued.len() + second.unwrap().queued.len(), 1);
        let after = get(&store, 1).await;
        assert_eq!((after.state, after.runner_deaths, after.attempt), (TicketState::Queued, 1, 1));
        assert_eq!((after.leased_by, after.lease_until, after.run_after), (None, None, NOW + 31_001));
        // A heartbeat in between keeps the ticket.
        let row = TicketRow { leased_by: Some(THEM), ..row };
        let leased = store.lease_next(lease(THEM, NOW + 40_000), KINDS).await.unwrap().unwrap();
        let mut rescued = Rescued::default();
        store.heartbeat(&leased, NOW + 90_000, TicketProgress::default()).await.unwrap();
        store.rescue_one(&leased, NOW + 80_000, RULES, &mut rescued).await.unwrap();
        assert_eq!(rescued, Rescued::default());
        assert_eq!(store.heartbeat(&row, NOW, TicketProgress::default()).await.unwrap(), Renewed::Lost);
    }
}

on_both! {
    async fn a_ticket_that_kills_its_runners_is_parked(db: Db) {
        let store = TicketStore::new(db);
        put(&store, &NewTicket { attempts_max: 9, ..ticket(1) }, InsertAs::Queued).await;
        let mut now = NOW;
        for death in 1..=3 {
            now += 10_000;
            let row = store.lease_next(lease(ReplicaId([death; 16]), now), KINDS).await.unwrap().unwrap();
            assert_eq!(row.runner_deaths, u32::from(death) - 1);
            now += 30_001;
            let rescued = store.rescue(KINDS, now, RULES).await.unwrap();
            assert_eq!(rescued.failed.len(), usize::from(death == 3));
        }
        let after = get(&store, 1).await;
        assert_eq!((after.state, after.runner_deaths), (TicketState::Failed, 3));
        assert_eq!(after.error.unwrap().0, "runner_died");
        assert_eq!(store.lease_next(lease(US, now + 99_000), KINDS).await.unwrap(), None);
    }
}

on_both! {
    async fn unknown_kinds_are_left_alone(db: Db) {
        let store = TicketStore::new(db);
        let row = put(&store, &NewTicket { kind: "export", ..ticket(1) }, InsertAs::Leased(lease(US, NOW))).await;
        assert_eq!(store.rescue(KINDS, NOW + 99_000, RULES).await.unwrap(), Rescued::default());
        assert_eq!(get(&store, 1).await, row);
        assert_eq!(store.rescue(&["question", "export"], NOW + 99_000, RULES).await.unwrap().queued, [id(1)]);
    }
}

on_both! {
    async fn a_cancelling_ticket_whose_runner_died_ends_cancelled(db: Db) {
        let store = TicketStore::new(db);
        put(&store, &ticket(1), InsertAs::Leased(lease(US, NOW))).await;
        store.cancel(ProjectId(1), id(1), NOW, NOW).await.unwrap();
        assert_eq!(store.rescue(KINDS, NOW + 30_001, RULES).await.unwrap().cancelled, [id(1)]);
        assert_eq!(get(&store, 1).await.state, TicketState::Cancelled);
    }
}

on_both! {
    async fn expired_tickets_are_emptied_and_later_deleted(db: Db) {
        static PARTS: Statement = statement!("test.parts", "SELECT COUNT(*) FROM ticket_results");
        let store = TicketStore::new(db.clone());
        let keyed = NewTicket { idempotency_key: Some("k".to_owned()), ..ticket(1) };
        let row = put(&store, &keyed, InsertAs::Leased(lease(US, NOW))).await;
        store.publish(&row, &result(b"{}"), NOW, NOW + 100).await.unwrap();
        assert_eq!(store.sweep(NOW + 99, RULES).await.unwrap(), Swept::default());
        assert_eq!(store.sweep(NOW + 100, RULES).await.unwrap().emptied, 1);
        let gone = get(&store, 1).await;
        assert_eq!((gone.state, gone.result, gone.expires_at), (TicketState::Succeeded, None, NOW + 100));
        assert_eq!((gone.idempotency_key, gone.sweep_at), (None, NOW + 100 + RULES.gone_for_ms));
        assert_eq!(db.fetch_optional(&PARTS, vec![]).await.unwrap().unwrap().i64(0).unwrap(), 0);
        assert_eq!(store.read_result(&row.result.unwrap_or(ResultRef {
            ticket_id: id(1), fence: 1, bytes: 2, parts: 1,
        })).await.unwrap(), None);
        assert_eq!(store.sweep(NOW + 101, RULES).await.unwrap(), Swept::default());
        let forget_at = NOW + 100 + RULES.gone_for_ms;
        assert_eq!(store.sweep(forget_at, RULES).await.unwrap().deleted, 1);
        assert_eq!(store.find(id(1)).await.unwrap(), None);
    }
}

on_both! {
    async fn no_state_is_without_a_deadline(db: Db) {
        let store = TicketStore::new(db);
        let overdue = NOW + 86_400_000;
        put(&store, &ticket(1), InsertAs::Queued).await;
        // Of a kind that nobody knows any more, its runner long dead.
        put(&store, &NewTicket { kind: "export", ..ticket(2) }, InsertAs::Leased(lease(US, NOW))).await;
        put(&store, &NewTicket { kind: "export", ..ticket(3) }, InsertAs::Leased(lease(US, NOW))).await;
        store.cancel(ProjectId(1), id(3), NOW, NOW).await.unwrap();
        let alive = put(&store, &ticket(4), InsertAs::Leased(lease(US, overdue))).await;
        let swept = store.sweep(overdue, RULES).await.unwrap();
        assert_eq!(swept.overdue, [id(1), id(2), id(3)]);
        for n in 1..=3 {
            let row = get(&store, n).await;
            assert_eq!((row.state, row.error.unwrap().0.as_str()), (TicketState::Failed, "overdue"), "{n}");
        }
        assert_eq!(store.sweep(overdue, RULES).await.unwrap(), Swept::default());
        assert_eq!(store.publish(&alive, &result(b"1"), overdue, overdue).await.unwrap(), ended());
    }
}
