-- The fence is part of the key: what a runner that lost its lease still uploads is never read.
CREATE TABLE IF NOT EXISTS ticket_results (
    ticket_id BLOB NOT NULL,
    fence INTEGER NOT NULL,
    part_no INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (ticket_id, fence, part_no)
);
