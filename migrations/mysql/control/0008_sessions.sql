CREATE TABLE IF NOT EXISTS sessions (
    token_hash BINARY(32) NOT NULL,
    account_id BIGINT NOT NULL,
    csrf_token BINARY(32) NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (token_hash),
    KEY sessions_account (account_id),
    KEY sessions_expiry (expires_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
