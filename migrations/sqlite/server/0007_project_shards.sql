-- The counters of a project in a shard. `data_version` rises with everything that can change an answer.
CREATE TABLE IF NOT EXISTS project_shards (
    shard_no INTEGER NOT NULL,
    project_id INTEGER NOT NULL,
    next_person_no INTEGER NOT NULL,
    next_id_no INTEGER NOT NULL,
    data_version INTEGER NOT NULL,
    mask_version INTEGER NOT NULL,
    erasure_epoch INTEGER NOT NULL,
    PRIMARY KEY (shard_no, project_id)
) WITHOUT ROWID;
