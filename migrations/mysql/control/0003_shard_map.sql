-- Which server holds which shard. `version` rises when a shard moves.
CREATE TABLE IF NOT EXISTS shard_map (
    shard_no INT NOT NULL,
    server_id BINARY(16) NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (shard_no)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
