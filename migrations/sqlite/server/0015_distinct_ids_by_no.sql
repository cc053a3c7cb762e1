-- A row names its distinct id by number, and that id may belong to another person by now.
CREATE INDEX IF NOT EXISTS distinct_ids_no ON distinct_ids (shard_no, project_id, id_no);
