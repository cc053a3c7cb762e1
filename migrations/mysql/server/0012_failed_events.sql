-- Events that could not be counted, with the reason: rejected on arrival (`collect`) or found broken
-- while sealing (`seal`). Capped for each project.
CREATE TABLE IF NOT EXISTS failed_events (
    failed_id BINARY(16) NOT NULL,
    project_id BIGINT NOT NULL,
    stage VARBINARY(16) NOT NULL,
    reason VARBINARY(64) NOT NULL,
    detail VARCHAR(1000) NOT NULL,
    body MEDIUMBLOB NOT NULL,
    failed_at BIGINT NOT NULL,
    PRIMARY KEY (failed_id),
    KEY failed_events_project (project_id, failed_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
