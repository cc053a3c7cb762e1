-- One worker a shard and task (`seal`, `compact`, `forward`). The fence rises with every holder.
CREATE TABLE IF NOT EXISTS shard_leases (
    shard_no INTEGER NOT NULL,
    task TEXT NOT NULL,
    holder BLOB NULL,
    fence INTEGER NOT NULL,
    connection_id INTEGER NULL,
    expires_at INTEGER NOT NULL,
    moved_to BLOB NULL,
    map_version INTEGER NOT NULL,
    PRIMARY KEY (shard_no, task)
) WITHOUT ROWID;
