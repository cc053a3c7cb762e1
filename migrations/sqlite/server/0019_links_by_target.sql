-- Who is linked to an id, in whichever shard: an erasure goes the way of links backwards too.
CREATE INDEX IF NOT EXISTS links_target ON links (project_id, target_id);
