-- A row names its distinct id by number, and that id may belong to another person by now.
SET @ddl = IF(
    EXISTS (SELECT 1 FROM information_schema.statistics WHERE table_schema = DATABASE()
            AND table_name = 'distinct_ids' AND index_name = 'distinct_ids_no'),
    'DO 0',
    'CREATE INDEX distinct_ids_no ON distinct_ids (shard_no, project_id, id_no)'
);
PREPARE ddl FROM @ddl;
EXECUTE ddl;
DEALLOCATE PREPARE ddl;
