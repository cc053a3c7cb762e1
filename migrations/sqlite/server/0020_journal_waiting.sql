-- How much waits, and since when, without reading a body.
CREATE INDEX IF NOT EXISTS journal_waiting ON journal (shard_no, inserted_at, events, bytes);
