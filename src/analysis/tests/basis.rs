//! What an answer stands on, while what it was listed from goes on changing.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;

use crate::analysis::completeness::Basis;
use crate::analysis::kernels::Cancel;
use crate::analysis::plan::Plan;
use crate::analysis::question_kind::QuestionKind;
use crate::analysis::together::Reading;
use crate::analysis::{Question, QuestionLimits, QuestionParts};
use crate::eventstore::fixture::{SHARD, rows, store_segment, two_servers};
use crate::eventstore::object_cache::ObjectCache;
use crate::eventstore::scan::Scanner;
use crate::model::{ManualClock, ObjectId, SeededRandom, ShardNo};
use crate::storage::conformance::fresh_sqlite;
use crate::storage::control::projects::{InsertProject, create_project};
use crate::storage::server::objects::{self, ObjectKind};
use crate::storage::server::{masks, persons};
use crate::storage::{Db, StorageError};
use crate::telemetry::Metrics;

async fn retire(db: &Db, object_id: ObjectId) {
    let retired: Result<bool, StorageError> = db
        .transaction(move |tx| {
            Box::pin(async move { objects::retire(tx, ObjectKind::Segment, SHARD, object_id, 5_000).await })
        })
        .await;
    assert!(retired.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_come_later_do_not_count_and_rows_that_go_are_noticed() {
    let databases = [fresh_sqlite(), fresh_sqlite(), fresh_sqlite()];
    let storage = two_servers(&databases).await;
    let project = InsertProject {
        name: "p".into(),
        time_zone: "UTC".into(),
        span: 4,
        owner: None,
        keys: vec![],
        created_at: 1,
    };
    let project_id = create_project(&storage.control, project).await.unwrap();
    let (db, random) = (storage.shards.db_of(SHARD).unwrap(), SeededRandom::new(1));
    let first = store_segment(db, &random, rows(project_id, 0..200)).await;

    let kind = QuestionKind::new(QuestionParts {
        control: storage.control.clone(),
        shards: storage.shards.clone(),
        scanner: Scanner::new(ObjectCache::none(), 1, 0, &Metrics::default()),
        clock: Arc::new(ManualClock::new(1)),
        limits: QuestionLimits::default(),
        split_after: Duration::from_secs(2),
        move_settle: Duration::from_secs(2),
    });
    let (project, settings) = kind.settings(project_id).await.unwrap();
    let question = json!({"kind": "trends", "from": "1970-01-01", "to": "1971-01-01", "time_zone": "UTC",
        "series": [{"measure": "count"}]});
    let question = Question::parse(&question, &settings).unwrap();
    let plan = Arc::new(Plan::new(&question, &QuestionLimits::default()));
    let of: Vec<ShardNo> = storage.shards.all().collect();
    let basis = async || kind.basis(&project, &plan, false, &of).await.unwrap();
    let read = async |basis| {
        let basis: &Basis = basis;
        let listing = basis.listing_of(SHARD).unwrap();
        let (round, cancel, permits) = (plan.first_round(), Cancel::default(), Semaphore::new(1));
        let (plan, round, cancel, permits) = (&plan, &round, &cancel, &permits);
        let reading = Reading { project_id, basis, plan, round, cancel, permits };
        let passed = kind.read_group(&reading, &[listing]).await.unwrap()?;
        assert_eq!((passed.away.len(), passed.partials.len()), (0, 1));
        Some(passed.rows)
    };

    let before = basis().await;
    assert!(before.unlisted().is_empty());
    store_segment(db, &random, rows(project_id, 200..300)).await;
    assert_eq!(read(&before).await, Some(200), "what came since is not in it");
    retire(db, first).await;
    assert_eq!(read(&before).await, Some(200), "what it was replaced by does not matter yet");
    assert_eq!(objects::delete_retired(db, SHARD, 6_000).await.unwrap(), 1);
    assert_eq!(read(&before).await, None);
    let after = basis().await;
    assert_eq!(read(&after).await, Some(100));
    assert!(before.has_masks_of(&after), "what else changed does not matter to a later run");

    let masked: Result<(), StorageError> = db
        .transaction(move |tx| {
            Box::pin(async move {
                persons::raise_counters(tx, SHARD, project_id, 50, 150).await?;
                masks::insert(tx, SHARD, project_id, 7, masks::ERASED, 0).await
            })
        })
        .await;
    masked.unwrap();
    assert!(!after.has_masks_of(&basis().await), "a later run would show who was erased");
}
