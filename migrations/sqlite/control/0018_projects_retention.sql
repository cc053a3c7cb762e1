-- For how many days events are kept; NULL: for ever.
ALTER TABLE projects ADD COLUMN retention_days INTEGER NULL;
