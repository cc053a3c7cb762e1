-- Rows of all projects of a shard, as written by one pass or merged from several runs.
CREATE TABLE IF NOT EXISTS runs (
    shard_no INT NOT NULL,
    run_id BINARY(16) NOT NULL,
    state VARBINARY(16) NOT NULL,
    events BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    parts INT NOT NULL,
    min_at BIGINT NOT NULL,
    max_at BIGINT NOT NULL,
    mask_version BIGINT NOT NULL,
    directory MEDIUMBLOB NOT NULL,
    created_at BIGINT NOT NULL,
    retired_at BIGINT NULL,
    PRIMARY KEY (shard_no, run_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
