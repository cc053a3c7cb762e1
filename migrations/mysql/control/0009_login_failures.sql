-- Throttling of log-ins, shared by all replicas. `subject` is a hash of an address or an account.
CREATE TABLE IF NOT EXISTS login_failures (
    subject BINARY(32) NOT NULL,
    failures INT NOT NULL,
    window_started_at BIGINT NOT NULL,
    blocked_until BIGINT NOT NULL,
    PRIMARY KEY (subject)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
