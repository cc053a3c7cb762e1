-- What the installation is: its id, its number of shards, the version of the hash.
CREATE TABLE IF NOT EXISTS installation (
    name VARBINARY(64) NOT NULL,
    value VARBINARY(255) NOT NULL,
    PRIMARY KEY (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
