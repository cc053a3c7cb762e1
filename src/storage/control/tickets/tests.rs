//! Every statement on both back ends, and the bugs that other queues shipped.

use super::*;
use crate::model::{ManualClock, ReplicaId, SeededRandom};
use crate::storage::conformance::on_both;
use crate::storage::db::Value;

const KINDS: &[&str] = &["question"];
const RULES: MaintenanceRules = MaintenanceRules {
    runner_deaths_max: 3,
    rescue_delay_ms: 1_000,
    result_ttl_ms: 100_000,
    gone_for_ms: 1_000_000,
};
const NOW: Millis = 1_700_000_000_000;
const US: ReplicaId = ReplicaId([1; 16]);
const THEM: ReplicaId = ReplicaId([2; 16]);

fn lease(by: ReplicaId, now: Millis) -> LeaseRequest {
    LeaseRequest { by, now, until: now + 30_000 }
}

/// Ids in the order of `n`.
fn id(n: u8) -> TicketId {
    let clock = ManualClock::new(NOW + i64::from(n));
    TicketId::time_ordered(&clock, &SeededRandom::new(u64::from(n)))
}

fn ticket(n: u8) -> NewTicket {
    NewTicket {
        ticket_id: id(n),
        project_id: ProjectId(1),
        kind: "question",
        body: vec![b'{', b'}'],
        body_hash: [n; 32],
        request_hash: [n + 100; 32],
        data_version: None,
        idempotency_key: None,
        created_by: "key:1".to_owned(),
        attempts_max: 3,
        created_at: NOW,
        overdue_at: NOW + 86_400_000,
    }
}

async fn put(store: &TicketStore, ticket: &NewTicket, r#as: InsertAs<'_>) -> TicketRow {
    match store.insert(ticket, r#as).await.unwrap() {
        Inserted::Ticket(row) => row,
        Inserted::Earlier(_) => panic!("there was an earlier one"),
    }
}

async fn get(store: &TicketStore, n: u8) -> TicketRow {
    store.find(id(n)).await.unwrap().unwrap()
}

fn result(body: &[u8]) -> TicketResult {
    TicketResult {
        body: body.to_vec().into(),
        as_of: Some(NOW - 5),
        partial: false,
        data_version: None,
        progress: TicketProgress { shards_done: 4, shards_total: 4, rows_done: 9, rows_total: 9 },
    }
}

fn ended() -> Finished {
    Finished::Yes { settled: vec![] }
}

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
                    tx.fetch_optional(&queue::LEASE_SELECT, binds).await?;
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
    async fn a_heartbeat_renews_and_shows_progress(db: Db) {
        let store = TicketStore::new(db);
        let row = put(&store, &ticket(1), InsertAs::Leased(lease(US, NOW))).await;
        let progress = TicketProgress { shards_done: 1, shards_total: 4, rows_done: 10, rows_total: 40 };
        assert_eq!(store.heartbeat(&row, NOW + 60_000, progress).await.unwrap(), Renewed::Yes);
        let after = get(&store, 1).await;
        assert_eq!((after.lease_until, after.progress), (Some(NOW + 60_000), progress));
        let stranger = TicketRow { leased_by: Some(THEM), ..row.clone() };
        assert_eq!(store.heartbeat(&stranger, NOW, progress).await.unwrap(), Renewed::Lost);
        let old = TicketRow { fence: 0, ..row.clone() };
        assert_eq!(store.heartbeat(&old, NOW, progress).await.unwrap(), Renewed::Lost);
        store.cancel(ProjectId(1), id(1), NOW, NOW).await.unwrap();
        assert_eq!(store.heartbeat(&row, NOW + 90_000, progress).await.unwrap(), Renewed::Cancelling);
        assert_eq!(get(&store, 1).await.lease_until, Some(NOW + 60_000));
    }
}

on_both! {
    async fn a_result_is_published_once_and_read_whole(db: Db) {
        let store = TicketStore::new(db);
        for (n, bytes) in [(1_u8, 0_usize), (2, 1), (3, PART_BYTES_MAX), (4, 2 * PART_BYTES_MAX + 1)] {
            let row = put(&store, &ticket(n), InsertAs::Leased(lease(US, NOW))).await;
            let body: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
            let finished = store.publish(&row, &result(&body), NOW + 9, NOW + 99).await.unwrap();
            assert_eq!(finished, ended());
            let after = get(&store, n).await;
            assert_eq!(after.state, TicketState::Succeeded);
            assert_eq!((after.finished_at, after.expires_at, after.sweep_at), (Some(NOW + 9), NOW + 99, NOW + 99));
            assert_eq!((after.as_of, after.progress.rows_done, after.lease_until), (Some(NOW - 5), 9, None));
            let stored = after.result.unwrap();
            assert_eq!(stored.parts as usize, bytes.div_ceil(PART_BYTES_MAX).max(1));
            assert_eq!(store.read_result(&stored).await.unwrap().unwrap(), body);
            // The answer to the first call was lost: the second changes nothing and says the same.
            assert_eq!(store.publish(&row, &result(&body), NOW + 10, NOW + 99).await.unwrap(), ended());
            assert_eq!(get(&store, n).await, after);
        }
    }
}

on_both! {
    async fn a_runner_that_lost_its_lease_cannot_publish(db: Db) {
        let store = TicketStore::new(db);
        let old = put(&store, &ticket(1), InsertAs::Leased(lease(US, NOW))).await;
        let later = NOW + 30_001;
        store.rescue(KINDS, later, RULES).await.unwrap();
        let new = store.lease_next(lease(THEM, later + 5_000), KINDS).await.unwrap().unwrap();
        assert_eq!((new.fence, new.attempt), (2, 2));
        let wrong = vec![b'x'; 2 * PART_BYTES_MAX];
        assert_eq!(store.publish(&old, &result(&wrong), later, later).await.unwrap(), Finished::Lost);
        assert_eq!(store.fail(&old, &Failure::new("c", "d"), later, later).await.unwrap(), Finished::Lost);
        assert!(!store.retry(&old, later, &Failure::new("c", "d")).await.unwrap());
        assert!(!store.give_back(&old, later, None).await.unwrap());
        assert_eq!(store.finish_cancelling(&old, later, later).await.unwrap(), Finished::Lost);
        let right = vec![b'y'; PART_BYTES_MAX + 1];
        assert_eq!(store.publish(&new, &result(&right), later, later).await.unwrap(), ended());
        let stored = get(&store, 1).await.result.unwrap();
        assert_eq!(store.read_result(&stored).await.unwrap().unwrap(), right);
    }
}

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
    async fn a_retry_waits_and_ends_with_the_last_attempt(db: Db) {
        let store = TicketStore::new(db);
        put(&store, &NewTicket { attempts_max: 2, ..ticket(1) }, InsertAs::Queued).await;
        let row = store.lease_next(lease(US, NOW), KINDS).await.unwrap().unwrap();
        let error = Failure::new("unavailable", "é".repeat(2_000));
        assert!(store.retry(&row, NOW + 500, &error).await.unwrap());
        let after = get(&store, 1).await;
        assert_eq!((after.state, after.run_after, after.attempt), (TicketState::Queued, NOW + 500, 1));
        assert_eq!(after.error.unwrap().1.chars().count(), 1_000);
        assert_eq!(store.lease_next(lease(US, NOW + 499), KINDS).await.unwrap(), None);
        let row = store.lease_next(lease(US, NOW + 500), KINDS).await.unwrap().unwrap();
        assert_eq!(row.attempt, 2);
        assert!(!store.retry(&row, NOW + 900, &error).await.unwrap());
        assert_eq!(store.fail(&row, &error, NOW + 600, NOW + 700).await.unwrap(), ended());
        assert_eq!(get(&store, 1).await.state, TicketState::Failed);
        assert_eq!(store.fail(&row, &error, NOW + 601, NOW + 701).await.unwrap(), ended());
        assert_eq!(get(&store, 1).await.finished_at, Some(NOW + 600));
    }
}

on_both! {
    async fn a_ticket_given_back_keeps_its_attempt_number(db: Db) {
        let store = TicketStore::new(db);
        let row = put(&store, &ticket(1), InsertAs::Leased(lease(US, NOW))).await;
        assert!(store.give_back(&row, NOW, None).await.unwrap());
        assert!(!store.give_back(&row, NOW, None).await.unwrap());
        let again = store.lease_next(lease(THEM, NOW), KINDS).await.unwrap().unwrap();
        assert_eq!((again.attempt, again.fence, again.runner_deaths), (1, 2, 0));
    }
}

on_both! {
    async fn cancel_ends_a_queued_ticket_and_tells_a_running_one(db: Db) {
        let store = TicketStore::new(db);
        put(&store, &ticket(1), InsertAs::Queued).await;
        let (row, _) = store.cancel(ProjectId(1), id(1), NOW, NOW + 9).await.unwrap().unwrap();
        assert_eq!((row.state, row.finished_at, row.expires_at), (TicketState::Cancelled, Some(NOW), NOW + 9));
        assert_eq!(store.lease_next(lease(US, NOW), KINDS).await.unwrap(), None);

        let running = put(&store, &ticket(2), InsertAs::Leased(lease(US, NOW))).await;
        for _ in 0..2 {
            let (row, _) = store.cancel(ProjectId(1), id(2), NOW, NOW).await.unwrap().unwrap();
            assert_eq!(row.state, TicketState::Cancelling);
        }
        // The run may be over by then: the wish to cancel came first.
        assert_eq!(store.publish(&running, &result(b"1"), NOW, NOW).await.unwrap(), Finished::Cancelling);
        assert_eq!(store.finish_cancelling(&running, NOW + 1, NOW + 2).await.unwrap(), ended());
        assert_eq!(get(&store, 2).await.state, TicketState::Cancelled);

        let done = put(&store, &ticket(3), InsertAs::Leased(lease(US, NOW))).await;
        store.publish(&done, &result(b"1"), NOW, NOW + 5).await.unwrap();
        let before = get(&store, 3).await;
        let (row, _) = store.cancel(ProjectId(1), id(3), NOW, NOW).await.unwrap().unwrap();
        assert_eq!(row, before);
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
    async fn equal_tickets_are_found_and_answered_with_one_result(db: Db) {
        let store = TicketStore::new(db);
        let equal = |n: u8| NewTicket { body_hash: [9; 32], data_version: Some([5; 32]), ..ticket(n) };
        let leader = put(&store, &equal(1), InsertAs::Leased(lease(US, NOW))).await;
        put(&store, &NewTicket { data_version: Some([6; 32]), ..equal(2) }, InsertAs::Queued).await;
        put(&store, &NewTicket { project_id: ProjectId(2), ..equal(3) }, InsertAs::Queued).await;
        let mut equal_to = EqualTo {
            ticket_id: id(4),
            project_id: ProjectId(1),
            body_hash: [9; 32],
            data_version: [5; 32],
        };
        assert_eq!(store.list_equal(&equal_to).await.unwrap(), std::slice::from_ref(&leader));
        equal_to.ticket_id = id(1);
        assert_eq!(store.list_equal(&equal_to).await.unwrap(), vec![]);
        for n in [4, 5] {
            put(&store, &equal(n), InsertAs::Waiting { waits_for: id(1), run_after: NOW + 30_000 }).await;
        }
        let answer = TicketResult { data_version: Some([5; 32]), ..result(b"{}") };
        let finished = store.publish(&leader, &answer, NOW + 1, NOW + 1_000).await.unwrap();
        assert_eq!(finished, Finished::Yes { settled: vec![id(4), id(5)] });
        let leader = get(&store, 1).await;
        for n in [4, 5] {
            let follower = get(&store, n).await;
            assert_eq!((follower.state, follower.result), (TicketState::Succeeded, leader.result));
            assert_eq!((follower.expires_at, follower.waits_for), (leader.expires_at, None));
        }
        // One that asks afterwards is answered at once, and may be the source for the next.
        let late = put(&store, &equal(6), InsertAs::Answered { by: &get(&store, 5).await }).await;
        assert_eq!((late.state, late.result), (TicketState::Succeeded, leader.result));
        assert_eq!(get(&store, 6).await, late);
        assert_eq!(store.read_result(&late.result.unwrap()).await.unwrap().unwrap(), b"{}");
    }
}

on_both! {
    async fn followers_of_a_ticket_that_failed_run_themselves(db: Db) {
        let store = TicketStore::new(db);
        let leader = put(&store, &ticket(1), InsertAs::Leased(lease(US, NOW))).await;
        put(&store, &ticket(2), InsertAs::Waiting { waits_for: id(1), run_after: NOW + 30_000 }).await;
        assert_eq!(store.lease_next(lease(US, NOW + 1), KINDS).await.unwrap(), None);
        // Nothing to settle while it runs.
        assert_eq!(store.settle_followers_of(id(1), NOW).await.unwrap(), vec![]);
        let finished = store.fail(&leader, &Failure::new("c", "d"), NOW + 1, NOW + 2).await.unwrap();
        assert_eq!(finished, Finished::Yes { settled: vec![id(2)] });
        let free = store.lease_next(lease(US, NOW + 1), KINDS).await.unwrap().unwrap();
        assert_eq!((free.ticket_id, free.attempt), (id(2), 1));
        // The same for one that came to wait in the moment of the end.
        put(&store, &ticket(3), InsertAs::Waiting { waits_for: id(1), run_after: NOW + 30_000 }).await;
        assert_eq!(store.settle_followers_of(id(1), NOW).await.unwrap(), [id(3)]);
        assert!(store.lease_next(lease(US, NOW + 1), KINDS).await.unwrap().is_some());
    }
}

on_both! {
    async fn a_leased_ticket_can_be_answered_by_an_equal_one(db: Db) {
        let store = TicketStore::new(db);
        let first = put(&store, &ticket(1), InsertAs::Leased(lease(US, NOW))).await;
        store.publish(&first, &result(b"7"), NOW, NOW + 50).await.unwrap();
        let first = get(&store, 1).await;
        let second = put(&store, &ticket(2), InsertAs::Leased(lease(US, NOW))).await;
        assert_eq!(store.answer_with(&second, &first, NOW + 1).await.unwrap(), ended());
        assert_eq!(get(&store, 2).await.result, first.result);
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

#[test]
fn kinds_fill_all_places() {
    let places = kind_binds(&["a", "b"]);
    assert_eq!(places.len(), KINDS_MAX);
    assert!(matches!(&places[7], Value::Text(last) if last == "b"));
}
