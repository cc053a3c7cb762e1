-- One row a round and shard of a question large enough to be split: any replica runs it, and a retry
-- of the ticket repeats only what is missing.
CREATE TABLE IF NOT EXISTS ticket_steps (
    ticket_id BINARY(16) NOT NULL,
    round_no INT NOT NULL,
    shard_no INT NOT NULL,
    kind VARCHAR(32) NOT NULL,
    state VARCHAR(16) NOT NULL,
    work MEDIUMBLOB NOT NULL,
    attempt INT NOT NULL,
    fence BIGINT NOT NULL,
    leased_by BINARY(16) NULL,
    lease_until BIGINT NULL,
    outcome MEDIUMBLOB NULL,
    PRIMARY KEY (ticket_id, round_no, shard_no),
    KEY ticket_steps_queue (state, ticket_id, round_no, shard_no, kind)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
