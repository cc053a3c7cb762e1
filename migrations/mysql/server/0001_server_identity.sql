-- Who this server is (`server_id`) and which installation it belongs to (`installation_id`).
CREATE TABLE IF NOT EXISTS server_identity (
    name VARBINARY(64) NOT NULL,
    value VARBINARY(255) NOT NULL,
    PRIMARY KEY (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
