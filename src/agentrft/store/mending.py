"""Records that an earlier version stored and that no query can look into: they are written again, as far as they go."""

import logging

from sqlalchemy import Column, func, select, text, update

from agentrft import wire
from agentrft.store import tables as t
from agentrft.store.database import Database
from agentrft.wire import WireError

logger = logging.getLogger(__name__)

# Columns that queries look into: one row that is no JSON would fail the query for all others.
QUERIED: tuple[Column[object], ...] = (t.jobs.c.spec, t.jobs.c.hyperparameters, t.served_jobs.c.request)


def mend_records(database: Database) -> int:
    """Make JSON of what is none in the queried columns; how many were mended. PostgreSQL never took any other.

    What JSON cannot carry, such as an infinite number, becomes null; a text that cannot be read becomes `{}`.
    """
    if not database.is_sqlite:
        return 0
    mended = 0
    for column in QUERIED:
        key = column.table.c.job_id
        raw = text(f'"{column.table.name}"."{column.name}"')
        with database.write() as connection:
            broken = select(key, raw).where(column.is_not(None), func.json_valid(raw) == 0)
            for job_id, stored in list(connection.execute(broken)):
                connection.execute(update(column.table).where(key == job_id).values({column: _readable(stored)}))
                logger.warning("%s: what was stored as its %s is no JSON; it was mended", job_id, column.name)
                mended += 1
    return mended


def _readable(stored: object) -> object:
    try:
        found = wire.parse_leniently(stored if isinstance(stored, str) else "")
    except WireError:
        return {}
    return found if isinstance(found, dict) else {}
