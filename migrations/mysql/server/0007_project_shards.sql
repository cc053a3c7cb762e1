-- The counters of a project in a shard. `data_version` rises with everything that can change an answer.
CREATE TABLE IF NOT EXISTS project_shards (
    shard_no INT NOT NULL,
    project_id BIGINT NOT NULL,
    next_person_no BIGINT NOT NULL,
    next_id_no BIGINT NOT NULL,
    data_version BIGINT NOT NULL,
    mask_version BIGINT NOT NULL,
    erasure_epoch BIGINT NOT NULL,
    PRIMARY KEY (shard_no, project_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
