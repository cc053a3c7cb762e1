-- Links from before links were acted on.
INSERT INTO moves (shard_no, project_id, distinct_id, state, target_id, target_shard, person_no, started_at, after_at, after_event)
SELECT shard_no, project_id, distinct_id, 'waiting', target_id, NULL, NULL, linked_at, NULL, NULL
FROM links WHERE state = 'recorded'
ON CONFLICT DO NOTHING;
