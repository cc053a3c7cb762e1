-- Distinct ids of erased persons, as hashes: what occurred or arrived until `erased_until` is dropped
-- while it is sealed, in whatever shard and however late. The same rows are on every server.
CREATE TABLE IF NOT EXISTS tombstones (
    project_id BIGINT NOT NULL,
    id_hash BINARY(16) NOT NULL,
    erased_until BIGINT NOT NULL,
    PRIMARY KEY (project_id, id_hash)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
