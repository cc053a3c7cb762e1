-- Rises with every erasure: whoever keeps something in memory forgets it then.
ALTER TABLE projects ADD COLUMN erasure_epoch INTEGER NOT NULL DEFAULT 0;
