CREATE TABLE IF NOT EXISTS saved_questions (
    question_id INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    body BLOB NOT NULL,
    created_by INTEGER NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS saved_questions_project ON saved_questions (project_id, question_id);
