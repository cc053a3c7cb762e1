CREATE TABLE IF NOT EXISTS ticket_results (
    ticket_id BLOB NOT NULL,
    part_no INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (ticket_id, part_no)
);
