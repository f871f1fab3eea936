"""Whether a database has changed since it was last asked: cheaper than reading anything of it."""

import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError


class Changes:
    """Asked from one thread at a time, on a connection of its own that never writes.

    Args:
        engine: of the database.
        path: the file, where it is SQLite.
    """

    def __init__(self, engine: Engine, path: Path | None) -> None:
        self._engine = engine
        self._path = path
        self._file: sqlite3.Connection | None = None
        self._connection: Connection | None = None

    @property
    def is_instant(self) -> bool:
        """Whether asking is a look at memory, and no wait for a server."""
        return self._path is not None

    def stamp(self) -> object:
        """A value that is equal to an earlier one if nothing was committed in between, by any process.

        Raises:
            SQLAlchemyError, sqlite3.Error: the database does not answer.
        """
        if self._path is None:
            return self._snapshot()
        if self._file is None:
            self._file = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        # Changes with every commit of another connection, and only others write.
        return self._file.execute("PRAGMA data_version").fetchone()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _snapshot(self) -> str:
        """Which transactions are seen: none was added if the next snapshot reads the same."""
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            return self._connection.execute(text("SELECT pg_current_snapshot()::text")).scalar_one()
        except SQLAlchemyError:
            self._connection.invalidate()
            self._connection = None
            raise
