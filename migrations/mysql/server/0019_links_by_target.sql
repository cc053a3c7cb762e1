-- Who is linked to an id, in whichever shard: an erasure goes the way of links backwards too.
SET @ddl = IF(
    EXISTS (SELECT 1 FROM information_schema.statistics WHERE table_schema = DATABASE()
            AND table_name = 'links' AND index_name = 'links_target'),
    'DO 0',
    'CREATE INDEX links_target ON links (project_id, target_id)'
);
PREPARE ddl FROM @ddl;
EXECUTE ddl;
DEALLOCATE PREPARE ddl;
