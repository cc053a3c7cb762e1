//! Statements are counted for the request that made them.

use super::on_both;
use crate::storage::StorageError;
use crate::storage::db::{Statement, statement};
use crate::telemetry::queries::tallied;
use crate::values;

static ONE: Statement = statement!("test.one", "SELECT 1");

on_both! {
    async fn a_request_knows_how_many_statements_it_made(db: Db) {
        let request = async {
            db.fetch_all(&ONE, values![]).await?;
            db.transaction::<_, StorageError, _>(|tx| {
                Box::pin(async move { tx.fetch_all(&ONE, values![]).await })
            })
            .await?;
            db.snapshot(|tx| {
                Box::pin(async move {
                    tx.fetch_all(&ONE, values![]).await?;
                    tx.fetch_all(&ONE, values![]).await
                })
            })
            .await
        };
        let (done, queries) = tallied(request).await;
        assert_eq!(done.unwrap().len(), 1);
        // One alone; begin, one, commit; begin, two.
        assert_eq!(queries.count, 1 + 3 + 3);
        assert!(!queries.duration.is_zero());
    }
}
