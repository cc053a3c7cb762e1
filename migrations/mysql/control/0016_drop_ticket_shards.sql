-- Nothing was ever written to it: ticket_steps took its place.
DROP TABLE IF EXISTS ticket_shards;
