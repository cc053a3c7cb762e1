-- Rises with every erasure: whoever keeps something in memory forgets it then.
SET @ddl = IF(
    EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = DATABASE()
            AND table_name = 'projects' AND column_name = 'erasure_epoch'),
    'DO 0',
    'ALTER TABLE projects ADD COLUMN erasure_epoch BIGINT NOT NULL DEFAULT 0'
);
PREPARE ddl FROM @ddl;
EXECUTE ddl;
DEALLOCATE PREPARE ddl;
