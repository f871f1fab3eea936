"""Databases for tests: SQLite, or PostgreSQL where `scripts/with_postgres.sh` gives one."""

import hashlib
import os
from pathlib import Path

from sqlalchemy import create_engine, make_url, text


def database_of(folder: Path) -> str | None:
    """The URL of a folder's own database where tests run on PostgreSQL, made if it is not there; None for SQLite."""
    given = os.environ.get("AGENTRFT_TEST_DATABASE")
    if given is None:
        return None
    name = f"t{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"
    engine = create_engine(given, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if not connection.execute(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name}).scalar():
            connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return make_url(given).set(database=name).render_as_string(hide_password=False)
