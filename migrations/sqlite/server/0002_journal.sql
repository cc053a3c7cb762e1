-- Append only: collection inserts batches, the sealer deletes exactly those it has sealed.
-- `inserted_at` is this server's clock at the insert, in milliseconds.
CREATE TABLE IF NOT EXISTS journal (
    shard_no INTEGER NOT NULL,
    batch_id BLOB NOT NULL,
    events INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    inserted_at INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (shard_no, batch_id)
);
