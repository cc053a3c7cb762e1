-- Which server holds which shard. `version` rises when a shard moves.
CREATE TABLE IF NOT EXISTS shard_map (
    shard_no INTEGER NOT NULL,
    server_id BLOB NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (shard_no)
) WITHOUT ROWID;
