CREATE TABLE IF NOT EXISTS persons (
    shard_no INTEGER NOT NULL,
    project_id INTEGER NOT NULL,
    person_no INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    first_day INTEGER NULL,
    last_day INTEGER NULL,
    traits BLOB NULL,
    PRIMARY KEY (shard_no, project_id, person_no)
) WITHOUT ROWID;
