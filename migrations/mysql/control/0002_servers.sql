-- The servers that carry shards, by the id that each carries itself.
CREATE TABLE IF NOT EXISTS servers (
    server_id BINARY(16) NOT NULL,
    name VARCHAR(255) NOT NULL,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (server_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
