//! One person of one shard, found and taken out.

use std::collections::BTreeSet;

use super::on_both;
use crate::model::{IdHash, ObjectId, PersonNo, ProjectId, ReplicaId, ShardNo};
use crate::storage::control::projects;
use crate::storage::server::erasure::{self, EraseError, Known};
use crate::storage::server::leases::{self, LeaseTask};
use crate::storage::server::links::{self, Link, LinkState, WaitingLink};
use crate::storage::server::objects::{self, NewObject};
use crate::storage::server::persons::{self, KnownId};
use crate::storage::server::{masks, profiles, tombstones};
use crate::storage::{Db, StorageError};

const SHARD: ShardNo = ShardNo(2);
const PROJECT: ProjectId = ProjectId(7);

fn ids(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn known(of: &[&str], persons: &[PersonNo]) -> Known {
    Known { ids: ids(of), persons: persons.iter().copied().collect() }
}

/// Person 1 is `user` and, as a linked id, `phone`; `old`, person 0, moves to `user`; `tablet` waits for
/// its link to it. Person 5 is `other`.
async fn fill(db: &Db) {
    let filled: Result<(), StorageError> = db
        .transaction(|tx| {
            Box::pin(async move {
                let id =
                    |name: &str, id_no, person_no| KnownId { distinct_id: name.to_owned(), id_no, person_no };
                let new = [id("old", 0, 0), id("user", 1, 1), id("other", 5, 5)];
                persons::insert_new(tx, SHARD, PROJECT, &new, 1).await?;
                persons::put_ids(tx, SHARD, PROJECT, &[id("phone", 2, 1), id("old", 0, 1)]).await?;
                persons::raise_counters(tx, SHARD, PROJECT, 6, 6).await?;
                profiles::set_traits(tx, SHARD, PROJECT, &[(1, b"traits".to_vec())], 1).await?;
                let link = |distinct_id: &str, state| Link {
                    distinct_id: distinct_id.to_owned(),
                    target_id: "user".to_owned(),
                    target_shard: Some(SHARD),
                    state,
                };
                links::put_link(tx, SHARD, PROJECT, &link("old", LinkState::Linked), Some(0), 1).await?;
                // A later state of it keeps who was masked.
                links::put_link(tx, SHARD, PROJECT, &link("old", LinkState::Linked), None, 1).await?;
                masks::insert(tx, SHARD, PROJECT, 0, "moved", 1).await?;
                links::start(tx, SHARD, PROJECT, &link("old", LinkState::Linked), SHARD, 0).await?;
                links::put_link(tx, SHARD, PROJECT, &link("tablet", LinkState::Recorded), None, 1).await?;
                let waiting = WaitingLink {
                    project_id: PROJECT,
                    distinct_id: "tablet".to_owned(),
                    target_id: "user".to_owned(),
                };
                links::wait(tx, SHARD, &waiting, 1).await
            })
        })
        .await;
    filled.unwrap();
}

on_both! {
    async fn a_person_is_found_by_any_id_and_with_all_numbers(db: Db) {
        fill(&db).await;
        let find = async |of: &[&str]| erasure::find_known(&db, SHARD, PROJECT, &ids(of)).await.unwrap();
        assert_eq!(find(&["user"]).await, known(&["user", "phone", "old", "tablet"], &[1]));
        assert_eq!(find(&["old"]).await, known(&["user", "phone", "old"], &[0, 1]), "who it was, too");
        assert_eq!(find(&["tablet"]).await, known(&["user"], &[]));
        assert_eq!(find(&["other", "nobody"]).await, known(&["other"], &[5]));
        assert_eq!(
            erasure::find_known(&db, SHARD, ProjectId(8), &ids(&["user"])).await.unwrap(),
            Known::default()
        );
        assert_eq!(
            erasure::find_known(&db, ShardNo(3), PROJECT, &ids(&["user"])).await.unwrap(),
            Known::default()
        );
    }
}

on_both! {
    async fn an_erased_person_is_masked_and_named_nowhere_and_no_pass_closes_over_it(db: Db) {
        fill(&db).await;
        let holder = ReplicaId([1; 16]);
        let lease = leases::find_lease(&db, SHARD, LeaseTask::Seal, holder, 60_000).await.unwrap().unwrap();
        let half = known(&["user", "phone"], &[1]);
        let grown = erasure::erase(&db, SHARD, PROJECT, &half, 9).await;
        assert!(matches!(grown, Err(EraseError::Grown)), "{grown:?}");
        assert!(leases::renew(&db, &lease, 60_000).await.unwrap(), "nothing was changed");

        let object = NewObject {
            object_id: ObjectId([1; 16]),
            shard_no: SHARD,
            project_id: None,
            events: 1,
            min_at: 0,
            max_at: 0,
            day_from: 0,
            day_to: 0,
            tier: 0,
            mask_version: 1,
            facts: Default::default(),
            parts: vec!["part".into()],
        };
        objects::upload(&db, object, 100).await.unwrap();
        let whole = known(&["user", "phone", "old", "tablet"], &[0, 1]);
        // Twice, as after a death in between.
        for _ in 0..2 {
            erasure::erase(&db, SHARD, PROJECT, &whole, 9).await.unwrap();
        }
        assert!(!leases::renew(&db, &lease, 60_000).await.unwrap());
        assert!(leases::find_lease(&db, SHARD, LeaseTask::Seal, holder, 60_000).await.unwrap().is_some());
        let found = erasure::find_known(&db, SHARD, PROJECT, &whole.ids).await.unwrap();
        assert_eq!(found, Known::default());
        assert!(links::list_shards(&db).await.unwrap().is_empty());
        let profiles = profiles::find_profiles(&db, SHARD, PROJECT, &[0, 1, 5]).await.unwrap();
        assert_eq!(profiles.len(), 1, "the other's");
        let masked = masks::read_shard(&db, SHARD, 0).await.unwrap().masks;
        let masked: Vec<_> = masked.iter().map(|mask| (mask.person_no, mask.is_erased, mask.is_moving)).collect();
        assert_eq!(masked, [(0, true, false), (1, true, false)]);
        assert_eq!(masks::read_versions(&db, SHARD).await.unwrap().erasures, 2);
        assert_eq!(objects::delete_given_up(&db, SHARD).await.unwrap(), 1, "what a pass was building");
    }
}

on_both! {
    async fn tombstones_keep_the_later_time_and_belong_to_a_project(db: Db) {
        assert_eq!(tombstones::find_latest(&db, PROJECT).await.unwrap(), None);
        let hash = |n: u8| IdHash([n; 16]);
        tombstones::insert(&db, PROJECT, &[hash(1), hash(2)], 50).await.unwrap();
        tombstones::insert(&db, PROJECT, &[hash(2)], 70).await.unwrap();
        tombstones::insert(&db, PROJECT, &[hash(2), hash(3)], 60).await.unwrap();
        tombstones::insert(&db, PROJECT, &[], 900).await.unwrap();
        let mut found = tombstones::find(&db, PROJECT, &[hash(1), hash(2), hash(3), hash(4)]).await.unwrap();
        found.sort_unstable();
        assert_eq!(found, [(hash(1), 50), (hash(2), 70), (hash(3), 60)]);
        assert_eq!(tombstones::find_latest(&db, PROJECT).await.unwrap(), Some(70));
        assert_eq!(tombstones::find(&db, ProjectId(8), &[hash(1)]).await.unwrap(), []);
    }
}

on_both! {
    async fn every_erasure_raises_the_sum_that_replicas_watch(db: Db) {
        assert_eq!(projects::sum_erasure_epochs(&db).await.unwrap(), 0);
        let project = projects::InsertProject::over(1);
        let project_id = projects::create_project(&db, project).await.unwrap();
        for epoch in 1..=2 {
            projects::raise_erasure_epoch(&db, project_id).await.unwrap();
            assert_eq!(projects::sum_erasure_epochs(&db).await.unwrap(), epoch);
        }
    }
}
