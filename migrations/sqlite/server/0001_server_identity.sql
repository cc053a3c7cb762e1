-- Who this server is (`server_id`) and which installation it belongs to (`installation_id`).
CREATE TABLE IF NOT EXISTS server_identity (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (name)
) WITHOUT ROWID;
