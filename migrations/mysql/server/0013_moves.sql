-- Links that are not done yet: `waiting` for the target's server to answer, or `moving`: the rows of
-- `person_no`, which is masked, are being copied towards the target, those up to the cursor already.
CREATE TABLE IF NOT EXISTS moves (
    shard_no INT NOT NULL,
    project_id BIGINT NOT NULL,
    distinct_id VARBINARY(255) NOT NULL,
    state VARBINARY(16) NOT NULL,
    target_id VARBINARY(255) NOT NULL,
    target_shard INT NULL,
    person_no BIGINT NULL,
    started_at BIGINT NOT NULL,
    after_at BIGINT NULL,
    after_event BINARY(16) NULL,
    PRIMARY KEY (shard_no, project_id, distinct_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
