-- `email` is lower case; bytes, so that no collation decides who somebody is.
CREATE TABLE IF NOT EXISTS accounts (
    account_id INTEGER PRIMARY KEY AUTOINCREMENT,
    email TEXT NOT NULL,
    name TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    is_admin INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    password_changed_at INTEGER NOT NULL,
    disabled_at INTEGER NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS accounts_email ON accounts (email);
