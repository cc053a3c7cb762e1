//! Tickets that come in after their run has begun.

use std::time::Duration;

use super::*;
use crate::storage::Db;
use crate::storage::control::projects::{self, Project};
use crate::storage::control::tickets::unless_changed::{INSERT_UNLESS_CHANGED, guarded_binds};

/// A project with these tickets' number.
async fn project(db: &Db) -> Project {
    let project = projects::InsertProject::over(1);
    assert_eq!(projects::create_project(db, project).await.unwrap(), ProjectId(1));
    now(db).await
}

/// It as it is now.
async fn now(db: &Db) -> Project {
    projects::find_project(db, ProjectId(1)).await.unwrap().unwrap()
}

async fn raise(db: &Db) {
    projects::raise_erasure_epoch(db, ProjectId(1)).await.unwrap();
}

on_both! {
    async fn a_ticket_comes_in_as_it_would_have_been_from_the_beginning(db: Db) {
        let project = project(&db).await;
        let store = TicketStore::new(db.clone());
        let mut asked = ticket(1);
        asked.data_version = Some([3; 32]);
        asked.body = "{\"é'\\\"\":\"\\u0000?\"}".as_bytes().to_vec();
        let row = asked.leased(lease(US, NOW));
        assert!(store.insert_unless_changed(&row, &project).await.unwrap());
        assert_eq!(get(&store, 1).await, row);
        let again = store.insert_unless_changed(&row, &project).await.unwrap_err();
        assert!(matches!(again, StorageError::Conflict { .. }), "{again:?}");
        assert_eq!(store.publish(&row, &result(b"{}"), NOW, NOW + 10).await.unwrap(), ended());
        // The same in one go.
        let row = NewTicket { ticket_id: id(2), body_hash: [2; 32], ..asked }.leased(lease(US, NOW));
        let body = "{\"a\":\"'é\\\\\"}";
        let result_of_it = result(body.as_bytes());
        let late = store.insert_ended_unless_changed(&row, &result_of_it, NOW + 3, NOW + 50, &project).await;
        let late = late.unwrap().unwrap();
        assert_eq!(get(&store, 2).await, late);
        assert_eq!(late, row.published(&result(body.as_bytes()), NOW + 3, NOW + 50));
        assert_eq!(store.read_result(&late.result.unwrap()).await.unwrap().unwrap(), body.as_bytes());
    }
}

on_both! {
    async fn nothing_comes_in_once_somebody_was_erased(db: Db) {
        let project = project(&db).await;
        let store = TicketStore::new(db.clone());
        let row = ticket(1).leased(lease(US, NOW));
        raise(&db).await;
        assert!(!store.is_unchanged(&project).await.unwrap());
        assert!(!store.insert_unless_changed(&row, &project).await.unwrap());
        let ended = store.insert_ended_unless_changed(&row, &result(b"{}"), NOW, NOW + 9, &project).await;
        assert_eq!(ended.unwrap(), None);
        assert_eq!(store.find(id(1)).await.unwrap(), None);
        let parts = ResultRef { ticket_id: id(1), fence: 1, bytes: 2, parts: 1 };
        assert_eq!(store.read_result(&parts).await.unwrap(), None);
        let now = now(&db).await;
        assert!(store.is_unchanged(&now).await.unwrap());
        assert!(store.insert_unless_changed(&row, &now).await.unwrap());
        let elsewhere = Project { project_id: ProjectId(2), ..now };
        assert!(!store.is_unchanged(&elsewhere).await.unwrap(), "no such project");
    }
}

on_both! {
    async fn nor_when_a_setting_is_another(db: Db) {
        let project = project(&db).await;
        let store = TicketStore::new(db.clone());
        projects::set_retention(&db, ProjectId(1), Some(30)).await.unwrap();
        let now = now(&db).await;
        assert_eq!(now, Project { retention_days: Some(30), ..project.clone() });
        let renamed = Project { name: "other".to_owned(), ..now.clone() };
        let others = [
            project,
            Project { retention_days: Some(31), ..now.clone() },
            Project { time_zone: "Europe/Paris".to_owned(), ..now.clone() },
            Project { span: 2, ..now.clone() },
            Project { erasure_epoch: 7, ..now.clone() },
        ];
        let row = ticket(1).leased(lease(US, NOW));
        for other in others {
            assert!(!store.is_unchanged(&other).await.unwrap(), "{other:?}");
            assert!(!store.insert_unless_changed(&row, &other).await.unwrap(), "{other:?}");
        }
        assert!(store.is_unchanged(&now).await.unwrap());
        assert!(store.insert_unless_changed(&row, &renamed).await.unwrap(), "no answer depends on its name");
    }
}

on_both! {
    async fn an_erasure_waits_for_a_ticket_that_is_coming_in(db: Db) {
        let project = project(&db).await;
        let row = ticket(1).leased(lease(US, NOW));
        let (coming, other) = (row.clone(), db.clone());
        let raised = db
            .transaction(move |tx| {
                let (row, project, other) = (coming.clone(), project.clone(), other.clone());
                Box::pin(async move {
                    assert_eq!(tx.execute(&INSERT_UNLESS_CHANGED, guarded_binds(&row, &project)).await?, 1);
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
