-- One worker a shard and task (`seal`, `compact`, `forward`). The fence rises with every holder.
CREATE TABLE IF NOT EXISTS shard_leases (
    shard_no INT NOT NULL,
    task VARBINARY(16) NOT NULL,
    holder BINARY(16) NULL,
    fence BIGINT NOT NULL,
    connection_id BIGINT NULL,
    expires_at BIGINT NOT NULL,
    moved_to BINARY(16) NULL,
    map_version BIGINT NOT NULL,
    PRIMARY KEY (shard_no, task)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
