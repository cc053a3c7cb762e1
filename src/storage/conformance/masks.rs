//! What obeys which masks, and what becomes of objects that do not.

use bytes::Bytes;

use super::on_both;
use crate::model::{ObjectId, PersonNo, ProjectId, ShardNo};
use crate::storage::server::links::{self, Link, LinkState};
use crate::storage::server::masks::{self, ERASED, Mask, ShardVersions};
use crate::storage::server::objects::{self, NewObject, ObjectKind};
use crate::storage::server::persons;
use crate::storage::{Db, StorageError};

const SHARD: ShardNo = ShardNo(2);
const PROJECT: ProjectId = ProjectId(7);

fn object(n: u8, project_id: Option<ProjectId>, mask_version: i64) -> NewObject {
    NewObject {
        object_id: ObjectId([n; 16]),
        shard_no: SHARD,
        project_id,
        events: 10,
        min_at: 1_000,
        max_at: 2_000,
        day_from: 0,
        day_to: 0,
        tier: 1,
        mask_version,
        facts: Bytes::from_static(b"facts"),
        parts: vec![Bytes::from_static(b"zero"), Bytes::from_static(b"one")],
    }
}

async fn upload(db: &Db, n: u8, project_id: Option<ProjectId>, mask_version: i64) -> ObjectId {
    objects::upload(db, object(n, project_id, mask_version), 100).await.unwrap();
    ObjectId([n; 16])
}

async fn mask(db: &Db, persons: &'static [PersonNo], reason: &'static str) -> i64 {
    db.transaction(move |tx| Box::pin(masks::insert_all(tx, SHARD, PROJECT, persons, reason, 5)))
        .await
        .unwrap()
}

async fn has_parts(db: &Db, object_id: ObjectId) -> bool {
    objects::find_parts(db, object_id, &[0, 1]).await.unwrap().is_some()
}

async fn below(db: &Db, version: i64) -> Vec<(u8, bool)> {
    let listed = objects::list_below(db, SHARD, version, 10).await.unwrap();
    listed.iter().map(|listed| (listed.object.object_id.0[0], listed.is_live)).collect()
}

on_both! {
    async fn a_shards_masks_are_read_with_what_they_wait_for(db: Db) {
        assert_eq!(masks::read_versions(&db, SHARD).await.unwrap(), ShardVersions::default());
        assert_eq!(masks::read_shard(&db, SHARD, 0).await.unwrap().least_of_objects, None);
        let link = Link {
            distinct_id: "a".to_owned(),
            target_id: "b".to_owned(),
            target_shard: Some(SHARD),
            state: LinkState::Linked,
        };
        let moved: Result<(), StorageError> = db
            .transaction(move |tx| {
                let link = link.clone();
                Box::pin(async move {
                    persons::raise_counters(tx, SHARD, PROJECT, 10, 10).await?;
                    masks::insert(tx, SHARD, PROJECT, 4, "moved", 5).await?;
                    links::start(tx, SHARD, PROJECT, &link, SHARD, 4).await
                })
            })
            .await;
        moved.unwrap();
        assert_eq!(mask(&db, &[9, 3], ERASED).await, 2);
        assert_eq!(mask(&db, &[], ERASED).await, 3, "a version of its own, though nobody was masked");
        upload(&db, 1, None, 1).await;
        upload(&db, 2, Some(PROJECT), 2).await;

        let read = masks::read_shard(&db, SHARD, 0).await.unwrap();
        assert_eq!((read.version, read.least_of_objects), (3, Some(1)));
        let of = |person_no, version, is_erased, is_moving| {
            Mask { project_id: PROJECT, person_no, version, is_erased, is_moving }
        };
        assert_eq!(read.masks, [of(3, 2, true, false), of(4, 1, false, true), of(9, 2, true, false)]);
        assert_eq!(masks::read_shard(&db, SHARD, 1).await.unwrap().masks.len(), 2);
        assert!(masks::read_shard(&db, ShardNo(3), 0).await.unwrap().masks.is_empty());
        let mut versions = masks::find_versions(&db, SHARD, PROJECT, &[3, 4, 5]).await.unwrap();
        versions.sort_unstable();
        assert_eq!(versions, [(3, 2), (4, 1)]);

        assert_eq!(masks::delete(&db, SHARD, PROJECT, &[3, 4], 1).await.unwrap(), 1, "up to that version");
        assert_eq!(masks::delete(&db, SHARD, ProjectId(8), &[3, 9], 9).await.unwrap(), 0, "another project");
        assert_eq!(masks::delete(&db, SHARD, PROJECT, &[3, 9], 2).await.unwrap(), 2);
        assert!(masks::read_shard(&db, SHARD, 0).await.unwrap().masks.is_empty());
    }
}

on_both! {
    async fn objects_are_listed_by_what_they_obey_and_brought_forward(db: Db) {
        for (n, project_id, version) in [(1, None, 0), (2, Some(PROJECT), 1), (3, None, 2), (4, Some(PROJECT), 3)] {
            upload(&db, n, project_id, version).await;
        }
        let live: Result<bool, StorageError> = db
            .transaction(|tx| Box::pin(objects::make_live(tx, ObjectKind::Segment, SHARD, &[ObjectId([2; 16])])))
            .await;
        assert!(live.unwrap());
        assert_eq!(below(&db, 3).await, [(1, false), (2, true), (3, false)]);
        assert_eq!(objects::list_below(&db, SHARD, 3, 1).await.unwrap().len(), 1, "the least obedient");

        objects::raise_masks(&db, ObjectKind::Run, SHARD, ObjectId([1; 16]), 1).await.unwrap();
        objects::raise_masks(&db, ObjectKind::Segment, SHARD, ObjectId([2; 16]), 3).await.unwrap();
        objects::raise_masks(&db, ObjectKind::Segment, SHARD, ObjectId([4; 16]), 2).await.unwrap();
        assert_eq!(below(&db, 4).await, [(1, false), (3, false), (2, true), (4, false)], "never back");

        let given_up: Result<(), StorageError> =
            db.transaction(|tx| Box::pin(objects::give_up_below_in(tx, SHARD, 3))).await;
        given_up.unwrap();
        assert_eq!(objects::delete_given_up(&db, SHARD).await.unwrap(), 2);
        assert_eq!(below(&db, 4).await, [(2, true), (4, false)]);
        assert!(!has_parts(&db, ObjectId([1; 16])).await && has_parts(&db, ObjectId([4; 16])).await);
    }
}

on_both! {
    async fn a_builder_takes_back_what_did_not_become_live(db: Db) {
        let run = upload(&db, 1, None, 0).await;
        let segment = upload(&db, 2, Some(PROJECT), 0).await;
        let live: Result<bool, StorageError> =
            db.transaction(move |tx| Box::pin(async move {
                objects::make_live(tx, ObjectKind::Segment, SHARD, &[segment]).await
            })).await;
        assert!(live.unwrap());
        objects::discard(&db, ObjectKind::Run, SHARD, run, 7).await.unwrap();
        objects::discard(&db, ObjectKind::Segment, SHARD, segment, 7).await.unwrap();
        assert!(!has_parts(&db, run).await);
        assert!(has_parts(&db, segment).await, "it is live after all");
        // Parts that came after somebody else had given it up and deleted it.
        upload(&db, 3, Some(PROJECT), 0).await;
        let given_up: Result<(), StorageError> =
            db.transaction(|tx| Box::pin(objects::give_up_below_in(tx, SHARD, 1))).await;
        given_up.unwrap();
        objects::discard(&db, ObjectKind::Segment, SHARD, ObjectId([3; 16]), 7).await.unwrap();
        assert!(!has_parts(&db, ObjectId([3; 16])).await);
        assert_eq!(below(&db, 9).await, [(2, true)]);
    }
}

on_both! {
    async fn a_retired_object_may_be_deleted_sooner_but_not_later(db: Db) {
        for (n, project_id, kind) in [(1, None, ObjectKind::Run), (2, Some(PROJECT), ObjectKind::Segment)] {
            let object_id = upload(&db, n, project_id, 0).await;
            let retired: Result<bool, StorageError> =
                db.transaction(move |tx| Box::pin(async move {
                    objects::make_live(tx, kind, SHARD, &[object_id]).await?;
                    objects::retire(tx, kind, SHARD, object_id, 5_000).await
                })).await;
            assert!(retired.unwrap());
            objects::hasten(&db, kind, SHARD, object_id, 6_000).await.unwrap();
            objects::hasten(&db, kind, SHARD, object_id, 4_000).await.unwrap();
        }
        assert_eq!(objects::delete_retired(&db, SHARD, 4_000).await.unwrap(), 0);
        assert_eq!(objects::delete_retired(&db, SHARD, 4_001).await.unwrap(), 2);
    }
}
