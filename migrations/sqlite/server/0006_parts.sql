-- The bytes of runs and segments, cut where readers cut.
CREATE TABLE IF NOT EXISTS parts (
    object_id BLOB NOT NULL,
    part_no INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (object_id, part_no)
);
