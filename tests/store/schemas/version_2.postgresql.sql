CREATE TABLE schema_version (
    version SERIAL NOT NULL,
    PRIMARY KEY (version)
);
CREATE TABLE jobs (
    number SERIAL NOT NULL,
    job_id VARCHAR(32) NOT NULL,
    status VARCHAR(16) NOT NULL,
    phase VARCHAR(32),
    step INTEGER NOT NULL,
    total_steps INTEGER,
    best_step INTEGER,
    model TEXT NOT NULL,
    seed INTEGER NOT NULL,
    spec JSON NOT NULL,
    hyperparameters JSON,
    created_at FLOAT NOT NULL,
    finished_at FLOAT,
    error TEXT,
    pid INTEGER,
    PRIMARY KEY (number),
    UNIQUE (job_id)
);
CREATE INDEX ix_jobs_status ON jobs (status);
CREATE TABLE files (
    number SERIAL NOT NULL,
    file_id VARCHAR(64) NOT NULL,
    filename TEXT NOT NULL,
    purpose VARCHAR(32) NOT NULL,
    bytes INTEGER NOT NULL,
    created_at FLOAT NOT NULL,
    expires_at FLOAT,
    status VARCHAR(16) NOT NULL,
    status_details TEXT,
    PRIMARY KEY (number),
    UNIQUE (file_id)
);
CREATE TABLE uploads (
    number SERIAL NOT NULL,
    upload_id VARCHAR(64) NOT NULL,
    filename TEXT NOT NULL,
    purpose VARCHAR(32) NOT NULL,
    bytes INTEGER NOT NULL,
    created_at FLOAT NOT NULL,
    expires_at FLOAT NOT NULL,
    status VARCHAR(16) NOT NULL,
    file_id VARCHAR(64),
    PRIMARY KEY (number),
    UNIQUE (upload_id)
);
CREATE TABLE api_keys (
    number SERIAL NOT NULL,
    key_id VARCHAR(32) NOT NULL,
    name TEXT NOT NULL,
    digest VARCHAR(64) NOT NULL,
    created_at FLOAT NOT NULL,
    revoked_at FLOAT,
    PRIMARY KEY (number),
    UNIQUE (key_id),
    UNIQUE (digest)
);
CREATE TABLE permissions (
    number SERIAL NOT NULL,
    permission_id VARCHAR(64) NOT NULL,
    checkpoint TEXT NOT NULL,
    project_id TEXT NOT NULL,
    created_at FLOAT NOT NULL,
    PRIMARY KEY (number),
    UNIQUE (checkpoint, project_id),
    UNIQUE (permission_id)
);
CREATE TABLE deliveries (
    number SERIAL NOT NULL,
    event_id VARCHAR(64) NOT NULL,
    url TEXT NOT NULL,
    body TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    due_at FLOAT NOT NULL,
    delivered_at FLOAT,
    error TEXT,
    PRIMARY KEY (number),
    UNIQUE (event_id)
);
CREATE TABLE events (
    number SERIAL NOT NULL,
    job_id VARCHAR(32) NOT NULL,
    created_at FLOAT NOT NULL,
    level VARCHAR(16) NOT NULL,
    message TEXT NOT NULL,
    data JSON NOT NULL,
    PRIMARY KEY (number),
    FOREIGN KEY(job_id) REFERENCES jobs (job_id)
);
CREATE INDEX ix_events_job_id ON events (job_id);
CREATE TABLE pending_rollouts (
    number SERIAL NOT NULL,
    job_id VARCHAR(32) NOT NULL,
    phase VARCHAR(32) NOT NULL,
    step INTEGER NOT NULL,
    key VARCHAR(128) NOT NULL,
    payload JSON NOT NULL,
    PRIMARY KEY (number),
    UNIQUE (job_id, phase, step, key),
    FOREIGN KEY(job_id) REFERENCES jobs (job_id)
);
CREATE TABLE metrics (
    number SERIAL NOT NULL,
    job_id VARCHAR(32) NOT NULL,
    phase VARCHAR(32) NOT NULL,
    step INTEGER NOT NULL,
    values JSON NOT NULL,
    PRIMARY KEY (number),
    UNIQUE (job_id, phase, step),
    FOREIGN KEY(job_id) REFERENCES jobs (job_id)
);
CREATE TABLE served_jobs (
    job_id VARCHAR(32) NOT NULL,
    request JSON NOT NULL,
    sealed_spec TEXT NOT NULL,
    priority INTEGER NOT NULL,
    wish VARCHAR(16),
    lease_owner VARCHAR(64),
    lease_until FLOAT,
    crashes INTEGER NOT NULL,
    idempotency_key VARCHAR(255),
    request_digest VARCHAR(64) NOT NULL,
    PRIMARY KEY (job_id),
    FOREIGN KEY(job_id) REFERENCES jobs (job_id),
    UNIQUE (idempotency_key)
);
CREATE TABLE upload_parts (
    number SERIAL NOT NULL,
    part_id VARCHAR(64) NOT NULL,
    upload_id VARCHAR(64) NOT NULL,
    bytes INTEGER NOT NULL,
    created_at FLOAT NOT NULL,
    PRIMARY KEY (number),
    UNIQUE (part_id),
    FOREIGN KEY(upload_id) REFERENCES uploads (upload_id)
);
INSERT INTO schema_version (version) VALUES (2);
