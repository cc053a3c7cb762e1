-- body_hash tells equal work, request_hash an equal request: what was sent under an idempotency key.
-- Equal questions share a result: result_ticket and result_fence say whose parts hold it.
-- A ticket with waits_for is not run before the equal ticket it waits for has ended.
-- sweep_at is the next time maintenance must look: no state is without a deadline.
CREATE TABLE IF NOT EXISTS tickets (
    ticket_id BLOB NOT NULL,
    project_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    body BLOB NOT NULL,
    body_hash BLOB NOT NULL,
    request_hash BLOB NOT NULL,
    data_version BLOB NULL,
    idempotency_key TEXT NULL,
    created_by TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    attempts_max INTEGER NOT NULL,
    runner_deaths INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    leased_by BLOB NULL,
    lease_until INTEGER NULL,
    run_after INTEGER NOT NULL,
    shards_done INTEGER NOT NULL,
    shards_total INTEGER NOT NULL,
    rows_done INTEGER NOT NULL,
    rows_total INTEGER NOT NULL,
    as_of INTEGER NULL,
    partial INTEGER NOT NULL,
    error_code TEXT NULL,
    error_detail TEXT NULL,
    result_bytes INTEGER NULL,
    result_parts INTEGER NULL,
    result_ticket BLOB NULL,
    result_fence INTEGER NULL,
    waits_for BLOB NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER NULL,
    finished_at INTEGER NULL,
    expires_at INTEGER NOT NULL,
    sweep_at INTEGER NOT NULL,
    PRIMARY KEY (ticket_id)
);
CREATE UNIQUE INDEX IF NOT EXISTS tickets_idempotency ON tickets (project_id, idempotency_key);
CREATE INDEX IF NOT EXISTS tickets_queue ON tickets (state, run_after, ticket_id, kind);
CREATE INDEX IF NOT EXISTS tickets_project ON tickets (project_id, ticket_id);
CREATE INDEX IF NOT EXISTS tickets_same ON tickets (project_id, body_hash, state);
CREATE INDEX IF NOT EXISTS tickets_waiting ON tickets (waits_for);
CREATE INDEX IF NOT EXISTS tickets_sweep ON tickets (sweep_at);
