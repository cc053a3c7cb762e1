-- For how many days events are kept; NULL: for ever.
SET @ddl = IF(
    EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = DATABASE()
            AND table_name = 'projects' AND column_name = 'retention_days'),
    'DO 0',
    'ALTER TABLE projects ADD COLUMN retention_days INT NULL'
);
PREPARE ddl FROM @ddl;
EXECUTE ddl;
DEALLOCATE PREPARE ddl;
