//! What operators are shown.

use super::on_both;
use crate::model::{ReplicaId, ShardNo};
use crate::storage::server::leases::{self, LeaseTask};
use crate::storage::server::overview;

on_both! {
    async fn only_leases_that_are_held_now_are_listed(db: Db) {
        assert_eq!(overview::list_held_leases(&db).await.unwrap(), vec![]);
        let take = |shard_no, task, lease_ms| {
            leases::find_lease(&db, ShardNo(shard_no), task, ReplicaId([7; 16]), lease_ms)
        };
        take(2, LeaseTask::Seal, 60_000).await.unwrap().unwrap();
        let released = take(1, LeaseTask::Seal, 60_000).await.unwrap().unwrap();
        leases::release(&db, &released).await.unwrap();
        take(2, LeaseTask::Compact, 0).await.unwrap().unwrap();
        let listed = overview::list_held_leases(&db).await.unwrap();
        let [held] = listed.as_slice() else { panic!("{listed:?}") };
        assert_eq!((held.shard_no, held.task.as_str(), held.fence), (ShardNo(2), "seal", 1));
        assert_eq!(held.holder, ReplicaId([7; 16]));
        assert!((1..=60_000).contains(&held.expires_in_ms), "{held:?}");
    }
}

on_both! {
    async fn a_server_tells_its_version_and_an_empty_catalogue_has_no_counts(db: Db) {
        let version = overview::version(&db).await.unwrap();
        assert!(version.contains('.'), "{version}");
        assert_eq!(overview::count_runs(&db).await.unwrap(), vec![]);
        assert_eq!(overview::count_segments(&db).await.unwrap(), vec![]);
        assert_eq!(overview::count_run_states(&db).await.unwrap(), vec![]);
        assert_eq!(overview::count_segment_states(&db).await.unwrap(), vec![]);
        let history = overview::find_history_length(&db).await.unwrap();
        assert_eq!(history.is_some(), db.dialect() == crate::storage::Dialect::MySql);
    }
}
