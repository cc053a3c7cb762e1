CREATE TABLE IF NOT EXISTS audit_log (
    audit_id BLOB NOT NULL,
    project_id INTEGER NULL,
    account_id INTEGER NULL,
    action TEXT NOT NULL,
    detail TEXT NOT NULL,
    happened_at INTEGER NOT NULL,
    PRIMARY KEY (audit_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS audit_log_project ON audit_log (project_id, audit_id);
