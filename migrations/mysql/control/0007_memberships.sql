CREATE TABLE IF NOT EXISTS memberships (
    account_id BIGINT NOT NULL,
    project_id BIGINT NOT NULL,
    role VARCHAR(16) NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, project_id),
    KEY memberships_project (project_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
