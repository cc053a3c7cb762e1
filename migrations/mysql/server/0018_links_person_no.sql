-- Who the linked id was here until its pointer was set: masked, and its rows may lie in objects long after.
SET @ddl = IF(
    EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = DATABASE()
            AND table_name = 'links' AND column_name = 'person_no'),
    'DO 0',
    'ALTER TABLE links ADD COLUMN person_no BIGINT NULL'
);
PREPARE ddl FROM @ddl;
EXECUTE ddl;
DEALLOCATE PREPARE ddl;
