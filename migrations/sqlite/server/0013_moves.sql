-- Links that are not done yet: `waiting` for the target's server to answer, or `moving`: the rows of
-- `person_no`, which is masked, are being copied towards the target, those up to the cursor already.
CREATE TABLE IF NOT EXISTS moves (
    shard_no INTEGER NOT NULL,
    project_id INTEGER NOT NULL,
    distinct_id TEXT NOT NULL,
    state TEXT NOT NULL,
    target_id TEXT NOT NULL,
    target_shard INTEGER NULL,
    person_no INTEGER NULL,
    started_at INTEGER NOT NULL,
    after_at INTEGER NULL,
    after_event BLOB NULL,
    PRIMARY KEY (shard_no, project_id, distinct_id)
) WITHOUT ROWID;
