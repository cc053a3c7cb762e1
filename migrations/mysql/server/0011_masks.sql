-- Persons whose rows do not count: moved away or erased. Belongs to no segment.
CREATE TABLE IF NOT EXISTS masks (
    shard_no INT NOT NULL,
    project_id BIGINT NOT NULL,
    person_no BIGINT NOT NULL,
    version BIGINT NOT NULL,
    reason VARBINARY(16) NOT NULL,
    masked_at BIGINT NOT NULL,
    PRIMARY KEY (shard_no, project_id, person_no)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
