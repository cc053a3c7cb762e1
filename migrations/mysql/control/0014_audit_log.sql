CREATE TABLE IF NOT EXISTS audit_log (
    audit_id BINARY(16) NOT NULL,
    project_id BIGINT NULL,
    account_id BIGINT NULL,
    action VARCHAR(64) NOT NULL,
    detail VARCHAR(1000) NOT NULL,
    happened_at BIGINT NOT NULL,
    PRIMARY KEY (audit_id),
    KEY audit_log_project (project_id, audit_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
