-- One row a round and shard of a question large enough to be split: any replica runs it, and a retry
-- of the ticket repeats only what is missing.
CREATE TABLE IF NOT EXISTS ticket_steps (
    ticket_id BLOB NOT NULL,
    round_no INTEGER NOT NULL,
    shard_no INTEGER NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    work BLOB NOT NULL,
    attempt INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    leased_by BLOB NULL,
    lease_until INTEGER NULL,
    outcome BLOB NULL,
    PRIMARY KEY (ticket_id, round_no, shard_no)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ticket_steps_queue ON ticket_steps (state, ticket_id, round_no, shard_no, kind);
