-- Distinct ids of erased persons, as hashes: what occurred or arrived until `erased_until` is dropped
-- while it is sealed, in whatever shard and however late. The same rows are on every server.
CREATE TABLE IF NOT EXISTS tombstones (
    project_id INTEGER NOT NULL,
    id_hash BLOB NOT NULL,
    erased_until INTEGER NOT NULL,
    PRIMARY KEY (project_id, id_hash)
) WITHOUT ROWID;
