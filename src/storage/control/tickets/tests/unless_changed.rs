//! Tickets that come in after their run has begun.

use std::time::Duration;

use super::*;
use crate::storage::Db;
use crate::storage::control::projects;
use crate::storage::control::tickets::unless_erased::{INSERT_UNLESS_ERASED, guarded_binds};

/// A project with these tickets' number.
async fn project(db: &Db) {
    let project = projects::InsertProject::over(1);
    assert_eq!(projects::create_project(db, project).await.unwrap(), ProjectId(1));
}

async fn raise(db: &Db) {
    projects::raise_erasure_epoch(db, ProjectId(1)).await.unwrap();
}

on_both! {
    async fn a_ticket_comes_in_as_it_would_have_been_from_the_beginning(db: Db) {
        project(&db).await;
        let store = TicketStore::new(db.clone());
        let mut asked = ticket(1);
        asked.data_version = Some([3; 32]);
        asked.body = "{\"é'\\\"\":\"\\u0000?\"}".as_bytes().to_vec();
        let row = asked.leased(lease(US, NOW));
        assert!(store.insert_unless_erased(&row, 0).await.unwrap());
        assert_eq!(get(&store, 1).await, row);
        let again = store.insert_unless_erased(&row, 0).await.unwrap_err();
        assert!(matches!(again, StorageError::Conflict { .. }), "{again:?}");
        assert_eq!(store.publish(&row, &result(b"{}"), NOW, NOW + 10).await.unwrap(), ended());
        // The same in one go.
        let row = NewTicket { ticket_id: id(2), body_hash: [2; 32], ..asked }.leased(lease(US, NOW));
        let body = "{\"a\":\"'é\\\\\"}";
        let late = store.insert_ended_unless_erased(&row, &result(body.as_bytes()), NOW + 3, NOW + 50, 0).await.unwrap();
        let late = late.unwrap();
        assert_eq!(get(&store, 2).await, late);
        assert_eq!(late, row.published(&result(body.as_bytes()), NOW + 3, NOW + 50));
        assert_eq!(store.read_result(&late.result.unwrap()).await.unwrap().unwrap(), body.as_bytes());
    }
}

on_both! {
    async fn nothing_comes_in_once_somebody_was_erased(db: Db) {
        project(&db).await;
        let store = TicketStore::new(db.clone());
        let row = ticket(1).leased(lease(US, NOW));
        raise(&db).await;
        assert!(!store.insert_unless_erased(&row, 0).await.unwrap());
        assert_eq!(store.insert_ended_unless_erased(&row, &result(b"{}"), NOW, NOW + 9, 0).await.unwrap(), None);
        assert_eq!(store.find(id(1)).await.unwrap(), None);
        let parts = ResultRef { ticket_id: id(1), fence: 1, bytes: 2, parts: 1 };
        assert_eq!(store.read_result(&parts).await.unwrap(), None);
        assert!(store.insert_unless_erased(&row, 1).await.unwrap());
        let elsewhere = NewTicket { ticket_id: id(2), project_id: ProjectId(2), ..ticket(2) };
        assert!(!store.insert_unless_erased(&elsewhere.leased(lease(US, NOW)), 0).await.unwrap(), "no such project");
    }
}

on_both! {
    async fn an_erasure_waits_for_a_ticket_that_is_coming_in(db: Db) {
        project(&db).await;
        let row = ticket(1).leased(lease(US, NOW));
        let (coming, other) = (row.clone(), db.clone());
        let raised = db
            .transaction(move |tx| {
                let (row, other) = (coming.clone(), other.clone());
                Box::pin(async move {
                    assert_eq!(tx.execute(&INSERT_UNLESS_ERASED, guarded_binds(&row, 0)).await?, 1);
                    let mut raised = tokio::spawn(async move { raise(&other).await });
                    let early = tokio::time::timeout(Duration::from_millis(150), &mut raised).await;
                    assert!(early.is_err(), "raised before it is known whether the ticket comes in");
                    Ok::<_, StorageError>(raised)
                })
            })
            .await
            .unwrap();
        raised.await.unwrap();
        let kept = TicketStore::new(db).list_kept(ProjectId(1), None, 10).await.unwrap();
        assert_eq!(kept, [row]);
    }
}
