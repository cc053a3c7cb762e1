-- `shown` is what pages may show: a whole write key, which is public, or the end of a secret one.
CREATE TABLE IF NOT EXISTS project_keys (
    key_id INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    key_hash BLOB NOT NULL,
    shown TEXT NOT NULL,
    name TEXT NOT NULL,
    created_by INTEGER NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS project_keys_hash ON project_keys (key_hash);
CREATE INDEX IF NOT EXISTS project_keys_project ON project_keys (project_id, key_id);
