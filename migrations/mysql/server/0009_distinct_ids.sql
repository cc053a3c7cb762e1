CREATE TABLE IF NOT EXISTS distinct_ids (
    shard_no INT NOT NULL,
    project_id BIGINT NOT NULL,
    distinct_id VARBINARY(255) NOT NULL,
    id_no BIGINT NOT NULL,
    person_no BIGINT NOT NULL,
    PRIMARY KEY (shard_no, project_id, distinct_id),
    KEY distinct_ids_person (shard_no, project_id, person_no)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
