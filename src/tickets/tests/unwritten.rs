//! Runs that begin before their tickets are written down.

use super::*;
use crate::storage::control::projects;
use crate::storage::control::tickets::{InsertAs, NewTicket, SENT_ALONG_BYTES_MAX};

const WAIT: Duration = Duration::from_secs(20);

/// With a project whose tickets may run for this long before they are written down.
async fn unwritten_for(db: Db, slots: usize, written_after: Duration) -> Stage {
    let project = projects::InsertProject::over(1);
    assert_eq!(projects::create_project(&db, project).await.unwrap(), PROJECT);
    let stage = Stage::new(db, TicketSettings { written_after, ..settings(slots) });
    stage.prepare_anew().await;
    stage
}

/// Longer than any test.
async fn unwritten(db: Db, slots: usize) -> Stage {
    unwritten_for(db, slots, WAIT_MAX).await
}

impl Stage {
    /// From now on tickets are prepared as of this moment.
    async fn prepare_anew(&self) {
        let project = projects::find_project(&self.db, PROJECT).await.unwrap().unwrap();
        *self.puppet.project.lock().unwrap() = Some(Arc::new(project));
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
        let stage = unwritten(db, 1).await;
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
        let mut stage = unwritten_for(db, 1, Duration::from_millis(1)).await;
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
        let stage = unwritten(db, 1).await;
        // Nobody waits for longer than they said.
        for wait in [Duration::ZERO, Duration::from_millis(1)] {
            let submit = submission(json!({"do": "wait"}));
            let submitted = stage.tickets.submit_to_wait(submit, wait);
            let submitted = tokio::time::timeout(WAIT / 4, submitted).await.expect("too late").unwrap();
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
        let stage = unwritten(db, 1).await;
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
        let stage = unwritten(db, 1).await;
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
        let stage = unwritten(db, 1).await;
        let submitted = stage.ask(json!({"do": "split", "shards": 3})).await;
        assert_eq!(submitted.ticket.state, TicketState::Running);
        let ticket = stage.tickets.wait_for_end(submitted, WAIT).await.unwrap();
        assert_eq!((ticket.state, ticket.attempt), (TicketState::Succeeded, 1));
        assert_eq!(stage.puppet.steps_run.load(Ordering::SeqCst), 3);
    }
}

on_both! {
    async fn a_ticket_with_a_key_or_without_an_epoch_is_written_first(db: Db) {
        let stage = unwritten(db, 1).await;
        let keyed = Submit { idempotency_key: Some("k".to_owned()), ..submission(json!({"do": "wait"})) };
        let first = stage.tickets.submit_to_wait(keyed.clone(), WAIT).await.unwrap();
        assert_eq!(first.ticket.state, TicketState::Running);
        let second = stage.tickets.submit_to_wait(keyed, WAIT).await.unwrap();
        assert_eq!(first.ticket.ticket_id, second.ticket.ticket_id);
        stage.puppet.gate.add_permits(1);
        stage.tickets.wait_for_end(first, WAIT).await.unwrap();
        drop(stage.tickets.inner.slots.acquire().await.unwrap());
        *stage.puppet.project.lock().unwrap() = None;
        assert_eq!(stage.ask(json!({"do": "wait"})).await.ticket.state, TicketState::Running);
    }
}

on_both! {
    async fn without_a_slot_it_waits_as_always(db: Db) {
        let stage = unwritten(db, 0).await;
        assert_eq!(stage.ask(json!({})).await.ticket.state, TicketState::Queued);
    }
}

on_both! {
    async fn a_run_that_began_before_an_erasure_is_given_up_and_its_ticket_taken_in_anew(db: Db) {
        let stage = unwritten(db, 2).await;
        // An erasure since the ticket was prepared.
        projects::raise_erasure_epoch(&stage.db, PROJECT).await.unwrap();
        let submitted = stage.ask(json!({})).await;
        let ticket = stage.tickets.wait_for_end(submitted, WAIT).await.unwrap();
        assert_eq!(stage.tickets.result(&ticket).await.unwrap(), r#"{"answer":2}"#, "not of the first run");
        assert_eq!((ticket.attempt, stage.rows().await), (1, 1));
    }
}

on_both! {
    async fn the_same_while_it_runs(db: Db) {
        let mut stage = unwritten_for(db, 2, Duration::from_millis(1)).await;
        projects::raise_erasure_epoch(&stage.db, PROJECT).await.unwrap();
        let submitted = stage.ask(json!({"do": "wait"})).await;
        let ticket = submitted.ticket.ticket_id;
        assert_eq!(submitted.ticket.state, TicketState::Running);
        assert_eq!(stage.started().await, (1, 1));
        assert_eq!(stage.saw.recv().await.unwrap(), Saw::Stopped(StopReason::LeaseLost));
        assert_eq!(stage.started().await, (1, 1));
        // The first run was over before, and has not taken the second from the list of those that run.
        assert!(stage.tickets.inner.running.lock().unwrap().contains_key(&ticket));
        assert_eq!(stage.tickets.inner.slots.available_permits(), 1);
        stage.puppet.gate.add_permits(1);
        let ticket = stage.tickets.wait_for_end(submitted, WAIT).await.unwrap();
        assert_eq!(stage.tickets.result(&ticket).await.unwrap(), r#"{"answer":2}"#);
        assert_eq!(stage.rows().await, 1);
    }
}

impl Stage {
    /// From now on those that may presume take for their project what it is at this moment.
    async fn presume(&self) {
        self.prepare_anew().await;
        *self.puppet.presumed.lock().unwrap() = self.puppet.project.lock().unwrap().clone();
    }
}

on_both! {
    async fn what_is_presumed_of_a_project_is_as_good_as_read_while_it_holds(db: Db) {
        let stage = unwritten(db, 1).await;
        stage.presume().await;
        let submitted = stage.ask(json!({"at": "now"})).await;
        assert_eq!(submitted.ticket.state, TicketState::Succeeded);
        assert_eq!((stage.runs(), stage.puppet.prepared.load(Ordering::SeqCst)), (1, 1));
        assert_eq!(*stage.puppet.ran_by.lock().unwrap(), *stage.puppet.presumed.lock().unwrap());
    }
}

on_both! {
    async fn what_was_presumed_wrongly_is_prepared_and_run_anew(db: Db) {
        let stage = unwritten(db, 1).await;
        stage.presume().await;
        projects::update_project(&stage.db, PROJECT, "p", "Europe/Paris").await.unwrap();
        stage.prepare_anew().await;
        let submitted = stage.ask(json!({"at": "now"})).await;
        let ticket = stage.tickets.wait_for_end(submitted, WAIT).await.unwrap();
        assert_eq!(stage.tickets.result(&ticket).await.unwrap(), r#"{"answer":2}"#, "not of the first run");
        assert_eq!((ticket.attempt, stage.rows().await), (1, 1));
        assert_eq!(stage.puppet.prepared.load(Ordering::SeqCst), 2);
        assert_eq!(*stage.puppet.ran_by.lock().unwrap(), *stage.puppet.project.lock().unwrap());
    }
}

on_both! {
    async fn nobody_else_goes_by_what_is_presumed(db: Db) {
        let stage = unwritten(db, 1).await;
        stage.presume().await;
        let body = json!({"at": "now"});
        let keyed = Submit { idempotency_key: Some("k".to_owned()), ..submission(body.clone()) };
        for (submit, wait) in [(keyed, WAIT), (submission(body), Duration::ZERO)] {
            let submitted = stage.tickets.submit_to_wait(submit, wait).await.unwrap();
            stage.tickets.wait_for_end(submitted, WAIT).await.unwrap();
            assert_eq!(*stage.puppet.ran_by.lock().unwrap(), None);
        }
    }
}

on_both! {
    async fn the_same_where_there_is_no_slot(db: Db) {
        let stage = unwritten(db, 0).await;
        stage.presume().await;
        for prepared in [1, 3] {
            let submitted = stage.ask(json!({"at": "now"})).await;
            assert_eq!(submitted.ticket.state, TicketState::Queued);
            assert_eq!(stage.puppet.prepared.load(Ordering::SeqCst), prepared);
            projects::set_retention(&stage.db, PROJECT, Some(7)).await.unwrap();
        }
    }
}

on_both! {
    async fn a_stop_gives_it_back_to_the_queue(db: Db) {
        let mut stage = unwritten(db, 1).await;
        let tickets = stage.tickets.clone();
        let asked = tokio::spawn(async move {
            tickets.submit_to_wait(submission(json!({"do": "wait"})), WAIT).await.unwrap()
        });
        assert_eq!(stage.started().await, (1, 1));
        assert_eq!(stage.rows().await, 0, "it is not written down");
        stage.tickets.stop(WAIT).await;
        let ticket = asked.await.unwrap().ticket.ticket_id;
        let found = stage.tickets.get(PROJECT, ticket).await.unwrap();
        assert_eq!((found.state, found.attempt), (TicketState::Queued, 0));
    }
}

on_both! {
    async fn what_cannot_be_written_is_an_error_for_who_asked(db: Db) {
        let mut stage = unwritten(db, 1).await;
        let tickets = stage.tickets.clone();
        let asked = tokio::spawn(async move {
            tickets.submit_to_wait(submission(json!({"do": "wait"})), WAIT).await
        });
        assert_eq!(stage.started().await, (1, 1));
        // Something stands where it is to be.
        let id = *stage.tickets.inner.running.lock().unwrap().keys().next().unwrap();
        let other = NewTicket { ticket_id: id, ..other_ticket() };
        stage.store.insert(&other, InsertAs::Queued).await.unwrap();
        stage.puppet.gate.add_permits(1);
        let refused = asked.await.unwrap().unwrap_err();
        assert!(matches!(refused, SubmitError::Storage(_)), "{refused:?}");
        // The slot is free, and nothing was written over.
        drop(stage.tickets.inner.slots.acquire().await.unwrap());
        assert_eq!(stage.store.find(id).await.unwrap().unwrap().state, TicketState::Queued);
    }
}

fn other_ticket() -> NewTicket {
    NewTicket {
        ticket_id: TicketId([0; 16]),
        project_id: PROJECT,
        kind: "puppet",
        body: b"{}".to_vec(),
        body_hash: [0; 32],
        request_hash: [0; 32],
        data_version: None,
        idempotency_key: None,
        created_by: "key:1".to_owned(),
        attempts_max: 3,
        created_at: NOW,
        overdue_at: NOW + 1_000_000,
    }
}

on_both! {
    async fn of_equal_ones_that_come_together_two_run(db: Db) {
        let mut stage = unwritten(db, 4).await;
        *stage.puppet.version.lock().unwrap() = Some([1; 32]);
        let ask = |tickets: Tickets| {
            tokio::spawn(async move {
                let submitted = tickets.submit_to_wait(submission(json!({"do": "wait"})), WAIT).await.unwrap();
                tickets.wait_for_end(submitted, WAIT).await.unwrap()
            })
        };
        let first = ask(stage.tickets.clone());
        assert_eq!(stage.started().await, (1, 1));
        let second = ask(stage.tickets.clone());
        assert_eq!(stage.started().await, (1, 1));
        assert_eq!(stage.rows().await, 1, "the second is written down at once");
        let third = stage.ask(json!({"do": "wait"})).await;
        assert_eq!(third.ticket.state, TicketState::Queued, "behind the second");
        stage.puppet.gate.add_permits(2);
        let third = stage.tickets.wait_for_end(third, WAIT).await.unwrap();
        for ticket in [first.await.unwrap(), second.await.unwrap(), third] {
            assert_eq!(ticket.state, TicketState::Succeeded);
        }
        assert_eq!(stage.runs(), 2);
        assert_eq!(stage.ask(json!({"do": "wait"})).await.ticket.state, TicketState::Succeeded);
    }
}

on_both! {
    async fn the_end_of_an_erasure_clears_what_names_the_person_and_came_in_meanwhile(db: Db) {
        let stage = Stage::new(db.clone(), settings(0));
        let naming = stage.submit(json!({"id": "ada@example.org"})).await;
        let other = stage.submit(json!({"id": "bob"})).await;
        stage.clock.advance(10);
        let later = stage.submit(json!({"id": "ada@example.org", "n": 2})).await;
        let names = Names::new(["ada@example.org"].into_iter());
        let answers = StoredAnswers::new(db, Cache::off());
        answers.clear_rest(PROJECT, "erasure", &names, NOW + 5, NOW + 10).await.unwrap();
        let found = stage.tickets.get(PROJECT, naming.ticket_id).await;
        assert!(matches!(found, Err(TicketError::Gone)), "{found:?}");
        assert_eq!(stage.store.find(naming.ticket_id).await.unwrap().unwrap().body, b"");
        for ticket in [other, later] {
            let found = stage.tickets.get(PROJECT, ticket.ticket_id).await.unwrap();
            assert_eq!(found.state, TicketState::Queued);
        }
    }
}
