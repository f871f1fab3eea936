"""Records that an earlier version stored and that no query can look into: they are written again, as far as they go."""

import logging

from sqlalchemy import Column, Text, cast, func, or_, select, text, update

from agentrft import wire
from agentrft.store import tables as t
from agentrft.store.database import Database
from agentrft.wire import WireError

logger = logging.getLogger(__name__)

HALF_PAIR = "\\ud"

# Columns that queries look into: one row that is no JSON would fail the query for all others.
QUERIED: tuple[Column[object], ...] = (t.jobs.c.spec, t.jobs.c.hyperparameters, t.served_jobs.c.request)


def mend_records(database: Database) -> int:
    """Make JSON of what is none in the queried columns; how many were mended.

    What JSON cannot carry, such as an infinite number, becomes null; a text that cannot be read becomes `{}`.
    """
    mended = 0
    for column in QUERIED:
        key = column.table.c.job_id
        raw = cast(column, Text) if database.is_sqlite else text(f'"{column.table.name}"."{column.name}"::text')
        # Half of a surrogate pair, written as JSON may: no database makes a text of it. PostgreSQL has no other fault.
        suspect = func.lower(raw).contains(HALF_PAIR, autoescape=True)
        if database.is_sqlite:
            suspect = or_(suspect, func.json_valid(raw) == 0)
        with database.write() as connection:
            for job_id, stored in list(connection.execute(select(key, raw).where(column.is_not(None), suspect))):
                if _is_sound(stored):
                    continue
                connection.execute(update(column.table).where(key == job_id).values({column: _readable(stored)}))
                logger.warning("%s: what was stored as its %s is no JSON; it was mended", job_id, column.name)
                mended += 1
    return mended


def _is_sound(stored: object) -> bool:
    try:
        wire.parse(stored if isinstance(stored, str) else "")
    except WireError:
        return False
    return True


def _readable(stored: object) -> object:
    try:
        found = wire.parse_leniently(stored if isinstance(stored, str) else "")
    except WireError:
        return {}
    return found if isinstance(found, dict) else {}
