-- What `$identify` and `$alias` said: `distinct_id` of this shard now belongs to `target_id`.
CREATE TABLE IF NOT EXISTS links (
    shard_no INT NOT NULL,
    project_id BIGINT NOT NULL,
    distinct_id VARBINARY(255) NOT NULL,
    target_id VARBINARY(255) NOT NULL,
    state VARBINARY(16) NOT NULL,
    moving_after BIGINT NULL,
    linked_at BIGINT NOT NULL,
    PRIMARY KEY (shard_no, project_id, distinct_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
