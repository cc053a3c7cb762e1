-- Rows of one project, as columns, sorted by person and time.
CREATE TABLE IF NOT EXISTS segments (
    shard_no INTEGER NOT NULL,
    segment_id BLOB NOT NULL,
    project_id INTEGER NOT NULL,
    state TEXT NOT NULL,
    day_from INTEGER NOT NULL,
    day_to INTEGER NOT NULL,
    min_at INTEGER NOT NULL,
    max_at INTEGER NOT NULL,
    events INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    parts INTEGER NOT NULL,
    tier INTEGER NOT NULL,
    mask_version INTEGER NOT NULL,
    facts BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    retired_at INTEGER NULL,
    PRIMARY KEY (shard_no, segment_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS segments_project ON segments (shard_no, project_id, state);
