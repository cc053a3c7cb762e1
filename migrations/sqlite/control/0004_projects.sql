CREATE TABLE IF NOT EXISTS projects (
    project_id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    time_zone TEXT NOT NULL,
    span INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    archived_at INTEGER NULL
);
