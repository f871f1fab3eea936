"""The tables. Times are in seconds since the epoch; JSON columns hold what the caller passed, without secrets."""

from sqlalchemy import JSON, Column, Float, ForeignKey, Integer, MetaData, String, Table, Text, UniqueConstraint

SCHEMA_VERSION = 1

metadata = MetaData()

schema_version = Table(
    "schema_version",
    metadata,
    Column("version", Integer, primary_key=True),
)

jobs = Table(
    "jobs",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("job_id", String(32), nullable=False, unique=True),
    Column("status", String(16), nullable=False),
    Column("phase", String(32)),
    Column("step", Integer, nullable=False, default=0),
    Column("total_steps", Integer),
    Column("best_step", Integer),
    Column("model", Text, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("hyperparameters", JSON(none_as_null=True)),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("error", Text),
    Column("pid", Integer),
)

events = Table(
    "events",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("job_id", ForeignKey("jobs.job_id"), nullable=False, index=True),
    Column("created_at", Float, nullable=False),
    Column("level", String(16), nullable=False),
    Column("message", Text, nullable=False),
    Column("data", JSON, nullable=False),
)

pending_rollouts = Table(
    "pending_rollouts",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("job_id", ForeignKey("jobs.job_id"), nullable=False),
    Column("phase", String(32), nullable=False),
    Column("step", Integer, nullable=False),
    Column("key", String(128), nullable=False),
    Column("payload", JSON, nullable=False),
    UniqueConstraint("job_id", "phase", "step", "key"),
)

metrics = Table(
    "metrics",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("job_id", ForeignKey("jobs.job_id"), nullable=False),
    Column("phase", String(32), nullable=False),
    Column("step", Integer, nullable=False),
    Column("values", JSON, nullable=False),
    UniqueConstraint("job_id", "phase", "step"),
)
