//! Links and moves: the first link of an id stays, a move goes from waiting to its end.

use super::{on_both, read_one};
use crate::model::{EventId, ProjectId, ShardNo};
use crate::storage::server::links::{self, Link, LinkState, WaitingLink};
use crate::storage::{Db, StorageError};

const SHARD: ShardNo = ShardNo(2);
const PROJECT: ProjectId = ProjectId(7);

fn link(target_id: &str, state: LinkState) -> Link {
    let target_shard = (state != LinkState::Recorded).then_some(ShardNo(5));
    Link { distinct_id: "anonymous".into(), target_id: target_id.into(), target_shard, state }
}

async fn put(db: &Db, link: Link) {
    let put: Result<(), StorageError> = db
        .transaction(move |tx| {
            let link = link.clone();
            Box::pin(async move { links::put_link(tx, SHARD, PROJECT, &link, None, 50).await })
        })
        .await;
    put.unwrap();
}

on_both! {
    async fn the_target_of_a_link_stays_and_its_state_goes_on(db: Db) {
        assert!(!links::has_any(&db, SHARD, PROJECT).await.unwrap());
        put(&db, link("user", LinkState::Recorded)).await;
        put(&db, link("other", LinkState::Linked)).await;
        assert!(links::has_any(&db, SHARD, PROJECT).await.unwrap());
        assert!(!links::has_any(&db, SHARD, ProjectId(8)).await.unwrap());
        let asked = ["anonymous".to_owned(), "Anonymous".to_owned(), "user".to_owned()];
        let found = links::find_links(&db, SHARD, PROJECT, &asked).await.unwrap();
        assert_eq!(found, [link("user", LinkState::Linked)]);
        assert!(links::find_links(&db, ShardNo(3), PROJECT, &asked).await.unwrap().is_empty());
        put(&db, link("user", LinkState::Dropped)).await;
        let found = links::find_links(&db, SHARD, PROJECT, &asked).await.unwrap();
        assert_eq!(found, [link("user", LinkState::Dropped)]);
    }
}

on_both! {
    async fn a_move_waits_starts_advances_and_ends(db: Db) {
        let wait = WaitingLink {
            project_id: PROJECT, distinct_id: "anonymous".into(), target_id: "user".into(),
        };
        let again = wait.clone();
        let done: Result<(), StorageError> = db.transaction(move |tx| {
            let wait = again.clone();
            Box::pin(async move {
                links::wait(tx, SHARD, &wait, 50).await?;
                links::wait(tx, SHARD, &wait, 60).await
            })
        }).await;
        done.unwrap();
        assert_eq!(links::list_waiting(&db, SHARD, 10).await.unwrap(), [wait]);
        assert_eq!(links::list_shards(&db).await.unwrap(), [SHARD]);
        assert!(links::list_moving(&db, SHARD, 10).await.unwrap().is_empty());

        let done: Result<_, StorageError> = db.transaction(|tx| Box::pin(async move {
            let link = link("user", LinkState::Linked);
            links::start(tx, SHARD, PROJECT, &link, ShardNo(5), 44).await
        })).await;
        done.unwrap();
        assert_eq!(read_one(&db, links::read_moving(&[ShardNo(0), SHARD], PROJECT)).await, [(SHARD, 1)]);
        assert!(links::list_waiting(&db, SHARD, 10).await.unwrap().is_empty());
        let moving = links::list_moving(&db, SHARD, 10).await.unwrap().pop().unwrap();
        assert_eq!((moving.person_no, moving.target_shard, moving.after), (44, ShardNo(5), None));
        assert!(moving.started_at > 50, "by the server's clock");

        let to = (-7, EventId([9; 16]));
        let of = moving.clone();
        let done: Result<(), StorageError> = db.transaction(move |tx| {
            let of = of.clone();
            Box::pin(async move { links::advance(tx, SHARD, &of, to).await })
        }).await;
        done.unwrap();
        let advanced = links::list_moving(&db, SHARD, 10).await.unwrap();
        assert_eq!(advanced, [links::Move { after: Some(to), ..moving }]);

        let done: Result<_, StorageError> = db.transaction(|tx| Box::pin(async move {
            links::end(tx, SHARD, PROJECT, &[]).await?;
            links::end(tx, SHARD, ProjectId(8), &["anonymous".to_owned()]).await
        })).await;
        done.unwrap();
        let others = read_one(&db, links::read_moving(&[SHARD], PROJECT)).await;
        assert_eq!(others, [(SHARD, 1)], "another project's end ends nothing here");
        let done: Result<_, StorageError> = db.transaction(|tx| Box::pin(async move {
            links::end(tx, SHARD, PROJECT, &["anonymous".to_owned(), "b".to_owned()]).await
        })).await;
        done.unwrap();
        assert!(links::list_shards(&db).await.unwrap().is_empty());
    }
}
