"""Which schema a database has, and how it comes to today's: made anew, or migrated, under the write lock."""

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select
from sqlalchemy.exc import OperationalError, ProgrammingError

from agentrft.errors import UserError
from agentrft.store import tables

# As Alembic makes it. With metadata of its own: it is no part of the schema that revisions are compared with.
version_table = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


def is_current(connection: Connection) -> bool:
    """Whether nothing is to be done; one query, since every command and every worker asks."""
    try:
        return _revision(connection) == tables.REVISION
    except (OperationalError, ProgrammingError):  # no such table
        return False


def bring_up_to_date(connection: Connection, shown: str) -> None:
    """Make the tables of a new database; migrate those of an older one. Call with the write lock held.

    All is done in the connection's transaction: a database is migrated as a whole, or not at all.

    Args:
        shown: the database's name in errors.

    Raises:
        UserError: the schema is none that this program knows, such as that of a newer one.
    """
    found = _found(connection)
    if found == tables.REVISION:  # another process was first
        return
    if found is None:
        tables.metadata.create_all(connection)
        connection.execute(tables.schema_version.insert().values(version=tables.SHUT_OUT_VERSION))
        version_table.create(connection)
        connection.execute(version_table.insert().values(version_num=tables.REVISION))
        return
    from agentrft.store.migrations import revisions, upgrade

    if found not in revisions():
        raise UserError(
            f"{shown}: written by another version of agentrft (schema {found}; this one has {tables.REVISION}).",
            "Use the version of agentrft that wrote it, or choose another.",
        )
    if not inspect(connection).has_table(version_table.name):
        version_table.create(connection)
        connection.execute(version_table.insert().values(version_num=found))
    upgrade(connection)
    if connection.dialect.name == "sqlite":
        # Not looked at while tables were copied.
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        assert not broken, broken


def _found(connection: Connection) -> str | None:
    """The database's revision; None where it has no tables of ours."""
    inspector = inspect(connection)
    if inspector.has_table(version_table.name):
        return _revision(connection)
    if not inspector.has_table(tables.schema_version.name):
        return None
    # Before Alembic versions were numbers; the first revisions continue them.
    version = connection.execute(select(tables.schema_version.c.version)).scalar()
    return None if version is None else f"{version:04d}"


def _revision(connection: Connection) -> str | None:
    return connection.execute(select(version_table.c.version_num)).scalar()
