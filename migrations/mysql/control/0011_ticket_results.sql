CREATE TABLE IF NOT EXISTS ticket_results (
    ticket_id BINARY(16) NOT NULL,
    part_no INT NOT NULL,
    body MEDIUMBLOB NOT NULL,
    PRIMARY KEY (ticket_id, part_no)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
