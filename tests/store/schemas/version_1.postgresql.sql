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
INSERT INTO schema_version (version) VALUES (1);
