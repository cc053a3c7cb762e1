-- The servers that carry shards, by the id that each carries itself.
CREATE TABLE IF NOT EXISTS servers (
    server_id BLOB NOT NULL,
    name TEXT NOT NULL,
    added_at INTEGER NOT NULL,
    PRIMARY KEY (server_id)
) WITHOUT ROWID;
