"""One database, SQLite or PostgreSQL, opened so that a commit survives a kill and a power cut."""

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DatabaseError

from agentrft import wire
from agentrft.errors import UserError
from agentrft.store import schema
from agentrft.store.changes import Changes
from agentrft.wire import WireError

logger = logging.getLogger(__name__)

FILE_NAME = "agentrft.db"
LOCK_TIMEOUT_S = 30.0
# One writer at a time, as SQLite has it: transactions are short, and what one reads cannot change under it.
WRITE_LOCK = 0x61677266
DATABASE_REMEDY = "Write postgresql+psycopg://user:password@host/name, or leave it out for SQLite."


def _read_stored(stored: str) -> Any:
    """A stored document, whoever wrote it; an empty one where it cannot be read at all."""
    try:
        return wire.parse_leniently(stored)
    except WireError as error:
        logger.warning("a stored record cannot be read, and counts as empty: %s", error)
        return {}


# What is stored can be read again and sent, whoever wrote it.
_JSON: dict[str, Any] = {"json_serializer": wire.dump, "json_deserializer": _read_stored}


class Database:
    """Short read and write transactions. Safe to use from several threads and processes.

    Args:
        place: an SQLite file; or a URL, such as `postgresql+psycopg://user@host/name`.
        create: make the file, and its folder, where they do not exist.

    Attributes:
        changes: says whether anything was committed since it was last asked.

    Raises:
        UserError: the file is missing (and not to be made), the database cannot be used, or has another schema version.
    """

    def __init__(self, place: Path | str, *, create: bool = True) -> None:
        if isinstance(place, Path):
            if not create and not place.is_file():
                raise UserError(
                    f"{place.parent}: no jobs here.", "Give the folder that jobs were run into as output_dir."
                )
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(
                    f"{place.parent}: {error.strerror}.", "Choose an output_dir that can be written."
                ) from error
            shown = str(place)
            self._engine = _sqlite_engine(place)
            self.changes = Changes(self._engine, place.absolute())
        else:
            shown = _shown(place)
            self._engine = _server_engine(place)
            self.changes = Changes(self._engine, None)
        try:
            self._check_schema(shown)
        except DatabaseError as error:
            self.close()
            raise UserError(
                f"{shown}: cannot be used as a database of jobs: {error.orig}.",
                "Free or repair it (permissions, disk space, a server that runs), or choose another.",
            ) from error
        except UserError:
            self.close()
            raise

    @contextmanager
    def write(self, **options: bool) -> Iterator[Connection]:
        """A transaction that holds the write lock from its start, so that what it reads cannot change under it."""
        with self._engine.connect().execution_options(writes=True, **options) as connection, connection.begin():
            if self._engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITE_LOCK})
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the file and waits for nobody."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @property
    def is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    def close(self) -> None:
        self.changes.close()
        self._engine.dispose()

    def _check_schema(self, shown: str) -> None:
        with self.read() as connection:
            if schema.is_current(connection):
                return
        with self.write(migrates=True) as connection:
            schema.bring_up_to_date(connection, shown)
        # That connection does not look at foreign keys.
        self._engine.dispose()


def _sqlite_engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path.absolute()}", connect_args={"timeout": LOCK_TIMEOUT_S}, **_JSON)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        # The driver's own BEGIN comes late, at the first change: then what a transaction has read may be stale.
        connection.isolation_level = None
        _use_write_ahead_log(connection)
        # NORMAL would survive kill -9 but may lose the last commits in a power cut. A commit is made once per graded
        # rollout, which took seconds: one fsync more is not felt.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("migrates", False):
            # To change a column the table is copied and dropped, with what refers to it in place. Inside a transaction
            # SQLite takes no notice of this.
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writes", False) else "BEGIN")

    return engine


def _server_engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise UserError("--database: not a database URL.", DATABASE_REMEDY) from error
    if parsed.get_backend_name() != "postgresql":
        raise UserError(f"--database: '{parsed.get_backend_name()}' is not supported.", DATABASE_REMEDY)
    try:
        return create_engine(parsed, pool_pre_ping=True, pool_size=10, max_overflow=30, **_JSON)
    except ModuleNotFoundError as error:
        raise UserError(
            f"--database: the driver '{error.name}' is not installed.", "Run `pip install 'agentrft[server]'`."
        ) from error


def _shown(url: str) -> str:
    """The URL without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "the database"


def _use_write_ahead_log(connection: Any) -> None:
    """With WAL, readers (status, reports) never wait for the running job. The mode is kept in the file."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # Two processes that create the file at once: SQLite refuses one at once, whatever its time-out.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
