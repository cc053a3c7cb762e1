-- Rows of all projects of a shard, as written by one pass or merged from several runs.
CREATE TABLE IF NOT EXISTS runs (
    shard_no INTEGER NOT NULL,
    run_id BLOB NOT NULL,
    state TEXT NOT NULL,
    events INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    parts INTEGER NOT NULL,
    min_at INTEGER NOT NULL,
    max_at INTEGER NOT NULL,
    mask_version INTEGER NOT NULL,
    directory BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    retired_at INTEGER NULL,
    PRIMARY KEY (shard_no, run_id)
) WITHOUT ROWID;
