//! Failed events are listed newest first and capped.

use super::on_both;
use crate::model::{BatchId, ProjectId};
use crate::storage::server::failed_events::{self, FailedEvent, Stage};

fn failed(n: u8, project: u32) -> FailedEvent {
    FailedEvent {
        failed_id: BatchId([n; 16]),
        project_id: ProjectId(project),
        stage: Stage::Collect,
        reason: "event_name".into(),
        detail: "x".repeat(5),
        body: bytes::Bytes::from_static(b"{\"event\":null}"),
        failed_at: n.into(),
    }
}

on_both! {
    async fn the_newest_are_kept_for_each_project(db: Db) {
        let all: Vec<_> = (1..=9).map(|n| failed(n, 1)).chain([failed(100, 2)]).collect();
        failed_events::insert(&db, &all).await.unwrap();
        let listed = failed_events::list_latest(&db, ProjectId(1), 3).await.unwrap();
        assert_eq!(listed, [failed(9, 1), failed(8, 1), failed(7, 1)]);
        assert_eq!(failed_events::delete_beyond(&db, ProjectId(1), 9).await.unwrap(), 0);
        assert_eq!(failed_events::delete_beyond(&db, ProjectId(1), 4).await.unwrap(), 5);
        assert_eq!(failed_events::list_latest(&db, ProjectId(1), 100).await.unwrap().len(), 4);
        assert_eq!(failed_events::list_latest(&db, ProjectId(2), 100).await.unwrap().len(), 1);
    }
}

on_both! {
    async fn a_long_detail_is_cut_to_what_the_column_holds(db: Db) {
        let mut event = failed(1, 1);
        event.detail = "é".repeat(3_000);
        failed_events::insert(&db, &[event]).await.unwrap();
        let listed = failed_events::list_latest(&db, ProjectId(1), 1).await.unwrap();
        assert_eq!(listed[0].detail.chars().count(), 1_000);
    }
}

on_both! {
    async fn only_the_named_failed_events_are_deleted(db: Db) {
        let all: Vec<_> = (1..=4).map(|n| failed(n, 1)).collect();
        failed_events::insert(&db, &all).await.unwrap();
        assert_eq!(failed_events::delete(&db, &[]).await.unwrap(), 0);
        let ids = [all[0].failed_id, all[2].failed_id, BatchId([99; 16])];
        assert_eq!(failed_events::delete(&db, &ids).await.unwrap(), 2);
        let left = failed_events::list_latest(&db, ProjectId(1), 9).await.unwrap();
        assert_eq!(left, [all[3].clone(), all[1].clone()]);
    }
}

on_both! {
    async fn failed_events_are_paged_and_counted_by_reason(db: Db) {
        let mut all: Vec<_> = (1..=6).map(|n| failed(n, 1)).chain([failed(100, 2)]).collect();
        for event in all.iter_mut().filter(|event| event.failed_at % 2 == 0) {
            event.reason = "timestamp".into();
        }
        failed_events::insert(&db, &all).await.unwrap();
        let page = |reason, before| failed_events::list_page(&db, ProjectId(1), reason, BatchId([before; 16]), 2);
        let numbers = |events: Vec<FailedEvent>| events.iter().map(|event| event.failed_at).collect::<Vec<_>>();
        assert_eq!(numbers(page(None, 255).await.unwrap()), [6, 5]);
        assert_eq!(numbers(page(None, 5).await.unwrap()), [4, 3]);
        assert_eq!(numbers(page(Some("timestamp"), 6).await.unwrap()), [4, 2]);
        assert!(page(Some("id"), 255).await.unwrap().is_empty());
        let counts = failed_events::count_by_reason(&db, ProjectId(1)).await.unwrap();
        assert_eq!(counts, [("event_name".to_owned(), 3), ("timestamp".to_owned(), 3)]);
    }
}
