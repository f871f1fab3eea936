"""Databases of older versions are brought to today's schema when they are opened, as a whole or not at all."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.exc import IntegrityError

from agentrft.errors import UserError
from agentrft.store import tables
from agentrft.store.database import Database
from agentrft.store.migrations import revisions, upgrade
from tests.store.databases import database_of

SCHEMAS = Path(__file__).parent / "schemas"
ROWS = """
INSERT INTO jobs (job_id, status, step, model, seed, spec, created_at)
VALUES ('ftjob-old', 'succeeded', 3, 'm', 7, '{"a": 1}', 1.5);
INSERT INTO events (job_id, created_at, level, message, data) VALUES ('ftjob-old', 2.5, 'info', 'an event', '{}')
"""
OPEN = """
import sys
from pathlib import PosixPath
from agentrft.store.database import Database
{before}
Database({place!r})
"""
# Kills its process before a statement of the migration.
KILL = """
import os, signal
from sqlalchemy import Engine, event
@event.listens_for(Engine, "before_cursor_execute")
def kill(connection, cursor, statement, *rest):
    if {statement!r} in statement:
        os.kill(os.getpid(), signal.SIGKILL)
"""
WAIT = """
import agentrft.store.migrations
print("ready", flush=True)
sys.stdin.readline()
"""
COUNT = """
from sqlalchemy import Engine, event
said = []
event.listen(Engine, "before_cursor_execute", lambda c, u, statement, *rest: said.append(statement))
"""
CHECK = """
said = [one for one in said if "BEGIN" not in one]
assert len(said) == 1 and "alembic_version" in said[0], said
assert not [name for name in sys.modules if name.startswith(("alembic", "mako"))]
"""
Place = Path | str


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where a database may be made."""
    if request.param == "sqlite":
        return tmp_path / "agentrft.db"
    return database_of(tmp_path) or pytest.skip("AGENTRFT_TEST_DATABASE is not set")


@contextmanager
def raw(place: Place) -> Iterator[Connection]:
    """A transaction past our code."""
    engine = create_engine(f"sqlite:///{place}" if isinstance(place, Path) else place)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def make_old(place: Place, version: int) -> None:
    """A database as a program of that time left it, with a job and an event of it."""
    with raw(place) as connection:
        statements = (SCHEMAS / f"version_{version}.{connection.dialect.name}.sql").read_text() + ROWS
        for statement in filter(str.strip, statements.split(";")):
            connection.exec_driver_sql(statement)


def described(place: Place) -> dict[str, Any]:
    """All tables with their columns, keys and indexes, but not in the order of columns; and what marks the version."""
    with raw(place) as connection:
        inspector = inspect(connection)
        names = sorted(inspector.get_table_names())
        found: dict[str, Any] = {
            name: [
                sorted((one["name"], str(one["type"]), one["nullable"]) for one in inspector.get_columns(name)),
                inspector.get_pk_constraint(name)["constrained_columns"],
                sorted(tuple(one["column_names"]) for one in inspector.get_unique_constraints(name)),
                sorted((one["name"], tuple(one["column_names"])) for one in inspector.get_indexes(name)),
                sorted(
                    (*one["constrained_columns"], one["referred_table"]) for one in inspector.get_foreign_keys(name)
                ),
            ]
            for name in names
        }
        for name in {"schema_version", "alembic_version"} & set(names):
            found[f"rows of {name}"] = connection.execute(text(f"SELECT * FROM {name}")).scalars().all()
        return found


def new(folder: Path, place: Place) -> Place:
    """A database of the same kind that is made by this version."""
    folder.mkdir()
    made: Place = folder / "agentrft.db" if isinstance(place, Path) else str(database_of(folder))
    Database(made).close()
    return made


@pytest.mark.parametrize("version", [1, 2])
def test_an_old_database_has_todays_schema_once_it_was_opened_and_keeps_its_rows(
    place: Place, tmp_path: Path, version: int
) -> None:
    make_old(place, version)
    for _ in range(2):
        Database(place).close()
    with raw(place) as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
        assert connection.execute(select(tables.jobs.c.job_id, tables.jobs.c.spec)).all() == [("ftjob-old", {"a": 1})]
        assert connection.execute(select(tables.events.c.message)).scalars().all() == ["an event"]
    assert described(place) == described(new(tmp_path / "new", place))


def test_all_revisions_from_nothing_make_what_a_new_database_has(place: Place, tmp_path: Path) -> None:
    with raw(place) as connection:
        upgrade(connection)
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    assert described(place) == described(new(tmp_path / "new", place))
    assert revisions()[-1] == tables.REVISION


@pytest.mark.parametrize(
    "statement", ["CREATE INDEX ix_jobs_status", "CREATE TABLE deliveries", "UPDATE alembic_version"]
)
@pytest.mark.parametrize("how", ["kill", "error"])
def test_a_migration_that_is_cut_off_leaves_what_was_there(place: Place, statement: str, how: str) -> None:
    make_old(place, 1)
    before = described(place)
    if how == "kill":
        code = OPEN.format(place=place, before=KILL.format(statement=statement))
        assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    else:
        with pytest.raises(ZeroDivisionError), failing_at(statement):
            Database(place)
    assert described(place) == before
    Database(place).close()
    assert described(place)["rows of alembic_version"] == [tables.REVISION]


@contextmanager
def failing_at(statement: str) -> Iterator[None]:
    def fail(_connection: Connection, _cursor: Any, sql: str, *_: Any) -> None:
        if statement in sql:
            raise ZeroDivisionError

    event.listen(Engine, "before_cursor_execute", fail)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", fail)


def test_processes_that_open_an_old_database_at_once_migrate_it_once(place: Place) -> None:
    make_old(place, 1)
    code = OPEN.format(place=place, before=WAIT)
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    # A second migration would have failed, on tables that are there.
    assert [process.returncode for process in processes] == [0, 0, 0]


def test_a_database_that_is_up_to_date_costs_one_query_and_no_migration_library(place: Place) -> None:
    Database(place).close()
    code = OPEN.format(place=place, before=COUNT) + CHECK
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("table", ["alembic_version", "schema_version"])
def test_a_schema_that_nobody_here_knows_is_refused_by_number_and_left_alone(place: Place, table: str) -> None:
    if table == "schema_version":
        make_old(place, 2)
        change = "UPDATE schema_version SET version = 99"
    else:
        Database(place).close()
        change = "UPDATE alembic_version SET version_num = '0099'"
    with raw(place) as connection:
        connection.execute(text(change))
    before = described(place)
    with pytest.raises(UserError, match=f"schema 0099; this one has {tables.REVISION}"):
        Database(place)
    assert described(place) == before


def test_a_program_from_before_revisions_refuses_the_database(place: Place) -> None:
    Database(place).close()
    with raw(place) as connection:
        assert connection.execute(select(tables.schema_version.c.version)).scalars().all() == [3]


def test_a_revision_can_change_a_table_that_rows_of_others_refer_to(place: Place) -> None:
    make_old(place, 2)
    database = Database(place)
    with database.write(migrates=True) as connection:
        operations = Operations(MigrationContext.configure(connection))
        with operations.batch_alter_table("jobs") as jobs:
            jobs.alter_column("model", nullable=True)
    database.close()
    database = Database(place)
    with database.read() as connection:
        assert connection.execute(select(tables.events.c.job_id)).scalars().all() == ["ftjob-old"]
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(tables.jobs.delete())
    database.close()
