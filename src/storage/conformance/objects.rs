//! The life of an object: building, live, retired, gone.

use bytes::Bytes;

use super::{on_both, read_one};
use crate::model::{ObjectId, ProjectId, ShardNo};
use crate::storage::server::objects::{self, NewObject, ObjectKind};
use crate::storage::server::persons;
use crate::storage::{Db, StorageError};

const SHARD: ShardNo = ShardNo(2);
const PROJECT: ProjectId = ProjectId(7);

fn segment(n: u8, parts: Vec<Bytes>) -> NewObject {
    NewObject {
        object_id: ObjectId([n; 16]),
        shard_no: SHARD,
        project_id: Some(PROJECT),
        events: 10,
        min_at: 1_000,
        max_at: 2_000,
        day_from: 0,
        day_to: 0,
        tier: 1,
        mask_version: 3,
        facts: Bytes::from_static(b"facts"),
        parts,
    }
}

async fn change(db: &Db, made_live: u8, retired: u8) -> bool {
    let changed: Result<(), StorageError> = db
        .transaction(move |tx| {
            Box::pin(async move {
                let live = ObjectId([made_live; 16]);
                let gone = ObjectId([retired; 16]);
                let ok = objects::make_live(tx, ObjectKind::Segment, SHARD, &[live]).await?
                    && (retired == 0 || objects::retire(tx, ObjectKind::Segment, SHARD, gone, 5_000).await?);
                if ok { Ok(()) } else { Err(StorageError::Conflict { name: "test" }) }
            })
        })
        .await;
    changed.is_ok()
}

async fn listed(db: &Db, from: i64, to: i64) -> Vec<u8> {
    let rows = objects::list_segments(db, SHARD, PROJECT, from, to).await.unwrap();
    rows.iter().map(|row| row.object_id.0[0]).collect()
}

on_both! {
    async fn slices_of_parts_come_in_the_order_in_which_they_are_asked_for(db: Db) {
        let parts = vec![Bytes::from_static(b"zero"), Bytes::from_static(b"\0one\xff"), Bytes::from_static(b"")];
        objects::upload(&db, segment(1, parts), 100).await.unwrap();
        objects::upload(&db, segment(2, vec![Bytes::from_static(b"two")]), 100).await.unwrap();
        let of = async |slices: &[(u8, u32, std::ops::Range<u64>)]| {
            let slices: Vec<objects::Slice> = slices
                .iter()
                .map(|(n, part_no, bytes)| objects::Slice {
                    object_id: ObjectId([*n; 16]),
                    part_no: *part_no,
                    bytes: bytes.clone(),
                })
                .collect();
            objects::find_slices(&db, &slices).await.unwrap()
        };
        let some = |bytes: &'static [u8]| Some(Bytes::from_static(bytes));
        let asked = [(1, 1, 0..2), (1, 0, 3..4), (2, 0, 0..3), (1, 1, 4..5), (1, 0, 0..4), (1, 2, 0..0)];
        let expected = [b"\0o", &b"o"[..], b"two", b"\xff", b"zero", b""];
        assert_eq!(of(&asked).await, expected.map(some));
        let of_one = [1..2, 0..1, 2..3, 3..4, 4..5, 0..5].map(|bytes| (1, 1, bytes));
        let expected = [&b"o"[..], b"\0", b"n", b"e", b"\xff", b"\0one\xff"];
        assert_eq!(of(&of_one).await, expected.map(some), "more than there are in a row");
        assert_eq!(of(&[]).await, []);
        let missing = [(1, 0, 0..1), (1, 3, 0..1), (3, 0, 0..1)];
        assert_eq!(of(&missing).await, [some(b"z"), None, None], "there are no such parts");
        let many: Vec<_> = (0..1_001).map(|n| (1, 0, n % 4..n % 4 + 1)).collect();
        let found = of(&many).await;
        let letters: Vec<u8> = found.iter().map(|slice| slice.as_ref().unwrap()[0]).collect();
        assert_eq!(letters, b"zero".repeat(251)[..1_001]);
    }
}

on_both! {
    async fn an_object_counts_from_its_closing_transaction_to_its_replacement(db: Db) {
        objects::upload(&db, segment(1, vec![Bytes::from_static(b"one")]), 100).await.unwrap();
        assert!(listed(&db, 0, 9_000).await.is_empty(), "building");
        assert!(change(&db, 1, 0).await);
        assert!(!change(&db, 1, 0).await, "only once");
        assert_eq!(listed(&db, 0, 9_000).await, [1]);
        assert_eq!(listed(&db, 2_001, 9_000).await, [] as [u8; 0], "after its last row");
        assert_eq!(listed(&db, 0, 1_000).await, [] as [u8; 0], "before its first row");
        assert_eq!(listed(&db, 2_000, 2_001).await, [1]);

        objects::upload(&db, segment(2, vec![Bytes::from_static(b"two")]), 100).await.unwrap();
        assert!(change(&db, 2, 1).await);
        assert!(!change(&db, 1, 2).await, "a retired object does not come back");
        assert_eq!(listed(&db, 0, 9_000).await, [2]);
        let parts = objects::find_parts(&db, ObjectId([1; 16]), &[0]).await.unwrap();
        assert_eq!(parts.unwrap()[0].1, "one", "still there for those who listed it before");
        assert_eq!(objects::delete_retired(&db, SHARD, 5_000).await.unwrap(), 0, "within the grace period");
        assert_eq!(objects::delete_retired(&db, SHARD, 5_001).await.unwrap(), 1);
        assert!(objects::find_parts(&db, ObjectId([1; 16]), &[0]).await.unwrap().is_none());
        assert_eq!(listed(&db, 0, 9_000).await, [2]);
    }
}

on_both! {
    async fn each_pass_raises_the_data_version_of_its_project_in_its_shard(db: Db) {
        let raise = async |shard_no: u16, project_id: u32| {
            let raised: Result<(), StorageError> = db
                .transaction(move |tx| {
                    Box::pin(persons::raise_counters(tx, ShardNo(shard_no), ProjectId(project_id), 5, 6))
                })
                .await;
            raised.unwrap();
        };
        assert_eq!(persons::list_data_versions(&db, PROJECT).await.unwrap(), []);
        for (shard_no, project_id) in [(4, 7), (2, 7), (2, 7), (2, 8)] {
            raise(shard_no, project_id).await;
        }
        let versions = persons::list_data_versions(&db, PROJECT).await.unwrap();
        assert_eq!(versions, [(ShardNo(2), 2), (ShardNo(4), 1)]);
    }
}

on_both! {
    async fn what_a_dead_builder_left_is_given_up_and_cannot_become_live(db: Db) {
        objects::upload(&db, segment(1, vec![Bytes::from_static(b"x")]), 100).await.unwrap();
        assert_eq!(objects::abandon(&db, SHARD, 100, 200).await.unwrap(), 0);
        assert_eq!(objects::abandon(&db, SHARD, 101, 200).await.unwrap(), 1);
        assert!(!change(&db, 1, 0).await);
        assert_eq!(objects::delete_retired(&db, SHARD, 201).await.unwrap(), 1);
    }
}

on_both! {
    async fn many_large_parts_come_back_as_they_were(db: Db) {
        let parts: Vec<Bytes> =
            (0..11_u8).map(|n| Bytes::from(vec![n; if n % 3 == 0 { 1 << 20 } else { 10 }])).collect();
        let mut run = segment(1, parts.clone());
        run.project_id = None;
        objects::upload(&db, run, 100).await.unwrap();
        let wanted: Vec<u32> = (0..11).rev().collect();
        let read = objects::find_parts(&db, ObjectId([1; 16]), &wanted).await.unwrap().unwrap();
        for (part_no, part) in read {
            assert_eq!(part, parts[part_no as usize]);
        }
        assert!(objects::find_parts(&db, ObjectId([1; 16]), &[3, 11]).await.unwrap().is_none());
    }
}

on_both! {
    async fn headers_of_many_objects_come_in_one_go_without_the_deleted(db: Db) {
        for n in 1..=40 {
            let parts = vec![Bytes::from(vec![n; 10]), Bytes::from_static(b"more")];
            objects::upload(&db, segment(n, parts), 100).await.unwrap();
        }
        let make_live = async |numbers: std::ops::RangeInclusive<u8>| {
            let ids: Vec<ObjectId> = numbers.map(|n| ObjectId([n; 16])).collect();
            let made: Result<bool, StorageError> = db
                .transaction(move |tx| {
                    let ids = ids.clone();
                    Box::pin(async move {
                        objects::make_live(tx, ObjectKind::Segment, SHARD, &ids).await
                    })
                })
                .await;
            made.unwrap()
        };
        assert!(make_live(1..=40).await);
        assert!(!make_live(40..=40).await, "only once");
        let wanted: Vec<ObjectId> = (1..=41).map(|n| ObjectId([n; 16])).collect();
        let mut headers = objects::find_headers(&db, &wanted).await.unwrap();
        headers.sort_by_key(|(id, _)| *id);
        assert_eq!(headers.len(), 40, "the 41st was never there");
        assert!(headers.iter().all(|(id, body)| body.len() == 10 && body[0] == id.0[0]));
        let all = objects::list_all_segments(&db, SHARD).await.unwrap();
        assert_eq!((all.len(), all[0].project_id, all[0].created_at), (40, Some(PROJECT), 100));
        let facts = objects::find_facts(&db, ObjectKind::Segment, SHARD, ObjectId([7; 16])).await.unwrap();
        assert_eq!(facts.as_deref(), Some(&b"facts"[..]));
        let absent = objects::find_facts(&db, ObjectKind::Run, SHARD, ObjectId([7; 16])).await.unwrap();
        assert!(absent.is_none());
        let parts = objects::find_parts_of(&db, ObjectId([7; 16]), 14, &[0, 1]).await.unwrap();
        assert_eq!(parts.unwrap().len(), 2);
    }
}

on_both! {
    async fn masked_persons_are_listed_by_project(db: Db) {
        use crate::storage::server::masks;
        let mask = async |person_no: u32, project: ProjectId| {
            db.transaction(move |tx| {
                Box::pin(async move {
                    masks::insert(tx, SHARD, project, person_no, "erased", 50).await
                })
            })
            .await
            .unwrap()
        };
        mask(9, PROJECT).await;
        mask(4, PROJECT).await;
        mask(4, PROJECT).await;
        mask(5, ProjectId(8)).await;
        let listed = read_one(&db, masks::read_masks(&[SHARD, ShardNo(99)], PROJECT)).await;
        assert_eq!(listed, [(SHARD, 4), (SHARD, 9)]);
    }
}
