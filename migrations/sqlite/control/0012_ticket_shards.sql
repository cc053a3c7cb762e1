-- One row a shard, for questions large enough that a retry should repeat only what is missing.
CREATE TABLE IF NOT EXISTS ticket_shards (
    ticket_id BLOB NOT NULL,
    shard_no INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    leased_by BLOB NULL,
    lease_until INTEGER NULL,
    partial_answer BLOB NULL,
    PRIMARY KEY (ticket_id, shard_no)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ticket_shards_queue ON ticket_shards (state, lease_until);
