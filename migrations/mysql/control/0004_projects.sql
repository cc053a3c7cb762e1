CREATE TABLE IF NOT EXISTS projects (
    project_id BIGINT NOT NULL AUTO_INCREMENT,
    name VARCHAR(200) NOT NULL,
    time_zone VARCHAR(64) NOT NULL,
    span INT NOT NULL,
    created_at BIGINT NOT NULL,
    archived_at BIGINT NULL,
    PRIMARY KEY (project_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
