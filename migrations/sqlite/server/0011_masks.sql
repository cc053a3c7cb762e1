-- Persons whose rows do not count: moved away or erased. Belongs to no segment.
CREATE TABLE IF NOT EXISTS masks (
    shard_no INTEGER NOT NULL,
    project_id INTEGER NOT NULL,
    person_no INTEGER NOT NULL,
    version INTEGER NOT NULL,
    reason TEXT NOT NULL,
    masked_at INTEGER NOT NULL,
    PRIMARY KEY (shard_no, project_id, person_no)
) WITHOUT ROWID;
