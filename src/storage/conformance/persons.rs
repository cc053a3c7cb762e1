//! What persons are called.

use super::on_both;
use crate::model::{ProjectId, ShardNo};
use crate::storage::server::persons::{self, KnownId};
use crate::storage::{Db, Statement, StorageError};
use crate::values;

const SHARD: ShardNo = ShardNo(2);
const PROJECT: ProjectId = ProjectId(7);

async fn insert(db: &Db, shard_no: ShardNo, project_id: ProjectId, ids: &[(&str, u32)]) {
    let known: Vec<KnownId> = (0..)
        .zip(ids)
        .map(|(id_no, &(id, person_no))| KnownId { distinct_id: id.to_owned(), id_no, person_no })
        .collect();
    db.transaction(move |tx| {
        let known = known.clone();
        Box::pin(async move {
            persons::insert_new(tx, shard_no, project_id, &known, 1).await?;
            Ok::<_, StorageError>(())
        })
    })
    .await
    .unwrap();
}

/// A second id of a person, as a link leaves it.
async fn insert_another(db: &Db, id: &str, id_no: u32, person_no: u32) {
    static INSERT: Statement = Statement {
        name: "test.insert_id",
        mysql: "INSERT INTO distinct_ids (shard_no, project_id, distinct_id, id_no, person_no) VALUES (?, ?, ?, ?, ?)",
        sqlite: "INSERT INTO distinct_ids (shard_no, project_id, distinct_id, id_no, person_no) VALUES (?, ?, ?, ?, ?)",
    };
    db.execute(&INSERT, values![SHARD, PROJECT, id, id_no, person_no]).await.unwrap();
}

on_both! {
    async fn a_person_is_called_by_the_smallest_id_byte_by_byte(db: Db) {
        // Not as people sort: `B` is before `a`, `é` after `z`, and a space counts.
        insert(&db, SHARD, PROJECT, &[("b", 1), ("B", 2), ("a ", 3), ("z", 4)]).await;
        for (id_no, (id, person_no)) in (10..).zip([("a", 1), ("é", 4), ("a  ", 3)]) {
            insert_another(&db, id, id_no, person_no).await;
        }
        insert(&db, ShardNo(3), PROJECT, &[("A", 1)]).await;
        insert(&db, SHARD, ProjectId(8), &[("A", 1)]).await;
        let mut found = persons::find_names(&db, SHARD, PROJECT, &[1, 2, 3, 4, 9]).await.unwrap();
        found.sort_unstable();
        let named = |pairs: &[(u32, &str)]| -> Vec<(u32, String)> {
            pairs.iter().map(|&(person_no, name)| (person_no, name.to_owned())).collect()
        };
        assert_eq!(found, named(&[(1, "a"), (2, "B"), (3, "a "), (4, "z")]));
    }
}
