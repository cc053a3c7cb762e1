-- The fence is part of the key: what a runner that lost its lease still uploads is never read.
CREATE TABLE IF NOT EXISTS ticket_results (
    ticket_id BINARY(16) NOT NULL,
    fence BIGINT NOT NULL,
    part_no INT NOT NULL,
    body MEDIUMBLOB NOT NULL,
    PRIMARY KEY (ticket_id, fence, part_no)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
