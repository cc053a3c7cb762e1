-- How much waits, and since when, without reading a body.
SET @ddl = IF(
    EXISTS (SELECT 1 FROM information_schema.statistics WHERE table_schema = DATABASE()
            AND table_name = 'journal' AND index_name = 'journal_waiting'),
    'DO 0',
    'ALTER TABLE journal ADD INDEX journal_waiting (shard_no, inserted_at, events, bytes)'
);
PREPARE ddl FROM @ddl;
EXECUTE ddl;
DEALLOCATE PREPARE ddl;
