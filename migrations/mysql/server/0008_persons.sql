CREATE TABLE IF NOT EXISTS persons (
    shard_no INT NOT NULL,
    project_id BIGINT NOT NULL,
    person_no BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    first_day INT NULL,
    last_day INT NULL,
    traits MEDIUMBLOB NULL,
    PRIMARY KEY (shard_no, project_id, person_no)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
