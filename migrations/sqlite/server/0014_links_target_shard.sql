-- Where the target lives, once the pointer is followed.
ALTER TABLE links ADD COLUMN target_shard INTEGER NULL;
