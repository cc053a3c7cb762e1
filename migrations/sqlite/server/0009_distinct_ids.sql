CREATE TABLE IF NOT EXISTS distinct_ids (
    shard_no INTEGER NOT NULL,
    project_id INTEGER NOT NULL,
    distinct_id TEXT NOT NULL,
    id_no INTEGER NOT NULL,
    person_no INTEGER NOT NULL,
    PRIMARY KEY (shard_no, project_id, distinct_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS distinct_ids_person ON distinct_ids (shard_no, project_id, person_no);
