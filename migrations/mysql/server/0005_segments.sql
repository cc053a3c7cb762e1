-- Rows of one project, as columns, sorted by person and time.
CREATE TABLE IF NOT EXISTS segments (
    shard_no INT NOT NULL,
    segment_id BINARY(16) NOT NULL,
    project_id BIGINT NOT NULL,
    state VARBINARY(16) NOT NULL,
    day_from INT NOT NULL,
    day_to INT NOT NULL,
    min_at BIGINT NOT NULL,
    max_at BIGINT NOT NULL,
    events BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    parts INT NOT NULL,
    tier INT NOT NULL,
    mask_version BIGINT NOT NULL,
    facts MEDIUMBLOB NOT NULL,
    created_at BIGINT NOT NULL,
    retired_at BIGINT NULL,
    PRIMARY KEY (shard_no, segment_id),
    KEY segments_project (shard_no, project_id, state)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
