//! What an answer stands on, while what it was listed from goes on changing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;

use crate::analysis::completeness::Basis;
use crate::analysis::kernels::Cancel;
use crate::analysis::plan::Plan;
use crate::analysis::question_kind::QuestionKind;
use crate::analysis::together::Reading;
use crate::analysis::{ProjectSettings, Question, QuestionLimits, QuestionParts};
use crate::eventstore::fixture::{SHARD, one_server, rows, store_segment, two_servers};
use crate::eventstore::object_cache::ObjectCache;
use crate::eventstore::scan::Scanner;
use crate::model::{BatchId, ManualClock, ObjectId, SeededRandom, ShardNo};
use crate::storage::batch::EncodedBatch;
use crate::storage::conformance::fresh_sqlite;
use crate::storage::control::projects::{InsertProject, create_project, find_project, update_project};
use crate::storage::server::journal::{self, NewBatch};
use crate::storage::server::objects::{self, ObjectKind};
use crate::storage::server::{masks, persons};
use crate::storage::{Db, Storage, StorageError};
use crate::telemetry::Metrics;
use crate::tickets::TicketKind;

async fn retire(db: &Db, object_id: ObjectId) {
    let retired: Result<bool, StorageError> = db
        .transaction(move |tx| {
            Box::pin(async move { objects::retire(tx, ObjectKind::Segment, SHARD, object_id, 5_000).await })
        })
        .await;
    assert!(retired.unwrap());
}

fn kind(storage: &Storage) -> QuestionKind {
    QuestionKind::new(QuestionParts {
        control: storage.control.clone(),
        shards: storage.shards.clone(),
        scanner: Scanner::new(ObjectCache::none(), 1, 0, &Metrics::default()),
        clock: Arc::new(ManualClock::new(1)),
        limits: QuestionLimits::default(),
        split_after: Duration::from_secs(2),
        move_settle: Duration::from_secs(2),
    })
}

fn count(settings: &ProjectSettings) -> Plan {
    let question = json!({"kind": "trends", "from": "1970-01-01", "to": "1971-01-01", "time_zone": "UTC",
        "series": [{"measure": "count"}]});
    let question = Question::parse(&question, settings).unwrap();
    Plan::new(&question, &QuestionLimits::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_come_later_do_not_count_and_rows_that_go_are_noticed() {
    let databases = [fresh_sqlite(), fresh_sqlite(), fresh_sqlite()];
    let storage = two_servers(&databases).await;
    let project_id = create_project(&storage.control, InsertProject::over(4)).await.unwrap();
    let (db, random) = (storage.shards.db_of(SHARD).unwrap(), SeededRandom::new(1));
    let first = store_segment(db, &random, rows(project_id, 0..200)).await;

    let kind = kind(&storage);
    let (project, settings) = kind.settings(project_id).await.unwrap();
    let plan = Arc::new(count(&settings));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_lists_is_fresh_when_nothing_waits_there() {
    let database = fresh_sqlite();
    let storage = one_server(&database, 4).await;
    let project_id = create_project(&storage.control, InsertProject::over(4)).await.unwrap();
    let db = storage.shards.db_of(SHARD).unwrap();
    let kind = kind(&storage);
    let (project, settings) = kind.settings(project_id).await.unwrap();
    let plan = count(&settings);
    let of: Vec<ShardNo> = storage.shards.all().collect();
    let fresh = async || {
        let basis = kind.basis(&project, &plan, true, &of).await.unwrap();
        let waiting: Vec<_> = basis.listings.iter().map(|listing| listing.has_waiting.unwrap()).collect();
        (basis.fresh, waiting)
    };
    let nothing = (Some(true), vec![false; 4]);
    assert_eq!(fresh().await, nothing);

    let batch_id = BatchId([1; 16]);
    let batch = EncodedBatch { events: 1, inflated_bytes: 1, body: vec![1].into() };
    journal::insert(db, vec![NewBatch { shard_no: SHARD, batch_id, batch }]).await.unwrap();
    let unasked = kind.basis(&project, &plan, false, &of).await.unwrap();
    assert_eq!(unasked.fresh, None);
    assert_eq!(unasked.listing_of(SHARD).unwrap().has_waiting, Some(true));
    let is_sealed = AtomicBool::new(false);
    let sealing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        is_sealed.store(true, Ordering::SeqCst);
        let sealed: Result<u64, StorageError> = db
            .transaction(move |tx| Box::pin(async move { journal::delete(tx, SHARD, &[batch_id]).await }))
            .await;
        assert_eq!(sealed.unwrap(), 1);
    };
    let waited = async {
        let found = fresh().await;
        (found, is_sealed.load(Ordering::SeqCst))
    };
    let (waited, ()) = tokio::join!(waited, sealing);
    assert_eq!(waited, (nothing, true), "not before it is sealed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_of_a_project_is_presumed_by_fresh_questions_alone() {
    let database = fresh_sqlite();
    let storage = one_server(&database, 4).await;
    let project_id = create_project(&storage.control, InsertProject::over(4)).await.unwrap();
    let kind = kind(&storage);
    let question = |fresh, measure| {
        json!({"kind": "trends", "from": "2026-01-01", "to": "2026-02-01", "fresh": fresh,
            "series": [{"measure": measure}]})
    };
    let fresh = question(true, "count");
    assert!(kind.presume(project_id, None, &fresh).is_none(), "nothing is known yet");
    let let_in_with = Arc::new(find_project(&storage.control, project_id).await.unwrap().unwrap());
    let presumed = kind.presume(project_id, Some(&let_in_with), &fresh).unwrap();
    let prepared = kind.prepare(project_id, &fresh).await.unwrap();
    assert_eq!((&presumed.body, &presumed.project), (&prepared.body, &prepared.project));
    let presumed = kind.presume(project_id, None, &fresh).unwrap();
    assert_eq!((&presumed.body, &presumed.project), (&prepared.body, &prepared.project));
    assert_eq!(presumed.data_version, None);
    assert!(kind.presume(project_id, None, &question(false, "count")).is_none(), "it may share an answer");
    assert!(
        kind.presume(project_id, None, &question(true, "no such")).is_none(),
        "wrong questions are for prepare"
    );
    // As it was, until it is read again.
    update_project(&storage.control, project_id, "p", "Europe/Paris").await.unwrap();
    assert_eq!(kind.presume(project_id, None, &fresh).unwrap().project, prepared.project);
    let anew = kind.prepare(project_id, &fresh).await.unwrap();
    assert_ne!(anew.body, prepared.body);
    for let_in_with in [None, Some(&let_in_with)] {
        let presumed = kind.presume(project_id, let_in_with, &fresh).unwrap();
        assert_eq!(presumed.body, anew.body, "what was read last counts");
    }
}
