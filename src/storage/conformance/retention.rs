//! For how many days projects keep their events.

use super::on_both;
use crate::model::{DAY_MS, ProjectId, ShardNo};
use crate::storage::control::projects::{self, InsertProject};
use crate::storage::server::failed_events::{self, FailedEvent, Stage};
use crate::storage::server::{lapsed, masks, persons, profiles};
use crate::storage::{Db, StorageError};

async fn project(db: &Db, name: &str) -> ProjectId {
    let project = InsertProject {
        name: name.to_owned(),
        time_zone: "UTC".to_owned(),
        span: 1,
        owner: None,
        keys: Vec::new(),
        created_at: 1,
    };
    projects::create_project(db, project).await.unwrap()
}

on_both! {
    async fn a_project_keeps_events_for_ever_or_for_some_days(db: Db) {
        let (one, two) = (project(&db, "one").await, project(&db, "two").await);
        assert_eq!(projects::list_retentions(&db).await.unwrap(), []);
        projects::set_retention(&db, two, Some(30)).await.unwrap();
        assert_eq!(projects::list_retentions(&db).await.unwrap(), [(two, 30)]);
        let found = projects::find_project(&db, two).await.unwrap().unwrap();
        assert_eq!(found.retention_days, Some(30));
        assert_eq!(found.kept_from(100 * DAY_MS + 5), Some(70 * DAY_MS));
        assert_eq!(projects::find_project(&db, one).await.unwrap().unwrap().kept_from(0), None);
        projects::set_retention(&db, two, None).await.unwrap();
        assert_eq!(projects::list_retentions(&db).await.unwrap(), []);
    }
}

on_both! {
    async fn persons_lapse_with_their_last_day(db: Db) {
        let (shard_no, project_id) = (ShardNo(1), ProjectId(1));
        let filled: Result<(), StorageError> = db
            .transaction(move |tx| {
                Box::pin(async move {
                    // Known for long, today, and long again; the last is masked.
                    persons::insert_persons(tx, shard_no, project_id, &[0, 1, 2, 3, 5], 7).await?;
                    persons::insert_persons(tx, shard_no, project_id, &[4], 100 * DAY_MS).await?;
                    let days = [(0, (1, 69)), (1, (1, 70)), (2, (3, 3)), (5, (1, 1))];
                    profiles::widen_days(tx, shard_no, project_id, &days, 7).await?;
                    masks::insert(tx, shard_no, project_id, 5, "moved", 1).await
                })
            })
            .await;
        filled.unwrap();
        let kept_from = 70 * DAY_MS;
        let listed = async |numbers| {
            lapsed::list_lapsed(&db, shard_no, project_id, numbers, kept_from).await.unwrap()
        };
        assert_eq!(listed(0..10).await, [0, 2, 3], "3 never had an event");
        assert_eq!(listed(1..3).await, [2]);
        let counted = async |numbers| {
            lapsed::count_persons(&db, shard_no, project_id, numbers, kept_from).await.unwrap()
        };
        assert_eq!(counted(0..10).await, (5, 3));
        assert_eq!(counted(2..5).await, (3, 2));
    }
}

on_both! {
    async fn old_rejected_events_of_one_project_go(db: Db) {
        let rejected = |n: u8, project: u32, failed_at| FailedEvent {
            failed_id: crate::model::BatchId([n; 16]),
            project_id: ProjectId(project),
            stage: Stage::Collect,
            reason: "event_name".to_owned(),
            detail: "empty".to_owned(),
            body: bytes::Bytes::from_static(b"{}"),
            failed_at,
        };
        let all = [rejected(1, 1, 99), rejected(2, 1, 100), rejected(3, 2, 99)];
        failed_events::insert(&db, &all).await.unwrap();
        assert_eq!(lapsed::delete_rejected(&db, ProjectId(1), 100).await.unwrap(), 1);
        let left = failed_events::list_latest(&db, ProjectId(1), 10).await.unwrap();
        assert_eq!(left.iter().map(|event| event.failed_at).collect::<Vec<_>>(), [100]);
        assert_eq!(failed_events::list_latest(&db, ProjectId(2), 10).await.unwrap().len(), 1);
    }
}
