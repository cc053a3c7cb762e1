-- The bytes of runs and segments, cut where readers cut.
CREATE TABLE IF NOT EXISTS parts (
    object_id BINARY(16) NOT NULL,
    part_no INT NOT NULL,
    body MEDIUMBLOB NOT NULL,
    PRIMARY KEY (object_id, part_no)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
