-- `email` is lower case; bytes, so that no collation decides who somebody is.
CREATE TABLE IF NOT EXISTS accounts (
    account_id BIGINT NOT NULL AUTO_INCREMENT,
    email VARBINARY(255) NOT NULL,
    name VARCHAR(200) NOT NULL,
    password_hash VARCHAR(255) NOT NULL,
    is_admin INT NOT NULL,
    created_at BIGINT NOT NULL,
    password_changed_at BIGINT NOT NULL,
    disabled_at BIGINT NULL,
    PRIMARY KEY (account_id),
    UNIQUE KEY accounts_email (email)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
