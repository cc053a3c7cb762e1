//! Ways out of `running`, and what becomes of equal tickets.

use super::super::finish::SENT_ALONG_BYTES_MAX;
use super::*;

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
        let sizes = [0, 1, SENT_ALONG_BYTES_MAX, SENT_ALONG_BYTES_MAX + 1, PART_BYTES_MAX, 2 * PART_BYTES_MAX + 1];
        for (n, bytes) in (1_u8..).zip(sizes) {
            let row = put(&store, &ticket(n), InsertAs::Leased(lease(US, NOW))).await;
            let body: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
            let finished = store.publish(&row, &result(&body), NOW + 9, NOW + 99).await.unwrap();
            assert_eq!(finished, ended());
            let after = get(&store, n).await;
            assert_eq!(after.state, TicketState::Succeeded);
            assert_eq!(after, row.published(&result(&body), NOW + 9, NOW + 99));
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
    async fn what_was_erased_after_its_publishing_does_not_come_back_when_that_is_repeated(db: Db) {
        let store = TicketStore::new(db);
        for (n, bytes) in [(1, 10), (2, SENT_ALONG_BYTES_MAX + 1)] {
            let row = put(&store, &ticket(n), InsertAs::Leased(lease(US, NOW))).await;
            let body = result(&vec![b'x'; bytes]);
            assert_eq!(store.publish(&row, &body, NOW + 9, NOW + 99).await.unwrap(), ended());
            let stored = get(&store, n).await.result.unwrap();
            store.expire(id(n), NOW + 10, 1_000).await.unwrap();
            assert_eq!(store.publish(&row, &body, NOW + 20, NOW + 120).await.unwrap(), ended());
            assert_eq!(store.read_result(&stored).await.unwrap(), None, "{bytes}");
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
