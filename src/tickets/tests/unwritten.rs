//! Runs that begin before their tickets are written down.

use super::*;
use crate::storage::control::projects;
use crate::storage::control::tickets::SENT_ALONG_BYTES_MAX;

const WAIT: Duration = Duration::from_secs(20);

/// With a project whose tickets may run early.
async fn early(db: Db, slots: usize) -> Stage {
    let project = projects::InsertProject {
        name: "p".to_owned(),
        time_zone: "UTC".to_owned(),
        span: 1,
        owner: None,
        keys: vec![],
        created_at: 1,
    };
    assert_eq!(projects::create_project(&db, project).await.unwrap(), PROJECT);
    let stage = Stage::new(db, settings(slots));
    stage.be_early().await;
    stage
}

impl Stage {
    /// As of now.
    async fn be_early(&self) {
        let project = projects::find_project(&self.db, PROJECT).await.unwrap().unwrap();
        *self.puppet.erasure_epoch.lock().unwrap() = Some(project.erasure_epoch);
    }

    async fn ask(&self, body: Value) -> Submitted {
        self.tickets.submit_to_wait(submission(body), WAIT).await.unwrap()
    }

    async fn rows(&self) -> usize {
        self.tickets.list(PROJECT, None, 10).await.unwrap().tickets.len()
    }

    fn runs(&self) -> u32 {
        self.puppet.runs.load(Ordering::SeqCst)
    }
}

on_both! {
    async fn what_is_done_at_once_is_done_when_it_is_taken_in(db: Db) {
        let stage = early(db, 1).await;
        let submitted = stage.ask(json!({})).await;
        let ticket = submitted.ticket.clone();
        assert_eq!((ticket.state, ticket.attempt), (TicketState::Succeeded, 1));
        let waited = stage.tickets.wait_for_end(submitted, WAIT).await.unwrap();
        assert_eq!(stage.tickets.result(&waited).await.unwrap(), r#"{"answer":1}"#);
        let found = stage.tickets.get(PROJECT, ticket.ticket_id).await.unwrap();
        assert_eq!(stage.tickets.result(&found).await.unwrap(), r#"{"answer":1}"#);
        assert_eq!(Ticket { at_hand: None, ..waited }, found);
        // The slot is free again.
        assert_eq!(stage.ask(json!({})).await.ticket.state, TicketState::Succeeded);
    }
}

on_both! {
    async fn what_takes_longer_is_found_while_it_runs(db: Db) {
        let mut stage = early(db, 1).await;
        let submitted = stage.ask(json!({"do": "wait"})).await;
        assert_eq!(submitted.ticket.state, TicketState::Running);
        assert_eq!(stage.started().await, (1, 1));
        let found = stage.tickets.get(PROJECT, submitted.ticket.ticket_id).await.unwrap();
        assert_eq!(found.state, TicketState::Running);
        stage.puppet.gate.add_permits(1);
        let ticket = stage.tickets.wait_for_end(submitted, WAIT).await.unwrap();
        assert_eq!((ticket.state, ticket.attempt, stage.runs()), (TicketState::Succeeded, 1, 1));
        assert_eq!(stage.tickets.get(PROJECT, ticket.ticket_id).await.unwrap().state, TicketState::Succeeded);
    }
}

on_both! {
    async fn who_does_not_wait_is_told_of_a_ticket_that_is_there(db: Db) {
        let stage = early(db, 1).await;
        for wait in [Duration::ZERO, Duration::from_millis(1)] {
            let submit = submission(json!({"do": "wait"}));
            let submitted = stage.tickets.submit_to_wait(submit, wait).await.unwrap();
            let ticket = stage.tickets.wait_for_end(submitted, wait).await.unwrap();
            assert_eq!(ticket.state, TicketState::Running);
            assert_eq!(stage.tickets.get(PROJECT, ticket.ticket_id).await.unwrap().state, TicketState::Running);
            stage.puppet.gate.add_permits(1);
            stage.end(ticket.ticket_id).await;
            drop(stage.tickets.inner.slots.acquire().await.unwrap());
        }
    }
}

on_both! {
    async fn any_other_end_is_written_as_always(db: Db) {
        let stage = early(db, 1).await;
        for (step, state) in [
            ("fail", TicketState::Failed),
            ("retry", TicketState::Queued),
            ("panic", TicketState::Queued),
        ] {
            let ticket = stage.ask(json!({"do": step})).await.ticket.ticket_id;
            drop(stage.tickets.inner.slots.acquire().await.unwrap());
            let found = stage.tickets.get(PROJECT, ticket).await.unwrap();
            assert_eq!((found.state, found.attempt), (state, 1), "{step}");
        }
    }
}

on_both! {
    async fn a_large_result_is_written_as_always(db: Db) {
        let stage = early(db, 1).await;
        for (bytes, state) in
            [(SENT_ALONG_BYTES_MAX, TicketState::Succeeded), (SENT_ALONG_BYTES_MAX + 1, TicketState::Running)]
        {
            stage.puppet.answer_bytes.store(bytes, Ordering::SeqCst);
            let submitted = stage.ask(json!({})).await;
            assert_eq!(submitted.ticket.state, state, "{bytes}");
            let ticket = stage.tickets.wait_for_end(submitted, WAIT).await.unwrap();
            let found = stage.tickets.get(PROJECT, ticket.ticket_id).await.unwrap();
            assert_eq!((found.state, found.result_bytes), (TicketState::Succeeded, Some(bytes as u64)));
            assert_eq!(stage.tickets.result(&found).await.unwrap().len(), bytes);
        }
    }
}

on_both! {
    async fn it_is_written_before_its_steps_are_handed_out(db: Db) {
        let stage = early(db, 1).await;
        let submitted = stage.ask(json!({"do": "split", "shards": 3})).await;
        let ticket = stage.tickets.wait_for_end(submitted, WAIT).await.unwrap();
        assert_eq!((ticket.state, ticket.attempt), (TicketState::Succeeded, 1));
        assert_eq!(stage.puppet.steps_run.load(Ordering::SeqCst), 3);
    }
}

on_both! {
    async fn a_ticket_with_a_key_or_without_an_epoch_is_written_first(db: Db) {
        let stage = early(db, 1).await;
        let keyed = Submit { idempotency_key: Some("k".to_owned()), ..submission(json!({"do": "wait"})) };
        let first = stage.tickets.submit_to_wait(keyed.clone(), WAIT).await.unwrap();
        let second = stage.tickets.submit_to_wait(keyed, WAIT).await.unwrap();
        assert_eq!(first.ticket.ticket_id, second.ticket.ticket_id);
        stage.puppet.gate.add_permits(1);
        stage.tickets.wait_for_end(first, WAIT).await.unwrap();
        *stage.puppet.erasure_epoch.lock().unwrap() = None;
        assert_eq!(stage.ask(json!({})).await.ticket.state, TicketState::Running);
    }
}

on_both! {
    async fn without_a_slot_it_waits_as_always(db: Db) {
        let stage = early(db, 0).await;
        assert_eq!(stage.ask(json!({})).await.ticket.state, TicketState::Queued);
    }
}

on_both! {
    async fn a_run_that_began_before_an_erasure_is_given_up_and_its_ticket_taken_in_anew(db: Db) {
        let mut stage = early(db, 1).await;
        // An erasure since the ticket was prepared.
        projects::raise_erasure_epoch(&stage.db, PROJECT).await.unwrap();
        let submitted = stage.ask(json!({})).await;
        let ticket = stage.tickets.wait_for_end(submitted, WAIT).await.unwrap();
        assert_eq!(stage.tickets.result(&ticket).await.unwrap(), r#"{"answer":2}"#, "not of the first run");
        assert_eq!((ticket.attempt, stage.rows().await), (1, 1));
        // The same while it runs.
        stage.be_early().await;
        projects::raise_erasure_epoch(&stage.db, PROJECT).await.unwrap();
        (0..2).for_each(|_| _ = stage.saw.try_recv());
        let submitted = stage.ask(json!({"do": "wait"})).await;
        assert_eq!(submitted.ticket.state, TicketState::Running);
        assert_eq!(stage.started().await, (1, 1));
        assert_eq!(stage.saw.recv().await.unwrap(), Saw::Stopped(StopReason::LeaseLost));
        assert_eq!(stage.started().await, (1, 1));
        stage.puppet.gate.add_permits(1);
        let ticket = stage.tickets.wait_for_end(submitted, WAIT).await.unwrap();
        assert_eq!(stage.tickets.result(&ticket).await.unwrap(), r#"{"answer":4}"#);
        assert_eq!(stage.rows().await, 2);
    }
}

on_both! {
    async fn a_stop_gives_it_back_to_the_queue(db: Db) {
        let mut stage = early(db, 1).await;
        let (submitted, ()) = tokio::join!(stage.tickets.submit_to_wait(submission(json!({"do": "wait"})), WAIT), async {
            while stage.puppet.runs.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
            stage.tickets.stop(WAIT).await;
        });
        let ticket = submitted.unwrap().ticket.ticket_id;
        assert_eq!(stage.started().await, (1, 1));
        let found = stage.tickets.get(PROJECT, ticket).await.unwrap();
        assert_eq!((found.state, found.attempt), (TicketState::Queued, 0));
    }
}

on_both! {
    async fn equal_ones_that_come_together_all_end_and_answer_those_who_come_later(db: Db) {
        let stage = early(db, 4).await;
        *stage.puppet.version.lock().unwrap() = Some([1; 32]);
        let ask = || stage.ask(json!({"do": "wait"}));
        let asked = futures_util::future::join_all([ask(), ask(), ask(), ask()]);
        let (asked, ()) = tokio::join!(asked, async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            stage.puppet.gate.add_permits(4);
        });
        for submitted in asked {
            let ticket = stage.tickets.wait_for_end(submitted, WAIT).await.unwrap();
            assert_eq!(ticket.state, TicketState::Succeeded);
        }
        let later = stage.ask(json!({"do": "wait"})).await;
        assert_eq!(later.ticket.state, TicketState::Succeeded, "answered by an equal one");
    }
}
