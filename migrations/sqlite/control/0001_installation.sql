-- What the installation is: its id, its number of shards, the version of the hash.
CREATE TABLE IF NOT EXISTS installation (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (name)
) WITHOUT ROWID;
