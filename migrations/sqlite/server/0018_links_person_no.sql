-- Who the linked id was here until its pointer was set: masked, and its rows may lie in objects long after.
ALTER TABLE links ADD COLUMN person_no INTEGER NULL;
