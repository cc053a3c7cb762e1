CREATE TABLE IF NOT EXISTS memberships (
    account_id INTEGER NOT NULL,
    project_id INTEGER NOT NULL,
    role TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (account_id, project_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS memberships_project ON memberships (project_id);
