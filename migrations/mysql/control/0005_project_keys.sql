-- `shown` is what pages may show: a whole write key, which is public, or the end of a secret one.
CREATE TABLE IF NOT EXISTS project_keys (
    key_id BIGINT NOT NULL AUTO_INCREMENT,
    project_id BIGINT NOT NULL,
    kind VARCHAR(16) NOT NULL,
    key_hash BINARY(32) NOT NULL,
    shown VARCHAR(100) NOT NULL,
    name VARCHAR(200) NOT NULL,
    created_by BIGINT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT NULL,
    PRIMARY KEY (key_id),
    UNIQUE KEY project_keys_hash (key_hash),
    KEY project_keys_project (project_id, key_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
