-- Append only: collection inserts batches, the sealer deletes exactly those it has sealed.
-- `inserted_at` is this server's clock at the insert, in milliseconds.
CREATE TABLE IF NOT EXISTS journal (
    shard_no INT NOT NULL,
    batch_id BINARY(16) NOT NULL,
    events INT NOT NULL,
    bytes INT NOT NULL,
    inserted_at BIGINT NOT NULL,
    body MEDIUMBLOB NOT NULL,
    PRIMARY KEY (shard_no, batch_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
