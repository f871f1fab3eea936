"""The tables. Times are in seconds since the epoch; JSON columns hold what the caller passed, without secrets."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
)

from agentrft.store.text_types import String, Text

# The newest file in migrations/versions.
REVISION = "0007"
# What programs from before Alembic find here, so that they refuse the database.
SHUT_OUT_VERSION = 3

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
    Column("status", String(16), nullable=False, index=True),
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

# What only a server has.

served_jobs = Table(
    "served_jobs",
    metadata,
    Column("job_id", ForeignKey("jobs.job_id"), primary_key=True),
    Column("request", JSON, nullable=False),
    # The whole spec, encrypted: with header values and keys.
    Column("sealed_spec", Text, nullable=False),
    Column("priority", Integer, nullable=False, default=0),
    Column("wish", String(16)),
    Column("lease_owner", String(64)),
    Column("lease_until", Float),
    Column("crashes", Integer, nullable=False, default=0),
    Column("estimated_finish", Float),
    Column("idempotency_key", String(255), unique=True),
    Column("request_digest", String(64), nullable=False),
)

files = Table(
    "files",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("file_id", String(64), nullable=False, unique=True),
    Column("filename", Text, nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("status", String(16), nullable=False),
    Column("status_details", Text),
)

uploads = Table(
    "uploads",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("upload_id", String(64), nullable=False, unique=True),
    Column("filename", Text, nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("status", String(16), nullable=False),
    Column("file_id", String(64)),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("part_id", String(64), nullable=False, unique=True),
    Column("upload_id", ForeignKey("uploads.upload_id"), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("key_id", String(32), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
)

permissions = Table(
    "permissions",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("permission_id", String(64), nullable=False, unique=True),
    Column("checkpoint", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("checkpoint", "project_id"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("event_id", String(64), nullable=False, unique=True),
    Column("url", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", Float, nullable=False),
    Column("delivered_at", Float),
    Column("error", Text),
)

stored_responses = Table(
    "stored_responses",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("response_id", String(64), nullable=False, unique=True),
    Column("created_at", Float, nullable=False, index=True),
    Column("bytes", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

# Evals that users make; those that jobs are have no rows of their own.

evals = Table(
    "evals",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("eval_id", String(64), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    # As it is shown, without secrets.
    Column("shown", JSON, nullable=False),
    # The graders and tools, encrypted.
    Column("sealed_spec", Text, nullable=False),
    Column("user_metadata", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
)

eval_runs = Table(
    "eval_runs",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("run_id", String(64), nullable=False, unique=True),
    Column("eval_id", ForeignKey("evals.eval_id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("status", String(16), nullable=False, index=True),
    Column("model", Text, nullable=False),
    Column("shown", JSON, nullable=False),
    # What is run, encrypted: graders, tools and sampling.
    Column("sealed_spec", Text, nullable=False),
    # The rows, as lines of JSON, where they came with the request; else they are a file's.
    Column("content", Text),
    Column("file_id", String(64)),
    Column("user_metadata", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("error", JSON(none_as_null=True)),
    Column("results", JSON(none_as_null=True)),
    Column("lease_owner", String(64)),
    Column("lease_until", Float),
    Column("crashes", Integer, nullable=False, default=0),
)

eval_items = Table(
    "eval_items",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("run_id", ForeignKey("eval_runs.run_id"), nullable=False),
    # Of its row, from 1.
    Column("line", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("payload", JSON, nullable=False),
    UniqueConstraint("run_id", "line"),
)
