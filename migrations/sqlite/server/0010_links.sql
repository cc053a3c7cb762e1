-- What `$identify` and `$alias` said: `distinct_id` of this shard now belongs to `target_id`.
CREATE TABLE IF NOT EXISTS links (
    shard_no INTEGER NOT NULL,
    project_id INTEGER NOT NULL,
    distinct_id TEXT NOT NULL,
    target_id TEXT NOT NULL,
    state TEXT NOT NULL,
    moving_after INTEGER NULL,
    linked_at INTEGER NOT NULL,
    PRIMARY KEY (shard_no, project_id, distinct_id)
) WITHOUT ROWID;
