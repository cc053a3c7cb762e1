-- Throttling of log-ins, shared by all replicas. `subject` is a hash of an address or an account.
CREATE TABLE IF NOT EXISTS login_failures (
    subject BLOB NOT NULL,
    failures INTEGER NOT NULL,
    window_started_at INTEGER NOT NULL,
    blocked_until INTEGER NOT NULL,
    PRIMARY KEY (subject)
) WITHOUT ROWID;
