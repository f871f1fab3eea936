"""The schema's history, by Alembic: a file for each change in `versions/`, and what runs them.

Nobody imports this for a database that is up to date; `agentrft.store.schema` sees to that.
"""

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

# Alembic's `op` and `context` belong to the whole process.
_ONE_AT_A_TIME = threading.Lock()


def configuration(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def revisions() -> list[str]:
    """All that this program knows, oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions()][::-1]


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the database to a revision, inside the transaction that `connection` is in."""
    with _ONE_AT_A_TIME:
        command.upgrade(configuration(connection), revision)
