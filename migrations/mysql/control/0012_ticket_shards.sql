-- One row a shard, for questions large enough that a retry should repeat only what is missing.
CREATE TABLE IF NOT EXISTS ticket_shards (
    ticket_id BINARY(16) NOT NULL,
    shard_no INT NOT NULL,
    state VARCHAR(16) NOT NULL,
    attempt INT NOT NULL,
    fence BIGINT NOT NULL,
    leased_by BINARY(16) NULL,
    lease_until BIGINT NULL,
    partial_answer MEDIUMBLOB NULL,
    PRIMARY KEY (ticket_id, shard_no),
    KEY ticket_shards_queue (state, lease_until)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
