-- Events that could not be counted, with the reason: rejected on arrival (`collect`) or found broken
-- while sealing (`seal`). Capped for each project.
CREATE TABLE IF NOT EXISTS failed_events (
    failed_id BLOB NOT NULL,
    project_id INTEGER NOT NULL,
    stage TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    body BLOB NOT NULL,
    failed_at INTEGER NOT NULL,
    PRIMARY KEY (failed_id)
);
CREATE INDEX IF NOT EXISTS failed_events_project ON failed_events (project_id, failed_id);
