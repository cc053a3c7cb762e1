//! Into the queue and out of it.

use super::*;

on_both! {
    async fn a_ticket_comes_back_as_it_was_inserted(db: Db) {
        let store = TicketStore::new(db);
        let new = NewTicket {
            data_version: Some([7; 32]),
            idempotency_key: Some("key é".to_owned()),
            ..ticket(1)
        };
        let queued = put(&store, &new, InsertAs::Queued).await;
        assert_eq!(queued.state, TicketState::Queued);
        assert_eq!(get(&store, 1).await, queued);
        let leased = put(&store, &ticket(2), InsertAs::Leased(lease(US, NOW))).await;
        assert_eq!((leased.state, leased.attempt, leased.fence), (TicketState::Running, 1, 1));
        assert_eq!(get(&store, 2).await, leased);
        let waiting = InsertAs::Waiting { waits_for: id(2), run_after: NOW + 5 };
        let waiting = put(&store, &ticket(3), waiting).await;
        assert_eq!(get(&store, 3).await, waiting);
        assert_eq!(store.find(id(9)).await.unwrap(), None);
    }
}

on_both! {
    async fn another_project_does_not_find_it(db: Db) {
        let store = TicketStore::new(db);
        put(&store, &ticket(1), InsertAs::Queued).await;
        assert!(store.find_of_project(ProjectId(1), id(1)).await.unwrap().is_some());
        assert_eq!(store.find_of_project(ProjectId(2), id(1)).await.unwrap(), None);
        assert_eq!(store.cancel(ProjectId(2), id(1), NOW, NOW).await.unwrap(), None);
        assert_eq!(store.list(ProjectId(2), None, 10).await.unwrap(), vec![]);
    }
}

on_both! {
    async fn an_idempotency_key_gives_the_earlier_ticket(db: Db) {
        let store = TicketStore::new(db);
        let keyed = |n: u8, project: u32| NewTicket {
            idempotency_key: Some("k".to_owned()),
            project_id: ProjectId(project),
            ..ticket(n)
        };
        let first = put(&store, &keyed(1, 1), InsertAs::Queued).await;
        assert_eq!(store.insert(&keyed(2, 1), InsertAs::Queued).await.unwrap(), Inserted::Earlier(first));
        // Keys are the project's own, and told apart byte by byte.
        put(&store, &keyed(3, 2), InsertAs::Queued).await;
        let upper = NewTicket { idempotency_key: Some("K".to_owned()), ..ticket(4) };
        put(&store, &upper, InsertAs::Queued).await;
        // Without a key nothing is compared.
        put(&store, &ticket(5), InsertAs::Queued).await;
        put(&store, &ticket(6), InsertAs::Queued).await;
    }
}

on_both! {
    async fn lists_the_youngest_first_in_pages(db: Db) {
        let store = TicketStore::new(db);
        for n in 1..=5 {
            put(&store, &ticket(n), InsertAs::Queued).await;
        }
        let page = store.list(ProjectId(1), None, 2).await.unwrap();
        assert_eq!(page.iter().map(|row| row.ticket_id).collect::<Vec<_>>(), [id(5), id(4)]);
        let page = store.list(ProjectId(1), Some(id(4)), 9).await.unwrap();
        assert_eq!(page.iter().map(|row| row.ticket_id).collect::<Vec<_>>(), [id(3), id(2), id(1)]);
    }
}

on_both! {
    async fn leases_the_longest_waiting_of_known_kinds(db: Db) {
        let store = TicketStore::new(db);
        put(&store, &NewTicket { kind: "export", ..ticket(1) }, InsertAs::Queued).await;
        put(&store, &NewTicket { created_at: NOW + 50, ..ticket(2) }, InsertAs::Queued).await;
        put(&store, &ticket(4), InsertAs::Queued).await;
        put(&store, &ticket(3), InsertAs::Queued).await;
        let mut order = Vec::new();
        while let Some(row) = store.lease_next(lease(US, NOW + 49), KINDS).await.unwrap() {
            assert_eq!(get(&store, order.len() as u8 + 3).await, row);
            order.push(row.ticket_id);
        }
        // Ticket 2 may not run yet, and ticket 1 is of a kind that this replica does not know.
        assert_eq!(order, [id(3), id(4)]);
        let late = store.lease_next(lease(US, NOW + 50), KINDS).await.unwrap().unwrap();
        assert_eq!(late.ticket_id, id(2));
        assert_eq!(get(&store, 1).await.state, TicketState::Queued);
        assert_eq!(store.lease_next(lease(US, NOW + 50), &[]).await.unwrap(), None);
    }
}

on_both! {
    async fn many_workers_lease_each_ticket_once(db: Db) {
        let store = TicketStore::new(db);
        for n in 0..40 {
            put(&store, &ticket(n), InsertAs::Queued).await;
        }
        let workers: Vec<_> = (0..6)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut got = Vec::new();
                    while let Some(row) = store.lease_next(lease(ReplicaId([n; 16]), NOW), KINDS).await.unwrap() {
                        got.push(row.ticket_id);
                    }
                    got
                })
            })
            .collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.await.unwrap());
        }
        all.sort();
        assert_eq!(all, (0..40).map(id).collect::<Vec<_>>());
    }
}

on_both! {
    async fn a_lease_in_one_transaction_does_not_hide_the_others(db: Db) {
        // One worker stays between its select and its commit; SQLite's writers simply take turns.
        if db.dialect() == crate::storage::Dialect::Sqlite {
            return;
        }
        let store = TicketStore::new(db.clone());
        for n in 1..=20 {
            put(&store, &ticket(n), InsertAs::Queued).await;
        }
        let (held, hold) = tokio::sync::oneshot::channel::<()>();
        let hold = std::sync::Arc::new(tokio::sync::Mutex::new(hold));
        let (locked, is_locked) = tokio::sync::oneshot::channel();
        let locked = std::sync::Arc::new(std::sync::Mutex::new(Some(locked)));
        let slow = tokio::spawn(async move {
            db.transaction(move |tx| {
                let (hold, locked) = (hold.clone(), locked.clone());
                Box::pin(async move {
                    let mut binds = values![NOW];
                    binds.extend(kind_binds(KINDS));
                    tx.fetch_optional(&crate::storage::control::tickets::queue::LEASE_SELECT, binds).await?;
                    if let Some(locked) = locked.lock().unwrap().take() {
                        locked.send(()).unwrap();
                    }
                    let _ = (&mut *hold.lock().await).await;
                    Ok::<_, StorageError>(())
                })
            })
            .await
        });
        is_locked.await.unwrap();
        for n in 2..=20 {
            let row = store.lease_next(lease(US, NOW), KINDS).await.unwrap().unwrap();
            assert_eq!(row.ticket_id, id(n));
        }
        // And producers are not held up by a claim that found nothing.
        assert_eq!(store.lease_next(lease(US, NOW), KINDS).await.unwrap(), None);
        put(&store, &ticket(21), InsertAs::Queued).await;
        held.send(()).unwrap();
        slow.await.unwrap().unwrap();
    }
}

on_both! {
    async fn the_queue_is_counted(db: Db) {
        let store = TicketStore::new(db);
        for n in 1..=3 {
            put(&store, &ticket(n), InsertAs::Queued).await;
        }
        put(&store, &NewTicket { created_at: NOW + 10, ..ticket(4) }, InsertAs::Queued).await;
        put(&store, &ticket(5), InsertAs::Leased(lease(US, NOW))).await;
        assert_eq!(store.queue_position(&get(&store, 1).await).await.unwrap(), 1);
        assert_eq!(store.queue_position(&get(&store, 4).await).await.unwrap(), 4);
        assert_eq!(store.count_queued(ProjectId(1)).await.unwrap(), 4);
        assert_eq!(store.count_queued(ProjectId(2)).await.unwrap(), 0);
        assert_eq!(store.depth(NOW).await.unwrap(), (3, Some(NOW)));
        assert_eq!(store.depth(NOW - 1).await.unwrap(), (0, None));
    }
}

#[test]
fn kinds_fill_all_places() {
    let places = kind_binds(&["a", "b"]);
    assert_eq!(places.len(), KINDS_MAX);
    assert!(matches!(&places[7], Value::Text(last) if last == "b"));
}
