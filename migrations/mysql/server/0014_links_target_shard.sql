-- Where the target lives, once the pointer is followed. In words that MySQL has too, which knows no
-- ADD COLUMN IF NOT EXISTS.
SET @ddl = IF(
    EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = DATABASE()
            AND table_name = 'links' AND column_name = 'target_shard'),
    'DO 0',
    'ALTER TABLE links ADD COLUMN target_shard INT NULL'
);
PREPARE ddl FROM @ddl;
EXECUTE ddl;
DEALLOCATE PREPARE ddl;
